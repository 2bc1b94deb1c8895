//! What an answer says, and whether it was true when it was sent.

use farthing_types::{Span, Time};
use http::{HeaderMap, StatusCode};

use crate::provider::document::{key_of, version_of};
use crate::truth::Truth;

/// Headers of an answer that the driver understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// `Cache-Status` says hit.
    pub hit: bool,
    /// Who decided, as far as `Cache-Status` says it.
    pub by_model: Option<bool>,
    /// `Server-Timing: farthing;dur=` in ns.
    pub overhead_ns: Option<u64>,
    /// When the answer was sent: `Date` plus `Age`, to the second.
    pub sent_at: Option<Time>,
}

impl Said {
    pub fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let status = text("cache-status");
        let ours = status.strip_prefix("farthing").unwrap_or_default();
        let hit = ours.split(';').any(|p| p.trim() == "hit");
        let by_model = ours.split_once("detail=").map(|(_, detail)| detail.contains("model:"));
        let sent_at = if hit { sent_at(text("date"), text("age")) } else { None };
        Self { hit, by_model, overhead_ns: overhead(text("server-timing")), sent_at }
    }
}

fn sent_at(date: &str, age: &str) -> Option<Time> {
    let date = httpdate::parse_http_date(date).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Time::ZERO + date + Span::from_secs(age.parse().ok()?))
}

/// `farthing;dur=0.123` (milliseconds) among other metrics.
fn overhead(timing: &str) -> Option<u64> {
    let ours = timing.split(',').map(str::trim).find_map(|m| m.strip_prefix("farthing;"))?;
    let millis: f64 = ours.split(';').find_map(|p| p.trim().strip_prefix("dur="))?.parse().ok()?;
    (millis.is_finite() && millis >= 0.0).then_some((millis * 1e6) as u64)
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Number of the route.
    pub route: usize,
    /// The document.
    pub key: u32,
    /// Whether every answer of the route differs from every other.
    pub nondeterministic: bool,
    /// When the request was sent and its answer was there, on the truth's time line.
    pub sent: Time,
    /// See `sent`.
    pub answered: Time,
}

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As the origin would have answered.
    True,
    /// What the origin answered earlier, but not any more.
    Stale,
    /// No answer to the question: a server error or another document.
    Failed,
}

/// Judges an answer. A hit was sent between `sent` and `answered`: when it says by its age, else in the middle. What was fetched
/// for the request counts as true whatever changed while it was under way; only a version from before the request was sent is
/// stale.
pub(crate) fn judge(asked: &Asked, truth: &dyn Truth, status: StatusCode, body: &[u8], said: &Said) -> Verdict {
    if !status.is_success() || key_of(body) != Some(asked.key) {
        return Verdict::Failed;
    }
    let Some(version) = version_of(body) else { return Verdict::Failed };
    if asked.nondeterministic {
        return if said.hit { Verdict::Stale } else { Verdict::True };
    }
    let middle = asked.sent + asked.answered.since(asked.sent) / 2;
    let hit_at = said.sent_at.unwrap_or(middle).clamp(asked.sent, asked.answered.max(asked.sent));
    let moment = if said.hit { hit_at } else { asked.sent };
    if version < truth.version_at(asked.route, asked.key, moment) { Verdict::Stale } else { Verdict::True }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::document::Document;
    use crate::truth::ListedChanges;

    #[test]
    fn headers_are_read_as_the_proxy_writes_them() {
        let mut headers = HeaderMap::new();
        headers.insert("cache-status", "farthing; hit; ttl=3; detail=\"by=model:2\"".parse().unwrap());
        headers.insert("server-timing", "origin;dur=9, farthing;desc=x;dur=0.125".parse().unwrap());
        assert_eq!(Said::read(&headers), Said { hit: true, by_model: Some(true), overhead_ns: Some(125_000), sent_at: None });
        headers.insert("cache-status", "farthing; fwd=uri-miss; stored; detail=\"rule:static\"".parse().unwrap());
        headers.insert("server-timing", "farthing;dur=-1".parse().unwrap());
        assert_eq!(Said::read(&headers), Said { by_model: Some(false), ..Said::default() });
        headers.insert("cache-status", "farthing; hit".parse().unwrap());
        headers.insert("date", "Thu, 01 Jan 1970 00:01:00 GMT".parse().unwrap());
        headers.insert("age", "7".parse().unwrap());
        assert_eq!(Said::read(&headers).sent_at, Some(Time::from_millis(67_000)));
        assert_eq!(Said::read(&HeaderMap::new()), Said::default());
    }

    #[test]
    fn only_what_was_old_when_sent_is_stale() {
        let truth = ListedChanges::new([(0, 7, 100)]);
        let doc = |version, key| Document { route: "r", key, version, sample: None, generated_at: None, bytes: 3 }.render();
        let at = |sent, answered| Asked {
            route: 0,
            key: 7,
            nondeterministic: false,
            sent: Time::from_millis(sent),
            answered: Time::from_millis(answered),
        };
        let said = |hit| Said { hit, ..Said::default() };
        let verdict = |asked: Asked, version, hit| judge(&asked, &truth, StatusCode::OK, &doc(version, 7), &said(hit));
        assert_eq!(verdict(at(10, 20), 0, true), Verdict::True);
        assert_eq!(verdict(at(110, 120), 0, true), Verdict::Stale);
        assert_eq!(verdict(at(110, 120), 1, true), Verdict::True);
        assert_eq!(verdict(at(90, 120), 0, true), Verdict::Stale, "a hit sent after the change");
        assert_eq!(verdict(at(90, 120), 0, false), Verdict::True, "fetched before the change, under way while it happened");
        assert_eq!(verdict(at(110, 120), 0, false), Verdict::Stale, "shared from a call that began before the change and the request");
        let aged = |ms| Said { hit: true, sent_at: Some(Time::from_millis(ms)), ..Said::default() };
        let hit = |ms| judge(&at(90, 120), &truth, StatusCode::OK, &doc(0, 7), &aged(ms));
        assert_eq!((hit(95), hit(101), hit(0), hit(5_000)), (Verdict::True, Verdict::Stale, Verdict::True, Verdict::Stale));
        let sampled = Asked { nondeterministic: true, ..at(10, 20) };
        assert_eq!((verdict(sampled, 0, true), verdict(sampled, 0, false)), (Verdict::Stale, Verdict::True));
        assert_eq!(judge(&at(1, 2), &truth, StatusCode::BAD_GATEWAY, &doc(0, 7), &said(false)), Verdict::Failed);
        assert_eq!(judge(&at(1, 2), &truth, StatusCode::OK, &doc(0, 8), &said(true)), Verdict::Failed, "another document");
    }
}
