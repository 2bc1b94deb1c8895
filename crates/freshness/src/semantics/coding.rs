//! Which content coding an answer may be given on its way to a client (RFC 9110 sections 8.4, 8.8.3 and 12.5.3).

use farthing_types::Coding;
use farthing_types::coding::may_recode;
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, StatusCode};

/// The coding among `offered` that a client likes best: by its weights, then by the order of `offered`. `None` where it accepts none of
/// them, likes the plain answer better, or did not say: then nothing may be assumed.
pub fn negotiate(request: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    if offered.is_empty() || !request.contains_key(ACCEPT_ENCODING) {
        return None;
    }
    let weight = |name: &str| weight(request, name);
    let plain = weight("identity").unwrap_or_default();
    let any = weight("*").unwrap_or_default();
    let weighed = offered.iter().map(|coding| (*coding, weight(coding.as_str()).unwrap_or(any)));
    // The first of equals wins, where `max_by_key` would take the last.
    let best = weighed.reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    (best.1 > 0 && best.1 >= plain).then_some(best.0)
}

/// The weight of a coding in thousandths, where `Accept-Encoding` names it. What is malformed is as if it were not there.
fn weight(request: &HeaderMap, coding: &str) -> Option<u16> {
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut members = values.flat_map(|value| value.split(','));
    members.find_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next()?;
        let named = name.eq_ignore_ascii_case(coding) || (coding == "gzip" && name.eq_ignore_ascii_case("x-gzip"));
        let weight = match parts.next() {
            None => Some(1_000),
            Some(parameter) => parameter.strip_prefix(['q', 'Q']).map(str::trim).and_then(|p| p.strip_prefix('=')).and_then(thousandths),
        };
        weight.filter(|_| named)
    })
}

/// Reads `0.75`: at most three digits after the point, at most one.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, digits) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let known = matches!(whole, "0" | "1") && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    let part = format!("{digits:0<3}").parse::<u16>().ok().filter(|_| known)?;
    if whole == "0" { Some(part) } else { (part == 0).then_some(1_000) }
}

/// Whether an answer with this head may be given a content coding: its type is one that compresses, and nothing in the head speaks against
/// other bytes. A strong `ETag` does: it names these very bytes, and a weak one in its place would not do for `If-Match` and `If-Range`.
/// `length` is that of the body, where it is known.
pub fn may_code<'a, F>(status: StatusCode, length: Option<u64>, min: u64, fields: impl Fn() -> F) -> bool
where
    F: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let whole = !bodiless && status != StatusCode::PARTIAL_CONTENT && length.is_none_or(|length| length >= min);
    let compresses = || fields().any(|(name, value)| name == b"content-type" && is_text(value));
    let strong = || fields().any(|(name, value)| name == b"etag" && !value.starts_with(b"W/"));
    whole && compresses() && !strong() && may_recode(fields())
}

/// Whether bodies of a media type compress: texts, and what is written as one.
fn is_text(media: &[u8]) -> bool {
    let essence = media.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let Ok(essence) = std::str::from_utf8(&essence) else { return false };
    let (kind, name) = essence.split_once('/').unwrap_or_default();
    kind == "text"
        || name.ends_with("+json")
        || name.ends_with("+xml")
        || matches!(
            essence,
            "application/json"
                | "application/x-ndjson"
                | "application/jsonl"
                | "application/json-seq"
                | "application/xml"
                | "application/javascript"
                | "application/graphql"
                | "application/yaml"
                | "application/toml"
                | "application/wasm"
                | "application/x-www-form-urlencoded"
        )
}

#[cfg(test)]
mod tests {
    use farthing_types::coding::fields;
    use http::{HeaderName, HeaderValue};

    use super::*;

    const ALL: &[Coding] = &[Coding::Zstd, Coding::Brotli, Coding::Gzip];

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_best_liked_coding_is_chosen_and_none_that_is_refused() {
        for (accept, chosen) in [
            ("gzip", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("GZIP ; Q=1.0", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.9, zstd;q=0.001", Some(Coding::Gzip)),
            ("br;q=0.5, zstd;q=0.5", Some(Coding::Zstd)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.5, zstd;q=0", Some(Coding::Brotli)),
            ("gzip;q=0", None),
            ("gzip;q=0.000, *;q=0", None),
            ("identity", None),
            ("identity;q=1, gzip;q=0.5", None),
            ("identity;q=0.5, gzip;q=1", Some(Coding::Gzip)),
            ("identity;q=0, gzip;q=0", None),
            ("", None),
            ("deflate", None),
            ("gzip;q=2, br;q=0.1234", None),
            ("gzip;level=9", None),
            (", ,gzip,", Some(Coding::Gzip)),
        ] {
            assert_eq!(negotiate(&map(&[("accept-encoding", accept)]), ALL), chosen, "{accept}");
        }
        assert_eq!(negotiate(&map(&[]), ALL), None, "who says nothing gets the plain answer");
        assert_eq!(negotiate(&map(&[("accept-encoding", "gzip")]), &[]), None);
        let mut two = map(&[("accept-encoding", "deflate")]);
        two.append("accept-encoding", HeaderValue::from_static("br"));
        assert_eq!(negotiate(&two, ALL), Some(Coding::Brotli), "in a second line");
        assert_eq!(negotiate(&map(&[("accept-encoding", "gzip, zstd")]), &[Coding::Gzip, Coding::Zstd]), Some(Coding::Gzip), "our order");
    }

    #[test]
    fn only_whole_texts_without_a_strong_name_are_coded() {
        let ask = |status: u16, length, pairs: &[(&'static str, &'static str)]| {
            let headers = map(pairs);
            may_code(StatusCode::from_u16(status).unwrap(), length, 1_024, || fields(&headers))
        };
        let json = ("content-type", "Application/JSON; charset=utf-8");
        for media in ["text/event-stream", "application/problem+json", "image/svg+xml", "application/x-ndjson", "text/html"] {
            assert!(ask(200, Some(1_024), &[("content-type", media)]), "{media}");
        }
        for media in ["image/png", "application/grpc", "application/octet-stream", "application/gzip", "multipart/mixed", "json", ""] {
            assert!(!ask(200, Some(9_999), &[("content-type", media)]), "{media}");
        }
        assert!(!ask(200, None, &[]), "without a type nothing is known");
        assert!(ask(200, None, &[json]) && ask(404, Some(2_000), &[json]) && !ask(200, Some(1_023), &[json]));
        for status in [204, 206, 304] {
            assert!(!ask(status, Some(2_000), &[json]), "{status}");
        }
        assert!(ask(200, None, &[json, ("etag", "W/\"a\"")]) && !ask(200, None, &[json, ("etag", "\"a\"")]));
        assert!(!ask(200, None, &[json, ("content-encoding", "gzip")]) && !ask(200, None, &[json, ("cache-control", "no-transform")]));
    }
}
