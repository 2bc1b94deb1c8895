//! A closed unit-window as it is exported (docs/experiments.md has the columns).

use std::fmt::Write as _;

use farthing_contract::features::UNIT_FEATURES;
use farthing_types::{KeyHash, Money};

use crate::spec::MAX_VARIANTS;

/// The head of an export: one line for each unit-window, in the order in which they were taken.
pub const COLUMNS: &str = "window,unit,variant,p0,p1,p2,p3,inclusion,requests,errors,late,stale,bill_usd,cost_usd,before_usd,tests";

/// One unit in one closed window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitWindow {
    /// The window's number.
    pub window: i64,
    /// The unit.
    pub unit: KeyHash,
    /// Index of its variant.
    pub variant: usize,
    /// Probability of every variant at the draw.
    pub pmf: [f32; MAX_VARIANTS],
    /// Share of the units that were measured.
    pub inclusion: f64,
    /// Client requests.
    pub requests: u32,
    /// Of these, failed ones.
    pub errors: u32,
    /// Of these, late ones.
    pub late: u32,
    /// Stale answers, measured or expected.
    pub stale: f64,
    /// Paid to providers.
    pub bill: Money,
    /// The outcome: the bill, and the price of stale answers where the metric says so.
    pub cost_usd: f64,
    /// The unit's mean outcome in the windows before; `None` where there was none.
    pub before_usd: Option<f64>,
    /// The challengers whose comparison takes the row, as bits by index; 0 for rows that only set the cap.
    pub tests: u8,
    /// The features by which it was drawn, where allocation goes by context and they are known; not in the export.
    pub features: Option<[f32; UNIT_FEATURES]>,
}

impl UnitWindow {
    /// The line of [`COLUMNS`], the end of the line included.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.line(&mut text);
        text
    }

    /// Appends the line of [`COLUMNS`], the end of the line included. Numbers are written so that they are read as they were.
    pub fn line(&self, out: &mut String) {
        let p = self.pmf.map(f64::from);
        let before = self.before_usd.map(|usd| usd.to_string()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{},{:016x},{},{},{},{},{},{},{},{},{},{},{},{},{before},{}",
            self.window,
            self.unit.short(),
            self.variant,
            p[0],
            p[1],
            p[2],
            p[3],
            self.inclusion,
            self.requests,
            self.errors,
            self.late,
            self.stale,
            self.bill.as_usd_f64(),
            self.cost_usd,
            self.tests
        );
    }
}
