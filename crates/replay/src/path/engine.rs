//! The upper half: what each request gets, and who leads, follows, passes by.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use farthing_contract::features::{KeyStats, RouteStats};
use farthing_experiment::Assigned;
use farthing_freshness::Verdict;
use farthing_freshness::entry::ChosenTtl;
use farthing_freshness::entry::{FAILED_LATELY, REFRESH_AGAIN};
use farthing_freshness::semantics::{CacheControl, Judged, may_stand_in, restrict, verdict};
use farthing_policy::Guarded;
use farthing_policy::plan::RequestKind;
use farthing_types::{KeyHash, Money, Outcome, Purpose, Span, Time, UncachedReason};
use http::{Method, StatusCode};

use super::calls::{Copy, Flight, Passing, Phase, Waiter, Wanted};
use super::compare::{Comparer, Fidelity, Near};
use super::policy::{Policy, RoutePolicy};
use super::provider::{Order, Provider};
use super::rows::{AskedRow, EndedRow, Log};
use super::tally::Tally;

/// How long an expired copy is kept, and how long it may take until the sweep finds it.
const KEEP_EXPIRED: Span = Span::from_secs(24 * 3_600 + 60);

/// What a replay is told besides log and policy.
pub struct Settings<'a> {
    /// Seed of the provider's unknown moments of change.
    pub seed: u64,
    /// Told of the money of each call: key, time, nano-dollars.
    pub pay: &'a mut dyn FnMut(u64, Time, i64),
    /// Told how many requests are done, now and then.
    pub progress: &'a mut dyn FnMut(usize),
}

/// What is known and held of a key.
#[derive(Clone, Default)]
pub(super) struct KeyState {
    pub stats: KeyStats,
    pub copy: Option<Arc<Copy>>,
    /// Answers from the copy.
    pub hits: u32,
    pub flight: Option<u32>,
    /// Everyone passes until then.
    pub marker: Option<(UncachedReason, Time)>,
    pub last_event: Option<Time>,
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Head(u32),
    End(u32),
    Passed(u32),
}

/// A request while it is answered.
#[derive(Clone, Copy)]
struct Planned<'a> {
    index: u32,
    row: &'a AskedRow,
    route: &'a RoutePolicy,
    facts: &'a farthing_freshness::RequestFacts,
    control: CacheControl,
    cache: Result<(), UncachedReason>,
    dedupe: Result<(), UncachedReason>,
    variant: Option<u16>,
}

/// The replayed proxy.
pub(super) struct Path<'a> {
    pub log: &'a Log,
    pub policy: &'a Policy,
    pub settings: Settings<'a>,
    pub guarded: Guarded,
    pub provider: Provider<'a>,
    pub keys: Vec<KeyState>,
    pub routes: Vec<RouteStats>,
    pub flights: Vec<Option<Flight>>,
    pub passing: Vec<Option<Passing>>,
    pub due: BinaryHeap<Reverse<(Time, u64, Due)>>,
    pub order: u64,
    pub tally: Tally,
    pub comparer: Comparer,
}

/// Replays `log` under `policy`.
pub fn replay<'a>(log: &'a Log, policy: &'a Policy, settings: Settings<'a>) -> (Tally, Fidelity) {
    let mut path = Path::new(log, policy, settings);
    let mut ended = Endings { rows: log.ended.iter().collect(), restarts: log.restarts.iter().copied().collect() };
    for (index, row) in log.asked.iter().enumerate() {
        path.until(row.at, &mut ended);
        path.request(u32::try_from(index).unwrap_or(u32::MAX), row);
        if index % 4_096 == 0 {
            (path.settings.progress)(index);
        }
    }
    path.until(Time::from_nanos(i64::MAX), &mut ended);
    path.finish()
}

/// What ends copies from outside.
struct Endings<'a> {
    rows: VecDeque<&'a EndedRow>,
    restarts: VecDeque<Time>,
}

enum Ending<'a> {
    Copy(&'a EndedRow),
    All,
    None,
}

impl<'a> Endings<'a> {
    fn next(&self) -> Option<Time> {
        let row = self.rows.front().map(|row| row.at);
        row.into_iter().chain(self.restarts.front().copied()).min()
    }
    fn pop(&mut self) -> Ending<'a> {
        let row = self.rows.front().map(|row| row.at);
        if self.restarts.front().is_some_and(|restart| row.is_none_or(|row| *restart < row)) {
            self.restarts.pop_front();
            return Ending::All;
        }
        self.rows.pop_front().map_or(Ending::None, Ending::Copy)
    }
}

impl<'a> Path<'a> {
    fn new(log: &'a Log, policy: &'a Policy, settings: Settings<'a>) -> Self {
        let budget = |route: &Option<RoutePolicy>| {
            route.as_ref().map_or_else(RouteStats::default, |r| RouteStats::with_stale_budget(r.economics.stale_budget))
        };
        let skipped = |route: u16| policy.routes.get(usize::from(route)).is_none_or(Option::is_none);
        Self {
            guarded: Policy::guarded(),
            provider: Provider::new(log, settings.seed),
            keys: vec![KeyState::default(); log.keys.len()],
            routes: policy.routes.iter().map(budget).collect(),
            flights: Vec::new(),
            passing: Vec::new(),
            due: BinaryHeap::new(),
            order: 0,
            tally: Tally { routes: vec![super::RouteTally::default(); log.routes.len()] },
            comparer: Comparer::new(log, skipped),
            log,
            policy,
            settings,
        }
    }

    fn finish(mut self) -> (Tally, Fidelity) {
        for key in 0..self.keys.len() {
            self.drop_copy(key);
        }
        self.tally.routes.iter_mut().for_each(super::RouteTally::finish);
        self.comparer.fidelity.bill = self.tally.total().bill;
        (self.tally, self.comparer.fidelity)
    }

    /// Everything that is due before `at`: calls that answer, entries that end.
    fn until(&mut self, at: Time, ended: &mut Endings<'_>) {
        loop {
            let call = self.due.peek().map(|Reverse((time, ..))| *time).filter(|time| *time <= at);
            let end = ended.next().filter(|time| *time <= at);
            match (call, end) {
                (None, None) => return,
                (Some(call), end) if end.is_none_or(|end| call < end) => {
                    let Some(Reverse((time, _, due))) = self.due.pop() else { return };
                    self.happen(time, due);
                }
                _ => match ended.pop() {
                    Ending::Copy(row) => self.end_copy(row),
                    Ending::All => self.restart(),
                    Ending::None => return,
                },
            }
        }
    }

    pub(super) fn schedule(&mut self, at: Time, due: Due) {
        self.order += 1;
        self.due.push(Reverse((at, self.order, due)));
    }

    /// A purge would have come under any policy; memory ran out, or the sweep came, for the very copy of the log.
    fn end_copy(&mut self, row: &EndedRow) {
        let Some(state) = self.keys.get_mut(row.key as usize) else { return };
        if row.purged {
            state.marker = None;
            let under_way = state.flight.take().and_then(|slot| self.flights.get_mut(slot as usize)).and_then(Option::as_mut);
            if let Some(flight) = under_way {
                flight.purged = true;
            }
        }
        let same = state.copy.as_ref().is_some_and(|copy| row.purged || copy.fetched_at == row.opened);
        if same {
            self.drop_copy(row.key as usize);
        }
    }

    /// The process ended and began anew: what was only in its memory is gone.
    fn restart(&mut self) {
        for key in 0..self.keys.len() {
            self.drop_copy(key);
            if let Some(state) = self.keys.get_mut(key) {
                state.marker = None;
            }
        }
    }

    /// Forgets the copy of a key and counts what it was good for.
    pub(super) fn drop_copy(&mut self, key: usize) {
        let Some(state) = self.keys.get_mut(key) else { return };
        let (Some(copy), hits) = (state.copy.take(), std::mem::take(&mut state.hits)) else { return };
        if hits == 0
            && let Some(tally) = self.tally.routes.get_mut(usize::from(copy.route))
        {
            tally.unused += 1;
            tally.unused_paid += copy.paid.unwrap_or(Money::ZERO);
            tally.unused_refreshes += u64::from(copy.refreshed);
        }
    }

    fn request(&mut self, index: u32, row: &'a AskedRow) {
        let policy = self.policy;
        let (Some(Some(route)), Some(class)) = (policy.routes.get(usize::from(row.route)), self.log.classes.get(row.class as usize)) else {
            return;
        };
        // What was refused before the cache was asked would be refused again.
        if row.outcome == Outcome::Refused && !class.facts.only_if_cached {
            return self.answered(row, Outcome::Refused, Near::default());
        }
        let planned = self.plan(index, row, route);
        self.look_up(&planned);
    }

    /// The plan of the key's variant, what the request leaves of it, and the holdout.
    fn plan(&self, index: u32, row: &'a AskedRow, route: &'a RoutePolicy) -> Planned<'a> {
        let class = &self.log.classes[row.class as usize];
        let unit = KeyHash(u128::from(row.unit) << 64);
        let assigned: Option<Assigned> = route.experiment.as_ref().map(|r| r.experiment.assign(&self.policy.draw, unit, row.at));
        let kind = RequestKind::of(class.facts.method.as_str(), route.idempotent);
        let main = route.main.plan.steps(kind);
        let (mut cache, mut dedupe) = restrict((main.cache, main.dedupe), &class.facts, class.control == CacheControl::Off, &route.rules);
        // What the body said is not in the log, but what came of it is.
        let by_body = row.reason.filter(|reason| matches!(reason, UncachedReason::TooLarge | UncachedReason::Personal));
        if let Some(reason) = by_body.filter(|_| row.outcome == Outcome::Bypass && (cache.is_ok() || dedupe.is_ok())) {
            (cache, dedupe) = (Err(reason), Err(reason));
        }
        if route.chosen && row.reason == Some(UncachedReason::NotChosen) {
            cache = cache.and(Err(UncachedReason::NotChosen));
        }
        let holdout = cache.is_ok() && self.policy.holdout.holds(&self.policy.draw, &route.name, unit, row.at);
        if let (Some(running), Some(assigned)) = (&route.experiment, &assigned)
            && let Some(acting) = running.variants.get(assigned.variant)
        {
            let steps = acting.plan.steps(kind);
            (cache, dedupe) = (cache.and(steps.cache), dedupe.and(steps.dedupe));
        }
        if holdout {
            (cache, dedupe) = (Err(UncachedReason::Holdout), Err(UncachedReason::Holdout));
        }
        let variant = assigned.map(|a| a.variant as u16);
        Planned { index, row, route, facts: &class.facts, control: class.control, cache, dedupe, variant }
    }

    fn look_up(&mut self, planned: &Planned<'a>) {
        let (row, key) = (planned.row, planned.row.key as usize);
        if let Err(reason) = planned.cache {
            if reason.is_keyed() {
                self.note_request(row);
            }
            if planned.control != CacheControl::Off && planned.facts.wants_nothing(reason) {
                return self.answered(planned.row, Outcome::Refused, Near::default());
            }
            if planned.dedupe.is_err() || planned.facts.method == Method::HEAD {
                return self.pass(planned.index, reason, planned.row.at);
            }
            return self.join(planned, Wanted { previous: None, stale: false, reason });
        }
        self.sweep(key, row.at);
        let doubted = self.note_request(row);
        let Some(copy) = self.keys[key].copy.clone() else { return self.missing(planned, None, UncachedReason::Cold) };
        if planned.control == CacheControl::Refresh {
            return self.missing(planned, Some(copy), UncachedReason::RequestDirective);
        }
        self.judge(planned, copy, doubted);
    }

    /// Whether the key's copy is doubted then.
    fn note_request(&mut self, row: &AskedRow) -> bool {
        let state = &mut self.keys[row.key as usize];
        let Some(route) = self.routes.get_mut(usize::from(row.route)) else { return false };
        // A merged row speaks for as many requests of the same 100 ms.
        (0..row.weight).fold(false, |_, _| route.on_request_of(&mut state.stats, row.at))
    }

    fn sweep(&mut self, key: usize, now: Time) {
        let gone = self.keys[key].copy.as_ref().is_some_and(|c| c.fetched_at + c.longest().saturating_add(KEEP_EXPIRED) < now);
        if gone {
            self.drop_copy(key);
        }
    }

    fn missing(&mut self, planned: &Planned<'a>, previous: Option<Arc<Copy>>, reason: UncachedReason) {
        if planned.facts.method == Method::HEAD {
            return self.pass_head(planned, reason);
        }
        self.call(planned, Wanted { previous, stale: false, reason });
    }

    /// HEAD is answered from GET's copy but does not fill it.
    fn pass_head(&mut self, planned: &Planned<'a>, reason: UncachedReason) {
        if planned.facts.only_if_cached {
            return self.answered(planned.row, Outcome::Refused, Near::default());
        }
        self.pass(planned.index, reason, planned.row.at);
    }

    fn judge(&mut self, planned: &Planned<'a>, copy: Arc<Copy>, doubted: bool) {
        let name = planned.route.variant_name(planned.variant);
        let judged = Judged {
            facts: copy.facts.reuse(),
            fetched_at: copy.fetched_at,
            chosen: copy.variant(name).map(ChosenTtl::from),
            soft_purged: false,
        };
        let rules = &planned.route.rules;
        let verdict = verdict(&judged, planned.facts, rules, planned.row.at);
        match if doubted { verdict.held_back(&judged, rules, UncachedReason::Doubted) } else { verdict } {
            Verdict::Fresh { age, left } => {
                if planned.route.ahead(self.policy.draw).is_due((planned.row.unit, copy.fetched_at), age, left) {
                    self.refresh(planned, &copy);
                }
                self.serve(planned.row, &copy, (Outcome::Hit, Some(left)));
            }
            Verdict::StaleWhileRevalidate { past, .. } => {
                self.refresh(planned, &copy);
                self.serve(planned.row, &copy, (Outcome::Stale, Some(past)));
            }
            _ if planned.facts.method == Method::HEAD => self.pass_head(planned, UncachedReason::Expired),
            Verdict::StaleIfError { reason, .. } => {
                let stale = may_stand_in(StatusCode::from_u16(copy.status).unwrap_or_default());
                if stale && !planned.facts.only_if_cached && copy.failed.within(FAILED_LATELY, planned.row.at) {
                    return self.serve(planned.row, &copy, (Outcome::Stale, None));
                }
                self.call(planned, Wanted { previous: Some(copy), stale, reason });
            }
            Verdict::Revalidate { reason } => self.call(planned, Wanted { previous: Some(copy), stale: false, reason }),
        }
    }

    /// A call is needed, unless the request allows none.
    fn call(&mut self, planned: &Planned<'a>, wanted: Wanted) {
        if planned.facts.only_if_cached {
            return self.answered(planned.row, Outcome::Refused, Near::default());
        }
        self.join(planned, wanted);
    }

    /// An answer from a copy.
    pub(super) fn serve(&mut self, row: &AskedRow, copy: &Arc<Copy>, (outcome, to_expiry): (Outcome, Option<Span>)) {
        let state = &mut self.keys[row.key as usize];
        if state.copy.as_ref().is_some_and(|held| Arc::ptr_eq(held, copy)) {
            state.hits += 1;
        }
        let near = Near { to_expiry, last_event: state.last_event, other_ttl: copy.other_ttl, untouched: false };
        if let (Some(truth), Some(tally)) =
            (self.provider.value(row.key, row.route, row.at), self.tally.routes.get_mut(usize::from(row.route)))
        {
            tally.judged += u64::from(row.weight);
            tally.stale += u64::from(row.weight) * u64::from(truth != copy.hash);
        }
        self.answered(row, outcome, near);
    }

    /// Counts and compares an answered request.
    pub(super) fn answered(&mut self, row: &AskedRow, outcome: Outcome, near: Near) {
        if let Some(tally) = self.tally.routes.get_mut(usize::from(row.route)) {
            tally.request(outcome, row.weight, row.base);
        }
        self.comparer.request(row, outcome, &near);
    }

    /// Counts a request that waited; one whose client left, or lost its patience, in the log does so here.
    pub(super) fn waited(&mut self, request: u32, outcome: Outcome) {
        let log = self.log;
        let Some(row) = log.asked.get(request as usize) else { return };
        let outcome = if row.gave_up { Outcome::Failed } else { outcome };
        let near = self.near(row);
        self.answered(row, outcome, near);
    }

    pub(super) fn near(&self, row: &AskedRow) -> Near {
        let state = &self.keys[row.key as usize];
        Near {
            to_expiry: None,
            last_event: state.last_event,
            other_ttl: state.copy.as_ref().is_some_and(|copy| copy.other_ttl),
            untouched: state.stats.fetches() == 0,
        }
    }

    /// Renews a copy in the background, unless somebody does already or has just failed to.
    fn refresh(&mut self, planned: &Planned<'a>, copy: &Arc<Copy>) {
        if planned.control == CacheControl::ReadOnly || !copy.begun.claim(REFRESH_AGAIN, planned.row.at) {
            return;
        }
        let state = &self.keys[planned.row.key as usize];
        let marked = state.marker.is_some_and(|(_, until)| planned.row.at < until);
        if state.flight.is_some() || marked {
            return;
        }
        let wanted = Wanted { previous: Some(Arc::clone(copy)), stale: false, reason: UncachedReason::Expired };
        self.lead(planned, wanted, Purpose::Refresh);
    }

    /// Leads or follows the call that fills the key.
    fn join(&mut self, planned: &Planned<'a>, wanted: Wanted) {
        let state = &self.keys[planned.row.key as usize];
        if wanted.previous.is_none() && state.copy.is_some() && !planned.cache.is_err_and(UncachedReason::leaves_out) {
            // A copy that the request may not have, or does not want.
            return self.pass(planned.index, wanted.reason, planned.row.at);
        }
        if let Some((reason, _)) = state.marker.filter(|(_, until)| planned.row.at < *until) {
            return self.pass(planned.index, reason, planned.row.at);
        }
        let Some(flight) = state.flight else { return self.lead(planned, wanted, Purpose::User) };
        let Some(Some(under_way)) = self.flights.get(flight as usize) else { return };
        if under_way.phase == Phase::Filling && under_way.waiting.len() >= self.policy.max_followers {
            return self.refused(planned.row, &wanted);
        }
        if planned.dedupe.is_err() {
            return self.pass(planned.index, wanted.reason, planned.row.at);
        }
        let waiter = Waiter { request: planned.index, wanted };
        if under_way.phase == Phase::Filling {
            if let Some(Some(flight)) = self.flights.get_mut(flight as usize) {
                flight.waiting.push(waiter);
            }
        } else {
            self.shared((flight, planned.row.at), &waiter, false);
        }
    }

    /// Too many wait already.
    fn refused(&mut self, row: &'a AskedRow, wanted: &Wanted) {
        match wanted.previous.clone().filter(|_| wanted.stale) {
            Some(copy) => self.serve(row, &copy, (Outcome::Stale, None)),
            None => {
                let near = self.near(row);
                self.answered(row, Outcome::Failed, near);
            }
        }
    }

    fn lead(&mut self, planned: &Planned<'a>, wanted: Wanted, purpose: Purpose) {
        let row = planned.row;
        let landing = match (planned.cache, planned.control) {
            (Err(reason), _) => Err(reason),
            (Ok(()), CacheControl::ReadOnly) => Err(UncachedReason::RequestDirective),
            (Ok(()), _) => Ok(()),
        };
        let confirmable = wanted.previous.as_ref().filter(|copy| landing.is_ok() && copy.status == 200 && copy.facts.has_validator());
        let confirms = confirmable.map(|copy| (copy.hash, copy.price));
        let led = purpose == Purpose::User;
        let named = if led { row.call } else { 0 };
        let order = Order { key: row.key, route: row.route, at: row.at, named, failed: led && row.upstream_failed, confirms };
        let answer = self.provider.answer(&order);
        let flight = Flight {
            key: row.key,
            route: row.route,
            class: row.class,
            purpose,
            landing,
            conditional: confirms.is_some(),
            previous: wanted.previous.clone(),
            variant: planned.variant,
            phase: Phase::Filling,
            waiting: if led { vec![Waiter { request: planned.index, wanted }] } else { Vec::new() },
            led,
            purged: false,
            answer,
        };
        self.take_off(flight, row.at);
    }

    fn take_off(&mut self, flight: Flight, now: Time) {
        let (head, key) = (flight.answer.head.max(now), flight.key as usize);
        let slot = place(&mut self.flights, flight);
        let state = &mut self.keys[key];
        (state.flight, state.marker, state.last_event) = (Some(slot), None, Some(now));
        self.schedule(head, Due::Head(slot));
    }

    /// Passes a request on; `reason` says why the cache has no part in it.
    pub(super) fn pass(&mut self, request: u32, reason: UncachedReason, now: Time) {
        let row = &self.log.asked[request as usize];
        let order = Order { key: row.key, route: row.route, at: now, named: row.call, failed: row.upstream_failed, confirms: None };
        let answer = self.provider.answer(&order);
        let keyed = reason.is_keyed();
        let end = answer.end.max(now);
        let purpose = if reason == UncachedReason::Holdout { Purpose::Holdout } else { Purpose::User };
        let slot = place(&mut self.passing, Passing { request, key: row.key, route: row.route, keyed, purpose, answer });
        self.schedule(end, Due::Passed(slot));
    }
}

/// Puts something into the first free place of a list.
fn place<T>(list: &mut Vec<Option<T>>, item: T) -> u32 {
    // The lists hold what is under way, and shrink from the end.
    while list.last().is_some_and(Option::is_none) {
        list.pop();
    }
    list.push(Some(item));
    u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
}
