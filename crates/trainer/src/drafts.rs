//! What each kind of fit puts into a bundle.

use farthing_contract::bundle::Kind;

use crate::publish::Draft;
use crate::{cost, fit, prefetch, strategy};

impl fit::Fit {
    /// The bundle of what was learned; `parent` is the digest of the champion before.
    pub fn draft(&self, parent: Option<String>) -> Draft<'_> {
        Draft {
            kind: Kind::Ttl,
            model: &self.learned.model,
            table: &self.learned.table,
            rows: &self.learned.rows,
            training: self.training.clone(),
            metrics: self.metrics.clone(),
            operating_points: self.report.operating_points.clone(),
            gate: Some(self.report.judgement.record()),
            parent,
            card: self.report.card(&self.training.data_digest, self.training.seed),
        }
    }
}

impl strategy::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self, parent: Option<String>) -> Draft<'_> {
        Draft {
            kind: Kind::Strategy,
            model: &self.learned.model,
            table: &self.learned.table,
            rows: &self.learned.rows,
            training: self.training.clone(),
            metrics: self.metrics.clone(),
            operating_points: Vec::new(),
            gate: Some(self.judgement.record()),
            parent,
            card: strategy::card(self).into(),
        }
    }
}

impl cost::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self, parent: Option<String>) -> Draft<'_> {
        Draft {
            kind: Kind::Cost,
            model: &self.learned.model,
            table: &self.learned.table,
            rows: &self.learned.rows,
            training: self.training.clone(),
            metrics: self.metrics.clone(),
            operating_points: Vec::new(),
            gate: None,
            parent,
            card: cost::card(self).into(),
        }
    }
}

impl prefetch::Fit {
    /// As [`fit::Fit::draft`].
    pub fn draft(&self, parent: Option<String>) -> Draft<'_> {
        Draft {
            kind: Kind::Prefetch,
            model: &self.learned.model,
            table: &self.learned.table,
            rows: &self.learned.rows,
            training: self.training.clone(),
            metrics: self.metrics.clone(),
            operating_points: Vec::new(),
            gate: None,
            parent,
            card: self.report.card(&self.training.data_digest, self.training.seed).into(),
        }
    }
}
