//! What a caller is told of its limits: the fields `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
//!
//! They are added beside those that the provider may have sent. Its own limits are not among ours: how much of them is left tells what others do.

use std::fmt::Write;

use farthing_ledger::limit::Quota;
use farthing_types::{RateSpec, Span};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::seconds;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Adds the fields of these limits.
pub fn add(quotas: &[Quota], headers: &mut HeaderMap) {
    let (mut policy, mut left) = (String::new(), String::new());
    for quota in quotas {
        let name = &quota.spec.name;
        one((&mut policy, &mut left), (name, ""), (quota.spec.requests, quota.requests));
        one((&mut policy, &mut left), (name, "tokens"), (quota.spec.tokens, quota.tokens));
        if let Some(most) = quota.spec.concurrency {
            separate(&mut policy);
            separate(&mut left);
            let _ = write!(policy, "\"{name}-concurrency\";q={most};qu=\"concurrent-requests\"");
            let _ = write!(left, "\"{name}-concurrency\";r={}", most.saturating_sub(quota.running));
        }
    }
    for (name, text) in [(POLICY, policy), (LEFT, left)] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(&text)) {
            headers.append(name, value);
        }
    }
}

fn one((policy, left): (&mut String, &mut String), (name, unit): (&str, &str), (rate, now): (Option<RateSpec>, Option<(u64, Span)>)) {
    let (Some(rate), Some((there, full))) = (rate, now) else { return };
    separate(policy);
    separate(left);
    let (dash, kind) = if unit.is_empty() { ("", String::new()) } else { ("-", format!(";qu=\"{unit}\"")) };
    let _ = write!(policy, "\"{name}{dash}{unit}\";q={};w={}{kind}", rate.count, rate.period.as_secs().max(1));
    let _ = write!(left, "\"{name}{dash}{unit}\";r={}", there.min(rate.count));
    if !full.is_zero() {
        let _ = write!(left, ";t={}", seconds(full));
    }
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push_str(", ");
    }
}
