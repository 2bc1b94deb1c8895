//! Metrics of what happens towards providers, and of compression both ways.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_types::Coding;
use farthing_upstream::{BreakerState, NotRepeated, Squeezed, Traffic, Upstream};

use super::{Family, Labels};
use crate::assembly::Proxy;

/// One way to a provider: its name, whose credential is sent, and the upstream.
pub type Way = (Arc<str>, &'static str, Arc<Upstream>);

fn labels(way: &Way) -> Labels<'_> {
    vec![("provider", &way.0), ("credential", way.1)]
}

fn and<'a>(way: &'a Way, name: &'static str, value: &'a str) -> Labels<'a> {
    let mut labels = labels(way);
    labels.push((name, value));
    labels
}

/// Breakers, connections, places and repeats of the ways to providers.
pub fn families(ways: &[Way]) -> Vec<Family<'_>> {
    breakers(ways).into_iter().chain(connections(ways)).chain(repeats(ways)).chain(requests(ways)).collect()
}

fn breakers(ways: &[Way]) -> [Family<'_>; 3] {
    let mut state = Family::gauge("upstream_breaker_open", "1 while the breaker lets no call through, 0.5 while one call tries");
    let mut opened = Family::counter("upstream_breaker_opened", "Times that the breaker opened");
    let mut refused = Family::counter("upstream_breaker_refused", "Attempts that an open breaker refused");
    for way in ways {
        let health = way.2.health();
        let value = match health.state() {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 0.5,
            BreakerState::Open => 1.0,
        };
        state.add(labels(way), value);
        opened.add(labels(way), health.opened() as f64);
        refused.add(labels(way), health.refused() as f64);
    }
    [state, opened, refused]
}

fn connections(ways: &[Way]) -> [Family<'_>; 7] {
    let mut opened = Family::counter("upstream_connections_opened", "Connections opened, by version of HTTP");
    let mut open = Family::gauge("upstream_connections", "Connections that are open, by version of HTTP");
    let mut failed = Family::counter("upstream_connections_failed", "Connections that could not be opened");
    let mut answered = Family::counter("upstream_answers", "Attempts that were answered, by version of HTTP");
    let mut under_way = Family::gauge("upstream_attempts", "Attempts under way, answers' bodies included; over HTTP/2 its streams");
    let mut queued = Family::counter("upstream_queued", "Attempts that had to wait for a place (max_concurrent)");
    let mut crowded = Family::counter("upstream_crowded", "Of these, attempts that got none");
    for way in ways {
        let traffic = way.2.traffic();
        for (version, name) in Traffic::VERSIONS {
            opened.add(and(way, "http", name), traffic.opened(version) as f64);
            open.add(and(way, "http", name), traffic.open(version) as f64);
            answered.add(and(way, "http", name), traffic.answered(version) as f64);
        }
        failed.add(labels(way), traffic.unconnected() as f64);
        under_way.add(labels(way), traffic.under_way() as f64);
        queued.add(labels(way), traffic.queued() as f64);
        crowded.add(labels(way), traffic.crowded() as f64);
    }
    [opened, open, failed, answered, under_way, queued, crowded]
}

fn repeats(ways: &[Way]) -> [Family<'_>; 2] {
    let mut repeated = Family::counter("upstream_retries", "Calls that were made again");
    let mut not = Family::counter("upstream_retries_refused", "Calls that failed, might be made again and were not, by reason");
    for way in ways {
        repeated.add(labels(way), way.2.traffic().repeated() as f64);
        for why in NotRepeated::ALL {
            not.add(and(way, "reason", why.as_str()), way.2.traffic().not_repeated(*why) as f64);
        }
    }
    [repeated, not]
}

fn requests(ways: &[Way]) -> [Family<'_>; 2] {
    let mut squeezed = Family::counter("compressed_requests", "Request bodies that were looked at for compression, by outcome");
    let mut bytes = Family::counter("compressed_request_bytes", "Bytes of compressed request bodies, before and after");
    for way in ways {
        let traffic = way.2.traffic();
        for how in Squeezed::ALL {
            squeezed.add(and(way, "outcome", how.as_str()), traffic.squeezed(*how) as f64);
        }
        let (before, after) = traffic.requests.get();
        bytes.add(and(way, "stage", "before"), before as f64);
        bytes.add(and(way, "stage", "after"), after as f64);
    }
    [squeezed, bytes]
}

/// Answers compressed for clients.
pub fn answers(proxy: &Proxy) -> [Family<'_>; 5] {
    let compressed = &proxy.counters().compressed;
    let mut answers = Family::counter("compressed_answers", "Answers that went to clients in a content coding of ours");
    for coding in Coding::ALL {
        answers.add(vec![("coding", coding.as_str())], compressed.answers(*coding) as f64);
    }
    let (before, after) = compressed.bytes.get();
    let mut bytes = Family::counter("compressed_answer_bytes", "Bytes of such answers, before and after");
    bytes.add(vec![("stage", "before")], before as f64);
    bytes.add(vec![("stage", "after")], after as f64);
    let failed = compressed.failed.load(Ordering::Relaxed) as f64;
    let reused = Family::counter("compressed_answers_reused", "Of these, answers whose body had been compressed before");
    let kept = Family::gauge("compressed_kept_bytes", "Bytes of compressed bodies beside their entries in memory");
    let reused = reused.with(vec![], compressed.reused.load(Ordering::Relaxed) as f64);
    [
        answers,
        reused,
        bytes,
        kept.with(vec![], proxy.form_bytes() as f64),
        Family::counter("compression_failed", "Answers that could not be compressed").with(vec![], failed),
    ]
}
