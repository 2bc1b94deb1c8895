//! A record whose windows are handed over instead of being counted, and one that takes windows which others have seen.

use farthing_types::KeyHash;

use super::Trial;
use super::units::Open;
use crate::assign::Assigned;
use crate::fleet::{Part, Sum};
use crate::guard::{GuardKind, SwitchOff};
use crate::spec::MAX_VARIANTS;

/// What was left out of a window, and calls in it without a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls without a request.
    pub calls: u64,
    /// Observations in the discarded first part.
    pub burn_in: u64,
    /// Observations of a window that was over.
    pub late: u64,
    /// Observations of units for which there was no room.
    pub overflow: u64,
    /// Observations without a price.
    pub unpriced: u64,
}

impl Counts {
    /// Adds others.
    pub const fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.burn_in += other.burn_in;
        self.late += other.late;
        self.overflow += other.overflow;
        self.unpriced += other.unpriced;
    }
}

/// A window of a whole fleet, to be taken by its record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WholeWindow {
    /// Its number.
    pub window: i64,
    /// Its units in order, each as it was drawn.
    pub units: Vec<(Sum, Assigned)>,
    /// Variants that were switched off in it: all of their units are left out.
    pub gone: [bool; MAX_VARIANTS],
    /// How many units these were.
    pub mixed: u64,
    /// What was left out by the instances.
    pub counts: Counts,
}

/// Probability that a unit is kept where those of variants that are gone are not, and of each variant for one that is: what is left comes in these shares. A comparison of
/// two variants needs no such thing, for it goes by how likely one of the two is against the other.
fn among_kept(pmf: &[f32; MAX_VARIANTS], gone: &[bool; MAX_VARIANTS]) -> (f32, [f32; MAX_VARIANTS]) {
    if !gone.contains(&true) {
        return (1.0, *pmf);
    }
    let of_kept = |variant: usize| if gone[variant] { 0.0 } else { pmf[variant] };
    let kept: f32 = (0..MAX_VARIANTS).map(of_kept).sum();
    if kept > 0.0 { (kept, std::array::from_fn(|variant| of_kept(variant) / kept)) } else { (1.0, *pmf) }
}

impl Trial {
    /// The same record, which hands its windows over and judges by its guardrails with a false-alarm probability of `alpha` each.
    #[must_use]
    pub fn handing_over(mut self, alpha: f64) -> Self {
        (self.handed, self.guard_alpha) = (Some(Vec::new()), alpha);
        self
    }

    /// Judges by its guardrails with a false-alarm probability of `alpha` each from now on.
    pub const fn guard_at(&mut self, alpha: f64) {
        self.guard_alpha = alpha;
    }

    /// Whether others count its windows.
    pub(crate) const fn hands_over(&self) -> bool {
        self.handed.is_some()
    }

    /// Windows that were closed since the last time.
    pub fn take_handed(&mut self) -> Vec<Part> {
        self.handed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the window went to whoever counts it; what is known of its units is forgotten then.
    pub(super) fn hand_over(&mut self, open: &[(KeyHash, Open)]) -> bool {
        let Some(handed) = &mut self.handed else { return false };
        let dropped = std::mem::take(&mut self.dropped);
        let counts = Counts {
            calls: std::mem::take(&mut self.calls),
            burn_in: dropped.burn_in,
            late: dropped.late,
            overflow: dropped.overflow,
            unpriced: dropped.unpriced,
        };
        let sums = open.iter().map(|(unit, open)| Sum {
            unit: *unit,
            variant: open.variant,
            mixed: open.mixed,
            requests: open.requests,
            errors: open.errors,
            late: open.late,
            bill: open.bill,
            stale: open.stale,
            stale_usd: open.stale_usd,
            waiting: open.waiting,
        });
        handed.push(Part { window: self.window, whole: true, counts, sums: sums.collect() });
        self.units.retain(|_, unit| unit.open.is_some() || unit.watched.is_some());
        true
    }

    /// Takes a window that a fleet has seen as a whole, as if its requests had come here, and closes it. Windows come in order: one that is not later than the
    /// last is not taken. Guardrails take each unit-window once, when it is over.
    pub fn take_window(&mut self, whole: WholeWindow) {
        if whole.window <= self.window {
            return;
        }
        self.close_window();
        self.window = whole.window;
        // Windows in between were left out; one in which nobody asked was watched as well.
        self.whole_from = whole.window;
        self.count_watched(whole.window);
        self.calls += whole.counts.calls;
        let dropped = &mut self.dropped;
        dropped.burn_in += whole.counts.burn_in;
        dropped.late += whole.counts.late;
        dropped.overflow += whole.counts.overflow;
        dropped.unpriced += whole.counts.unpriced;
        dropped.mixed += whole.mixed;
        for (sum, assigned) in &whole.units {
            self.take_unit(sum, assigned, &whole.gone);
        }
        self.close_window();
    }

    fn take_unit(&mut self, sum: &Sum, assigned: &Assigned, gone: &[bool; MAX_VARIANTS]) {
        if !self.has_room(sum.unit) {
            self.dropped.overflow += sum.observations();
            return;
        }
        self.open = true;
        let (kept, shares) = among_kept(&assigned.pmf, gone);
        let open = Open {
            inclusion: assigned.inclusion * f64::from(kept),
            bill: sum.bill,
            stale: sum.stale,
            stale_usd: sum.stale_usd,
            waiting: sum.waiting,
            requests: sum.requests,
            errors: sum.errors,
            late: sum.late,
            ..Open::new(assigned)
        };
        if open.is_asked() {
            self.ratio.add(assigned.variant, &shares);
            let share = |count: u32| (f64::from(count) / f64::from(sum.requests)).min(1.0);
            let of = (assigned.variant, &assigned.pmf);
            self.guard(GuardKind::Errors, of, share(sum.errors));
            self.guard(GuardKind::Latency, of, share(sum.late));
        }
        self.units.entry(sum.unit).or_default().open = Some(open);
    }

    /// Unit-windows in the evidence.
    pub fn unit_windows(&self) -> u64 {
        self.totals.iter().map(|totals| totals.unit_windows).sum()
    }

    /// Takes over what `off` says, for a record that goes on.
    pub fn know(&mut self, off: &[SwitchOff]) {
        for switched in off {
            if let Some(place) = self.off.get_mut(switched.variant) {
                place.get_or_insert(*switched);
            }
        }
    }
}
