//! The read-out of a record.

use super::Trial;
use crate::ebh::discoveries;
use crate::effect::Estimate;
use crate::report::{Comparison, Interval, Report, VariantReport};
use crate::unit::UnitKind;

/// Unit-windows of both variants below which an asymptotic interval is not shown.
pub(crate) const MIN_ROWS: u64 = 200;

impl Trial {
    /// The state of knowledge now. Cheap enough for a status call; the open window is not in it.
    pub fn report(&self) -> Report {
        Report {
            name: self.name.clone(),
            variants: (0..self.names.len()).map(|v| self.variant(v)).collect(),
            comparisons: self.comparisons(),
            windows: self.windows,
            watched: self.watched,
            population: self.population,
            calls: self.calls,
            cap_usd: self.cap,
            capped_share: self.capped as f64 / (self.tested as f64).max(1.0),
            ratio_evidence: self.ratio.evidence(),
            ratio_alarm: self.ratio.alarm(),
            switched_off: self.switch_off().collect(),
            dropped: self.dropped,
            learned: self.learned(),
        }
    }

    fn variant(&self, index: usize) -> VariantReport {
        let totals = &self.totals[index];
        let (units_drawn, units_expected) = self.ratio.counts(index);
        let share = |count: f64| count / (totals.requests as f64).max(1.0);
        VariantReport {
            name: self.names[index].clone(),
            units: totals.units,
            unit_windows: totals.unit_windows,
            units_drawn,
            units_expected,
            requests: totals.requests,
            bill_usd: totals.bill.as_usd_f64(),
            cost_usd: totals.cost_usd,
            square_usd: totals.square_usd,
            stale_share: share(totals.stale),
            error_share: share(totals.errors as f64),
            late_share: share(totals.late as f64),
            off: self.off[index].map(|off| off.guard),
        }
    }

    /// Of a route in blocks there is one; what counts are its windows.
    fn units_of(&self, variant: usize) -> u64 {
        let totals = &self.totals[variant];
        if self.unit == UnitKind::Block { totals.unit_windows } else { totals.units }
    }

    fn comparisons(&self) -> Vec<Comparison> {
        let mut all: Vec<Comparison> = (1..self.names.len()).map(|v| self.comparison(v)).collect();
        let evidence: Vec<f64> = all.iter().map(|comparison| comparison.evidence).collect();
        let found = discoveries(&evidence, self.alpha * evidence.len() as f64);
        all.iter_mut().zip(found).for_each(|(comparison, found)| comparison.found = found);
        all
    }

    fn comparison(&self, challenger: usize) -> Comparison {
        let known = self.effects[challenger - 1].estimate();
        let units = self.units_of(0).min(self.units_of(challenger));
        let rows = known.map_or(0, |e| e.rows[0] + e.rows[1]);
        let enough = units >= u64::from(self.min_units) && rows >= MIN_ROWS && !self.ratio.alarm();
        let cap = self.cap.unwrap_or(0.0);
        let estimate = known.filter(|_| enough);
        // Nothing is a share of a control that costs nothing.
        let relative = |e: Estimate| {
            let control = e.means[0];
            (control > 0.0).then(|| Interval { point: e.effect / control, low: e.low / control, high: e.high / control })
        };
        Comparison {
            variant: self.names[challenger].clone(),
            control: self.names[0].clone(),
            effect_usd: estimate.map(|e| Interval { point: e.effect * cap, low: e.low * cap, high: e.high * cap }),
            relative: estimate.and_then(relative),
            unweighted_usd: estimate.map(|e| e.unweighted * cap),
            evidence: estimate.map_or(1.0, |e| e.evidence),
            differs: estimate.is_some_and(|e| e.differs),
            found: false,
            rows,
            spread_usd: known.map(|e| e.spread * cap),
            note: self.note(units, rows),
            alpha: self.alpha,
        }
    }

    fn note(&self, units: u64, rows: u64) -> Option<&'static str> {
        if self.ratio.alarm() {
            Some("sample ratio mismatch")
        } else if self.cap.is_none() {
            Some("calibrating")
        } else if units < u64::from(self.min_units) || rows < MIN_ROWS {
            Some("not enough units")
        } else {
            None
        }
    }
}
