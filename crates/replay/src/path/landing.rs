//! The lower half: what becomes of a call's answer.

use std::sync::Arc;

use farthing_contract::features::{Doubt, HeadFacts, KeyStats, TtlInput};
use farthing_freshness::VariantTtl;
use farthing_freshness::entry::Lately;
use farthing_freshness::semantics::{Bans, Lifetime, Reach, is_stood_in_for, may_keep, may_renew, may_replace, reach};
use farthing_types::{By, Choice, Money, Outcome, Purpose, Time, UncachedReason};
use http::StatusCode;

use super::calls::{Copy, Flight, Passing, Phase, Waiter};
use super::engine::{Due, Path};
use super::policy::{Acting, RoutePolicy};
use super::rows::AskedRow;

/// Variants whose TTLs a copy keeps.
const MAX_VARIANTS: usize = farthing_freshness::entry::MAX_VARIANTS;

impl Path<'_> {
    /// What is due happens.
    pub(super) fn happen(&mut self, now: Time, due: Due) {
        match due {
            Due::Head(flight) => self.head(flight, now),
            Due::End(flight) => {
                if let Some(ended) = self.flights.get_mut(flight as usize).and_then(Option::take) {
                    self.end((flight, ended), now);
                }
            }
            Due::Passed(passing) => {
                if let Some(passing) = self.passing.get_mut(passing as usize).and_then(Option::take) {
                    self.passed(passing, now);
                }
            }
        }
    }

    /// The head of a call under a ticket has come, or the call has failed.
    fn head(&mut self, slot: u32, now: Time) {
        let Some(Some(flight)) = self.flights.get_mut(slot as usize) else { return };
        let waiting = std::mem::take(&mut flight.waiting);
        let (led, status, end) = (flight.led, flight.answer.status, flight.answer.end);
        let confirmed = status == Some(304) && flight.conditional;
        let Some(status) = status else { return self.failed(slot, &waiting, now) };
        let kept = self.flights.get(slot as usize).and_then(Option::as_ref).map_or(Ok(()), |flight| self.keeps(flight, status));
        let reach = self.reach(slot, (status, confirmed), kept);
        let (alone, marks) = match reach {
            Reach::Alone(reason) => (Some(reason), true),
            // Who is told to join again makes a call of its own here: whose credential would have fared better the log does not know.
            Reach::Asker { reason, .. } => (Some(reason), false),
            Reach::All | Reach::Alike => (None, false),
        };
        if let Some(Some(flight)) = self.flights.get_mut(slot as usize) {
            flight.phase = if alone.is_some() { Phase::Alone } else { Phase::Streaming };
            let state = &mut self.keys[flight.key as usize];
            state.last_event = Some(now);
            if let (Some(reason), false) = (alone, flight.purged) {
                (state.flight, state.marker) = (None, marks.then_some((reason, now + self.policy.hit_for_miss)));
            }
        }
        for (place, waiter) in waiting.iter().enumerate() {
            let leads = led && place == 0;
            match alone {
                Some(reason) if !leads => self.pass(waiter.request, reason, now),
                _ => self.shared((slot, now), waiter, leads),
            }
        }
        if end <= now {
            self.happen(now, Due::End(slot));
        } else {
            self.schedule(end, Due::End(slot));
        }
    }

    /// The answer reaches one of those who waited, or somebody who reads along.
    pub(super) fn shared(&mut self, (slot, now): (u32, Time), waiter: &Waiter, leads: bool) {
        let log = self.log;
        let Some(Some(flight)) = self.flights.get(slot as usize) else { return };
        let is_error = flight.answer.status.and_then(|status| StatusCode::from_u16(status).ok()).is_some_and(is_stood_in_for);
        let stand_in = waiter.wanted.previous.clone().filter(|_| is_error && waiter.wanted.stale);
        match (stand_in, log.asked.get(waiter.request as usize)) {
            (Some(copy), Some(row)) => self.stands_in(row, &copy, now),
            _ => self.waited(waiter.request, if leads { Outcome::Lead } else { Outcome::Follow }),
        }
    }

    /// An expired copy stands in for a failed call.
    fn stands_in(&mut self, row: &AskedRow, copy: &Arc<Copy>, now: Time) {
        copy.failed.note(now);
        self.serve(row, copy, (Outcome::Stale, None));
    }

    /// The call failed: everyone gets the failure, or a copy that may stand in.
    fn failed(&mut self, slot: u32, waiting: &[Waiter], now: Time) {
        let Some(flight) = self.flights.get_mut(slot as usize).and_then(Option::take) else { return };
        self.leave(flight.key as usize, slot);
        self.keys[flight.key as usize].last_event = Some(now);
        self.settle(&flight);
        let log = self.log;
        for waiter in waiting {
            let copy = waiter.wanted.previous.clone().filter(|_| waiter.wanted.stale);
            match (copy, log.asked.get(waiter.request as usize)) {
                (Some(copy), Some(row)) => self.stands_in(row, &copy, now),
                _ => self.waited(waiter.request, Outcome::Failed),
            }
        }
    }

    /// The flight is the key's no longer; one that was purged, or is its leader's alone, has left it before.
    fn leave(&mut self, key: usize, slot: u32) {
        let state = &mut self.keys[key];
        if state.flight == Some(slot) {
            state.flight = None;
        }
    }

    /// The body has ended.
    fn end(&mut self, (slot, flight): (u32, Flight), now: Time) {
        let key = flight.key as usize;
        let answer = &flight.answer;
        let status = answer.status.unwrap_or(0);
        let success = (200..300).contains(&status);
        let confirmed = status == 304 && flight.conditional;
        self.settle(&flight);
        // Sharing was decided at the head; what the body says decides about keeping alone.
        let verdict = self.keeps(&flight, status).and(answer.content.filter(|_| !confirmed).map_or(Ok(()), Err));
        self.leave(key, slot);
        self.keys[key].last_event = Some(now);
        // A 304 has no body: it confirms that of the copy.
        let hash = flight.previous.as_ref().filter(|_| confirmed).map(|copy| copy.hash).or(answer.hash);
        let Some(hash) = hash.filter(|_| !answer.unheld && flight.phase != Phase::Alone) else { return };
        let stored = flight.previous.as_ref().and_then(|copy| StatusCode::from_u16(copy.status).ok());
        let replaces = may_replace(stored, StatusCode::from_u16(status).unwrap_or_default());
        if confirmed || (verdict.is_ok() && flight.landing.is_ok() && replaces.is_ok()) {
            self.prepare(&flight, hash);
        } else if success {
            self.note_unkept(flight.key, flight.route, hash, answer.head);
        }
    }

    /// Who may have an answer that is kept, or is not for a reason.
    fn reach(&self, slot: u32, (status, confirmed): (u16, bool), kept: Result<(), UncachedReason>) -> Reach {
        if confirmed {
            return self.renews(slot).map_or_else(Reach::Alone, |()| Reach::All);
        }
        let alone = || kept.err().filter(|reason| !reason.joinable()).map_or(Reach::All, Reach::Alone);
        let Some(Some(flight)) = self.flights.get(slot as usize) else { return alone() };
        let Some(Some(route)) = self.policy.routes.get(usize::from(flight.route)) else { return alone() };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        reach((status, flight.answer.bans), kept, &route.rules)
    }

    /// Whether a confirmation may be kept and handed on. What makes an answer shareable the copy has said; the log does not know whether it still does.
    fn renews(&self, slot: u32) -> Result<(), UncachedReason> {
        let Some(Some(flight)) = self.flights.get(slot as usize) else { return Ok(()) };
        let Some(Some(route)) = self.policy.routes.get(usize::from(flight.route)) else { return Err(UncachedReason::Disabled) };
        let Some(class) = self.log.classes.get(flight.class as usize) else { return Err(UncachedReason::Disabled) };
        may_renew(&class.facts, Bans { shareable: true, ..flight.answer.bans }, &route.rules)
    }

    /// Whether the answer may be stored.
    fn keeps(&self, flight: &Flight, status: u16) -> Result<(), UncachedReason> {
        let Some(Some(route)) = self.policy.routes.get(usize::from(flight.route)) else { return Err(UncachedReason::Disabled) };
        let Some(class) = self.log.classes.get(flight.class as usize) else { return Err(UncachedReason::Disabled) };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        may_keep(&class.facts, status, (&flight.answer.facts, flight.answer.bans), &route.rules)
    }

    /// Learns from the answer, chooses its TTLs and keeps it where that pays.
    fn prepare(&mut self, flight: &Flight, hash: u64) {
        let policy = self.policy;
        let Some(Some(route)) = policy.routes.get(usize::from(flight.route)) else { return };
        let (key, now, answer) = (flight.key as usize, flight.answer.head, &flight.answer);
        self.note_fetch(flight.key, flight.route, hash, now);
        let confirmed = flight.previous.as_ref().filter(|_| answer.status == Some(304));
        let bytes = confirmed.map_or(answer.bytes, |copy| copy.bytes);
        let price = confirmed.map_or(answer.price, |copy| copy.price);
        let facts = answer.facts.clone();
        let (variants, other_ttl, doubt) = match facts.lifetime(route.rules.mode) {
            Lifetime::Chosen => self.choose(flight, route, (bytes, price)),
            Lifetime::Explicit(_) | Lifetime::Heuristic(_) => (Vec::new(), false, Doubt::NEVER),
            Lifetime::None if facts.has_validator() => (Vec::new(), false, Doubt::NEVER),
            Lifetime::None => return,
        };
        let name = route.variant_name(flight.variant);
        let of_flight = VariantTtl::of(&variants, name);
        if !of_flight.is_some_and(|v| matches!(v.by, By::Model(_) | By::Table(_))) {
            self.keys[key].stats.exempt_from_steering();
        }
        self.keys[key].stats.set_doubt(doubt);
        let pays = variants.is_empty() || variants.iter().any(|v| !v.ttl.is_zero());
        if flight.purged || (!pays && !facts.has_validator()) {
            return;
        }
        self.drop_copy(key);
        let status = confirmed.map_or(answer.status.unwrap_or(200), |copy| copy.status);
        let refreshed = flight.purpose == Purpose::Refresh;
        let paid = answer.paid;
        let (begun, failed) = (Lately::default(), Lately::default());
        let copy = Copy {
            route: flight.route,
            fetched_at: now,
            facts,
            status,
            variants,
            price,
            paid,
            hash,
            bytes,
            refreshed,
            other_ttl,
            begun,
            failed,
        };
        self.keys[key].copy = Some(Arc::new(copy));
    }

    /// The TTL of each live variant, whether one differs from the log, and when the copy is doubted: never where there are several.
    fn choose(&mut self, flight: &Flight, route: &RoutePolicy, (bytes, price): (u64, Option<Money>)) -> (Vec<VariantTtl>, bool, Doubt) {
        let Some(running) = &route.experiment else {
            let (ttl, same, doubt) = self.choose_one(flight, (route, &route.main, ""), (bytes, price));
            return (vec![ttl], !same, doubt);
        };
        let (mut ttls, mut other) = (Vec::new(), false);
        for (variant, acting) in running.experiment.variants().iter().zip(&running.variants).take(MAX_VARIANTS) {
            let (ttl, same, _) = self.choose_one(flight, (route, acting, &variant.name), (bytes, price));
            ttls.push(ttl);
            other |= !same;
        }
        (ttls, other, Doubt::NEVER)
    }

    fn choose_one(
        &mut self,
        flight: &Flight,
        (route, acting, variant): (&RoutePolicy, &Acting, &str),
        (bytes, price): (u64, Option<Money>),
    ) -> (VariantTtl, bool, Doubt) {
        let answer = &flight.answer;
        let head = HeadFacts {
            body_bytes: bytes,
            last_modified: answer.facts.last_modified,
            origin_ttl: answer.facts.explicit,
            has_etag: answer.facts.etag.is_some(),
            query_parameters: answer.query_parameters,
        };
        let key = self.keys[flight.key as usize].stats;
        let input = TtlInput { key: &key, route: &self.routes[usize::from(flight.route)], head, now: answer.head };
        let in_variant = !variant.is_empty();
        let decided = self.guarded.choose((&acting.plan, &route.economics), &acting.champion, (price, in_variant), &input);
        if let Some(tally) = self.tally.routes.get_mut(usize::from(flight.route)) {
            tally.decided(&decided.acting.choice.by);
        }
        let same = answer.logged.and_then(|call| self.comparer.decision(self.log, call, variant, &decided.acting)).unwrap_or(true);
        let Choice { value, by } = decided.acting.choice;
        (VariantTtl { variant: variant.into(), ttl: value.fresh, stale: value.stale, by }, same, value.doubt)
    }

    fn note_fetch(&mut self, key: u32, route: u16, hash: u64, now: Time) {
        let (Some(state), Some(route)) = (self.keys.get_mut(key as usize), self.routes.get_mut(usize::from(route))) else { return };
        route.on_fetch(&mut state.stats, now, hash);
    }

    /// A fetched body that nobody will be answered with again: its age at the next fetch says nothing about our choices.
    fn note_unkept(&mut self, key: u32, route: u16, hash: u64, now: Time) {
        self.note_fetch(key, route, hash, now);
        if let Some(state) = self.keys.get_mut(key as usize) {
            KeyStats::exempt_from_steering(&mut state.stats);
        }
    }

    /// The answer of a call for one request alone has ended.
    fn passed(&mut self, passing: Passing, now: Time) {
        let Passing { request, key, route, keyed, purpose, answer } = passing;
        self.pay(key, route, purpose, &answer);
        self.keys[key as usize].last_event = Some(now);
        let ok = answer.status.is_some_and(|s| (200..300).contains(&s));
        if let Some(hash) = answer.hash.filter(|_| ok && keyed) {
            self.note_unkept(key, route, hash, now);
        }
        self.waited(request, if answer.status.is_some() { Outcome::Bypass } else { Outcome::Failed });
    }

    fn settle(&mut self, flight: &Flight) {
        self.pay(flight.key, flight.route, flight.purpose, &flight.answer);
    }

    fn pay(&mut self, key: u32, route: u16, purpose: Purpose, answer: &super::provider::Answer) {
        if let Some(tally) = self.tally.routes.get_mut(usize::from(route)) {
            tally.call(purpose, (answer.paid, answer.attempts), answer.logged.is_none());
        }
        let counts = if answer.logged.is_some() { &mut self.comparer.fidelity.same_calls } else { &mut self.comparer.fidelity.other_calls };
        *counts += 1;
        let nanos = answer.paid.unwrap_or(Money::ZERO).nanos();
        let digest = self.log.keys.get(key as usize).copied().unwrap_or_default();
        (self.settings.pay)(digest, answer.head, nanos);
    }
}
