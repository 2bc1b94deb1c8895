//! What an instance of a fleet collects of an experiment, until the fleet has it.

use std::collections::{BTreeMap, BTreeSet};

use farthing_types::{KeyHash, Time};

use super::fold::KEPT_WINDOWS;
use super::part::{MOST_PART_BYTES, Part};
use crate::allocation::Allocation;
use crate::assign::{Assigned, Experiment};
use crate::guard::{GUARD_ALPHA, SwitchOff};
use crate::life::Life;
use crate::spec::ExperimentSpec;
use crate::trial::{Observation, Trial};

/// Bytes of reports that wait for being told.
const MOST_WAITING_BYTES: usize = 4 * MOST_PART_BYTES;
/// Stands for the seat of an instance that has none yet: with so small a share of the false alarms many of them change nothing.
const UNSEATED: u64 = 1 << 20;

/// False-alarm probability of each guardrail over the evidence of the fleet.
pub const FLEET_ALPHA: f64 = GUARD_ALPHA / 2.0;

/// False-alarm probability of each guardrail of one instance. One half of [`GUARD_ALPHA`] belongs to the evidence of the fleet; of the other the instance that was the
/// `seat`-th to come has the part 1 / (seat (seat + 1)). These sum to 1 over however many instances and restarts (Bonferroni over a sequence), and cost little: the
/// evidence that is needed grows with their logarithm.
pub fn local_alpha(seat: Option<u64>) -> f64 {
    let seat = seat.unwrap_or(UNSEATED).max(1) as f64;
    (GUARD_ALPHA - FLEET_ALPHA) / (seat * (seat + 1.0))
}

/// By what units are drawn in a window.
pub(super) fn allocation(life: &Life, window: i64) -> Option<&Allocation> {
    life.allocations.iter().rfind(|allocation| allocation.from <= window).or(life.allocations.first())
}

/// Whether units are drawn alike.
fn same(a: Option<&Allocation>, b: Option<&Allocation>) -> bool {
    let drawn = |a: &Allocation, b: &Allocation| {
        let alike = a.pmf == b.pmf && a.ramp == b.ramp;
        alike
            && match (&a.contexts, &b.contexts) {
                (Some(a), Some(b)) => a == b || a.0 == b.0,
                (None, None) => true,
                _ => false,
            }
    };
    match (a, b) {
        (Some(a), Some(b)) => drawn(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// The part of the fleet's evidence that is on its way, and this instance's own guardrails.
#[derive(Clone, Debug)]
pub struct Collected {
    trial: Trial,
    /// The first window that is not handed over.
    next: i64,
    /// Windows of which not all was seen.
    torn: BTreeSet<i64>,
    /// Windows that the record has handed over, before they are over by the clock.
    handed: BTreeMap<i64, Part>,
    waiting: BTreeMap<i64, Waiting>,
    /// Windows whose report found no room, or came too late.
    lost: u64,
}

#[derive(Clone, Debug)]
struct Waiting {
    bytes: Vec<u8>,
    told: bool,
}

impl Collected {
    /// Collects from `window` on, which is seen from its beginning, or from that of the process.
    pub fn new(experiment: &Experiment, seat: Option<u64>, window: i64) -> Self {
        Self {
            trial: Trial::new(experiment).handing_over(local_alpha(seat)),
            next: window,
            torn: BTreeSet::new(),
            handed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lost: 0,
        }
    }

    /// Judges from now on by the share of false alarms that belongs to a seat.
    pub fn seated(&mut self, seat: u64) {
        self.trial.guard_at(local_alpha(Some(seat)));
    }

    /// Adds what a request or call did to its unit; whether a guardrail has tripped by it.
    pub fn record(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) -> bool {
        self.trial.record(unit, assigned, seen)
    }

    /// Requests of this window were served by something else than was published, or were not seen.
    pub fn tear(&mut self, window: i64) {
        if window >= self.next {
            self.torn.insert(window);
        } else if let Some(report) = self.waiting.get_mut(&window).filter(|report| !report.told) {
            Part::tear(&mut report.bytes);
        }
    }

    /// Nothing is measured in `window`: there is nothing to report of it, nor of those before.
    pub fn rest(&mut self, window: i64) {
        self.waiting.clear();
        self.handed.clear();
        self.next = self.next.max(window);
    }

    /// Where it stands has changed, which is heard in `window`: what was served so far in windows for which it makes a difference would have been served otherwise. Who
    /// was cut off for long hears it late: reports that were not told yet are torn, too.
    pub fn follow(&mut self, (before, after): (&Life, &Life), window: i64) {
        let first = self.waiting.first_key_value().map_or(self.next, |(window, _)| *window);
        for at in first.min(self.next).max(window.saturating_sub(KEPT_WINDOWS))..=window {
            if before.stage != after.stage || !same(allocation(before, at), allocation(after, at)) {
                self.tear(at);
            }
        }
        self.know(&after.off);
    }

    /// Takes over which variants are off, so that none of them trips again here.
    pub fn know(&mut self, off: &[SwitchOff]) {
        self.trial.know(off);
    }

    /// The record of what runs now, whose guardrails are this instance's own.
    pub const fn own(&self) -> &Trial {
        &self.trial
    }

    /// Makes reports of windows that are over, their late findings included.
    pub fn close(&mut self, spec: &ExperimentSpec, now: Time) {
        let over = spec.over(now);
        self.trial.close_before(over);
        self.report_before(over);
    }

    /// Makes a report of everything, also of the window that runs: the process serves nothing any more.
    pub fn leave(&mut self, spec: &ExperimentSpec, now: Time) {
        self.close(spec, now);
        let running = spec.window_at(now);
        // Within the burn-in the window before is still open; what runs has nothing yet.
        self.trial.close_window();
        self.report_before(running.saturating_add(1));
    }

    fn report_before(&mut self, over: i64) {
        self.handed.extend(self.trial.take_handed().into_iter().map(|part| (part.window, part)));
        let first = self.next.max(over.saturating_sub(KEPT_WINDOWS));
        self.lost += u64::try_from(first.saturating_sub(self.next)).unwrap_or(0);
        for window in first..over {
            let part = self.handed.remove(&window).unwrap_or_default();
            let part = Part { window, whole: !self.torn.contains(&window), ..part };
            self.waiting.insert(window, Waiting { bytes: part.encode(), told: false });
        }
        self.next = self.next.max(over);
        self.torn.retain(|window| *window >= over);
        self.handed.retain(|window, _| *window >= over);
        self.bound(over);
    }

    fn bound(&mut self, over: i64) {
        let bytes = |waiting: &BTreeMap<i64, Waiting>| waiting.values().map(|report| report.bytes.len()).sum::<usize>();
        while let Some((window, _)) = self.waiting.first_key_value() {
            let window = *window;
            if window >= over.saturating_sub(KEPT_WINDOWS) && bytes(&self.waiting) <= MOST_WAITING_BYTES {
                return;
            }
            let dropped = self.waiting.remove(&window);
            self.lost += u64::from(dropped.is_some_and(|report| !report.told));
        }
    }

    /// Reports that were not told yet, the earliest first.
    pub fn untold(&self) -> Vec<(i64, Vec<u8>)> {
        self.waiting.iter().filter(|(_, report)| !report.told).map(|(window, report)| (*window, report.bytes.clone())).collect()
    }

    /// A report was told; it is kept until the window is decided about.
    pub fn told(&mut self, window: i64) {
        if let Some(report) = self.waiting.get_mut(&window) {
            report.told = true;
        }
    }

    /// Windows up to this one are decided about.
    pub fn acknowledge(&mut self, closed: i64) {
        self.waiting.retain(|window, report| {
            let decided = *window <= closed;
            self.lost += u64::from(decided && !report.told);
            !decided
        });
    }

    /// Reports that wait, and how many never arrived.
    pub fn reports(&self) -> (usize, u64) {
        (self.waiting.len(), self.lost)
    }
}
