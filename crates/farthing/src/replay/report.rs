//! What a replay of a log says: per route and in sum, side by side, and how far it agrees with the log.

use std::collections::BTreeMap;
use std::fmt::Write;

use farthing_replay::path::{Fidelity, Log, RouteTally, Tally};
use farthing_replay::{Difference, Paired};
use farthing_types::{Money, Outcome};
use serde::Serialize;

use crate::table::render;

/// Share of requests with the same outcome from which a replay counts as faithful.
pub const FAITHFUL_SHARE: f64 = 0.995;
/// Relative difference of the bill up to which it does.
pub const FAITHFUL_BILL: f64 = 0.005;

/// A route, or all of them.
#[derive(Clone, Debug, Serialize)]
pub struct RouteReport {
    /// Its name; `all` for the sum.
    pub route: String,
    /// Requests.
    pub requests: u64,
    /// Requests by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Calls.
    pub calls: u64,
    /// Of these, calls that the log does not have: their answers are modelled.
    pub modelled_calls: u64,
    /// Paid.
    pub bill_nanousd: i64,
    /// Calls without a known price.
    pub unpriced_calls: u64,
    /// What the requests would have cost without a proxy.
    pub base_nanousd: i64,
    /// Requests without a known price.
    pub unpriced_requests: u64,
    /// 1 - bill / base.
    pub saving: Option<f64>,
    /// Stale answers over all answers.
    pub stale_share: f64,
    /// Its 95 % interval (Wilson).
    pub stale_interval: (f64, f64),
    /// Answers from the cache of which the truth is known.
    pub judged: u64,
    /// Copies that never answered a second request.
    pub unused: u64,
    /// Paid for them.
    pub unused_nanousd: i64,
    /// Background refreshes.
    pub refreshes: u64,
    /// Of these, refreshes whose copy answered nobody.
    pub unused_refreshes: u64,
    /// TTL decisions by who made them.
    pub decisions: BTreeMap<String, u64>,
}

impl RouteReport {
    fn of(name: &str, tally: &RouteTally) -> Self {
        Self {
            route: name.to_owned(),
            requests: tally.requests,
            outcomes: Outcome::ALL.iter().map(|o| (o.as_str(), tally.of(*o))).filter(|(_, n)| *n > 0).collect(),
            calls: tally.calls,
            modelled_calls: tally.modelled_calls,
            bill_nanousd: tally.bill.nanos(),
            unpriced_calls: tally.unpriced_calls,
            base_nanousd: tally.base.nanos(),
            unpriced_requests: tally.unpriced_requests,
            saving: tally.saving(),
            stale_share: tally.stale_share(),
            stale_interval: tally.stale_interval(),
            judged: tally.judged,
            unused: tally.unused,
            unused_nanousd: tally.unused_paid.nanos(),
            refreshes: tally.refreshes,
            unused_refreshes: tally.unused_refreshes,
            decisions: tally.deciders.clone(),
        }
    }

    fn count(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(outcome.as_str()).copied().unwrap_or(0)
    }
}

/// A policy's replay.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// The file.
    pub policy: String,
    /// Each route.
    pub routes: Vec<RouteReport>,
    /// All together.
    pub total: RouteReport,
    /// How far it agrees with the log: near 1 for the policy that wrote it.
    pub fidelity: FidelityReport,
}

/// Agreement with the log.
#[derive(Clone, Debug, Serialize)]
pub struct FidelityReport {
    /// Nothing differs at all.
    pub exact: bool,
    /// At least 99.5 % of the outcomes are the same and the bill differs by at most 0.5 %.
    pub faithful: bool,
    /// Requests compared.
    pub requests: u64,
    /// Share of them with the same outcome.
    pub same_share: f64,
    /// Bill of the log.
    pub logged_bill_nanousd: i64,
    /// Bill of the replay / bill of the log - 1.
    pub bill_difference: f64,
    /// Calls of the log.
    pub logged_calls: u64,
    /// Of these, calls that the replay made, too.
    pub same_calls: u64,
    /// Calls of the replay that the log does not have.
    pub other_calls: u64,
    /// TTL decisions compared.
    pub decisions: u64,
    /// Of these, decisions with another TTL or decider.
    pub other_decisions: u64,
    /// Requests with another outcome, by cause.
    pub differences: BTreeMap<&'static str, u64>,
    /// The same by `logged>replayed`.
    pub outcomes: BTreeMap<String, u64>,
}

impl FidelityReport {
    fn of(fidelity: &Fidelity) -> Self {
        let (share, bill) = (fidelity.same_share(), fidelity.bill_difference());
        Self {
            exact: fidelity.is_exact(),
            faithful: share >= FAITHFUL_SHARE && bill.abs() <= FAITHFUL_BILL,
            requests: fidelity.requests,
            same_share: share,
            logged_bill_nanousd: fidelity.logged_bill.nanos(),
            bill_difference: bill,
            logged_calls: fidelity.logged_calls,
            same_calls: fidelity.same_calls,
            other_calls: fidelity.other_calls,
            decisions: fidelity.decisions,
            other_decisions: fidelity.other_decisions,
            differences: fidelity.differences.iter().map(|(cause, n)| (cause.as_str(), *n)).collect(),
            outcomes: fidelity.outcomes.iter().map(|((a, b), n)| (format!("{a}>{b}"), *n)).collect(),
        }
    }
}

impl PolicyReport {
    /// The report of a replay.
    pub fn of(policy: String, log: &Log, tally: &Tally, fidelity: &Fidelity) -> Self {
        let named = log.routes.iter().zip(&tally.routes).filter(|(_, route)| route.requests > 0 || route.calls > 0);
        Self {
            policy,
            routes: named.map(|(name, route)| RouteReport::of(name, route)).collect(),
            total: RouteReport::of("all", &tally.total()),
            fidelity: FidelityReport::of(fidelity),
        }
    }

    /// One line per route and the sum.
    pub fn table(&self) -> String {
        let line = |route: &RouteReport| {
            vec![
                route.route.clone(),
                route.requests.to_string(),
                route.calls.to_string(),
                usd(route.bill_nanousd),
                usd(route.base_nanousd),
                route.saving.map_or_else(|| "-".to_owned(), percent),
                route.count(Outcome::Hit).to_string(),
                (route.count(Outcome::Stale)).to_string(),
                route.count(Outcome::Follow).to_string(),
                (route.count(Outcome::Bypass) + route.count(Outcome::Failed) + route.count(Outcome::Refused)).to_string(),
                stale(route),
                format!("{} (${})", route.unused, usd(route.unused_nanousd)),
                format!("{}/{}", route.unused_refreshes, route.refreshes),
                deciders(&route.decisions),
            ]
        };
        let head = [
            "route",
            "requests",
            "calls",
            "bill $",
            "base $",
            "saving",
            "hits",
            "stale ok",
            "follows",
            "others",
            "stale share (95 %)",
            "unused copies",
            "unused refreshes",
            "ttl by",
        ];
        render(&head, self.routes.iter().chain(std::iter::once(&self.total)).map(line))
    }

    /// Agreement with the log, in words.
    pub fn agreement(&self) -> String {
        let f = &self.fidelity;
        let mut text = format!(
            "{}: {} of {} requests as in the log, bill {} against ${} ({:+.3} %), {} of {} calls, {} of {} TTL decisions\n",
            if f.exact {
                "exact"
            } else if f.faithful {
                "faithful"
            } else {
                "differs from the log"
            },
            percent_fine(f.same_share),
            f.requests,
            format_args!("${}", usd(self.total.bill_nanousd)),
            usd(f.logged_bill_nanousd),
            f.bill_difference * 100.0,
            f.same_calls,
            f.logged_calls,
            f.decisions - f.other_decisions,
            f.decisions,
        );
        for (cause, count) in &f.differences {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {count} other outcomes: {cause} ({})", meaning(cause));
        }
        for (pair, count) in &f.outcomes {
            let _ = writeln!(text, "  {count} {pair}");
        }
        text
    }
}

fn meaning(cause: &str) -> &'static str {
    use farthing_replay::path::Cause;
    let all = [Cause::Thinned, Cause::Concurrent, Cause::TtlEdge, Cause::OtherTtl, Cause::BeginsWarm, Cause::Gone, Cause::Other];
    all.into_iter().find(|c| c.as_str() == cause).map_or("", Cause::meaning)
}

/// Two policies over the same requests.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonReport {
    /// Bill of the policy minus bill of the one it is compared with.
    pub difference_nanousd: i64,
    /// Its 95 % interval by the paired bootstrap over key and day.
    pub interval_nanousd: Option<(i64, i64)>,
    /// Blocks of the bootstrap.
    pub blocks: usize,
    /// Difference of the stale shares.
    pub stale_share: f64,
}

impl ComparisonReport {
    /// The comparison of two replays.
    pub fn of(new: &PolicyReport, old: &PolicyReport, money: &Paired, seed: u64) -> Self {
        let Difference { point, interval, blocks } = money.difference(seed);
        let stale_share = new.total.stale_share - old.total.stale_share;
        Self { difference_nanousd: point, interval_nanousd: interval, blocks, stale_share }
    }

    /// Side by side, per route.
    pub fn table(&self, new: &PolicyReport, old: &PolicyReport) -> String {
        let pairs = new.routes.iter().chain(std::iter::once(&new.total)).filter_map(|route| {
            let other = old.routes.iter().chain(std::iter::once(&old.total)).find(|r| r.route == route.route)?;
            Some(vec![
                route.route.clone(),
                usd(other.bill_nanousd),
                usd(route.bill_nanousd),
                usd(route.bill_nanousd - other.bill_nanousd),
                other.calls.to_string(),
                route.calls.to_string(),
                percent_fine(other.stale_share),
                percent_fine(route.stale_share),
            ])
        });
        let head = ["route", "bill before $", "bill after $", "difference $", "calls before", "calls after", "stale before", "stale after"];
        let mut text = render(&head, pairs);
        let interval = self.interval_nanousd.map_or_else(
            || format!("no interval: {} blocks of key and day are too few", self.blocks),
            |(low, high)| format!("95 % interval {} to {} over {} blocks of key and day", usd(low), usd(high), self.blocks),
        );
        let _ = writeln!(text, "bill after - before: ${}; {interval}", usd(self.difference_nanousd));
        text
    }
}

fn stale(route: &RouteReport) -> String {
    if route.judged == 0 {
        return "-".to_owned();
    }
    let (low, high) = route.stale_interval;
    format!("{} ({} to {})", percent_fine(route.stale_share), percent_fine(low), percent_fine(high))
}

fn deciders(decisions: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = decisions.iter().map(|(by, n)| format!("{by} {n}")).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn usd(nanos: i64) -> String {
    let money = Money::from_nanos(nanos);
    format!("{:.4}", money.nanos() as f64 / 1e9)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn percent_fine(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
