//! One turn over the numbers that experiments may move: an experiment that has told something is ended, the next is begun.

use std::sync::Arc;

use farthing_experiment::tuning::{Knob, Outcome, outcome};
use farthing_experiment::unit::Shared;
use farthing_experiment::{Answer, Order, Stage};
use farthing_types::{Span, Time};

use super::{MOST_PAST, PREFIX, Past, RouteTuning, Trying, VARIANTS};
use crate::experiments::{ExperimentError, Running};
use crate::state::State;

/// Who did it, in audits.
const BY: &str = "tuning";

/// How an experiment stands.
struct Stands {
    stage: Stage,
    /// An operator has decided for the candidate.
    for_candidate: bool,
    answer: Option<Answer>,
}

impl State {
    /// One turn. Under a freeze nothing begins, nothing is promoted and nothing given up.
    pub(crate) fn tune(&self, now: Time) {
        let frozen = !self.may_act();
        for of in self.trials.tuning.lock().iter_mut() {
            // A reload brings another one of the name; a route that is tuned does not go.
            if let Some(route) = self.route_named(&of.route.route.name) {
                of.route = route;
            }
            of.pass(now, frozen);
            self.judge_tuning(of, (now, frozen));
            if !frozen && of.standing.trying.is_none() {
                self.begin(of, now);
            }
        }
    }

    fn stands(&self, name: &str, now: Time) -> Option<Stands> {
        let all = self.trials.all.lock();
        let running = all.get(name)?;
        let for_candidate = running.life.leader == 1;
        Some(Stands { stage: running.life.stage, for_candidate, answer: running.view(now).answers.into_iter().next() })
    }

    fn judge_tuning(&self, of: &mut RouteTuning, (now, frozen): (Time, bool)) {
        let Some(trying) = of.standing.trying.clone() else { return };
        let Some(Stands { stage, for_candidate, answer }) = self.stands(&trying.name, now) else {
            tracing::info!(experiment = %trying.name, "given up for another experiment on the route; tried anew when that has ended");
            of.standing.trying = None;
            of.removed.push(trying.name);
            of.unkept = true;
            return;
        };
        let over = trying.spent >= of.config.within;
        let found = match stage {
            Stage::Decided if for_candidate => Some(Outcome::Promoted),
            Stage::Decided => Some(Outcome::Worse),
            Stage::Stopped => Some(Outcome::Untold),
            _ if frozen => None,
            _ => answer.as_ref().and_then(|answer| outcome(&answer.verdict, over)),
        };
        if let Some(found) = found {
            self.conclude(of, &trying, (found, answer), now);
        }
    }

    fn conclude(&self, of: &mut RouteTuning, trying: &Trying, (mut found, answer): (Outcome, Option<Answer>), now: Time) {
        let Trying { name, knob, candidate, .. } = trying;
        let verdict = answer.as_ref().map_or_else(String::new, |answer| answer.line.clone());
        if found == Outcome::Promoted {
            // A guardrail may have acted since the verdict was read.
            let decide = Order::Decide { variant: VARIANTS[1].into() };
            match self.end_own(name, &decide, (&verdict, now)) {
                Ok(()) => of.route.tuned.put(*knob, candidate.value),
                Err(error) => {
                    tracing::warn!(experiment = %name, %error, "not promoted");
                    found = Outcome::Worse;
                }
            }
        }
        if found != Outcome::Promoted
            && let Err(error) = self.end_own(name, &Order::Stop, (&verdict, now))
        {
            tracing::error!(experiment = %name, %error, "not stopped");
        }
        if let Some(search) = of.search(*knob) {
            search.learn(candidate, found);
        }
        let (route, to) = (&*of.route.route.name, knob.text(candidate.value));
        tracing::warn!(
            route,
            knob = knob.as_str(),
            value = to,
            against = knob.text(candidate.against),
            outcome = found.as_str(),
            verdict,
            "tried"
        );
        let usd_per_month = answer.and_then(|answer| answer.usd_per_month).map(|interval| interval.point);
        let (from, to, why) = (candidate.against, candidate.value, candidate.why.clone());
        let standing = &mut of.standing;
        standing.past.push_back(Past { at: now, name: name.clone(), knob: *knob, from, to, why, outcome: found, verdict, usd_per_month });
        while standing.past.len() > MOST_PAST {
            standing.past.pop_front();
        }
        standing.trying = None;
        if let Some(before) = standing.finished.replace(name.clone()) {
            self.trials.all.lock().remove(&before);
            of.removed.push(before);
        }
        of.unkept = true;
    }

    /// Ends one of the proxy's own; nothing is to be done where an operator has.
    fn end_own(&self, name: &Arc<str>, order: &Order, (verdict, now): (&str, Time)) -> Result<(), ExperimentError> {
        let mut all = self.trials.all.lock();
        let Some(running) = all.get(name).filter(|running| running.life.stage == Stage::Running) else { return Ok(()) };
        let mut next = self.ordered(running.clone(), order, now)?;
        next.note(now, BY, format!("{} -> {}", Stage::Running.as_str(), next.life.stage.as_str()), Some(verdict.to_owned()));
        all.insert(name.clone(), next);
        Ok(self.publish_experiments(&all)?)
    }

    fn begin(&self, of: &mut RouteTuning, now: Time) {
        let again = of.config.again;
        let settled = |of: &RouteTuning| of.standing.searches.iter().filter(|search| search.settled().is_some()).count();
        let before = settled(of);
        of.standing.searches.iter_mut().for_each(|search| search.renew(now, again));
        let found = of.standing.searches.iter_mut().find_map(|search| Some((search.knob(), search.candidate(now)?)));
        of.unkept |= before != settled(of);
        let Some((knob, candidate)) = found else {
            of.waits = None;
            return;
        };
        let way = self.in_the_way(of, knob);
        let before = std::mem::replace(&mut of.waits, way);
        if of.waits.is_some() {
            return;
        }
        let (route, number) = (&of.route.route.name, of.standing.next + 1);
        let name: Arc<str> = format!("{PREFIX}{route}.{}.{number}", knob.as_str()).into();
        let trying = Trying { name, knob, candidate, spent: Span::ZERO };
        match self.begin_own(of, &trying, now) {
            Ok(()) => {
                of.standing.next = number;
                of.standing.trying = Some(trying);
                of.unkept = true;
            }
            Err(error) => {
                // Tried again with the next turn, and told once.
                let why = error.to_string();
                if before.as_ref() != Some(&why) {
                    tracing::error!(experiment = %trying.name, why, "not begun");
                }
                of.waits = Some(why);
            }
        }
    }

    /// What is on the route now that it would spoil: whoever is there first goes on.
    fn in_the_way(&self, of: &RouteTuning, knob: Knob) -> Option<String> {
        let copies = knob.overrides(0.0).fields().any(|field| Shared::of(field) == Shared::Copies);
        if copies && of.route.switches.has_canary() {
            return Some("the canary on the route".to_owned());
        }
        let all = self.trials.all.lock();
        let other = all.values().find(|running| running.snapshot.is_some() && running.config.is_on(&of.route.route.name))?;
        Some(format!("experiment {}", other.spec.name))
    }

    fn begin_own(&self, of: &RouteTuning, trying: &Trying, now: Time) -> Result<(), ExperimentError> {
        let config = of.experiment(trying);
        let mut running = self.ordered(Running::draft(&config, now)?, &Order::Start, now)?;
        running.note(now, BY, format!("{} -> {}", Stage::Draft.as_str(), Stage::Running.as_str()), Some(config.hypothesis.clone()));
        tracing::warn!(experiment = %trying.name, "begun: {}", config.hypothesis);
        let mut all = self.trials.all.lock();
        running.fits(all.values())?;
        if let Some(snapshot) = &running.snapshot {
            self.log_allocation(snapshot, now);
            self.log_variants(snapshot, now);
        }
        all.insert(trying.name.clone(), running);
        Ok(self.publish_experiments(&all)?)
    }
}

impl RouteTuning {
    fn pass(&mut self, now: Time, frozen: bool) {
        let passed = now.since(self.looked);
        self.looked = now;
        if let Some(trying) = self.standing.trying.as_mut().filter(|_| !frozen) {
            trying.spent += passed;
            self.unwritten += passed;
        }
    }
}
