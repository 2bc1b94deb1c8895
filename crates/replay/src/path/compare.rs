//! How far a replay agrees with the log, and why not further.

use std::collections::{BTreeMap, HashMap};

use farthing_policy::TtlDecision;
use farthing_types::{Money, Outcome, Span, Time};

use super::rows::{AskedRow, Log};

/// Events nearer than this to a request are concurrent with it in a log of real time.
const CONCURRENT: Span = Span::from_millis(50);

/// Why a request had another outcome than in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The row stands for several requests, of which one is replayed for all.
    Thinned,
    /// A call of the key began or ended within 50 ms: which of the two came first is not logged to the nanosecond.
    Concurrent,
    /// The copy's age was within 50 ms of its TTL.
    TtlEdge,
    /// The TTL of the copy was decided otherwise than in the log.
    OtherTtl,
    /// The log begins with a copy that was fetched before it.
    BeginsWarm,
    /// The copy was gone in the log and is not here: memory or an end that was not logged.
    Gone,
    /// Anything else.
    Other,
}

impl Cause {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thinned => "thinned",
            Self::Concurrent => "concurrent",
            Self::TtlEdge => "ttl-edge",
            Self::OtherTtl => "other-ttl",
            Self::BeginsWarm => "begins-warm",
            Self::Gone => "gone",
            Self::Other => "other",
        }
    }
    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Thinned => "the row stands for several requests, which differed",
            Self::Concurrent => "a call of the key began or ended within 50 ms",
            Self::TtlEdge => "the copy's age was within 50 ms of its TTL",
            Self::OtherTtl => "the copy's TTL was decided otherwise",
            Self::BeginsWarm => "the log begins with a copy from before it",
            Self::Gone => "the copy was gone in the log: memory, or an end that was not logged",
            Self::Other => "not explained",
        }
    }
}

/// Agreement of a replay with its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fidelity {
    /// Requests compared.
    pub requests: u64,
    /// Requests with another outcome, by cause.
    pub differences: BTreeMap<Cause, u64>,
    /// The same by outcomes: logged, replayed.
    pub outcomes: BTreeMap<(Outcome, Outcome), u64>,
    /// Calls that the log has.
    pub logged_calls: u64,
    /// Of these, calls that the replay made too.
    pub same_calls: u64,
    /// Calls of the replay that the log does not have.
    pub other_calls: u64,
    /// The bill of the log.
    pub logged_bill: Money,
    /// The bill of the replay.
    pub bill: Money,
    /// TTL decisions compared.
    pub decisions: u64,
    /// Of these, decisions with another TTL or decider.
    pub other_decisions: u64,
}

impl Fidelity {
    /// Share of requests with the same outcome.
    pub fn same_share(&self) -> f64 {
        let other: u64 = self.differences.values().sum();
        1.0 - other as f64 / self.requests.max(1) as f64
    }
    /// Bill of the replay against that of the log: 0.01 is 1 % more.
    pub fn bill_difference(&self) -> f64 {
        if self.logged_bill == Money::ZERO {
            return if self.bill == Money::ZERO { 0.0 } else { 1.0 };
        }
        self.bill.nanos() as f64 / self.logged_bill.nanos() as f64 - 1.0
    }
    /// Whether nothing at all differs.
    pub fn is_exact(&self) -> bool {
        self.differences.is_empty()
            && self.same_calls == self.logged_calls
            && self.other_calls == 0
            && self.bill == self.logged_bill
            && self.other_decisions == 0
    }
}

/// What the replay knows of a request's copy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Near {
    /// Time left of the copy's freshness, or past it.
    pub to_expiry: Option<Span>,
    /// The last event of the key's calls.
    pub last_event: Option<Time>,
    /// The copy's TTL was decided otherwise than logged.
    pub other_ttl: bool,
    /// The key has never been called.
    pub untouched: bool,
}

/// Compares while the replay runs.
pub(super) struct Comparer {
    pub fidelity: Fidelity,
    /// Starts and ends of each key's logged calls.
    edges: HashMap<u32, Vec<Time>>,
}

impl Comparer {
    pub fn new(log: &Log, skipped: impl Fn(u16) -> bool) -> Self {
        let mut fidelity = Fidelity::default();
        let mut edges: HashMap<u32, Vec<Time>> = HashMap::new();
        for call in log.called.iter().filter(|call| !skipped(call.route)) {
            fidelity.logged_calls += 1;
            fidelity.logged_bill += call.paid.unwrap_or(Money::ZERO);
            edges.entry(call.key).or_default().extend([call.start, call.head, call.end]);
        }
        edges.values_mut().for_each(|times| times.sort_unstable());
        Self { fidelity, edges }
    }

    pub fn request(&mut self, row: &AskedRow, replayed: Outcome, near: &Near) {
        self.fidelity.requests += u64::from(row.weight);
        if replayed == row.outcome {
            return;
        }
        let weight = u64::from(row.weight);
        *self.fidelity.outcomes.entry((row.outcome, replayed)).or_default() += weight;
        *self.fidelity.differences.entry(self.cause(row, replayed, near)).or_default() += weight;
    }

    fn cause(&self, row: &AskedRow, replayed: Outcome, near: &Near) -> Cause {
        let from_cache = |outcome| matches!(outcome, Outcome::Hit | Outcome::Stale);
        let concurrent = |at: Time| at.since(row.at) <= CONCURRENT && row.at.since(at) <= CONCURRENT;
        let edge = self.edges.get(&row.key).is_some_and(|times| {
            let place = times.partition_point(|t| *t < row.at);
            times[place.saturating_sub(1)..times.len().min(place + 1)].iter().any(|t| concurrent(*t))
        });
        if row.weight > 1 {
            Cause::Thinned
        } else if edge || near.last_event.is_some_and(concurrent) {
            Cause::Concurrent
        } else if near.to_expiry.is_some_and(|span| span <= CONCURRENT) {
            Cause::TtlEdge
        } else if near.untouched && from_cache(row.outcome) {
            Cause::BeginsWarm
        } else if near.other_ttl {
            Cause::OtherTtl
        } else if from_cache(replayed) && !from_cache(row.outcome) {
            Cause::Gone
        } else {
            Cause::Other
        }
    }

    /// Whether the decision for a logged call's variant is the logged one; `None` when none was logged.
    pub fn decision(&mut self, log: &Log, call: u32, variant: &str, decision: &TtlDecision) -> Option<bool> {
        let id = log.called.get(call as usize)?.id;
        let logged = log.choices.get(&id)?.iter().find(|choice| &*choice.variant == variant)?;
        let same =
            logged.ttl.to_bits() == decision.choice.value.fresh.as_secs_f64().to_bits() && *logged.by == *decision.choice.by.to_string();
        self.fidelity.decisions += 1;
        self.fidelity.other_decisions += u64::from(!same);
        Some(same)
    }
}
