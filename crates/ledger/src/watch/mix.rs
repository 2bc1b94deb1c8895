//! What a change is made of: more calls, dearer calls, or another mix of targets.

use std::sync::Arc;

/// Targets that are told apart in a series; the others are one.
const MOST: usize = 8;
/// Factors by which an hour's sums fade, for what is usual (half in ten days) and for what is now (half in six hours).
const USUAL: f64 = 0.997_115;
const NOW: f64 = 0.890_899;

#[derive(Clone, Copy, Debug, Default)]
struct Faded {
    calls: f64,
    usd: f64,
}

impl Faded {
    fn add(&mut self, fade: f64, (calls, usd): (f64, f64)) {
        *self = Self { calls: self.calls * fade + calls, usd: self.usd * fade + usd };
    }
    fn unit(&self) -> Option<f64> {
        (self.calls > 1e-3).then(|| self.usd / self.calls)
    }
}

/// A target with what is usual and what is now.
type Target = (Option<Arc<str>>, Faded, Faded);

/// Calls and money by target, as usual and as now.
#[derive(Clone, Debug, Default)]
pub(super) struct Mix {
    targets: Vec<Target>,
}

/// An excess by its reasons, dollars; they sum to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// Because there were more calls.
    pub calls: f64,
    /// Because calls of the same target cost more.
    pub unit: f64,
    /// Because dearer targets were called.
    pub mix: f64,
    /// Targets by what each adds, dollars, most first.
    pub targets: Vec<(Arc<str>, f64)>,
}

impl Mix {
    /// Bytes that one takes, beside names.
    pub(super) const BYTES: usize = MOST * 64;

    /// Takes what an hour had of each target.
    pub(super) fn hour<'a>(&mut self, rows: impl Iterator<Item = (Option<&'a Arc<str>>, f64, f64)>) {
        for (_, usual, now) in &mut self.targets {
            usual.add(USUAL, (0.0, 0.0));
            now.add(NOW, (0.0, 0.0));
        }
        for (target, calls, usd) in rows {
            let known = self.targets.iter().position(|(known, ..)| known.as_ref() == target);
            let at = known.unwrap_or_else(|| self.place(target));
            if let Some((_, usual, now)) = self.targets.get_mut(at) {
                usual.add(1.0, (calls, usd));
                now.add(1.0, (calls, usd));
            }
        }
    }

    /// A place for a new target: the last one is for all that have none of their own.
    fn place(&mut self, target: Option<&Arc<str>>) -> usize {
        if self.targets.len() < MOST - 1 {
            self.targets.push((target.cloned(), Faded::default(), Faded::default()));
        } else if self.targets.len() < MOST {
            self.targets.push((Some("(others)".into()), Faded::default(), Faded::default()));
        }
        self.targets.len() - 1
    }

    /// Splits an excess: so many calls instead of the usual number, so many dollars more.
    pub(super) fn split(&self, (calls, usual_calls): (f64, f64), excess: f64) -> Split {
        let sum = |of: fn(&Target) -> f64| self.targets.iter().map(of).sum::<f64>().max(1e-9);
        let (all_usual, all_now) = (sum(|(_, usual, _)| usual.calls), sum(|(.., now)| now.calls));
        let usual_unit = sum(|(_, usual, _)| usual.usd) / all_usual;
        let mut split = Split { calls: (calls - usual_calls) * usual_unit, ..Split::default() };
        for (target, usual, now) in &self.targets {
            let (share, usual_share) = (now.calls / all_now, usual.calls / all_usual);
            // What was never called before cannot have become dearer.
            let (Some(unit), before) = (now.unit().or_else(|| usual.unit()), usual.unit()) else { continue };
            let before = before.unwrap_or(unit);
            split.unit += calls * share * (unit - before);
            split.mix += calls * (share - usual_share) * before;
            let added = calls * share * unit - usual_calls * usual_share * before;
            split.targets.push((target.clone().unwrap_or_else(|| "(no target)".into()), added));
        }
        // Usual hours differ from the mean hour: the reasons keep their proportions and sum to the excess.
        let told = split.calls + split.unit + split.mix;
        if told.abs() > 1e-12 {
            let scale = excess / told;
            (split.calls, split.unit, split.mix) = (split.calls * scale, split.unit * scale, split.mix * scale);
            split.targets.iter_mut().for_each(|(_, usd)| *usd *= scale);
        }
        split.targets.retain(|(_, usd)| *usd > 0.0);
        split.targets.sort_by(|a, b| b.1.total_cmp(&a.1));
        split.targets.truncate(3);
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Mix {
        let (small, big): (Arc<str>, Arc<str>) = ("small".into(), "big".into());
        let mut mix = Mix::default();
        (0..2_000).for_each(|_| mix.hour([(Some(&small), 90.0, 0.9), (Some(&big), 10.0, 1.0)].into_iter()));
        mix
    }

    fn now(hour: &[(&str, f64, f64)]) -> Mix {
        let mut mix = usual();
        let names: Vec<Arc<str>> = hour.iter().map(|(name, ..)| Arc::from(*name)).collect();
        (0..12).for_each(|_| mix.hour(names.iter().zip(hour).map(|(name, (_, calls, usd))| (Some(name), *calls, *usd))));
        mix
    }

    #[test]
    fn more_calls_dearer_calls_and_another_mix_are_told_apart() {
        let main = |split: &Split| {
            let mut parts = [("calls", split.calls), ("unit", split.unit), ("mix", split.mix)];
            parts.sort_by(|a, b| b.1.total_cmp(&a.1));
            parts[0].0
        };
        let more = now(&[("small", 450.0, 4.5), ("big", 50.0, 5.0)]).split((500.0, 100.0), 7.6);
        assert_eq!((main(&more), more.targets[0].0.as_ref()), ("calls", "big"));
        assert!((more.calls - 7.6).abs() < 0.3 && (more.calls + more.unit + more.mix - 7.6).abs() < 1e-9, "{more:?}");
        let dearer = now(&[("small", 90.0, 3.6), ("big", 10.0, 1.0)]).split((100.0, 100.0), 2.7);
        assert_eq!((main(&dearer), dearer.targets[0].0.as_ref()), ("unit", "small"));
        let other = now(&[("small", 10.0, 0.1), ("big", 90.0, 9.0)]).split((100.0, 100.0), 7.2);
        assert_eq!((main(&other), other.targets[0].0.as_ref()), ("mix", "big"));
        let new = now(&[("small", 90.0, 0.9), ("new", 10.0, 10.0)]).split((100.0, 100.0), 9.0);
        assert_eq!((main(&new), new.targets[0].0.as_ref()), ("mix", "new"));
    }

    #[test]
    fn many_targets_share_a_place() {
        let names: Vec<Arc<str>> = (0..50).map(|n| Arc::from(format!("t{n}"))).collect();
        let mut mix = Mix::default();
        (0..3).for_each(|_| mix.hour(names.iter().map(|name| (Some(name), 1.0, 1.0))));
        assert_eq!(mix.targets.len(), MOST);
        assert_eq!(mix.targets.last().unwrap().0.as_deref(), Some("(others)"));
    }
}
