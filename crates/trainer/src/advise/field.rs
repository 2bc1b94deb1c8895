//! The log as something to replay: which requests could be answered from a cache, and what each way of doing so comes to.

use std::collections::HashMap;

use farthing_contract::features::{Doubt, TtlInput};
use farthing_policy::{Levels, TtlParams, TtlSource};
use farthing_replay::{Chooser, Decided, Engine, Event, EventKind, Trace, TraceRoute};
use farthing_types::{Draw, DrawKind, Money, Span, Time, UncachedReason};

use super::interval::{GROUPS, group};
use crate::evaluate::stream::between;
use crate::read::{Ask, Observed};

/// Changes at once from which a route counts as one whose answers differ from call to call; as in `history`.
const AT_ONCE_NS: i64 = 10_000_000_000;
const JUDGED: u32 = 5;
const NONDETERMINISTIC: f64 = 0.9;
/// Share of a route's answers whose content must be known for its staleness to be judged.
const KNOWN: f64 = 0.5;

/// Requests of a row that are replayed one by one.
const REPEATED: u32 = 1_000;

/// Why a request cannot be answered from a cache, whatever the TTL.
pub fn uncacheable(ask: &Ask) -> Option<UncachedReason> {
    use UncachedReason as R;
    if !ask.is_get {
        return Some(R::Method);
    }
    let forbids = |reason: &R| {
        matches!(
            reason,
            R::Method
                | R::RequestDirective
                | R::RequestCookie
                | R::OriginNoStore
                | R::SetCookie
                | R::Private
                | R::Vary
                | R::TooLarge
                | R::Incomplete
                | R::PassThrough
                | R::Terms
        )
    };
    if let Some(reason) = ask.forbidden.filter(forbids) {
        return Some(reason);
    }
    let kept = matches!(ask.status, 200 | 203 | 204 | 300 | 301 | 304 | 308);
    let by_origin = matches!(ask.status, 302 | 307 | 404 | 405 | 410 | 414 | 501) && ask.origin_ttl_s.is_some_and(|s| s > 0);
    (!kept && !by_origin).then_some(R::Status)
}

/// What is known of a route before anything is replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Nature {
    /// Answers differ from call to call.
    pub nondeterministic: bool,
    /// It is known when answers change.
    pub known: bool,
    /// Mean price of its calls, nano-dollars; none when all are unpriced.
    pub price: Option<i64>,
}

/// The log, ready to be replayed.
pub struct Field {
    /// Routes and events.
    pub trace: Trace,
    /// Of each route.
    pub natures: Vec<Nature>,
    /// Per read event, in their order.
    pub reads: Vec<ReadFact>,
    /// Requests that no cache can answer.
    pub passed: Vec<Passed>,
    /// Explicit lifetimes by time and key.
    explicit: HashMap<(i64, u32), i64>,
}

/// Requests that no cache can answer.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// When they came, ns.
    pub at_ns: i64,
    /// Their route.
    pub route: u32,
    /// How many.
    pub weight: u32,
    /// What each cost; 1 for unpriced routes.
    pub cost: i64,
    /// Block of key and day.
    pub group: u16,
}

/// What the replay needs of a request.
#[derive(Clone, Copy, Debug)]
pub struct ReadFact {
    /// What it cost; 1 for unpriced routes.
    pub cost: i64,
    /// Requests that it stands for.
    pub weight: u32,
    /// Time to its answer.
    pub latency: Span,
    /// Block of key and day.
    pub group: u16,
}

impl Field {
    /// Of a log.
    pub fn of(observed: &Observed) -> Self {
        let natures = natures(observed);
        let mut numbers: HashMap<u64, u32> = HashMap::new();
        // When each key was fetched last, and what that found.
        let mut content: HashMap<u32, (i64, u64)> = HashMap::new();
        let draw = Draw::new(0);
        let mut field = Self {
            trace: Trace { routes: routes(observed, &natures), events: Vec::new() },
            natures,
            reads: Vec::new(),
            passed: Vec::new(),
            explicit: HashMap::new(),
        };
        for ask in &observed.asks {
            let cost = field.natures.get(ask.route as usize).and_then(|n| n.price).map_or(1, |mean| ask.cost.unwrap_or(mean));
            let group = group(ask.key, ask.at_ns);
            if uncacheable(ask).is_some() {
                field.passed.push(Passed { at_ns: ask.at_ns, route: ask.route, weight: ask.weight, cost, group });
                continue;
            }
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            let key = *numbers.entry(ask.key).or_insert(next);
            let bytes = ask.bytes.and_then(|b| u32::try_from(b).ok()).unwrap_or(0);
            let event = Event { at: Time::from_nanos(ask.at_ns), key, route: ask.route as u16, kind: EventKind::Read, bytes };
            if let Some(hash) = ask.hash {
                let before = content.insert(key, (ask.at_ns, hash));
                if before.is_none_or(|(_, known)| known != hash) {
                    let place = draw.uniform(DrawKind::Sample, "advise.change", field.reads.len() as u128, 0);
                    let at = Time::from_nanos(between(before.map(|(since, _)| since), ask.at_ns, place));
                    field.trace.events.push(Event { at, kind: EventKind::Change, ..event });
                }
            }
            if let Some(seconds) = ask.origin_ttl_s {
                field.explicit.insert((ask.at_ns, key), seconds);
            }
            let latency = Span::from_micros(ask.latency_us.and_then(|l| u64::try_from(l).ok()).unwrap_or(0));
            // The last one of a long row stands for all that are left: they came at once, so what the one before came to holds for them.
            for n in 1..=ask.weight.min(REPEATED) {
                let weight = if n == REPEATED { ask.weight - n + 1 } else { 1 };
                field.trace.events.push(event);
                field.reads.push(ReadFact { cost, weight, latency, group });
            }
        }
        // Changes lie before the fetches that found them; reads stay in the order of their facts.
        field.trace.events.sort_by_key(|e| (e.at, e.kind == EventKind::Read));
        field
    }

    /// Whether any route's staleness can be judged.
    pub fn says_when_answers_change(&self) -> bool {
        self.natures.iter().any(|n| n.known)
    }

    /// Index of the first event and of the first read at or after a moment.
    pub fn at(&self, cut_ns: i64) -> (usize, usize) {
        let events = self.trace.events.partition_point(|e| e.at.nanos() < cut_ns);
        let reads = self.trace.events.get(..events).unwrap_or_default().iter().filter(|e| e.kind == EventKind::Read).count();
        (events, reads)
    }
}

fn routes(observed: &Observed, natures: &[Nature]) -> Vec<TraceRoute> {
    let route = |(route, nature): (&crate::read::ObservedRoute, &Nature)| TraceRoute {
        name: route.name.clone(),
        price: Money::from_nanos(nature.price.unwrap_or(1).max(1)),
        nondeterministic: nature.nondeterministic,
    };
    observed.routes.iter().zip(natures).map(route).collect()
}

fn natures(observed: &Observed) -> Vec<Nature> {
    #[derive(Clone, Copy, Default)]
    struct Sums {
        paid: i128,
        priced: u64,
        cacheable: u64,
        hashed: u64,
        at_once: u32,
        changed: u32,
    }
    let mut sums = vec![Sums::default(); observed.routes.len()];
    let mut last: HashMap<u64, Seen> = HashMap::new();
    for ask in &observed.asks {
        let Some(sum) = sums.get_mut(ask.route as usize) else { continue };
        if let Some(cost) = ask.cost {
            sum.paid += i128::from(cost);
            sum.priced += 1;
        }
        if uncacheable(ask).is_some() {
            continue;
        }
        sum.cacheable += 1;
        let Some(hash) = ask.hash else {
            if let Some(seen) = last.get_mut(&ask.key).filter(|_| !ask.called) {
                seen.hits += 1;
            }
            continue;
        };
        sum.hashed += 1;
        let now = Seen { at_ns: ask.at_ns, hash, hits: 0 };
        let Some(before) = last.insert(ask.key, now) else { continue };
        // What the origin would have answered to a hit of the log's own cache is known when the fetches on both sides of it say the
        // same. Between two that differ it is not, nor after the last one.
        if before.hash == hash {
            sum.hashed += before.hits;
        }
        if ask.at_ns - before.at_ns <= AT_ONCE_NS {
            sum.at_once += 1;
            sum.changed += u32::from(before.hash != hash);
        }
    }
    let nature = |s: Sums| Nature {
        nondeterministic: s.at_once >= JUDGED && f64::from(s.changed) >= NONDETERMINISTIC * f64::from(s.at_once),
        known: s.cacheable > 0 && s.hashed as f64 >= KNOWN * s.cacheable as f64,
        price: (s.priced > 0).then(|| i64::try_from(s.paid / i128::from(s.priced)).unwrap_or(i64::MAX)),
    };
    sums.into_iter().map(nature).collect()
}

/// The last fetch of a key.
#[derive(Clone, Copy)]
struct Seen {
    at_ns: i64,
    hash: u64,
    /// Hits since then.
    hits: u64,
}

/// How a route is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// What the plan of the route says of TTLs; `None`: only what the origin says (`mode = "respect"`).
    pub ttl: Option<TtlParams>,
    /// Concurrent identical requests share a call.
    pub dedupe: bool,
    /// Explicit lifetimes of the origin are used.
    pub origin: bool,
}

impl Setting {
    /// Changes nothing (`mode = "observe"`).
    pub const OBSERVE: Self = Self { ttl: None, dedupe: false, origin: false };
    /// Concurrent requests share a call, nothing is kept (`cache = false`).
    pub const DEDUPE: Self = Self { ttl: None, dedupe: true, origin: false };
    /// What the origin says, and nothing more.
    pub const RESPECT: Self = Self { ttl: None, dedupe: true, origin: true };

    /// With TTLs by this source.
    pub fn with(source: TtlSource, params: TtlParams) -> Self {
        Self { ttl: Some(TtlParams { source, ..params }), dedupe: true, origin: true }
    }
}

/// Base, bill and stale answers of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteRun {
    /// Base and bill per block group.
    pub groups: Vec<(i64, i64)>,
    /// Requests and calls per block group.
    pub counts: Vec<(i64, i64)>,
    /// Requests, uncacheable ones included.
    pub requests: u64,
    /// Answers that differed from what the origin would have said.
    pub stale: u64,
}

impl RouteRun {
    fn new() -> Self {
        Self { groups: vec![(0, 0); GROUPS], counts: vec![(0, 0); GROUPS], requests: 0, stale: 0 }
    }

    /// What the requests would have cost, and what they cost.
    pub fn sums(&self) -> (i64, i64) {
        self.groups.iter().fold((0, 0), |(base, bill), (a, b)| (base.saturating_add(*a), bill.saturating_add(*b)))
    }

    /// 1 - bill / base.
    pub fn saving(&self) -> f64 {
        let (base, bill) = self.sums();
        if base == 0 { 0.0 } else { 1.0 - bill as f64 / base as f64 }
    }

    /// Stale answers over all answers.
    pub fn stale_share(&self) -> f64 {
        self.stale as f64 / self.requests.max(1) as f64
    }

    /// Requests of a block group, each at a cost, and whether calls were made for them.
    fn pay(&mut self, group: u16, (weight, cost): (u32, i64), called: bool) {
        self.requests += u64::from(weight);
        let weight = i64::from(weight);
        let add = |slot: Option<&mut (i64, i64)>, amount: i64| {
            if let Some((base, bill)) = slot {
                *base = base.saturating_add(amount);
                *bill = bill.saturating_add(if called { amount } else { 0 });
            }
        };
        add(self.groups.get_mut(usize::from(group)), cost.saturating_mul(weight));
        add(self.counts.get_mut(usize::from(group)), weight);
    }
}

/// A part of the field: events from the first pair's to the second's, see [`Field::at`].
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// First event and read.
    pub from: (usize, usize),
    /// One beyond the last event.
    pub to: usize,
    /// Times of the part, ns.
    pub times: (i64, i64),
}

impl Field {
    /// Replays a part through the proxy's own decisions, from an empty proxy.
    pub fn play(&self, part: Part, settings: &[Setting], levels: &Levels, stale_budget: f64) -> Vec<RouteRun> {
        let mut runs = vec![RouteRun::new(); self.trace.routes.len()];
        let mut engine = Engine::new(&self.trace);
        engine.set_stale_budget(stale_budget.max(1e-6));
        let params = settings.iter().map(|s| s.ttl.unwrap_or_default()).collect();
        let mut chooser = Advised {
            decided: Decided::new(levels, params),
            field: self,
            settings,
            latency: Span::ZERO,
            called: false,
            doubt: Doubt::NEVER,
        };
        let mut read = part.from.1;
        let events = self.trace.events.get(part.from.0..part.to).unwrap_or_default();
        for event in events {
            let one = std::slice::from_ref(event);
            if event.kind == EventKind::Change {
                engine.run(&self.trace, one, &mut chooser);
                continue;
            }
            let Some(fact) = self.reads.get(read) else { break };
            read += 1;
            (chooser.latency, chooser.called) = (fact.latency, false);
            let outcome = engine.run(&self.trace, one, &mut chooser);
            let route = usize::from(event.route);
            let Some(run) = runs.get_mut(route) else { continue };
            // A shared call is as fresh as any.
            run.stale += outcome.routes.get(route).map_or(0, |r| r.stale) * u64::from(fact.weight);
            run.pay(fact.group, (fact.weight, fact.cost), chooser.called);
        }
        let (from, to) = part.times;
        for passed in self.passed.iter().filter(|p| (from..to).contains(&p.at_ns)) {
            if let Some(run) = runs.get_mut(passed.route as usize) {
                run.pay(passed.group, (passed.weight, passed.cost), true);
            }
        }
        runs
    }
}

/// The proxy's decision in `learned` mode: what the origin says where it says something, else what the route's source says; and the
/// time of a call, in which concurrent requests share it.
struct Advised<'a> {
    decided: Decided<'a>,
    field: &'a Field,
    settings: &'a [Setting],
    latency: Span,
    called: bool,
    doubt: Doubt,
}

impl Chooser for Advised<'_> {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        self.called = true;
        self.doubt = Doubt::NEVER;
        let Some(setting) = self.settings.get(usize::from(event.route)) else { return Span::ZERO };
        let shared = if setting.dedupe { self.latency } else { Span::ZERO };
        let explicit = self.field.explicit.get(&(event.at.nanos(), event.key)).filter(|_| setting.origin);
        let fresh = match (explicit, setting.ttl) {
            // The proxy keeps nothing for longer than the route's `max_ttl`, whatever the origin says.
            (Some(seconds), _) => Span::from_secs(u64::try_from(*seconds).unwrap_or(0)).min(setting.ttl.unwrap_or_default().max),
            (None, Some(_)) => {
                let fresh = self.decided.ttl(event, input);
                self.doubt = self.decided.doubt();
                fresh
            }
            (None, None) => Span::ZERO,
        };
        // A copy counts from the arrival of its answer.
        if fresh.is_zero() { shared } else { fresh.saturating_add(self.latency) }
    }

    fn doubt(&self) -> Doubt {
        self.doubt
    }
}
