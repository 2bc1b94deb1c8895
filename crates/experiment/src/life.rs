//! The life of an experiment: draft, shadow, running, stopped, decided. It only goes forward; what moves it is an operator's order or,
//! while it runs, [evidence](crate::steer).

use std::sync::Arc;

use farthing_types::Time;
use serde::{Deserialize, Serialize};

use crate::allocation::{self, Allocation};
use crate::assign::Experiment;
use crate::guard::SwitchOff;
use crate::spec::{ExperimentSpec, SpecError};

/// Where an experiment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is described and does nothing.
    #[default]
    Draft,
    /// What each variant would choose is worked out and logged; every unit has the control.
    Shadow,
    /// It is measured.
    Running,
    /// It is over; every unit has the route's plan.
    Stopped,
    /// It is over; every unit has the variant that was decided for.
    Decided,
}

impl Stage {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Shadow => "shadow",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Decided => "decided",
        }
    }
}

/// What an operator orders.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Work out what variants would choose, and change nothing.
    Shadow,
    /// Measure.
    Start,
    /// End it without a decision.
    Stop,
    /// End it in favour of a variant.
    Decide {
        /// Its name.
        variant: Arc<str>,
    },
    /// Let this share of the slice take part, and stay there; `None` lets the ramp go on by itself.
    Traffic {
        /// 0 to 1; 0 at once, others from the next window on.
        share: Option<f64>,
    },
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderError {
    /// The stage does not allow it.
    #[error("it is {}: {remedy}", stage.as_str())]
    Stage {
        /// The stage.
        stage: Stage,
        /// What can be done.
        remedy: &'static str,
    },
    /// There is no such variant.
    #[error("there is no variant `{given}`; there are {}", known.join(", "))]
    NoVariant {
        /// What was given.
        given: Arc<str>,
        /// The variants.
        known: Vec<String>,
    },
    /// A guardrail has switched the variant off.
    #[error("variant `{variant}` was switched off by its guardrail ({guard}): what harms cannot be decided for")]
    Off {
        /// The variant.
        variant: Arc<str>,
        /// The guardrail.
        guard: &'static str,
    },
    /// Nothing is left to be compared.
    #[error("every challenger was switched off by a guardrail: nothing is left to compare")]
    NothingLeft,
    /// The share is no share.
    #[error("share = {0}: write 0 to 1")]
    Share(f64),
}

/// How far a ramp has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ramp {
    /// Share of the slice that takes part.
    pub share: f64,
    /// Since when.
    pub since: Time,
    /// Unit-windows at that time.
    pub rows: u64,
    /// Whether it goes on by itself.
    pub auto: bool,
}

/// Where an experiment stands, and all that was decided about it so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// Where it stands.
    pub stage: Stage,
    /// Since when.
    pub since: Time,
    /// When measuring began.
    pub started: Option<Time>,
    /// When it ended.
    pub ended: Option<Time>,
    /// Variant of units that are not measured.
    pub leader: usize,
    /// Variants that guardrails have switched off.
    pub off: Vec<SwitchOff>,
    /// Its ramp.
    pub ramp: Ramp,
    /// The published probabilities.
    pub allocations: Vec<Allocation>,
}

impl Life {
    /// A draft.
    pub fn draft(now: Time) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// The snapshot that assigns; `None` where every unit has the route's own plan.
    ///
    /// # Errors
    /// The description is no experiment.
    pub fn snapshot(&self, spec: &ExperimentSpec) -> Result<Option<Experiment>, SpecError> {
        let base = Experiment::new(spec.clone())?;
        if matches!(self.stage, Stage::Draft | Stage::Stopped) {
            return Ok(None);
        }
        let off = self.off.iter().fold(base, |experiment, off| experiment.without(off.variant));
        let led = off.with_leader(self.leader);
        Ok(Some(self.allocations.iter().fold(led, |experiment, allocation| experiment.with(allocation.clone()))))
    }

    /// What becomes of it by an order, in window `window` at `now`.
    ///
    /// # Errors
    /// Why the order cannot be carried out.
    pub fn step(&self, order: &Order, spec: &ExperimentSpec, (now, window): (Time, i64)) -> Result<Self, OrderError> {
        let next = match (self.stage, order) {
            (Stage::Draft, Order::Shadow) => self.entered(Stage::Shadow, now).with_share(spec, (now, i64::MIN), 0.0),
            (Stage::Draft | Stage::Shadow, Order::Start) => {
                let started = Self { started: Some(now), ..self.entered(Stage::Running, now) };
                let first = spec.ramp.first().copied().unwrap_or(1.0);
                let ramp = Ramp { auto: spec.ramp.len() > 1, ..Ramp::default() };
                Self { ramp, ..started }.with_share(spec, (now, i64::MIN), first)
            }
            (Stage::Shadow | Stage::Running, Order::Stop) => Self { ended: Some(now), ..self.entered(Stage::Stopped, now) },
            (Stage::Running | Stage::Stopped, Order::Decide { variant }) => self.decided(spec, variant, now)?,
            (Stage::Running, Order::Traffic { share }) => self.traffic(spec, *share, (now, window))?,
            (stage, _) => return Err(OrderError::Stage { stage, remedy: remedy(stage, order) }),
        };
        Ok(next)
    }

    fn entered(&self, stage: Stage, now: Time) -> Self {
        Self { stage, since: now, ..self.clone() }
    }

    fn decided(&self, spec: &ExperimentSpec, variant: &Arc<str>, now: Time) -> Result<Self, OrderError> {
        let Some(leader) = spec.variants.iter().position(|v| v.name == *variant) else {
            let known = spec.variants.iter().map(|v| v.name.to_string()).collect();
            return Err(OrderError::NoVariant { given: variant.clone(), known });
        };
        if let Some(off) = self.off.iter().find(|off| off.variant == leader) {
            return Err(OrderError::Off { variant: variant.clone(), guard: off.guard.as_str() });
        }
        let ended = Some(self.ended.unwrap_or(now));
        Ok(Self { leader, ended, ..self.entered(Stage::Decided, now) }.with_share(spec, (now, i64::MIN), 0.0))
    }

    fn traffic(&self, spec: &ExperimentSpec, share: Option<f64>, (now, window): (Time, i64)) -> Result<Self, OrderError> {
        let Some(share) = share else {
            let first = spec.ramp.first().copied().unwrap_or(1.0);
            let share = if self.ramp.share > 0.0 { self.ramp.share } else { first };
            let on = self.traffic(spec, Some(share), (now, window))?;
            return Ok(Self { ramp: Ramp { auto: true, ..on.ramp }, ..on });
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(OrderError::Share(share));
        }
        if share > 0.0 && self.off.len() + 1 >= spec.variants.len() {
            return Err(OrderError::NothingLeft);
        }
        // Who leaves does so at once; who comes does so with a window, so that its first sixth is left out for them as for all.
        let from = if share == 0.0 { window } else { window.saturating_add(1) };
        let next = self.with_share(spec, (now, from), share);
        Ok(Self { ramp: Ramp { auto: false, ..next.ramp }, ..next })
    }

    /// The same without variants that were switched off; where no challenger is left, nobody takes part any more.
    #[must_use]
    pub fn without_variants(&self, off: &[SwitchOff], spec: &ExperimentSpec, (now, window): (Time, i64)) -> Self {
        let mut next = self.clone();
        for switched in off {
            if next.off.iter().all(|known| known.variant != switched.variant) {
                next.off.push(*switched);
            }
            if next.leader == switched.variant {
                next.leader = 0;
            }
        }
        if next.off.len() > self.off.len() && next.off.len() + 1 >= spec.variants.len() && next.ramp.share > 0.0 {
            next = next.with_share(spec, (now, window), 0.0);
            next.ramp.auto = false;
        }
        next
    }

    /// The same with another share of the slice from a window on, at the probabilities published last.
    pub(crate) fn with_share(&self, spec: &ExperimentSpec, (now, from): (Time, i64), share: f64) -> Self {
        let last = self.allocations.last();
        let (pmf, contexts) = last.map_or_else(|| (spec.initial(), None), |last| (last.pmf, last.contexts.clone()));
        let ramp = Ramp { share, since: now, ..self.ramp };
        Self { ramp, ..self.clone() }.publishing(Allocation { from, pmf, ramp: share, contexts })
    }

    /// The same with probabilities that hold from a window on.
    pub(crate) fn publishing(mut self, allocation: Allocation) -> Self {
        allocation::publish(&mut self.allocations, allocation);
        self
    }
}

const fn remedy(stage: Stage, order: &Order) -> &'static str {
    match (stage, order) {
        (Stage::Draft | Stage::Shadow, Order::Decide { .. }) => "start it, so that there is something to decide by",
        (Stage::Draft | Stage::Shadow, Order::Traffic { .. } | Order::Stop) => "start it first",
        (Stage::Shadow, _) => "start it",
        (Stage::Running, Order::Shadow | Order::Start) => "stop it, and give a new one another name",
        (Stage::Stopped, _) => "decide it, or give a new one another name",
        (Stage::Decided, _) => "that stays; to undo it take its table out of the configuration, or give a new one another name",
        _ => "that is not possible now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::GuardKind;
    use crate::spec::Variant;
    use farthing_types::{Draw, KeyHash, Overrides, Span};

    fn spec() -> ExperimentSpec {
        let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
        ExperimentSpec { ramp: vec![0.1, 0.5, 1.0], ..ExperimentSpec::pair("e", variant("a"), variant("b"), Span::from_secs(60)) }
    }

    fn at(s: u64) -> (Time, i64) {
        (Time::ZERO + Span::from_secs(s), (s / 60) as i64)
    }

    fn decide(name: &str) -> Order {
        Order::Decide { variant: name.into() }
    }

    #[test]
    fn it_goes_forward_only() {
        let spec = spec();
        let draft = Life::draft(Time::ZERO);
        let shadow = draft.step(&Order::Shadow, &spec, at(1)).unwrap();
        let running = shadow.step(&Order::Start, &spec, at(2)).unwrap();
        let stopped = running.step(&Order::Stop, &spec, at(3)).unwrap();
        let decided = stopped.step(&decide("b"), &spec, at(4)).unwrap();
        let stages = [&draft, &shadow, &running, &stopped, &decided].map(|life| life.stage.as_str());
        assert_eq!(stages, ["draft", "shadow", "running", "stopped", "decided"]);
        let orders = [Order::Shadow, Order::Start, Order::Stop, Order::Traffic { share: None }, decide("a")];
        let allowed = |life: &Life| orders.iter().map(|o| u8::from(life.step(o, &spec, at(9)).is_ok())).collect::<Vec<_>>();
        assert_eq!(allowed(&draft), [1, 1, 0, 0, 0]);
        assert_eq!(allowed(&shadow), [0, 1, 1, 0, 0]);
        assert_eq!(allowed(&running), [0, 0, 1, 1, 1]);
        assert_eq!(allowed(&stopped), [0, 0, 0, 0, 1]);
        assert_eq!(allowed(&decided), [0, 0, 0, 0, 0], "decided stays decided");
        assert_eq!((decided.started, decided.ended), (Some(at(2).0), Some(at(3).0)));
    }

    #[test]
    fn who_has_what_in_each_stage() {
        let spec = spec();
        let variants = |life: &Life| -> Option<[usize; 2]> {
            let experiment = life.snapshot(&spec).unwrap()?;
            let all = (0..4_000u128).map(|u| experiment.assign(&Draw::new(1), KeyHash(u << 64), at(600).0));
            let mut counts = [0; 2];
            all.for_each(|a| counts[a.variant] += 1);
            Some(counts)
        };
        let draft = Life::draft(Time::ZERO);
        assert_eq!(variants(&draft), None);
        assert_eq!(variants(&draft.step(&Order::Shadow, &spec, at(1)).unwrap()), Some([4_000, 0]));
        let running = draft.step(&Order::Start, &spec, at(1)).unwrap();
        let [_, few] = variants(&running).unwrap();
        assert!((150..250).contains(&few), "half of a tenth: {few}");
        let half = running.step(&Order::Traffic { share: Some(0.5) }, &spec, at(61)).unwrap();
        assert_eq!(half.snapshot(&spec).unwrap().unwrap().allocation(1).ramp, 0.1, "this window stays as it was");
        let [_, more] = variants(&half).unwrap();
        assert!((900..1_100).contains(&more) && !half.ramp.auto, "{more}");
        let none = half.step(&Order::Traffic { share: Some(0.0) }, &spec, at(600)).unwrap();
        assert_eq!(variants(&none), Some([4_000, 0]), "nobody, at once");
        assert!(half.step(&Order::Traffic { share: None }, &spec, at(600)).unwrap().ramp.auto);
        assert_eq!(variants(&running.step(&Order::Stop, &spec, at(600)).unwrap()), None);
        assert_eq!(variants(&running.step(&decide("b"), &spec, at(600)).unwrap()), Some([0, 4_000]));
    }

    #[test]
    fn what_harms_is_not_decided_for() {
        let spec = spec();
        let running = Life::draft(Time::ZERO).step(&Order::Start, &spec, at(1)).unwrap();
        let off = Life { off: vec![SwitchOff { variant: 1, guard: GuardKind::Errors, evidence: 400.0 }], ..running };
        assert!(matches!(off.step(&decide("b"), &spec, at(2)), Err(OrderError::Off { .. })));
        assert!(matches!(off.step(&decide("c"), &spec, at(2)), Err(OrderError::NoVariant { .. })));
        assert_eq!(off.step(&Order::Traffic { share: Some(0.1) }, &spec, at(2)), Err(OrderError::NothingLeft));
        assert!(off.step(&Order::Traffic { share: Some(2.0) }, &spec, at(2)).is_err());
        assert!(off.step(&decide("a"), &spec, at(2)).is_ok());
    }
}
