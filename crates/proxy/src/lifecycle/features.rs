//! Features of the champion's decisions against those it was trained on.

use std::sync::Arc;

use farthing_contract::features::TTL_FEATURES;
use farthing_models::Generation;
use farthing_policy::watch::psi::SHIFTED;
use farthing_policy::watch::{Psi, Reference};

/// Rows of a first window that stand in where a bundle has too few of its own.
const FIRST: usize = 1_000;

/// See the module.
#[derive(Default)]
pub struct Features {
    digest: Option<Arc<str>>,
    first: Vec<[f32; TTL_FEATURES]>,
    psi: Option<Psi>,
    source: &'static str,
}

impl Features {
    /// Counts a row of a decision of `champion`.
    pub fn add(&mut self, champion: &Generation, row: &[f32; TTL_FEATURES]) {
        if self.digest.as_ref() != Some(champion.digest()) {
            let golden = Reference::of(champion.manifest().golden.iter().map(|row| row.features.as_slice()));
            self.source = if golden.is_some() { "golden-rows" } else { "first-window" };
            (self.psi, self.first, self.digest) = (golden.map(Psi::new), Vec::new(), Some(champion.digest().clone()));
        }
        let Some(psi) = &mut self.psi else {
            self.first.push(*row);
            if self.first.len() >= FIRST {
                self.psi = Reference::of(std::mem::take(&mut self.first).iter().map(<[f32; TTL_FEATURES]>::as_slice)).map(Psi::new);
            }
            return;
        };
        if psi.add(row) && psi.report().is_some_and(|report| report.shifts.iter().any(|shift| *shift > SHIFTED)) {
            tracing::warn!(reference = self.source, "features have moved away from what the predictor learned from: farthing models drift");
        }
    }

    /// The comparison, and what it is made with.
    pub const fn report(&self) -> (Option<&Psi>, &'static str) {
        (self.psi.as_ref(), self.source)
    }
}
