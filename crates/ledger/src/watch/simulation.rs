//! The acceptance of the watch on simulated tenants: false alarms, time to find, and how two usual detectors do on the same hours.

use super::forecast::forecast;
use super::history::{History, Hour};
use super::random::Random;
use super::series::{Change, Series};
use super::simulate::{DAYS, Incident, START, run};

/// Smallest excess that counts, dollars.
const FLOOR: f64 = 1.0;
/// Days before detectors speak: they learn for so long.
const LEARNING: i64 = 14;

/// Something that speaks when an hour is unusual.
trait Detector {
    fn new() -> Self;
    fn hour(&mut self, hour: Hour) -> bool;
}

impl Detector for Series {
    fn new() -> Self {
        Series::new(START)
    }
    fn hour(&mut self, hour: Hour) -> bool {
        !self.push(hour, FLOOR).is_empty()
    }
}

/// Three times the mean hour of the first four weeks; not again within a day.
struct Threshold {
    hours: i64,
    sum: f64,
    quiet_until: i64,
}

impl Detector for Threshold {
    fn new() -> Self {
        Self { hours: 0, sum: 0.0, quiet_until: 28 * 24 }
    }
    fn hour(&mut self, hour: Hour) -> bool {
        self.hours += 1;
        if self.hours <= 28 * 24 {
            self.sum += hour.usd;
        }
        let speaks = self.hours > self.quiet_until && hour.usd > 3.0 * self.sum / (28.0 * 24.0);
        if speaks {
            self.quiet_until = self.hours + 24;
        }
        speaks
    }
}

/// An exponentially weighted mean and three standard deviations; not again within a day.
struct Ewma {
    hours: i64,
    mean: f64,
    variance: f64,
    quiet_until: i64,
}

impl Detector for Ewma {
    fn new() -> Self {
        Self { hours: 0, mean: 0.0, variance: 0.0, quiet_until: LEARNING * 24 }
    }
    fn hour(&mut self, hour: Hour) -> bool {
        self.hours += 1;
        let apart = hour.usd - self.mean;
        let speaks = self.hours > self.quiet_until && apart > 3.0 * self.variance.sqrt();
        if speaks {
            self.quiet_until = self.hours + 24;
        }
        (self.mean, self.variance) = (self.mean + 0.1 * apart, 0.9 * (self.variance + 0.1 * apart * apart));
        speaks
    }
}

/// False alarms for a series and 90 days, and the most of one series.
fn false_alarms<D: Detector>(tenants: std::ops::Range<u64>) -> (f64, usize) {
    let of = |seed: u64| {
        let mut detector = D::new();
        run(seed, None).into_iter().filter(|hour| detector.hour(*hour)).count()
    };
    let counts: Vec<usize> = tenants.map(of).collect();
    let days = counts.len() as f64 * (DAYS - LEARNING) as f64;
    (counts.iter().sum::<usize>() as f64 / days * 90.0, counts.into_iter().max().unwrap_or(0))
}

/// Hours until it was found, ascending; infinite where it was not while it lasted.
fn hours_to_find<D: Detector>(tenants: std::ops::Range<u64>, incident: Incident) -> Vec<f64> {
    let of = |seed: u64| {
        let mut random = Random::new(seed * 77 + incident as u64);
        let from = 24 * (60 + random.below(35) as i64) + random.below(24) as i64;
        let mut detector = D::new();
        let hours = run(seed, Some((incident, START + from)));
        let told = hours.into_iter().enumerate().filter(|(_, hour)| detector.hour(*hour)).map(|(index, _)| index as i64);
        told.filter(|at| (from..from + incident.lasts()).contains(at)).map(|at| (at - from + 1) as f64).next().unwrap_or(f64::INFINITY)
    };
    let mut hours: Vec<f64> = tenants.map(of).collect();
    hours.sort_by(f64::total_cmp);
    hours
}

fn middle(sorted: &[f64]) -> f64 {
    sorted[(sorted.len() - 1) / 2]
}

fn told<D: Detector>(name: &str, tenants: std::ops::Range<u64>) {
    let (rate, most) = false_alarms::<D>(tenants.clone());
    println!("{name}: {rate:.2} false alarms per series and 90 days, at most {most} of one series in {DAYS} days");
    for incident in Incident::ALL {
        let hours = hours_to_find::<D>(tenants.clone(), incident);
        let missed = hours.iter().filter(|hours| hours.is_infinite()).count();
        let slow = hours[(hours.len() - 1) * 9 / 10];
        println!(
            "  {incident:?}: median {} h ({:.1} days), 90 % within {slow} h, {missed} of {} missed",
            middle(&hours),
            middle(&hours) / 24.0,
            hours.len()
        );
    }
}

fn holds(tenants: std::ops::Range<u64>) {
    let (rate, _) = false_alarms::<Series>(tenants.clone());
    assert!(rate <= 1.0, "{rate} false alarms per series and 90 days");
    for incident in Incident::ALL {
        let hours = middle(&hours_to_find::<Series>(tenants.clone(), incident));
        let bar = if incident.is_sudden() { 2.0 } else { 7.0 * 24.0 };
        assert!(hours <= bar, "{incident:?}: {hours} h in the median");
    }
}

#[test]
fn a_few_tenants_with_incidents() {
    holds(0..5);
}

/// `make simulate`: the figures of docs/alerts.md.
#[test]
#[ignore = "a minute"]
fn fifty_tenants_with_incidents() {
    for tenants in [0..50, 1_000..1_050, 2_000..2_050] {
        println!("tenants {tenants:?}");
        told::<Series>("watch", tenants.clone());
        told::<Threshold>("three times the mean", tenants.clone());
        told::<Ewma>("EWMA and 3 sigma", tenants.clone());
        holds(tenants);
    }
}

#[test]
fn holidays_and_weekends_do_not_alarm() {
    // Tenants of every shape without noise of their own to confuse it: what speaks on or right after a free day speaks because of it.
    let (mut near, mut hours_near, mut all, mut hours) = (0, 0, 0, 0);
    for seed in 0..12 {
        let tenant = super::simulate::Tenant::new(seed);
        let mut series = Series::new(START);
        for (at, hour) in (START..).zip(run(seed, None)) {
            let free = (0..2).any(|back| tenant.is_holiday(at - 24 * back));
            let spoke = series
                .push(hour, FLOOR)
                .iter()
                .filter(|found| matches!(found.change, Change::SpendSuddenly | Change::UnitSuddenly))
                .count();
            (near, all) = (near + if free { spoke } else { 0 }, all + spoke);
            (hours_near, hours) = (hours_near + i64::from(free), hours + 1);
        }
    }
    println!("{near} of {all} sudden alarms within a day of a holiday, {hours_near} of {hours} hours are");
    assert!(near <= 1, "{near} in {hours_near} hours");
}

struct Judged {
    inside: f64,
    ours: f64,
    naive: f64,
}

/// The 80 % interval's coverage, and pinball losses at 0.1, 0.5 and 0.9 beside the run rate's, relative to the total.
fn forecasts(tenants: std::ops::Range<u64>) -> Judged {
    let (mut inside, mut ours, mut naive, mut count) = (0.0, 0.0, 0.0, 0.0);
    let sum = |hours: &[Hour]| hours.iter().map(|hour| hour.usd).sum::<f64>();
    for seed in tenants {
        let hours = run(seed, None);
        for (month, day) in [30, 60, 90].into_iter().flat_map(|month| [5usize, 10, 15, 20, 25].map(|day| (month, day))) {
            let (from, at, to) = (month * 24, (month + day) * 24, (month + 30) * 24);
            let mut history = History::new(START);
            hours[..at].iter().for_each(|hour| history.push(*hour));
            let (total, so_far) = (sum(&hours[from..to]), sum(&hours[from..at]));
            let told = forecast(&history, so_far, START + to as i64, seed).unwrap();
            let run_rate = so_far / day as f64 * 30.0;
            let loss = |q: f64, said: f64| if total >= said { q * (total - said) } else { (1.0 - q) * (said - total) };
            for q in [0.1, 0.5, 0.9] {
                ours += loss(q, told.quantile(q)) / total;
                naive += loss(q, run_rate) / total;
            }
            inside += f64::from(u8::from((told.quantile(0.1)..=told.quantile(0.9)).contains(&total)));
            count += 1.0;
        }
    }
    Judged { inside: inside / count, ours: ours / count, naive: naive / count }
}

#[test]
fn a_few_forecasts() {
    let judged = forecasts(0..8);
    assert!(
        (0.7..=0.9).contains(&judged.inside) && judged.ours < 0.85 * judged.naive,
        "{} {} {}",
        judged.inside,
        judged.ours,
        judged.naive
    );
}

/// `make simulate`.
#[test]
#[ignore = "a minute"]
fn forecasts_of_many_months() {
    for tenants in [0..100, 1_000..1_100, 2_000..2_100] {
        let Judged { inside, ours, naive } = forecasts(tenants);
        println!(
            "80 % interval covers {:.1} %; pinball {ours:.4} against {naive:.4} of the run rate: {:.0} % less",
            inside * 100.0,
            100.0 * (1.0 - ours / naive)
        );
        assert!((0.75..=0.85).contains(&inside) && ours <= 0.85 * naive);
    }
}
