//! The replay.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_contract::features::{Associations, Candidate, Capacity, LiveOdds, PREFETCH_FEATURES, Visit, prefetch_features};
use farthing_policy::prefetch::{Awaited, Batch, Budget, Permits, Question, Rider, Stakes, Tries, Try, Watch, likelihood};
use farthing_policy::{Guarded, Levels};
use farthing_types::{By, Draw, DrawKind, Span, Time, VirtualClock};

use super::books::{Books, Reliability};
use super::sessions::{Sessions, Visited};

/// Most rows that are kept to learn from.
const ROWS: usize = 400_000;
/// Outcomes awaited at a time.
const WATCHED: usize = 65_536;
/// Least probability of what rides in a batch that is paid anyway.
const LEAST_RIDER: f64 = 0.03;

/// What a replay is made with.
#[derive(Clone)]
pub struct Setup {
    /// The predictors.
    pub levels: Levels,
    /// How far ahead a request counts as following.
    pub horizon: Span,
    /// Memory of the associations.
    pub capacity: Capacity,
    /// Share of the candidates within 0.1 of the threshold that are decided by a draw, with the propensity kept in the row.
    pub explore: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Least probability at which a thing is fetched by a call of its own, whatever would pay.
    pub least: f64,
    /// Most that is spent ahead per hour.
    pub budget: Option<farthing_types::Money>,
    /// Whether rows for learning are kept.
    pub collect: bool,
}

impl Setup {
    /// With the plain conditional ratio or `levels`, no exploration.
    pub fn new(levels: Levels, horizon: Span) -> Self {
        Self { levels, horizon, capacity: Capacity::default(), explore: 0.0, seed: 1, least: 0.0, budget: None, collect: false }
    }
}

/// A row to learn from: a candidate without a fresh copy, and whether it was asked for within the horizon.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefetchRow {
    /// When.
    pub at: Time,
    /// Route of the candidate.
    pub route: u16,
    /// Features at the decision.
    pub features: [f32; PREFETCH_FEATURES],
    /// The rule's probability.
    pub plain: f32,
    /// Probability of the action that was taken.
    pub propensity: f32,
    /// Whether it was fetched.
    pub fetched: bool,
    /// Whether it was used.
    pub used: bool,
    /// Whether the horizon is over.
    pub matured: bool,
}

/// A place among the rows, and the candidate that had it.
#[derive(Clone, Copy)]
struct RowId {
    slot: usize,
    number: u64,
}

/// What is remembered of an awaited candidate.
#[derive(Clone, Copy)]
struct Note {
    route: u16,
    raw: f32,
    p: f32,
    row: Option<RowId>,
    judged: bool,
}

#[derive(Clone, Copy)]
struct Copy {
    until: Time,
    /// Fetched ahead and not used yet.
    ahead: bool,
}

/// A candidate with its price tag.
struct Offer {
    candidate: Candidate,
    p: f64,
    threshold: f64,
    note: Note,
}

/// Cache, associations and permits under virtual time.
pub struct Engine<'a> {
    sessions: &'a Sessions,
    setup: Setup,
    guarded: Guarded,
    seen: Associations,
    copies: HashMap<u64, Copy>,
    /// Expiry without prefetch.
    base: HashMap<u64, Time>,
    /// Pool of each route.
    pools: Vec<usize>,
    odds: Vec<LiveOdds>,
    watch: Watch<Note>,
    tries: Tries,
    budget: Budget,
    books: Vec<Books>,
    reliability: Reliability,
    /// Rows with the number of their candidate.
    rows: Vec<(u64, PrefetchRow)>,
    row_count: u64,
    found: Vec<Candidate>,
    count: u64,
    judging: bool,
    deciders: Vec<(By, u64)>,
}

impl<'a> Engine<'a> {
    /// A cold start.
    pub fn new(sessions: &'a Sessions, setup: Setup) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let routes = sessions.routes.len();
        Self {
            sessions,
            guarded: Guarded::new(clock, Span::from_secs(1), Span::from_secs(1)),
            seen: Associations::new(setup.capacity, setup.horizon),
            copies: HashMap::new(),
            base: HashMap::new(),
            pools: sessions.pools(),
            odds: vec![LiveOdds::default(); routes],
            watch: Watch::new(WATCHED),
            tries: Tries::new(Permits::new(sessions.pools()), WATCHED),
            budget: Budget::new(setup.budget, Span::from_secs(3_600)),
            books: vec![Books::default(); routes],
            reliability: Reliability::default(),
            rows: Vec::new(),
            row_count: 0,
            found: Vec::new(),
            count: 0,
            judging: false,
            deciders: Vec::new(),
            setup,
        }
    }

    /// Counts from zero again from here on; what was learned stays.
    pub fn judge_from_here(&mut self) {
        self.books = vec![Books::default(); self.sessions.routes.len()];
        self.reliability = Reliability::default();
        self.deciders.clear();
        self.judging = true;
    }

    /// Plays requests.
    pub fn run(&mut self, visits: &[Visited]) {
        for visit in visits {
            self.step(visit);
        }
        if let Some(last) = visits.last() {
            self.settle(last.at);
        }
    }

    /// Everything together.
    pub fn total(&self) -> Books {
        let mut total = Books::default();
        self.books.iter().for_each(|b| total += *b);
        total
    }
    /// Per route.
    pub fn books(&self) -> &[Books] {
        &self.books
    }
    /// The permits.
    pub fn permits(&self) -> &Permits {
        self.tries.permits()
    }
    /// Predicted against observed since [`Self::judge_from_here`].
    pub fn reliability(&self) -> &Reliability {
        &self.reliability
    }
    /// Rows whose outcome is known, if they were to be kept; of very many an even sample.
    pub fn rows(&self) -> impl Iterator<Item = &PrefetchRow> {
        self.rows.iter().map(|(_, row)| row).filter(|row| row.matured)
    }
    /// Decisions by who made them since [`Self::judge_from_here`].
    pub fn deciders(&self) -> &[(By, u64)] {
        &self.deciders
    }

    fn step(&mut self, visited: &Visited) {
        self.count += 1;
        self.settle(visited.at);
        self.came(visited);
        let missed = self.answer(visited);
        let Visited { at, session, thing, route, params } = *visited;
        let visit = Visit { at, session, thing, route, params, missed };
        self.seen.on_visit(&visit);
        if self.sessions.routes.iter().any(|r| r.params.enabled(r.price)) || self.setup.collect {
            self.consider(&visit);
        }
    }

    /// Answers from the two caches; whether it missed.
    fn answer(&mut self, visited: &Visited) -> bool {
        let Some((route, books)) = self.sessions.routes.get(usize::from(visited.route)).zip(self.books.get_mut(usize::from(visited.route)))
        else {
            return false;
        };
        books.requests += 1;
        if self.base.get(&visited.thing).is_none_or(|until| visited.at >= *until) {
            books.base_misses += 1;
            books.base_bill += route.price;
            self.base.insert(visited.thing, visited.at + route.ttl);
        }
        if let Some(copy) = self.copies.get_mut(&visited.thing).filter(|copy| visited.at < copy.until) {
            if copy.ahead {
                copy.ahead = false;
                books.useful += 1;
                books.latency += route.params.latency;
            }
            return false;
        }
        books.misses += 1;
        books.bill += route.price;
        self.copies.insert(visited.thing, Copy { until: visited.at + route.ttl, ahead: false });
        true
    }

    /// Asks about what may follow, and fetches what pays.
    fn consider(&mut self, visit: &Visit) {
        let mut found = std::mem::take(&mut self.found);
        self.seen.candidates(visit, &mut found);
        let mut offers: Vec<Offer> = found.iter().filter_map(|c| self.offer(visit, c)).collect();
        self.found = found;
        offers.sort_by(|a, b| b.p.total_cmp(&a.p).then(a.candidate.thing.cmp(&b.candidate.thing)));
        let batched = |s: &Self, o: &Offer| s.sessions.routes[usize::from(o.candidate.route)].params.tariff.places() > 1;
        let (together, alone): (Vec<Offer>, Vec<Offer>) = offers.into_iter().partition(|o| batched(self, o));
        let wanted = alone.iter().filter(|o| o.p > o.threshold.max(self.setup.least)).count() as u32;
        for offer in alone {
            self.alone(visit, offer, wanted);
        }
        self.together(visit, together);
    }

    /// What is known about a candidate; `None` when it has a fresh copy, or fetching it now cannot pay.
    fn offer(&mut self, visit: &Visit, candidate: &Candidate) -> Option<Offer> {
        let index = usize::from(candidate.route);
        let route = self.sessions.routes.get(index)?;
        if self.copies.get(&candidate.thing).is_some_and(|copy| visit.at < copy.until) {
            return None;
        }
        let enabled = route.params.enabled(route.price) && (route.params.before_a_miss() || self.opens(visit, index));
        if !enabled && !self.setup.collect {
            return None;
        }
        let question = Question { seen: &self.seen, visit, candidate, life: route.ttl };
        let said = likelihood(&self.guarded, &self.setup.levels, route.params.source, question, &self.odds[index]);
        match self.deciders.iter_mut().find(|(by, _)| *by == said.choice.by) {
            Some((_, count)) => *count += 1,
            None => self.deciders.push((said.choice.by.clone(), 1)),
        }
        let books = &mut self.books[index];
        books.candidates += 1;
        books.by_model += u64::from(matches!(said.choice.by, By::Model(_) | By::Table(_)));
        let row = if self.setup.collect { self.keep_row(visit, candidate, route.ttl) } else { None };
        let threshold = if enabled { route.params.stakes(route.price, 0.0).threshold() } else { f64::INFINITY };
        let p = said.choice.value;
        let note = Note { route: candidate.route, raw: said.raw, p, row, judged: self.judging };
        Some(Offer { candidate: *candidate, p: f64::from(p), threshold, note })
    }

    /// Keeps a row of the candidate, and says which: of more than [`ROWS`] an even sample (each new one takes the place of a drawn one).
    fn keep_row(&mut self, visit: &Visit, candidate: &Candidate, life: Span) -> Option<RowId> {
        let number = self.row_count;
        self.row_count += 1;
        let draw = || Draw::new(self.setup.seed).uniform(DrawKind::Sample, "prefetch.row", u128::from(number), 0);
        let slot = if self.rows.len() < ROWS { self.rows.len() } else { (draw() * (number + 1) as f64) as usize };
        if slot >= ROWS {
            return None;
        }
        let features = prefetch_features(&self.seen, visit, candidate, life);
        let (at, route, plain) = (visit.at, candidate.route, candidate.plain_ratio());
        let row = PrefetchRow { at, route, features, plain, propensity: 1.0, fetched: false, used: false, matured: false };
        match self.rows.get_mut(slot) {
            Some(place) => *place = (number, row),
            None => self.rows.push((number, row)),
        }
        Some(RowId { slot, number })
    }

    /// The row, unless another has taken its place since.
    fn row(&mut self, id: Option<RowId>) -> Option<&mut PrefetchRow> {
        let RowId { slot, number } = id?;
        self.rows.get_mut(slot).filter(|(there, _)| *there == number).map(|(_, row)| row)
    }

    /// A prefetch that is billed by itself.
    fn alone(&mut self, visit: &Visit, offer: Offer, together: u32) {
        let route = &self.sessions.routes[usize::from(offer.candidate.route)];
        let price = route.params.tariff.ahead(route.price);
        let mut wanted = offer.p > offer.threshold.max(self.setup.least);
        if (offer.p - offer.threshold).abs() <= 0.1 && self.setup.explore > 0.0 {
            let (greedy, unit) = (wanted, (u128::from(self.count) << 64) | u128::from(offer.candidate.thing));
            let draw = Draw::new(self.setup.seed);
            if draw.uniform(DrawKind::Exploration, "prefetch", unit, 0) < self.setup.explore {
                wanted = draw.uniform(DrawKind::Exploration, "prefetch.action", unit, 0) < 0.5;
            }
            let other = self.setup.explore / 2.0;
            if let Some(row) = self.row(offer.note.row) {
                row.propensity = (if wanted == greedy { 1.0 - other } else { other }) as f32;
            }
        }
        if wanted {
            self.try_once(visit, &offer.candidate, (offer.threshold, together));
        }
        // What costs nothing cannot lose money: it needs no permit, only some chance of use.
        let free = offer.threshold <= 0.0 && offer.p >= LEAST_RIDER;
        let live = free || self.tries.permits().is_live(usize::from(offer.candidate.route)) || !route.params.must_earn;
        if wanted && live {
            let index = usize::from(offer.candidate.route);
            if self.budget.spend(visit.at, price) {
                self.books[index].bill += price;
                self.books[index].ahead_calls += 1;
                self.fetch(visit, &offer);
            } else {
                self.books[index].over_budget += 1;
            }
        }
        self.await_outcome(visit, &offer);
    }

    /// Whether the visit's own miss opens a batch call in which things of `route` have a place.
    fn opens(&self, visit: &Visit, route: usize) -> bool {
        visit.missed && self.pools.get(usize::from(visit.route)) == self.pools.get(route)
    }

    /// Prefetches that share billed calls: with the visit's own miss, or among themselves.
    fn together(&mut self, visit: &Visit, mut offers: Vec<Offer>) {
        while let Some(first) = offers.first() {
            let pool = self.pools[usize::from(first.candidate.route)];
            let (group, rest): (Vec<Offer>, Vec<Offer>) =
                offers.into_iter().partition(|o| self.pools[usize::from(o.candidate.route)] == pool);
            offers = rest;
            self.batch(visit, group);
        }
    }

    /// Fills the batch calls of one pool, best first; `group` is sorted by falling probability.
    fn batch(&mut self, visit: &Visit, group: Vec<Offer>) {
        let Some(place) = group.first().map(|o| usize::from(o.candidate.route)) else { return };
        let route = &self.sessions.routes[place];
        let (places, latency, price) = (route.params.tariff.places(), route.params.latency, route.price);
        let (must_earn, alone) = (route.params.must_earn, Stakes { call: price, ahead: price, latency, thrown: 0.0 }.threshold());
        let (mut from, mut opened) = (0, self.opens(visit, place));
        while from < group.len() {
            let riders: Vec<Rider> = group[from..].iter().map(|o| Rider { p: o.p, thrown: 0.0 }).collect();
            let taken = Batch { call: price, latency, places, opened, least: LEAST_RIDER }.fill(&riders);
            if taken == 0 && !opened {
                break;
            }
            // What rides with a miss costs nothing; a call that nobody missed for is borne by its first rider.
            let mut paid = opened;
            if let Some(bearer) = group.get(from).filter(|_| !opened) {
                self.try_once(visit, &bearer.candidate, (alone, 1));
                let index = usize::from(bearer.candidate.route);
                let live = self.tries.permits().is_live(index) || !must_earn;
                paid = live && self.budget.spend(visit.at, price);
                let books = &mut self.books[index];
                books.over_budget += u64::from(live && !paid);
                if paid {
                    books.bill += price;
                    books.ahead_calls += 1;
                }
            }
            if paid {
                group[from..from + taken].iter().for_each(|offer| self.fetch(visit, offer));
            }
            (from, opened) = (from + taken, false);
        }
        group.iter().for_each(|offer| self.await_outcome(visit, offer));
    }

    fn fetch(&mut self, visit: &Visit, offer: &Offer) {
        let index = usize::from(offer.candidate.route);
        self.books[index].prefetches += 1;
        if let Some(row) = self.row(offer.note.row) {
            row.fetched = true;
        }
        let until = visit.at + self.sessions.routes[index].ttl;
        self.copies.insert(offer.candidate.thing, Copy { until, ahead: true });
    }

    /// Notes a try: it succeeds when the copy is used while fresh.
    fn try_once(&mut self, visit: &Visit, candidate: &Candidate, (threshold, together): (f64, u32)) {
        let until = visit.at + self.sessions.routes[usize::from(candidate.route)].ttl;
        self.tries.begin(Try { thing: candidate.thing, route: candidate.route, until, threshold, together }, visit.at);
    }

    fn await_outcome(&mut self, visit: &Visit, offer: &Offer) {
        let life = self.sessions.routes[usize::from(offer.candidate.route)].ttl.min(self.setup.horizon);
        self.watch.add(Awaited { thing: offer.candidate.thing, until: visit.at + life, note: offer.note });
    }

    fn came(&mut self, visited: &Visited) {
        let mut notes = Vec::new();
        self.watch.asked(visited.thing, visited.at, |note| notes.push(note));
        notes.iter().for_each(|note| self.mature(note, true));
        self.tries.asked(visited.thing, visited.at);
    }

    fn settle(&mut self, now: Time) {
        let mut notes = Vec::new();
        self.watch.expire(now, |note| notes.push(note));
        notes.iter().for_each(|note| self.mature(note, false));
        self.tries.settle(now);
    }

    fn mature(&mut self, note: &Note, used: bool) {
        let index = usize::from(note.route);
        self.odds[index].learn(note.raw, used);
        if note.judged {
            self.reliability.add(f64::from(note.p), used);
        }
        if let Some(row) = self.row(note.row) {
            (row.used, row.matured) = (used, true);
        }
    }
}
