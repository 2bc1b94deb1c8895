//! When it is told that a period will cost more than it may.

use super::forecast::Forecast;

/// Probability of an overrun from which it is likely.
const LIKELY: f64 = 0.98;

/// Whether a period is bound to cost more than it may, as far as the hours that are over tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrun {
    /// The period, the limit that counts in it, and the hour since which an overrun has been likely in each hour.
    since: Option<(i64, u64, i64)>,
}

impl Overrun {
    /// Hours in a row for which it must be likely: a forecast is asked each hour, and of many answers some are wrong by chance or by a day that was out of the
    /// usual.
    pub const HOURS: i64 = 48;

    /// Takes what is foretold after `hour` (since 1970) of the period that ends at `until`, of which no more than `limit` dollars may be spent. The
    /// probability of an overrun, where that is to be told: it has been likely for two days, or is a fact.
    pub fn hour(&mut self, (hour, until): (i64, i64), told: &Forecast, limit: f64) -> Option<f64> {
        if told.so_far > limit {
            return Some(1.0);
        }
        let over = told.over(limit);
        if over < LIKELY {
            self.since = None;
            return None;
        }
        let same = self.since.filter(|(of, under, _)| (*of, *under) == (until, limit.to_bits()));
        let (_, _, since) = *self.since.insert(same.unwrap_or((until, limit.to_bits(), hour)));
        (hour - since >= Self::HOURS - 1).then_some(over)
    }
}

#[cfg(test)]
mod tests {
    use super::super::forecast::forecast;
    use super::super::history::{History, Hour};
    use super::super::random::Random;
    use super::super::simulate::{DAYS, Incident, START, run};
    use super::*;

    /// Days of a period.
    const PERIOD: usize = 30;

    /// What became of budgets that were watched.
    #[derive(Debug, Default)]
    struct Judged {
        periods: u32,
        exceeded: u32,
        /// Periods that were foretold to be exceeded.
        told: u32,
        /// Of these, such as were not.
        wrong: u32,
        /// Of the right ones, how many days before the limit was reached.
        days_ahead: f64,
    }

    impl Judged {
        fn share_wrong(&self) -> f64 {
            f64::from(self.wrong) / f64::from(self.told.max(1))
        }

        fn share_found(&self) -> f64 {
            f64::from(self.told - self.wrong) / f64::from(self.exceeded.max(1))
        }
    }

    /// The first hours of a period at which overruns of these limits are told, when it is asked each hour.
    fn told_at(hours: &[Hour], (from, to): (usize, usize), limits: [f64; 3]) -> [Option<usize>; 3] {
        let mut history = History::new(START);
        hours[..from].iter().for_each(|hour| history.push(*hour));
        let (mut overruns, mut told, mut so_far) = ([Overrun::default(); 3], [None; 3], 0.0);
        for (at, spent) in hours.iter().enumerate().take(to).skip(from) {
            history.push(*spent);
            so_far += spent.usd;
            let (hour, until) = (START + at as i64, START + to as i64);
            // What is a fact by then foretells nothing.
            let open = |nth: usize, told: &[Option<usize>; 3]| told[nth].is_none() && so_far <= limits[nth];
            if !(0..3).any(|nth| open(nth, &told)) {
                break;
            }
            let Some(foretold) = forecast(&history, so_far, until, hour as u64 + 1) else { continue };
            for nth in 0..3 {
                if open(nth, &told) && overruns[nth].hour((hour, until), &foretold, limits[nth]).is_some() {
                    told[nth] = Some(at);
                }
            }
        }
        told
    }

    /// Budgets of tenants over so many periods; every third tenant has an incident in them. Operators allow 0.85 to 1.5 of what the period before has cost.
    fn judged(tenants: std::ops::Range<u64>, periods: usize) -> Judged {
        let mut judged = Judged::default();
        let sum = |hours: &[Hour]| hours.iter().map(|hour| hour.usd).sum::<f64>();
        for seed in tenants {
            let mut random = Random::new(seed * 131 + 7);
            let incident = Incident::ALL[random.below(Incident::ALL.len())];
            let begins = START + 24 * (PERIOD + random.below(80)) as i64 + random.below(24) as i64;
            let hours = run(seed, (random.uniform() < 0.33).then_some((incident, begins)));
            for from in (PERIOD * 24..DAYS as usize * 24).step_by(PERIOD * 24).take(periods) {
                let (to, before) = (from + PERIOD * 24, sum(&hours[from - PERIOD * 24..from]));
                let limits = [(0.85, 1.0), (1.0, 1.2), (1.2, 1.5)].map(|(low, high)| before * (low + (high - low) * random.uniform()));
                for (at, limit) in told_at(&hours, (from, to), limits).into_iter().zip(limits) {
                    let exceeded = sum(&hours[from..to]) > limit;
                    (judged.periods, judged.exceeded) = (judged.periods + 1, judged.exceeded + u32::from(exceeded));
                    let Some(at) = at else { continue };
                    (judged.told, judged.wrong) = (judged.told + 1, judged.wrong + u32::from(!exceeded));
                    if exceeded {
                        let reached = (at..to).find(|hour| sum(&hours[from..=*hour]) > limit).unwrap_or(to);
                        judged.days_ahead += (reached - at) as f64 / 24.0;
                    }
                }
            }
        }
        judged
    }

    #[test]
    fn it_is_told_after_two_days_or_as_a_fact() {
        let likely = |so_far: f64| Forecast::of(vec![90.0, 110.0, 120.0], so_far);
        let mut overrun = Overrun::default();
        assert_eq!(overrun.hour((0, 720), &likely(5.0), 100.0), None, "two of three are not enough");
        assert_eq!((0..47).find_map(|hour| overrun.hour((hour, 720), &likely(5.0), 80.0)), None);
        assert_eq!(overrun.hour((47, 720), &likely(5.0), 80.0), Some(1.0), "for two days");
        assert_eq!(overrun.hour((48, 720), &likely(5.0), 79.0), None, "another limit");
        assert_eq!(overrun.hour((720, 1_440), &likely(5.0), 79.0), None, "another period");
        assert_eq!(overrun.hour((721, 1_440), &likely(80.0), 79.0), Some(1.0), "it is so already");
        let mut broken = Overrun::default();
        assert_eq!((0..40).find_map(|hour| broken.hour((hour, 720), &likely(5.0), 80.0)), None);
        assert_eq!(broken.hour((40, 720), &likely(5.0), 100.0), None, "not likely for an hour");
        assert_eq!((41..88).find_map(|hour| broken.hour((hour, 720), &likely(5.0), 80.0)), None);
        assert_eq!(broken.hour((88, 720), &likely(5.0), 80.0), Some(1.0));
    }

    #[test]
    fn few_predicted_overruns_do_not_come() {
        let judged = judged(0..4, 1);
        assert!(judged.told >= 3 && judged.wrong == 0 && judged.share_found() >= 0.5, "{judged:?}");
    }

    /// `make simulate`: K9, the figures of docs/alerts.md and of `make kpi`.
    #[test]
    #[ignore = "minutes"]
    fn predicted_overruns_of_many_months() {
        let mut worst: f64 = 0.0;
        for tenants in [0..100, 1_000..1_100, 2_000..2_100] {
            let judged = judged(tenants, 3);
            let (wrong, found) = (judged.share_wrong(), judged.share_found());
            println!(
                "{judged:?}: {:.1} % of what was foretold did not come; {:.0} % of overruns were foretold, {:.1} days ahead in the mean",
                wrong * 100.0,
                found * 100.0,
                judged.days_ahead / f64::from((judged.told - judged.wrong).max(1))
            );
            worst = worst.max(wrong);
            assert!(wrong < 0.05 && found > 0.7, "{judged:?}");
        }
        let results = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/results");
        std::fs::create_dir_all(&results).unwrap();
        std::fs::write(results.join("alerts.json"), format!("{{\"predicted_overruns_false_share\": {worst}}}\n")).unwrap();
    }
}
