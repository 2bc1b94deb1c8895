//! Versions of predictors that experiments name. The store is told of them: who trains, maybe on another machine, tidies up there.

use std::collections::BTreeSet;

use farthing_config::ExperimentConfig;
use farthing_experiment::Stage;
use farthing_models::Kind;
use farthing_types::{Span, Time};

use crate::state::State;

/// So often it is said anew: what was not said for a month does not count.
const AGAIN: Span = Span::from_secs(86_400);

/// What the store was told.
#[derive(Default)]
pub struct Told {
    /// The versions, and when, in real time; `None` before it has taken them.
    versions: Option<(BTreeSet<u32>, Time)>,
    /// That it could not be told was said.
    failed: bool,
}

impl State {
    /// Tells the store what experiments name, where that is news: those that run or may begin, and those that are `coming`. Blocks on a small file.
    pub(super) fn tell_named(&self, coming: &[ExperimentConfig]) {
        let mut told = self.trials.told.lock();
        let mut versions: BTreeSet<u32> = coming.iter().flat_map(versions_of).collect();
        let all = self.trials.all.lock();
        versions
            .extend(all.values().filter(|running| running.life.stage != Stage::Stopped).flat_map(|running| versions_of(&running.config)));
        drop(all);
        let now = self.real_now();
        if told.versions.as_ref().is_some_and(|(last, at)| *last == versions && now.since(*at) < AGAIN) {
            return;
        }
        match self.predictors.store().note_named(self.freeze.instance(), (Kind::Ttl, versions.clone()), now) {
            Ok(()) => *told = Told { versions: Some((versions, now)), failed: false },
            Err(error) => {
                if !told.failed {
                    tracing::warn!(?versions, %error, "the store does not know which versions experiments name: who tidies up there may remove them; tried again");
                }
                told.failed = true;
            }
        }
    }
}

fn versions_of(experiment: &ExperimentConfig) -> impl Iterator<Item = u32> {
    experiment.variants.iter().filter_map(|variant| variant.overrides.model_version)
}
