//! The query in the key: sorted by name, credentials left out.

use std::borrow::Cow;

use siphasher::sip128::SipHasher13;
use std::hash::Hasher;

use super::field;

/// Names of query parameters that are taken for credentials. The principal must stand for what is left out of a key: it is
/// derived from [`Credentials::pairs`]. Where nobody stands for them they must not be left out, because `token` or `key` may be data.
pub const CREDENTIAL_NAMES: &[&str] = &[
    "key",
    "api_key",
    "apikey",
    "api-key",
    "access_token",
    "accesstoken",
    "auth_token",
    "token",
    "appid",
    "app_key",
    "client_secret",
    "secret",
    "password",
    "signature",
    "sig",
    "subscription-key",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
];

/// Query parameters that carry credentials: they name the caller, not the answer. They are left out of key and log;
/// the tenant stands for them in the key.
#[derive(Clone, Debug)]
pub struct Credentials(Vec<String>);

impl Default for Credentials {
    /// [`CREDENTIAL_NAMES`].
    fn default() -> Self {
        Self::new(CREDENTIAL_NAMES.iter().copied())
    }
}

impl Credentials {
    /// These names, compared without case and after percent-decoding.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().map(str::to_ascii_lowercase).collect())
    }

    /// Whether a raw (still encoded) parameter name is one of these.
    pub fn contains(&self, raw: &str) -> bool {
        let name = decode(raw);
        self.0.iter().any(|n| n.as_bytes().eq_ignore_ascii_case(&name))
    }

    /// The credentials in a query as they stand there, in order: exactly what is left out of a key.
    pub fn pairs<'a>(&'a self, query: &'a str) -> impl Iterator<Item = &'a str> {
        pairs(query).filter(|pair| self.contains(name(pair)))
    }

    /// Path and query for logs and traces: credentials' values are replaced by `REDACTED`.
    pub fn log_text(&self, target: &http::Uri) -> String {
        let Some(query) = target.query() else { return target.path().to_owned() };
        let mut text = format!("{}?", target.path());
        for (i, pair) in query.split('&').enumerate() {
            if i > 0 {
                text.push('&');
            }
            if self.contains(name(pair)) {
                text.push_str(name(pair));
                text.push_str("=REDACTED");
            } else {
                text.push_str(pair);
            }
        }
        text
    }
}

/// Hashes the parameters sorted by name; equal names keep their order, because APIs read them as lists. Values are
/// hashed as they stand: two spellings of one value cost a call, a wrong merge would cost a wrong answer.
pub(super) fn hash(hash: &mut SipHasher13, query: Option<&str>, credentials: &Credentials) {
    let mut kept: Vec<&str> = pairs(query.unwrap_or_default()).filter(|pair| !credentials.contains(name(pair))).collect();
    kept.sort_by_key(|pair| name(pair));
    hash.write_u64(kept.len() as u64);
    for pair in kept {
        field(hash, pair.as_bytes());
    }
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

fn name(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn decode(raw: &str) -> Cow<'_, [u8]> {
    if !raw.contains(['%', '+']) {
        return Cow::Borrowed(raw.as_bytes());
    }
    let bytes = raw.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&byte) = bytes.get(i) {
        match (byte, bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                i += 3;
            }
            (b'+', ..) => {
                out.push(b' ');
                i += 1;
            }
            _ => {
                out.push(byte);
                i += 1;
            }
        }
    }
    Cow::Owned(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}
