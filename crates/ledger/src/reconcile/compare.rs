//! Invoice against log.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use serde::Serialize;

use super::ByDay;

/// Sums of a day and meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Tokens or calls.
    pub units: i128,
    /// Nano-dollars.
    pub nanos: i128,
    /// Calls without a known price.
    pub unpriced: i128,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.units += other.units;
        self.nanos += other.nanos;
        self.unpriced += other.unpriced;
    }
}

/// One day and meter, or one meter over all days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The day since 1970; `None`: all days.
    pub day: Option<i64>,
    /// The meter; `None`: all meters.
    pub meter: Option<String>,
    /// The invoice's sums; `None` where it has none of it.
    pub invoice: Option<Sums>,
    /// The log's sums; `None` where it has none of it.
    pub logged: Option<Sums>,
}

impl Line {
    /// Log less invoice, as a share of the invoice: units, then money. `None` where the invoice has nothing.
    pub fn drift(&self) -> (Option<f64>, Option<f64>) {
        let (invoice, logged) = (self.invoice.unwrap_or_default(), self.logged.unwrap_or_default());
        let share = |logged: i128, invoice: i128| (invoice != 0).then(|| (logged - invoice) as f64 / invoice.abs() as f64);
        (share(logged.units, invoice.units), share(logged.nanos, invoice.nanos))
    }
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// By day and meter.
    pub lines: Vec<Line>,
    /// By meter over all days.
    pub meters: Vec<Line>,
    /// All of it.
    pub total: Line,
    /// What is further apart than tolerated, in words.
    pub beyond: Vec<String>,
}

/// Sets one against the other. `has`: whether the invoice has units, and money; what it has not is not judged.
pub fn compare(invoice: &ByDay, logged: &ByDay, has: (bool, bool), tolerance: f64) -> Comparison {
    let keys: BTreeSet<&(i64, String)> = invoice.keys().chain(logged.keys()).collect();
    let line = |key: &(i64, String)| Line {
        day: Some(key.0),
        meter: Some(key.1.clone()),
        invoice: invoice.get(key).copied(),
        logged: logged.get(key).copied(),
    };
    let lines: Vec<Line> = keys.into_iter().map(line).collect();
    let mut meters: BTreeMap<&str, Line> = BTreeMap::new();
    let mut total = Line { day: None, meter: None, invoice: None, logged: None };
    for line in &lines {
        let meter = line.meter.as_deref().unwrap_or_default();
        let whole = meters.entry(meter).or_insert_with(|| Line { day: None, meter: line.meter.clone(), invoice: None, logged: None });
        for into in [whole, &mut total] {
            add(&mut into.invoice, line.invoice);
            add(&mut into.logged, line.logged);
        }
    }
    let meters: Vec<Line> = meters.into_values().collect();
    let beyond = meters.iter().chain([&total]).filter_map(|line| beyond(line, &total, has, tolerance)).collect();
    Comparison { lines, meters, total, beyond }
}

fn add(into: &mut Option<Sums>, more: Option<Sums>) {
    if let Some(more) = more {
        *into.get_or_insert_default() += more;
    }
}

/// What is wrong with a meter or with all. What is on one side only counts when it is more than tolerated of the whole.
fn beyond(line: &Line, total: &Line, (has_units, has_money): (bool, bool), tolerance: f64) -> Option<String> {
    let name = line.meter.as_deref().unwrap_or("all meters");
    let matters = |part: Sums| {
        let (whole, other) = (total.invoice.unwrap_or_default(), total.logged.unwrap_or_default());
        let more = |part: i128, whole: i128| part.abs() as f64 > tolerance * whole.abs() as f64;
        has_money && more(part.nanos, whole.nanos.max(other.nanos)) || has_units && more(part.units, whole.units.max(other.units))
    };
    match (line.invoice, line.logged) {
        (Some(invoice), None) => matters(invoice).then(|| format!("{name}: in the invoice only")),
        (None, Some(logged)) => matters(logged).then(|| format!("{name}: in the log only")),
        _ => {
            let (units, money) = line.drift();
            let far = |drift: Option<f64>, judged: bool| drift.filter(|drift| judged && drift.abs() > tolerance);
            let told = [
                far(money, has_money).map(|d| format!("money {:+.2} %", d * 100.0)),
                far(units, has_units).map(|d| format!("units {:+.2} %", d * 100.0)),
            ];
            let told: Vec<String> = told.into_iter().flatten().collect();
            (!told.is_empty()).then(|| format!("{name}: {}", told.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(rows: &[(i64, &str, i128, i128)]) -> ByDay {
        rows.iter()
            .map(|(day, meter, units, nanos)| ((*day, (*meter).to_owned()), Sums { units: *units, nanos: *nanos, unpriced: 0 }))
            .collect()
    }

    #[test]
    fn drift_is_told_by_meter_and_in_all() {
        let invoice = days(&[(1, "a", 100, 1_000), (2, "a", 100, 1_000), (1, "b", 10, 500), (1, "tiny", 0, 1)]);
        let logged = days(&[(1, "a", 150, 1_500), (2, "a", 50, 500), (1, "b", 10, 450), (1, "c", 40, 400)]);
        let told = compare(&invoice, &logged, (true, true), 0.01);
        assert_eq!(told.lines.len(), 5);
        assert_eq!(told.beyond, ["b: money -10.00 %", "c: in the log only", "all meters: money +13.95 %, units +19.05 %"]);
        assert_eq!(compare(&invoice, &logged, (false, true), 0.5).beyond, Vec::<String>::new());
        assert_eq!(compare(&invoice, &invoice, (true, true), 0.0).beyond, Vec::<String>::new());
        let a = told.meters.iter().find(|line| line.meter.as_deref() == Some("a")).unwrap();
        assert_eq!(a.drift(), (Some(0.0), Some(0.0)), "what moves between days is no drift of the meter");
    }
}
