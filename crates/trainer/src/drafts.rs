//! What each kind of fit puts into a bundle. Whose successor it is, who publishes it says.

use std::collections::BTreeMap;

use farthing_contract::bundle::{Kind, Training};

use crate::learn::Examples;
use crate::publish::{Card, Draft};
use crate::trees::Ensemble;
use crate::{cost, fit, prefetch, strategy};

/// What all kinds have: what decides, what stands in for it and rows of both, where they come from and how they did.
fn plain<'a>(
    kind: Kind,
    (model, table, rows): (&'a Ensemble, &'a Ensemble, &'a dyn Examples),
    (training, metrics): (&Training, &BTreeMap<String, f64>),
    card: impl Into<Card>,
) -> Draft<'a> {
    Draft {
        kind,
        model,
        table,
        rows,
        training: training.clone(),
        metrics: metrics.clone(),
        operating_points: Vec::new(),
        gate: None,
        parent: None,
        card: card.into(),
        sign: None,
    }
}

impl fit::Fit {
    /// The bundle of what was learned.
    pub fn draft(&self) -> Draft<'_> {
        let (learned, report) = (&self.learned, &self.report);
        let card = report.card(&self.training.data_digest, self.training.seed);
        Draft {
            operating_points: report.operating_points.clone(),
            gate: Some(report.judgement.record()),
            ..plain(Kind::Ttl, (&learned.model, &learned.table, &learned.rows), (&self.training, &self.metrics), card)
        }
    }
}

impl strategy::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self) -> Draft<'_> {
        let learned = &self.learned;
        let card = strategy::card(self);
        Draft {
            gate: Some(self.judgement.record()),
            ..plain(Kind::Strategy, (&learned.model, &learned.table, &learned.rows), (&self.training, &self.metrics), card)
        }
    }
}

impl cost::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self) -> Draft<'_> {
        let learned = &self.learned;
        plain(Kind::Cost, (&learned.model, &learned.table, &learned.rows), (&self.training, &self.metrics), cost::card(self))
    }
}

impl prefetch::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self) -> Draft<'_> {
        let learned = &self.learned;
        let card = self.report.card(&self.training.data_digest, self.training.seed);
        plain(Kind::Prefetch, (&learned.model, &learned.table, &learned.rows), (&self.training, &self.metrics), card)
    }
}
