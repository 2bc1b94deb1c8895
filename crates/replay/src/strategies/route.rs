//! The simulated proxy of one route: what is kept, what is in flight, what waits for a batch.

use std::collections::HashMap;

use farthing_contract::features::{
    BatchWindow, CacheView, HeadFacts, KeySeen, KeyStats, RouteStats, StrategyInput, StrategyStats, TtlInput,
};
use farthing_policy::strategy::{Mix, Terms};
use farthing_policy::{Guarded, Levels, Ttl, TtlParams};
use farthing_types::{Money, Span, Time};

/// What came of the requests of a route, or of a part of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// Requests.
    pub requests: u64,
    /// Calls, alone or within a batch.
    pub items: u64,
    /// Batches.
    pub batches: u64,
    /// Answers that differed from what the origin would have said when they were given.
    pub stale: u64,
    /// Answers later than promised.
    pub late: u64,
    /// Time that clients waited, microseconds.
    pub waited_us: u64,
    /// Paid to the provider.
    pub bill: Money,
    /// Requests that a predictor decided.
    pub predicted: u64,
}

impl Bill {
    /// Bill, priced staleness and priced waiting: what strategies are judged by.
    pub fn cost(&self, terms: &Terms) -> Money {
        let stale = terms.stale_price.times(i64::try_from(self.stale).unwrap_or(i64::MAX));
        let waited = farthing_types::Rate::per_million(terms.wait_price.nanos()).cost(self.waited_us);
        self.bill + stale + waited
    }
    /// Adds another part.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.items += other.items;
        self.batches += other.batches;
        self.stale += other.stale;
        self.late += other.late;
        self.waited_us += other.waited_us;
        self.bill += other.bill;
        self.predicted += other.predicted;
    }
    /// What is in `self` beyond `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            items: self.items - earlier.items,
            batches: self.batches - earlier.batches,
            stale: self.stale - earlier.stale,
            late: self.late - earlier.late,
            waited_us: self.waited_us - earlier.waited_us,
            bill: self.bill - earlier.bill,
            predicted: self.predicted - earlier.predicted,
        }
    }
}

/// The live TTL decision of a route.
pub(super) struct TtlBy<'a> {
    pub guarded: &'a Guarded,
    pub levels: &'a Levels,
    pub params: TtlParams,
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    stats: KeyStats,
    version: u64,
    bytes: u32,
    /// The kept copy: version, and until when it is fresh.
    copy: Option<(u64, Time)>,
    /// The call in flight that requests may join: when it began, when it ends; no end while its batch is open.
    flight: Option<(Time, Option<Time>)>,
}

/// A batch that is filling.
#[derive(Clone, Debug, Default)]
struct Open {
    closes: Time,
    /// Keys with what their answers are kept as, and when each request came.
    items: Vec<(u32, bool)>,
    arrivals: Vec<Time>,
}

/// What a chooser sees of the route at a request.
#[derive(Clone, Copy, Debug)]
pub struct RouteView<'a> {
    /// Index of the route.
    pub route: u16,
    /// The input of the strategy decision.
    pub input: StrategyInput<'a>,
    /// Prices and promises.
    pub terms: &'a Terms,
    /// Every call gets another answer: nothing may be kept or joined.
    pub nondeterministic: bool,
}

/// The simulated route.
pub(super) struct Route<'a> {
    pub index: u16,
    pub terms: Terms,
    pub latency: Span,
    pub nondeterministic: bool,
    pub ttl: TtlBy<'a>,
    keys: HashMap<u32, Key>,
    pub stats: RouteStats,
    pub live: StrategyStats,
    open: Option<Open>,
    calls: u64,
    /// Nobody asks for the live statistics: they are not kept.
    quiet: bool,
    pub bill: Bill,
}

impl<'a> Route<'a> {
    pub fn new(index: u16, terms: Terms, (latency, nondeterministic): (Span, bool), ttl: TtlBy<'a>) -> Self {
        let stats = RouteStats::with_stale_budget(ttl.params.stale_budget);
        Self {
            index,
            terms,
            latency,
            nondeterministic,
            ttl,
            keys: HashMap::new(),
            stats,
            live: StrategyStats::default(),
            open: None,
            calls: 0,
            quiet: false,
            bill: Bill::default(),
        }
    }

    /// Keeps no live statistics: for runs of a fixed mix, of which only the bill is wanted.
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    fn window(&self) -> Option<BatchWindow> {
        self.terms.batch.map(|b| b.window)
    }

    pub fn view(&self, now: Time) -> RouteView<'_> {
        let input = StrategyInput { stats: &self.live, route: &self.stats, batch: self.window(), now };
        RouteView { route: self.index, input, terms: &self.terms, nondeterministic: self.nondeterministic }
    }

    /// From here on the origin answers something else.
    pub fn change(&mut self, at: Time, key: u32, bytes: u32) {
        self.flush_due(at);
        let key = self.keys.entry(key).or_default();
        key.version += 1;
        key.bytes = bytes;
    }

    /// A client's request under `mix`.
    pub fn read(&mut self, at: Time, number: u32, mix: Mix) {
        self.flush_due(at);
        self.bill.requests += 1;
        let key = self.keys.entry(number).or_default();
        let seen = KeySeen::of(&key.stats, at);
        let doubted = self.stats.on_request_of(&mut key.stats, at);
        if !doubted && mix.caches() && key.copy.is_some_and(|(_, until)| at < until) {
            let stale = self.nondeterministic || key.copy.is_some_and(|(version, _)| version != key.version);
            self.bill.stale += u64::from(stale);
            // The proxy does not see that an answer is stale: it counts what the route's refetches show.
            let expected = self.stats.stale_share().unwrap_or(0.0) as f32;
            let view = CacheView { needs_call: 0.0, stale: expected, cached: true };
            self.note(at, number, (seen, view));
            return;
        }
        if mix.joins() && self.join(at, number, mix) {
            let view = CacheView { needs_call: 0.0, stale: 0.0, cached: mix.caches() };
            self.note(at, number, (seen, view));
            return;
        }
        self.call(at, number, mix, seen);
    }

    /// Joins the call in flight, if there is one.
    fn join(&mut self, at: Time, number: u32, mix: Mix) -> bool {
        let latency = self.latency;
        let Some(key) = self.keys.get_mut(&number) else { return false };
        match key.flight {
            Some((_, Some(end))) if at < end => {
                self.bill.waited_us += micros(end.since(at));
                self.bill.late += late(end.since(at), &self.terms);
                true
            }
            Some((_, None)) if mix.batches() && self.open.is_some() => {
                // The batch is still open: its end is counted when it goes out.
                if let Some(open) = &mut self.open {
                    open.arrivals.push(at);
                }
                true
            }
            Some((_, None)) => {
                let wait = self.open.as_ref().map_or(latency, |o| o.closes.since(at) + latency);
                self.bill.waited_us += micros(wait);
                true
            }
            _ => false,
        }
    }

    fn call(&mut self, at: Time, number: u32, mix: Mix, seen: KeySeen) {
        let batch = self.terms.batch.filter(|_| mix.batches());
        let Some(batch) = batch else {
            self.bill.items += 1;
            self.bill.bill += self.terms.price;
            self.bill.waited_us += micros(self.latency);
            self.bill.late += late(self.latency, &self.terms);
            self.answered(at, number, mix, Some(seen));
            return;
        };
        if !self.quiet {
            let view = self.cache_view(at, number, mix, None);
            self.note(at, number, (seen, view));
        }
        if let Some(key) = self.keys.get_mut(&number) {
            key.flight = Some((at, None));
        }
        let window = batch.window;
        let open = self.open.get_or_insert_with(|| Open { closes: at + window.window, ..Open::default() });
        open.items.push((number, mix.caches()));
        open.arrivals.push(at);
        if open.items.len() >= window.max.max(1) as usize {
            self.flush(at);
        }
    }

    /// Counts a request in the live statistics, with what the cache does with it.
    fn note(&mut self, at: Time, number: u32, about: (KeySeen, CacheView)) {
        if !self.quiet {
            self.live.on_request(at, u64::from(number), about, self.window());
        }
    }

    /// The origin's answer to a call that began at `at`: statistics, the copy, and, for requests that did not wait, the live counts.
    fn answered(&mut self, at: Time, number: u32, mix: Mix, seen: Option<KeySeen>) {
        let latency = self.latency;
        if self.quiet && !mix.caches() {
            if let Some(key) = self.keys.get_mut(&number) {
                key.flight = Some((at, Some(at + latency)));
            }
            return;
        }
        self.calls += 1;
        let hash_of_new = self.calls | (1 << 63);
        let Some(key) = self.keys.get_mut(&number) else { return };
        let hash = if self.nondeterministic { hash_of_new } else { key.version };
        self.stats.on_fetch(&mut key.stats, at, hash);
        if !self.quiet {
            self.live.on_call(latency, u64::from(key.bytes));
        }
        let head = HeadFacts { body_bytes: u64::from(key.bytes), ..HeadFacts::default() };
        let input = TtlInput { key: &key.stats, route: &self.stats, head, now: at };
        let Ttl { fresh: ttl, doubt, .. } = self.ttl.guarded.decide(self.ttl.levels, &self.ttl.params, &input).choice.value;
        key.stats.set_doubt(doubt);
        if ttl.is_zero() || !mix.caches() {
            key.stats.exempt_from_steering();
        }
        key.copy = (mix.caches() && !ttl.is_zero()).then(|| (key.version, at + ttl));
        key.flight = Some((at, Some(at + latency)));
        if let Some(seen) = seen {
            let view = self.cache_view(at, number, mix, Some(ttl));
            self.note(at, number, (seen, view));
        }
    }

    /// What the cache does with a request that became a call.
    fn cache_view(&self, at: Time, number: u32, mix: Mix, ttl: Option<Span>) -> CacheView {
        if mix.caches() {
            return CacheView { needs_call: 1.0, stale: 0.0, cached: true };
        }
        let Some(key) = self.keys.get(&number) else { return CacheView { needs_call: 1.0, ..CacheView::default() } };
        let input = TtlInput { key: &key.stats, route: &self.stats, head: HeadFacts::default(), now: at };
        let decided = || self.ttl.guarded.decide(self.ttl.levels, &self.ttl.params, &input).choice.value.fresh;
        CacheView::passed_by(&input, ttl.unwrap_or_else(decided))
    }

    fn flush_due(&mut self, now: Time) {
        if let Some(closes) = self.open.as_ref().map(|o| o.closes).filter(|closes| *closes <= now) {
            self.flush(closes);
        }
    }

    /// Sends the open batch out at `at`.
    pub fn flush(&mut self, at: Time) {
        let (Some(open), Some(batch)) = (self.open.take(), self.terms.batch) else { return };
        let items = open.items.len() as u64;
        self.bill.items += items;
        self.bill.batches += 1;
        self.bill.bill += batch.bill(self.terms.price, items);
        for came in open.arrivals {
            let wait = at.since(came) + self.latency;
            self.bill.waited_us += micros(wait);
            self.bill.late += late(wait, &self.terms);
        }
        for (number, caches) in open.items {
            let mix = if caches { Mix::CacheBatch } else { Mix::DedupeBatch };
            self.answered(at, number, mix, None);
        }
    }

    /// What is still waiting goes out.
    pub fn finish(&mut self) {
        if let Some(closes) = self.open.as_ref().map(|o| o.closes) {
            self.flush(closes);
        }
    }
}

fn micros(span: Span) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn late(wait: Span, terms: &Terms) -> u64 {
    u64::from(terms.sla.is_some_and(|sla| wait > sla))
}
