//! Who is promoted where nobody attends (SPEC M7): money of watched keys goes to the canary's record, and what that says at a turn of the control loop is done. The
//! decision is pure ([`farthing_policy::watch::Canary::unattended`]). What the trainer's loop is told of drift and freezes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::EntryEnd;
use farthing_models::{Alias, Kind, Order};
use farthing_policy::watch::{CanaryReport, Spent, Trust, Turn};
use farthing_types::{KeyHash, Money, Span, Time};

use super::{Candidate, WINDOW, begin_of, window_of};
use crate::choose::Occasion;
use crate::route::RouteState;
use crate::state::State;

/// Most windows that the answers from one copy are spread over; what is older counts in the last.
const SPREAD: usize = 8;
/// Who promotes and takes back.
const AUTOPILOT: &str = "autopilot";

/// For how long the autopilot has had a candidate before it.
pub struct Unattended {
    looked: Time,
    spent: Span,
}

impl Unattended {
    /// Since now.
    pub const fn new(now: Time) -> Self {
        Self { looked: now, spent: Span::ZERO }
    }

    /// Time passed; under a freeze it does not count. How much has.
    fn pass(&mut self, now: Time, frozen: bool) -> Span {
        let passed = now.since(self.looked);
        self.looked = now;
        if !frozen {
            self.spent += passed;
        }
        self.spent
    }

    /// How much of the time is left.
    pub fn left(&self, within: Span) -> Span {
        within.saturating_sub(self.spent)
    }
}

/// One part of what a copy answered: its window, and the shares of the answers and of the stale ones.
type Part = (i64, f64, f64);

/// Spreads answers evenly over the time from the fill to the last hit. Stale ones come the later the more: the change may have come at any moment of the gap.
fn parts(from: Time, last: Time) -> impl Iterator<Item = Part> {
    let (first, until) = (window_of(from), window_of(last));
    let length = last.since(from).as_secs_f64();
    let share = move |at: Time| if length > 0.0 { (at.since(from).as_secs_f64() / length).clamp(0.0, 1.0) } else { 1.0 };
    let oldest = first.max(until.saturating_sub(SPREAD as i64 - 1));
    (oldest..=until).map(move |window| {
        let low = if window == oldest { 0.0 } else { share(begin_of(window)) };
        let high = if window == until { 1.0 } else { share(begin_of(window + 1)) };
        (window, high - low, high * high - low * low)
    })
}

impl State {
    /// A call was paid for; of a watched key that is told.
    pub(super) fn paid(&self, occasion: &Occasion<'_>) {
        let (route, key) = (&*occasion.flight.route, occasion.flight.key);
        let money = occasion.price.map(|price| price.nanos() as f64);
        self.spent(route, key, money.map(|money| (occasion.now, money, 1.0)));
    }

    /// A copy has ended, its successor told how many of its answers were stale. What was purged or made room tells nothing; its call stands without its answers, which
    /// is held against who keeps copies for longer.
    pub(super) fn answered(&self, route: &RouteState, end: &EntryEnd, stale: f64) {
        let entry = &end.entry;
        let Some(last) = entry.last_hit().filter(|_| entry.hits() > 0 && route.switches.has_canary()) else { return };
        let dearer = |price: Money| self.stale_price_ratio(route, Some(price)) * price.nanos() as f64;
        let Some(each) = entry.price.map(dearer) else {
            return self.spent(route, entry.subject.key, None);
        };
        let hits = entry.hits() as f64;
        for (window, answers, stales) in parts(entry.fetched_at, last) {
            // The middle of the window: any moment of it has the same coin.
            let at = begin_of(window) + WINDOW / 2;
            self.spent(route, entry.subject.key, Some((at, each * stale * stales, hits * answers)));
        }
    }

    fn spent(&self, route: &RouteState, key: KeyHash, what: Option<(Time, f64, f64)>) {
        let at = what.map_or_else(|| self.clock.now(), |(at, ..)| at);
        let Some(side) = self.side(route, key, at) else { return };
        let Some(candidate) = self.lifecycle.candidates[0].load_full() else { return };
        let spent = what.map(|(_, money, requests)| Spent {
            key: key.short(),
            route: route.index,
            window: side.window,
            treated: side.challenger,
            money,
            requests,
        });
        candidate.canary.lock().spent(spent.as_ref());
    }

    /// One turn of the control loop over the challenger.
    pub(crate) fn steer_candidates(&self, now: Time) {
        self.tell_drifts();
        let Some(candidate) = self.lifecycle.candidates[0].load_full() else { return };
        let (frozen, autopilot) = (!self.may_act(), self.lifecycle.settings.autopilot);
        let spent = candidate.unattended.lock().pass(now, frozen);
        let turn = {
            let mut canary = candidate.canary.lock();
            // Copies that outlive a window tell of it in the next.
            let harm = canary.close(window_of(now) - 1);
            let unattended = autopilot.filter(|_| !frozen);
            harm.or_else(|| unattended.and_then(|within| canary.unattended(spent >= within)))
        };
        self.turn(&candidate, turn);
    }

    /// Does what nobody ordered.
    pub(super) fn unattended(&self, candidate: &Arc<Candidate>, turn: Turn) {
        let (report, slice) = {
            let canary = candidate.canary.lock();
            (canary.report(), canary.slice())
        };
        let (now, version) = (self.clock.now(), candidate.generation.version());
        if turn == Turn::Widen {
            candidate.slice.store(slice.to_bits(), Ordering::Relaxed);
            // Heads that were remembered go by nobody's side.
            self.shortcuts.clear();
            tracing::info!(version, share = report.share, "a challenger decides for more keys from now on");
            return;
        }
        if candidate.deciding.swap(true, Ordering::Relaxed) {
            return;
        }
        let order = Order::new(now, AUTOPILOT, self.figures(&report, turn));
        let candidate = candidate.clone();
        self.in_store(move |store| {
            let digest = candidate.generation.digest();
            let done = match turn {
                Turn::Promote => store.crown(Kind::Ttl, digest, order),
                _ => store.withdraw(Kind::Ttl, Alias::Challenger, digest, order),
            };
            // What failed is tried again at the next turn.
            candidate.deciding.store(false, Ordering::Relaxed);
            done
        });
    }

    /// What a decision stands on, for the history.
    fn figures(&self, report: &CanaryReport, turn: Turn) -> String {
        let champion = self.predictors.ttl(None).map_or_else(|| "the rule".to_owned(), |champion| champion.manifest().name());
        let margin = 100.0 * self.lifecycle.settings.canary.money_margin;
        let money = &report.money;
        let cost = money
            .ratio
            .map_or_else(|| "cost unknown".to_owned(), |ratio| format!("cost {:+.1} % beside {champion}", 100.0 * (ratio - 1.0)));
        let guards: Vec<_> = report.evidence.iter().map(|(guard, evidence)| format!("{guard} {evidence:.1}")).collect();
        let verdict = match turn {
            Turn::Promote => format!("not more than {margin} % dearer"),
            _ => format!("not shown in time to be at most {margin} % dearer, nor to be dearer"),
        };
        format!(
            "{verdict}: {cost} in {} and {} key-windows, evidence {:.1}; {} labels; no guard hit ({}){}",
            money.units[1],
            money.units[0],
            money.within,
            report.candidate.labels,
            guards.join(", "),
            if money.unpriced > 0 { format!("; {} without a price left out", money.unpriced) } else { String::new() },
        )
    }

    /// Tells the trainer of routes on which the champion misleads: where that is only told, or the store could not be reached before. A freeze stops this, too.
    fn tell_drifts(&self) {
        if !self.may_act() {
            return;
        }
        for route in &self.live().routes {
            let misleads = {
                let drift = &route.watched.lock().drift;
                drift.trust() != Trust::Full || drift.warns()
            };
            if misleads {
                self.tell_drift(route);
            }
        }
    }

    /// Tells the trainer that the champion misleads on a route, once for each champion and route.
    pub(super) fn tell_drift(&self, route: &RouteState) {
        let Some(champion) = self.predictors.ttl(None) else { return };
        let told = route.watched.lock().told.clone();
        if told.swap(true, Ordering::Relaxed) {
            return;
        }
        let reason = format!("route `{}`: answers change otherwise than {} foretells", route.route.name, champion.manifest().name());
        let order = Order::new(self.clock.now(), "drift", reason);
        self.in_store(move |store| store.note_drift(&champion, &order).inspect_err(|_| told.store(false, Ordering::Relaxed)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_copy_go_to_the_windows_in_which_they_were_given() {
        let start = Time::from_nanos(1_000 * WINDOW.as_nanos() as i64);
        let hour = Span::from_secs(3_600);
        let of = |from: Time, last: Time| parts(from, last).collect::<Vec<_>>();
        assert_eq!(of(start + hour, start + 2 * hour), [(1_000, 1.0, 1.0)]);
        assert_eq!(of(start, start), [(1_000, 1.0, 1.0)]);
        // From hour 3 to hour 9: half before the window's end; of the stale ones a quarter.
        assert_eq!(of(start + 3 * hour, start + 9 * hour), [(1_000, 0.5, 0.25), (1_001, 0.5, 0.75)]);
        let long = of(start, start + 600 * hour);
        assert_eq!(long.len(), SPREAD);
        let sums = long.iter().fold((0.0, 0.0), |(a, s), (_, answers, stale)| (a + answers, s + stale));
        assert!((sums.0 - 1.0).abs() < 1e-9 && (sums.1 - 1.0).abs() < 1e-9, "{sums:?}");
    }

    #[test]
    fn time_under_a_freeze_does_not_count() {
        let (start, hour) = (Time::from_millis(0), Span::from_secs(3_600));
        let mut unattended = Unattended::new(start);
        assert_eq!(unattended.pass(start + hour, false), hour);
        assert_eq!(unattended.pass(start + 9 * hour, true), hour);
        assert_eq!(unattended.pass(start + 10 * hour, false), 2 * hour);
        assert_eq!((unattended.left(5 * hour), unattended.left(hour)), (3 * hour, Span::ZERO));
    }
}
