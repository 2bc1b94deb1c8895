//! What is asked of candidates when an answer is stored, and what is learned when it is fetched again.

use std::sync::Arc;

use farthing_cache::EntryEnd;
use farthing_contract::features::{TTL_OUTPUTS, TtlInput};
use farthing_freshness::entry::VariantTtl;
use farthing_policy::ttl::Survival;
use farthing_policy::watch::{Matured, Told};
use farthing_policy::{Champion, Decided, Forecast, TtlDecision, TtlSource};
use farthing_types::{By, Choice, DecisionId, Money};

use super::fills::{Fill, Said};
use super::{CHALLENGER, Once, SCORED};
use crate::choose::Occasion;
use crate::predictors::champion;
use crate::route::RouteState;
use crate::state::State;

/// Price of a stale answer over that of a call where nobody named one: some stale answers cost as much as asking again.
const STALE_PRICE: f64 = 10.0;

impl State {
    /// The champion as a route may ask it.
    pub(crate) fn trusted(&self, route: &RouteState, version: Option<u32>) -> Champion {
        let generation = self.predictors.ttl(version);
        let asked = champion(generation.as_ref(), route.economics.stale_budget);
        if version.is_some() { asked } else { Champion { trust: self.lifecycle.trust(route, generation.as_ref()), ..asked } }
    }

    /// Asks the candidates about a copy whose TTL was just decided, and keeps what all of them foretold. The challenger's TTL and decision, where it
    /// decides for some keys.
    pub(crate) fn score(&self, occasion: &Occasion<'_>, decided: &Decided) -> Option<(VariantTtl, DecisionId)> {
        let route = &occasion.flight.route;
        if !matches!(route.plan.ttl.source, TtlSource::Model | TtlSource::Table) || route.switches.is_lean() {
            return None;
        }
        self.follow_candidates();
        self.paid(occasion);
        let input = TtlInput { key: occasion.key, route: occasion.route, head: occasion.head, now: occasion.now };
        let forecast = |outputs: &[f32; TTL_OUTPUTS]| Forecast::of(&Survival::corrected(&input, outputs));
        let predicted = decided.shadow.as_ref().unwrap_or(&decided.acting);
        let generation = self.predictors.ttl(None);
        let candidates = self.lifecycle.candidates.each_ref().map(arc_swap::ArcSwapOption::load_full);
        if predicted.outputs.is_none() && candidates.iter().all(Option::is_none) {
            return None;
        }
        if let Some((generation, features)) = generation.as_ref().zip(predicted.features.as_ref()) {
            self.lifecycle.features.lock().add(generation, features);
        }
        let statistics = forecast(&[0.0; TTL_OUTPUTS]);
        let mut fill = Fill {
            key: occasion.flight.key,
            at: occasion.now,
            rate: input.rate(),
            settled: occasion.route.is_settled(),
            champion: generation.filter(|_| predicted.outputs.is_some()).map(|generation| generation.version()),
            ttl: decided.acting.choice.value.fresh.as_secs_f64(),
            predicted: predicted.outputs.as_ref().map_or(statistics, forecast),
            statistics,
            candidates: [None; SCORED.len()],
        };
        let mut chosen = None;
        for (candidate, said) in candidates.iter().zip(&mut fill.candidates) {
            let Some(candidate) = candidate else { continue };
            let started = self.real.now();
            let asked = champion(Some(&candidate.generation), route.economics.stale_budget);
            let decision = candidate.guarded.choose((&route.plan, &route.economics), &asked, (occasion.price, true), &input).acting;
            let took = self.real.now().since(started).as_secs_f64();
            let ttl = decision.choice.value.fresh.as_secs_f64();
            let sound = is_own(&decision, candidate.generation.version());
            let late = candidate.guarded.breaker_open();
            *said = decision.outputs.as_ref().filter(|_| sound).map(|outputs| Said {
                number: candidate.number,
                ttl,
                forecast: forecast(outputs),
            });
            let turn = candidate.canary.lock().asked((fill.ttl, ttl), took, (late, sound));
            let id = self.log_decision(occasion, &decision, candidate.alias.as_str());
            self.turn(candidate, turn);
            if candidate.acts() {
                let Choice { value, by } = decision.choice;
                chosen = Some((VariantTtl { variant: CHALLENGER.into(), ttl: value.fresh, stale: value.stale, by }, id));
            }
        }
        self.lifecycle.fills.put(fill);
        chosen
    }

    /// Learns what became of a copy that was fetched again.
    /// What is `stale` of its answers is an expectation.
    pub(crate) fn matured(&self, route: &Arc<RouteState>, end: &EntryEnd, (changed, stale): (bool, f64)) {
        let entry = &end.entry;
        self.answered(route, end, stale);
        let Some(fill) = self.lifecycle.fills.take(entry.subject.key, entry.fetched_at) else { return };
        let gap = end.at.since(entry.fetched_at).as_secs_f64();
        let requests = entry.hits() + 1;
        if fill.settled {
            self.judge_champion(route, &fill, (gap, changed));
            let stale_price = self.stale_price_ratio(route, entry.price);
            let told = |ttl: f64, forecast: &Forecast| Told { ttl, cumulated: forecast.cumulated(gap) };
            for (candidate, said) in self.lifecycle.candidates.iter().zip(&fill.candidates) {
                let candidate = candidate.load_full();
                let Some((candidate, said)) = candidate.zip(said.as_ref()).filter(|(candidate, said)| candidate.number == said.number)
                else {
                    continue;
                };
                let (champion, candidate_told) = (told(fill.ttl, &fill.predicted), told(said.ttl, &said.forecast));
                let seen = Matured { champion, candidate: candidate_told, gap, requests, changed, stale_price };
                let turn = candidate.canary.lock().matured(&seen, self.may_act());
                self.turn(&candidate, turn);
            }
        }
        let began = self.side(route, fill.key, fill.at).filter(|side| self.side(route, fill.key, end.at) == Some(*side));
        if let Some((side, candidate)) = began.zip(self.lifecycle.candidates[0].load_full())
            && self.lifecycle.once(Once::Cycle, fill.key, side.window)
        {
            let turn = candidate.canary.lock().cycle(side.challenger, requests, 1.0 + fill.rate * fill.ttl);
            self.turn(&candidate, turn);
        }
    }

    fn judge_champion(&self, route: &Arc<RouteState>, fill: &Fill, (gap, changed): (f64, bool)) {
        let current = self.predictors.ttl(None).map(|generation| generation.version());
        if fill.champion.is_none() || fill.champion != current {
            return;
        }
        let (turned, misleads) = {
            let foretold = (fill.predicted.cumulated(gap), fill.statistics.cumulated(gap));
            let mut watched = route.watched.lock();
            let turned = watched.drift.add(foretold, changed, self.lifecycle.settings.drift_acts && self.may_act());
            let misleads = self.lifecycle.settings.drift_acts && !watched.sent_back && watched.drift.misleads();
            watched.sent_back |= misleads;
            (turned, misleads)
        };
        if misleads {
            self.send_back(&route.route.name);
        }
        if let Some(to) = turned {
            self.drifted(route, to);
        }
    }

    pub(super) fn stale_price_ratio(&self, route: &RouteState, price: Option<Money>) -> f64 {
        let prices = self.stale_price(route).zip(price).filter(|(_, call)| *call > Money::ZERO);
        prices.map_or(STALE_PRICE, |(stale, call)| stale.nanos() as f64 / call.nanos() as f64)
    }
}

/// Whether a decision is a prediction of that version, and nothing that stands in for one.
fn is_own(decision: &TtlDecision, version: u32) -> bool {
    matches!(decision.choice.by, By::Model(by) | By::Table(by) if by == version)
}
