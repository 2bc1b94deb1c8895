//! `Cache-Control` as both sides send it.

use farthing_types::Span;
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName};

use super::sf::Value;
use super::{Rules, targeted};

/// The greatest delta-seconds we keep: RFC 9111 section 1.2.2 asks for at least 2^31.
const MAX_DELTA: u64 = 1 << 31;

/// The members of `Cache-Control` that we know; unknown ones are ignored as the RFC demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-cache`, the bare form.
    pub no_cache: bool,
    /// The fields named by the other form, `no-cache="f"`: not to be sent again before they are validated.
    pub no_cache_fields: Vec<HeaderName>,
    /// `no-store`.
    pub no_store: bool,
    /// `private`; the form with field names is treated like the bare one, which is always allowed: those who share a running answer
    /// would get the fields otherwise.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate` (binds shared caches).
    pub proxy_revalidate: bool,
    /// `must-understand`: only for caches that know what the status demands; these ignore a `no-store` beside it.
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
    /// `max-age`.
    pub max_age: Option<Span>,
    /// `s-maxage` (binds shared caches).
    pub s_maxage: Option<Span>,
    /// `max-stale`; without a value any staleness is accepted ([`Span::MAX`]).
    pub max_stale: Option<Span>,
    /// `min-fresh`.
    pub min_fresh: Option<Span>,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Option<Span>,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Option<Span>,
    /// Whether there was a `Cache-Control` field at all.
    pub present: bool,
    /// Whether these come from a targeted field (RFC 9213): `Expires` is void then.
    pub targeted: bool,
}

impl Directives {
    /// Reads all `Cache-Control` fields of a head.
    ///
    /// Where a directive comes twice the more restrictive reading wins; a freshness value that is no number counts as
    /// zero (RFC 9111 section 4.2.1: treat as stale).
    pub fn read(headers: &HeaderMap) -> Self {
        let mut out = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            out.present = true;
            let text = String::from_utf8_lossy(value.as_bytes());
            for (name, argument) in members(&text) {
                out.member(&name.to_ascii_lowercase(), argument.as_deref());
            }
        }
        out
    }

    /// As [`Directives::read`] for a response, where a targeted field may take the place of `Cache-Control` (RFC 9213).
    pub fn read_response(headers: &HeaderMap, rules: &Rules) -> Self {
        let Some(members) = targeted::select(headers, rules) else { return Self::read(headers) };
        let mut out = Self { targeted: true, ..Self::default() };
        for (name, value) in members {
            match value {
                Value::Flag(true) if !takes_seconds(&name) => out.member(&name, None),
                Value::Integer(n) if takes_seconds(&name) => out.member(&name, Some(&n.to_string())),
                Value::Text(text) if !takes_seconds(&name) => out.member(&name, Some(&text)),
                // A value of another type than the directive's is not consumed (RFC 9213 section 2.1).
                _ => {}
            }
        }
        out
    }

    /// As [`Directives::read`] for a request: `Pragma: no-cache` counts when there is no `Cache-Control`.
    pub fn read_request(headers: &HeaderMap) -> Self {
        let mut out = Self::read(headers);
        let pragma = || headers.get_all(PRAGMA).iter().any(|v| v.to_str().is_ok_and(|t| t.to_ascii_lowercase().contains("no-cache")));
        if !out.present && pragma() {
            out.no_cache = true;
        }
        out
    }

    fn member(&mut self, name: &str, argument: Option<&str>) {
        match name {
            "no-cache" => self.no_cache(argument),
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "immutable" => self.immutable = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => lower(&mut self.max_age, seconds(argument).unwrap_or(Span::ZERO)),
            "s-maxage" => lower(&mut self.s_maxage, seconds(argument).unwrap_or(Span::ZERO)),
            "max-stale" => lower(&mut self.max_stale, argument.map_or(Span::MAX, |a| seconds(Some(a)).unwrap_or(Span::ZERO))),
            "min-fresh" => raise(&mut self.min_fresh, seconds(argument).unwrap_or(Span::MAX)),
            "stale-while-revalidate" => lower(&mut self.stale_while_revalidate, seconds(argument).unwrap_or(Span::ZERO)),
            "stale-if-error" => lower(&mut self.stale_if_error, seconds(argument).unwrap_or(Span::ZERO)),
            _ => {}
        }
    }

    /// Names that are none make it the bare form, which forbids more.
    fn no_cache(&mut self, fields: Option<&str>) {
        let names = fields.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        match names.map(|name| HeaderName::from_bytes(name.as_bytes())).collect::<Result<Vec<_>, _>>() {
            Ok(names) if !names.is_empty() => self.no_cache_fields.extend(names),
            _ => self.no_cache = true,
        }
    }
}

/// Whether the value of a directive is a number of seconds.
fn takes_seconds(name: &str) -> bool {
    matches!(name, "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error")
}

fn lower(slot: &mut Option<Span>, value: Span) {
    *slot = Some(slot.map_or(value, |old| old.min(value)));
}

fn raise(slot: &mut Option<Span>, value: Span) {
    *slot = Some(slot.map_or(value, |old| old.max(value)));
}

/// delta-seconds: digits only; saturates.
pub(super) fn seconds(text: Option<&str>) -> Option<Span> {
    let text = text?.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Span::from_secs(text.parse::<u64>().unwrap_or(MAX_DELTA).min(MAX_DELTA)))
}

/// Splits a list of `name[=token|="quoted"]` at commas outside of quotes.
fn members(text: &str) -> Vec<(String, Option<String>)> {
    let mut out = Vec::new();
    let mut current = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars().chain(std::iter::once(',')) {
        match c {
            _ if escaped => {
                escaped = false;
                current.push(c);
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => push_member(&mut out, &mut current),
            _ => current.push(c),
        }
    }
    // A quote that was never closed swallows the rest, the final separator too.
    push_member(&mut out, &mut current);
    out
}

fn push_member(out: &mut Vec<(String, Option<String>)>, current: &mut String) {
    let member = std::mem::take(current);
    let member = member.trim();
    if member.is_empty() {
        return;
    }
    match member.split_once('=') {
        Some((name, argument)) => out.push((name.trim().to_owned(), Some(argument.trim().to_owned()))),
        None => out.push((member.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(text: &str) -> Directives {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_str(text).unwrap());
        Directives::read(&headers)
    }

    #[test]
    fn reads_tokens_quotes_and_case() {
        let d = read("Max-Age=\"60\", private=\"a, b\" ,NO-STORE,, x=1, stale-while-revalidate=5");
        assert_eq!(d.max_age, Some(Span::from_secs(60)));
        assert!(d.private && d.no_store && !d.no_cache);
        assert_eq!(d.stale_while_revalidate, Some(Span::from_secs(5)));
    }

    #[test]
    fn the_stricter_of_two_wins_and_nonsense_is_stale() {
        assert_eq!(read("max-age=60, max-age=5").max_age, Some(Span::from_secs(5)));
        for nonsense in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=abc", "max-age=+5"] {
            assert_eq!(read(nonsense).max_age, Some(Span::ZERO), "{nonsense}");
        }
        assert_eq!(read("max-age=99999999999999999999999").max_age, Some(Span::from_secs(MAX_DELTA)));
        assert_eq!(read("max-stale").max_stale, Some(Span::MAX));
    }

    #[test]
    fn a_quoted_comma_does_not_hide_or_invent_directives() {
        assert!(!read("x=\"no-store, y\"").no_store);
        assert!(read("x=\"a\\\", b\", no-store").no_store);
    }

    #[test]
    fn no_cache_of_fields_is_not_no_cache() {
        let d = read("no-cache=\"Set-X, b\", no-cache=c, must-understand");
        assert!(!d.no_cache && d.must_understand);
        assert_eq!(d.no_cache_fields.iter().map(HeaderName::as_str).collect::<Vec<_>>(), ["set-x", "b", "c"]);
        for bare in ["no-cache", "no-cache=", "no-cache=\"\"", "no-cache=\"a b\"", "no-cache=\"a\", no-cache"] {
            assert!(read(bare).no_cache, "{bare}");
        }
    }

    #[test]
    fn a_targeted_field_takes_the_place_of_cache_control() {
        let read = |shared, text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert("cdn-cache-control", HeaderValue::from_static(text));
            Directives::read_response(&headers, &Rules { shared, ..Rules::new(crate::Mode::Respect) })
        };
        let d = read(true, "max-age=60, no-cache=\"a\", s-maxage=\"9\", private=?0");
        assert!(d.targeted && !d.no_store && !d.private);
        assert_eq!((d.max_age, d.s_maxage, d.no_cache_fields.len()), (Some(Span::from_secs(60)), None, 1));
        assert_eq!(read(true, "max-age=-1").max_age, Some(Span::ZERO));
        assert!(read(true, "max-age=60, &").no_store && read(false, "max-age=60").no_store);
    }

    #[test]
    fn pragma_counts_only_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        assert!(Directives::read_request(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!Directives::read_request(&headers).no_cache);
    }
}
