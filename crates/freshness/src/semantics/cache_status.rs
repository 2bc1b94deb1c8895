//! The `Cache-Status` response field (RFC 9211).

use std::fmt;

use farthing_types::{Span, UncachedReason};
use http::{HeaderName, HeaderValue};

/// The field's name.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went forward (RFC 9211 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fwd {
    /// The cache was not to be used for it.
    Bypass,
    /// The method cannot be answered from a cache.
    Method,
    /// No answer for the target is stored.
    UriMiss,
    /// Answers are stored, but none that the request's header fields select.
    VaryMiss,
    /// Nothing usable is stored, for no better known reason.
    Miss,
    /// The request's directives demanded it.
    Request,
    /// What is stored is stale.
    Stale,
    /// A part only is stored.
    Partial,
}

impl Fwd {
    /// The token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }

    /// The token for one of our reasons.
    pub const fn of(reason: UncachedReason) -> Self {
        match reason {
            UncachedReason::Cold => Self::UriMiss,
            UncachedReason::Expired
            | UncachedReason::Invalidated
            | UncachedReason::EventsDown
            | UncachedReason::FleetUnheard
            | UncachedReason::Doubted => Self::Stale,
            UncachedReason::Method => Self::Method,
            UncachedReason::RequestDirective => Self::Request,
            UncachedReason::Vary => Self::VaryMiss,
            UncachedReason::OriginNoStore
            | UncachedReason::SetCookie
            | UncachedReason::Private
            | UncachedReason::Status
            | UncachedReason::TooLarge
            | UncachedReason::Incomplete
            | UncachedReason::NoFreshness
            | UncachedReason::NotWorth
            | UncachedReason::Fallback
            | UncachedReason::UpstreamFailed => Self::Miss,
            _ => Self::Bypass,
        }
    }
}

/// The members of the field. Its text is a closed set of words and numbers; nothing of the request enters it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// Answered without going forward.
    pub hit: bool,
    /// Why it went forward.
    pub fwd: Option<Fwd>,
    /// The status of the answer that came back, when it is not the one sent.
    pub fwd_status: Option<u16>,
    /// Freshness left; negative when stale, in whole seconds.
    pub ttl: Option<i64>,
    /// The answer was stored.
    pub stored: bool,
    /// The request shared another one's call.
    pub collapsed: bool,
    /// Who decided and the like; characters that a quoted string cannot hold are dropped.
    pub detail: Option<&'a str>,
    /// What stands after it in the same text.
    pub by: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// A hit with `left` freshness.
    pub fn hit(left: Span) -> Self {
        Self { hit: true, ttl: Some(i64::try_from(left.as_secs()).unwrap_or(i64::MAX)), ..Self::default() }
    }

    /// A hit that was `past` its freshness.
    pub fn stale(past: Span) -> Self {
        let secs = i64::try_from(past.as_secs()).unwrap_or(i64::MAX);
        Self { hit: true, ttl: Some(-secs), ..Self::default() }
    }

    /// A request that went forward.
    pub fn forward(fwd: Fwd) -> Self {
        Self { fwd: Some(fwd), ..Self::default() }
    }

    /// The field's value.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("farthing"))
    }
}

impl fmt::Display for CacheStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(96);
        self.push(&mut text);
        f.write_str(&text)
    }
}

impl CacheStatus<'_> {
    /// Writes the field's value, without the formatter's machinery: every answer has one.
    pub fn push(&self, out: &mut String) {
        out.push_str("farthing");
        if self.hit {
            out.push_str("; hit");
        }
        if let Some(fwd) = self.fwd {
            out.push_str("; fwd=");
            out.push_str(fwd.as_str());
        }
        if let Some(status) = self.fwd_status {
            out.push_str("; fwd-status=");
            out.push_str(itoa::Buffer::new().format(status));
        }
        if let Some(ttl) = self.ttl {
            out.push_str("; ttl=");
            out.push_str(itoa::Buffer::new().format(ttl));
        }
        if self.stored {
            out.push_str("; stored");
        }
        if self.collapsed {
            out.push_str("; collapsed");
        }
        if let Some(detail) = self.detail {
            out.push_str("; detail=\"");
            quote(detail, out);
            if let Some(by) = self.by {
                out.push(' ');
                quote(by, out);
            }
            out.push('"');
        }
    }
}

/// The inside of a quoted string.
fn quote(text: &str, out: &mut String) {
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\')) {
        out.push_str(text);
        return;
    }
    for c in text.chars().filter(|c| matches!(c, ' '..='~')) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_as_the_rfc_writes_it() {
        let hit = CacheStatus { detail: Some("model:3"), ..CacheStatus::hit(Span::from_millis(42_900)) };
        assert_eq!(hit.value(), "farthing; hit; ttl=42; detail=\"model:3\"");
        let two = CacheStatus { detail: Some("l1"), by: Some("rule:static"), ..CacheStatus::default() };
        assert_eq!(two.value(), "farthing; detail=\"l1 rule:static\"");
        assert_eq!(CacheStatus::stale(Span::from_secs(5)).value(), "farthing; hit; ttl=-5");
        let miss = CacheStatus { stored: true, collapsed: true, ..CacheStatus::forward(Fwd::UriMiss) };
        assert_eq!(miss.value(), "farthing; fwd=uri-miss; stored; collapsed");
        let odd = CacheStatus { detail: Some("a\"b\\c\r\nd\u{e9}"), ..CacheStatus::forward(Fwd::Stale) };
        assert_eq!(odd.value(), "farthing; fwd=stale; detail=\"a\\\"b\\\\cd\"");
    }

    #[test]
    fn every_reason_has_a_token() {
        for reason in UncachedReason::ALL {
            assert!(!Fwd::of(*reason).as_str().is_empty());
        }
        assert_eq!(Fwd::of(UncachedReason::Observe), Fwd::Bypass);
    }
}
