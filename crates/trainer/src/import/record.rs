//! What a row of a foreign log says, whatever its format.

use std::borrow::Cow;

use farthing_freshness::semantics::Directives;
use farthing_types::{Money, Span, UncachedReason};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

/// A text of the row or made from it.
pub type Text<'a> = Cow<'a, str>;

/// One row: a request and its answer, or a change of an answer. What the log does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record<'a> {
    /// When, ns since 1970 UTC.
    pub at_ns: i64,
    /// HTTP method in capitals.
    pub method: Text<'a>,
    /// What was asked for.
    pub what: What<'a>,
    /// Status of the answer.
    pub status: Option<i32>,
    /// Body bytes of the answer.
    pub bytes: Option<i64>,
    /// Time to the answer, microseconds.
    pub latency_us: Option<i64>,
    /// What the call cost.
    pub cost: Option<Money>,
    /// Who asked.
    pub client: Option<Text<'a>>,
    /// Fingerprint of whatever identifies the answer's body: a digest that was logged, or an ETag.
    pub body: Option<u64>,
    /// Fingerprint of the ETag.
    pub etag: Option<u64>,
    /// `Last-Modified`, ns.
    pub last_modified_ns: Option<i64>,
    /// What the log says of keeping the answer.
    pub reuse: Reuse,
    /// What else of the request tells answers apart: body, digest of it.
    pub request_body: Option<Text<'a>>,
    /// Uncached input, cached input and output tokens.
    pub tokens: [Option<i64>; 3],
    /// LLM or other target.
    pub model: Option<Text<'a>>,
    /// Not a request: from here on the answer is another one.
    pub is_change: bool,
}

/// What a request asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// A path, with the host where the log has it.
    Url {
        /// Host and port.
        host: Option<Text<'a>>,
        /// Path and query.
        target: Text<'a>,
    },
    /// A template that the log already names, and what tells its answers apart; without that, a request like no other.
    Endpoint {
        /// The template.
        endpoint: Text<'a>,
        /// The key.
        key: Option<Text<'a>>,
        /// Who bills.
        provider: Option<Text<'a>>,
    },
}

impl Default for What<'_> {
    fn default() -> Self {
        Self::Url { host: None, target: Cow::Borrowed("/") }
    }
}

/// Bytes that a text holds beyond its own size.
fn held(text: &Option<Text<'_>>) -> usize {
    text.as_ref().map_or(0, |t| t.len())
}

impl Record<'_> {
    /// The same, holding its texts.
    pub fn into_owned(self) -> Record<'static> {
        let own = |text: Text<'_>| Cow::Owned(text.into_owned());
        let what = match self.what {
            What::Url { host, target } => What::Url { host: host.map(own), target: own(target) },
            What::Endpoint { endpoint, key, provider } => {
                What::Endpoint { endpoint: own(endpoint), key: key.map(own), provider: provider.map(own) }
            }
        };
        Record {
            what,
            method: own(self.method),
            client: self.client.map(own),
            request_body: self.request_body.map(own),
            model: self.model.map(own),
            at_ns: self.at_ns,
            status: self.status,
            bytes: self.bytes,
            latency_us: self.latency_us,
            cost: self.cost,
            body: self.body,
            etag: self.etag,
            last_modified_ns: self.last_modified_ns,
            reuse: self.reuse,
            tokens: self.tokens,
            is_change: self.is_change,
        }
    }

    /// Bytes that it holds.
    pub fn extent(&self) -> usize {
        let what = match &self.what {
            What::Url { host, target } => held(host) + target.len(),
            What::Endpoint { endpoint, key, provider } => endpoint.len() + held(key) + held(provider),
        };
        size_of::<Self>() + what + self.method.len() + held(&self.client) + held(&self.request_body) + held(&self.model)
    }
}

/// An amount of dollars that a log holds as a number or text; rounded to a nano-dollar. `None` when it is none.
pub fn dollars(text: &str) -> Option<Money> {
    let value: f64 = text.trim().parse().ok()?;
    // The way to money leads through a decimal text: binary fractions are not amounts.
    (value.is_finite() && value.abs() < 1e9).then(|| format!("{value:.9}").parse().ok()).flatten()
}

/// Splits a URL or path into host and path with query; `None` when it is neither. Credentials before the host are dropped.
pub fn url(text: &str) -> Option<(Option<&str>, &str)> {
    if text.starts_with('/') {
        return Some((None, cut_fragment(text)));
    }
    let (scheme, rest) = text.split_once("://")?;
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.is_empty() {
        return None;
    }
    Some((Some(host), cut_fragment(target)))
}

fn cut_fragment(target: &str) -> &str {
    target.split_once('#').map_or(target, |(before, _)| before)
}

/// What `Cache-Control` of an answer says of its reuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Explicit freshness lifetime, seconds.
    pub ttl_s: Option<i64>,
    /// The same for caches of many clients, where it is another one.
    pub shared_ttl_s: Option<i64>,
    /// Why the answer must not be kept; [`UncachedReason::Private`] binds caches of many clients only.
    pub forbidden: Option<UncachedReason>,
}

/// Reads `Cache-Control` as the proxy does. Text that no header can hold says nothing.
pub fn cache_control(text: &str) -> Reuse {
    let Ok(value) = HeaderValue::from_str(text.trim()) else { return Reuse::default() };
    let said = Directives::read(&HeaderMap::from_iter([(CACHE_CONTROL, value)]));
    let seconds = |span: Span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    // To be validated each time is to be fresh for no time.
    let zero = said.no_cache.then_some(0);
    let forbidden = match (said.no_store, said.private) {
        (true, _) => Some(UncachedReason::OriginNoStore),
        (false, true) => Some(UncachedReason::Private),
        (false, false) => None,
    };
    Reuse { ttl_s: zero.or(said.max_age.map(seconds)), shared_ttl_s: zero.or(said.s_maxage.map(seconds)), forbidden }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_credentials() {
        assert_eq!(url("/a?b=1#c"), Some((None, "/a?b=1")));
        assert_eq!(url("https://u:p@api.test:8443/a?b"), Some((Some("api.test:8443"), "/a?b")));
        assert_eq!(url("http://api.test?q=1"), Some((Some("api.test"), "?q=1")));
        for wrong in ["", "a/b", "api.test:443", "://x", "http://"] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn money_keeps_its_nanos() {
        assert_eq!(dollars("0.0000054").map(Money::nanos), Some(5_400));
        assert_eq!(dollars("1.5e-6").map(Money::nanos), Some(1_500));
        assert_eq!(dollars("2").map(Money::nanos), Some(2_000_000_000));
        for wrong in ["", "NaN", "inf", "1e300", "free"] {
            assert_eq!(dollars(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn cache_control_is_read() {
        use UncachedReason::{OriginNoStore, Private};
        for (text, ttl_s, shared_ttl_s, forbidden) in [
            ("public, Max-Age=60", Some(60), None, None),
            ("no-store, max-age=0", Some(0), None, Some(OriginNoStore)),
            ("max-age=\"3600\", no-store, private", Some(3_600), None, Some(OriginNoStore)),
            ("private, max-age=3600", Some(3_600), None, Some(Private)),
            ("private=\"set-cookie, x-user\"", None, None, Some(Private)),
            ("no-cache, max-age=3600, s-maxage=60", Some(0), Some(0), None),
            ("no-cache=\"set-cookie\", max-age=60", Some(60), None, None),
            ("max-age=3600, s-maxage=0", Some(3_600), Some(0), None),
            ("s-maxage=60", None, Some(60), None),
            ("max-age=soon", Some(0), None, None),
            ("x-max-age=5, , =", None, None, None),
            ("max-age=60\n", Some(60), None, None),
            ("max-age=60\nx", None, None, None),
        ] {
            assert_eq!(cache_control(text), Reuse { ttl_s, shared_ttl_s, forbidden }, "{text}");
        }
    }
}
