//! Which requests an experiment is about: those that what its variants change bears on.

use farthing_experiment::Experiment;
use farthing_policy::plan::Steps;
use farthing_types::PlanField;

/// What the variants of an experiment change, as far as it tells which requests are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bears {
    copies: bool,
    joins: bool,
    batches: bool,
    providers: bool,
}

impl Bears {
    /// That of an experiment. Variants that change nothing are compared by whatever a plan could change.
    pub fn of(experiment: &Experiment) -> Self {
        let mut all = Self::default();
        for field in experiment.variants().iter().flat_map(|variant| variant.overrides.fields()) {
            match field {
                PlanField::Cache | PlanField::Ttl | PlanField::BaseTtl | PlanField::ModelVersion => all.copies = true,
                PlanField::Prefetch | PlanField::PrefetchConfidence | PlanField::RefreshAhead => all.copies = true,
                PlanField::Dedupe => all.joins = true,
                PlanField::Batch | PlanField::BatchWindow => all.batches = true,
                PlanField::Routing | PlanField::Weights => all.providers = true,
            }
        }
        if all == Self::default() { Self { copies: true, joins: true, batches: true, providers: true } } else { all }
    }

    /// Whether it bears on a request: `steps` are those of its route, whatever its variant, and `several` that its call may go to one of several
    /// providers. It hangs on nothing that a variant changes, so what is left out is left out of all of them.
    pub const fn on(self, steps: Steps, several: bool) -> bool {
        (self.copies && steps.cache.is_ok())
            || (self.joins && steps.dedupe.is_ok())
            || (self.batches && steps.batch.is_ok())
            || (self.providers && several)
    }
}

#[cfg(test)]
mod tests {
    use farthing_experiment::{ExperimentSpec, UnitKind, Variant};
    use farthing_types::{Overrides, Span, UncachedReason};

    use super::*;

    fn of(overrides: Overrides) -> Bears {
        let variant = |name: &str, overrides| Variant { name: name.into(), overrides, share: 0.5 };
        let pair = ExperimentSpec::pair("e", variant("a", Overrides::default()), variant("b", overrides), Span::from_secs(60));
        Bears::of(&Experiment::new(ExperimentSpec { unit: UnitKind::Block, ..pair }).unwrap())
    }

    #[test]
    fn a_request_is_compared_by_what_bears_on_it() {
        let no = Err(UncachedReason::Disabled);
        let uncached = Steps { cache: no, dedupe: Ok(()), batch: Ok(()) };
        let alone = Steps { cache: Ok(()), dedupe: no, batch: no };
        let cases = [
            (Overrides { ttl: Some("rule".into()), ..Overrides::default() }, [false, true]),
            (Overrides { prefetch: Some(false), ..Overrides::default() }, [false, true]),
            (Overrides { dedupe: Some(false), ..Overrides::default() }, [true, false]),
            (Overrides { batch: Some(false), ..Overrides::default() }, [true, false]),
            (Overrides { batch: Some(false), cache: Some(false), ..Overrides::default() }, [true, true]),
            (Overrides { routing: Some(false), ..Overrides::default() }, [false, false]),
            (Overrides::default(), [true, true]),
        ];
        for (overrides, wanted) in cases {
            let bears = of(overrides.clone());
            assert_eq!([bears.on(uncached, false), bears.on(alone, false)], wanted, "{overrides:?}");
        }
        let nothing = Steps::none(UncachedReason::Bypassed);
        let routing = of(Overrides { routing: Some(false), ..Overrides::default() });
        assert!(routing.on(nothing, true) && !routing.on(nothing, false));
        assert!(!of(Overrides::default()).on(nothing, false), "a bypass leaves nothing to compare");
    }
}
