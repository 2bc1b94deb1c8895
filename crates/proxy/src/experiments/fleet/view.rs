//! How an experiment of a fleet is seen from one of its instances.

use std::sync::Arc;

use farthing_experiment::fleet::Absent;
use farthing_types::Time;
use serde::Serialize;

use super::Shared;

/// A window that is not in the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AbsentView {
    /// Its number.
    pub window: i64,
    /// Why.
    pub why: &'static str,
    /// For which instance, where it was one.
    pub instance: Option<String>,
}

/// What an instance knows of an experiment that it shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FleetView {
    /// Of what was published and is in force here; 0: nothing was heard yet.
    pub version: u64,
    /// Who has published it.
    pub by: String,
    /// How long ago, s.
    pub age_s: f64,
    /// Whether this instance decides about it for the fleet.
    pub decides: bool,
    /// Windows that count.
    pub windows: u64,
    /// Windows that do not, by reason.
    pub absent: Vec<(&'static str, u64)>,
    /// The last of these.
    pub last_absent: Option<AbsentView>,
    /// Reports of this instance that nobody has taken yet.
    pub waiting: usize,
    /// Reports of this instance that never arrived.
    pub lost: u64,
    /// Unit-windows of the evidence whose rows are not in the export of this instance.
    pub rows_missing: u64,
    /// Why this instance cannot take part.
    pub refused: Option<String>,
}

/// An experiment of the fleet, for metrics.
#[derive(Debug)]
pub struct SharedWindows {
    /// Its name.
    pub experiment: Arc<str>,
    /// Whether this instance decides about it.
    pub decides: bool,
    /// Windows by what became of them.
    pub outcomes: Vec<(&'static str, u64)>,
}

impl Shared {
    /// As it is seen at `now`.
    pub fn view(&self, now: Time) -> FleetView {
        let (waiting, lost) = self.collected.reports();
        let published = self.published.as_ref();
        FleetView {
            version: self.version,
            by: published.map_or_else(String::new, |published| published.by.to_string()),
            age_s: published.map_or(0.0, |published| now.since(published.at).as_secs_f64()),
            decides: self.decides,
            windows: published.map_or(0, |published| published.whole),
            absent: published.map_or_else(Vec::new, |p| p.absent.iter().map(|(why, count)| (why.as_str(), *count)).collect()),
            last_absent: published.and_then(|p| p.last_absent.as_ref()).map(|absent| AbsentView {
                window: absent.window,
                why: absent.why.as_str(),
                instance: absent.instance.as_ref().map(ToString::to_string),
            }),
            waiting,
            lost,
            rows_missing: self.rows_missing,
            refused: self.refused.clone(),
        }
    }

    /// Whether this instance decides about it for the fleet.
    pub const fn decides(&self) -> bool {
        self.decides
    }

    /// Windows by what became of them, for metrics.
    pub fn windows(&self) -> Vec<(&'static str, u64)> {
        let Some(published) = &self.published else { return Vec::new() };
        let absent = [Absent::Unreported, Absent::Torn, Absent::OtherAllocation, Absent::Unreadable, Absent::Lost, Absent::Nobody];
        let count = |why: Absent| (why.as_str(), published.absent.get(&why).copied().unwrap_or(0));
        std::iter::once(("whole", published.whole)).chain(absent.map(count)).collect()
    }
}
