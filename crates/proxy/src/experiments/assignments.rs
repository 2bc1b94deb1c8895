//! The draws of an experiment that allocates by context, as decisions with what came of them: another policy can be judged by them offline.

use std::sync::{Arc, LazyLock};

use farthing_contract::features::UNIT_SPEC;
use farthing_contract::log;
use farthing_experiment::{ExperimentSpec, UnitKind, UnitWindow};

use crate::state::State;

static SPEC: LazyLock<Arc<str>> = LazyLock::new(|| UNIT_SPEC.hash().into());

impl State {
    /// Writes closed unit-windows down, when they were kept: each is one decision and its outcome. Those that were drawn by no context, in the first window and in
    /// the one after a restart that came right before it, are in the evidence alone.
    pub(super) fn log_assignments(&self, spec: &ExperimentSpec, rows: &[UnitWindow]) {
        let Some(log) = &self.log else { return };
        let now = self.clock.now().nanos();
        for (row, features) in rows.iter().filter_map(|row| Some((row, row.features?))) {
            let decision_id = self.ids.next();
            let unit = row.unit.short();
            // A tenant that is forgotten is told by its keys.
            let key_hash = if spec.unit == UnitKind::Key { unit } else { 0 };
            log.write(log::Decision {
                ts_ns: now,
                decision_id,
                kind: "assignment",
                key_hash,
                spec_hash: Some(SPEC.clone()),
                features: features.to_vec(),
                eligible_mask: row.pmf.iter().enumerate().map(|(v, p)| u64::from(*p > 0.0) << v).sum(),
                pmf: row.pmf[..spec.variants.len()].to_vec(),
                action: i32::try_from(row.variant).unwrap_or_default(),
                action_value: row.cost_usd,
                by: "experiment".into(),
                experiment: Some(spec.name.clone()),
                variant: spec.variants.get(row.variant).map(|variant| variant.name.clone()),
                unit: Some(unit),
                window: Some(row.window),
                ..log::Decision::default()
            });
            log.write(log::OutcomeRow {
                ts_ns: now,
                decision_id,
                key_hash,
                opened_ns: spec.begins(row.window).nanos(),
                closed_by: "window",
                hits: i64::from(row.requests),
                paid_nanousd: Some((row.cost_usd * 1e9).round() as i64),
                saved_nanousd: Some(0),
                ..log::OutcomeRow::default()
            });
        }
    }
}
