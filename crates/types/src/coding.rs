//! Content codings, and what speaks against changing one.

use http::HeaderMap;

use crate::reasons;

reasons! {
    /// A content coding that Farthing can write (RFC 9110 section 8.4.1).
    Coding {
        /// Zstandard (RFC 8878).
        Zstd = "zstd",
        /// Brotli (RFC 7932).
        Brotli = "br",
        /// GNU zip (RFC 1952).
        Gzip = "gzip",
    }
}

/// Whether nothing among the fields of a head speaks against another coding of its body: it has none yet, is no part of a body, no digest
/// or signature vouches for its bytes, and nobody said `no-transform`. Names are in lower case.
pub fn may_recode<'a>(mut fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> bool {
    !fields.any(|(name, value)| match name {
        b"content-encoding" | b"content-range" => true,
        b"content-md5" | b"content-digest" | b"repr-digest" | b"digest" | b"x-amz-content-sha256" => true,
        b"cache-control" => value.split(|b| *b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform")),
        b"authorization" => signs(value),
        // Those of RFC 9421, and those of webhooks: `x-hub-signature-256`, `x-shopify-hmac-sha256`.
        other => holds(other, b"signature") || holds(other, b"hmac"),
    })
}

/// The fields of a map, as [`may_recode`] wants them.
pub fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
}

/// Whether credentials sign the body along with the rest.
fn signs(credentials: &[u8]) -> bool {
    let begins = |scheme: &[u8]| credentials.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    begins(b"AWS4-") || begins(b"Signature ") || begins(b"hmac")
}

fn holds(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vouches_for_bytes_speaks_against_changing_them() {
        let free = |name: &'static str, value: &'static str| {
            may_recode([("accept", "a"), (name, value)].map(|(n, v)| (n.as_bytes(), v.as_bytes())).into_iter())
        };
        for (name, value) in [
            ("content-encoding", "identity"),
            ("content-range", "bytes 0-1/2"),
            ("content-md5", "x"),
            ("content-digest", "x"),
            ("repr-digest", "x"),
            ("digest", "x"),
            ("signature", "x"),
            ("signature-input", "x"),
            ("x-hub-signature-256", "x"),
            ("x-shopify-hmac-sha256", "x"),
            ("x-amz-content-sha256", "x"),
            ("authorization", "AWS4-HMAC-SHA256 Credential=x"),
            ("authorization", "Signature keyId=\"x\""),
            ("authorization", "HMAC x"),
            ("cache-control", "max-age=1, No-Transform"),
        ] {
            assert!(!free(name, value), "{name}: {value}");
        }
        for (name, value) in [("authorization", "Bearer x"), ("cache-control", "no-store"), ("x-digest", "x"), ("etag", "\"a\"")] {
            assert!(free(name, value), "{name}: {value}");
        }
    }
}
