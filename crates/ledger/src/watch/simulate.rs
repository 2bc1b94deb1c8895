//! Simulated tenants and their incidents, for the acceptance of the watch (issue acceptance 5).

use super::history::Hour;
use super::random::Random;

/// Days of a simulation.
pub const DAYS: i64 = 120;
/// A Monday, in hours since 1970.
pub const START: i64 = 24 * 20_458;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// Calls are repeated: five times as many.
    RetryLoop,
    /// Prompts grow: a call costs 40 % more each week.
    PromptGrowth,
    /// A dearer target answers: a call costs four times as much.
    ModelSwitch,
    /// Somebody else uses the key: twenty times as many calls.
    KeyLeak,
    /// Three percent more each day.
    Creep,
}

impl Incident {
    pub const ALL: [Self; 5] = [Self::RetryLoop, Self::PromptGrowth, Self::ModelSwitch, Self::KeyLeak, Self::Creep];

    pub const fn is_sudden(self) -> bool {
        matches!(self, Self::RetryLoop | Self::ModelSwitch | Self::KeyLeak)
    }

    /// Factors on calls and on the cost of a call, so many hours after it began.
    fn factors(self, hours: i64) -> (f64, f64) {
        let days = hours as f64 / 24.0;
        match self {
            Self::RetryLoop => (5.0, 1.0),
            Self::PromptGrowth => (1.0, 1.4_f64.powf(days / 7.0)),
            Self::ModelSwitch => (1.0, 4.0),
            Self::KeyLeak => (20.0, 1.0),
            Self::Creep => (1.03_f64.powf(days), 1.0),
        }
    }

    /// Hours until somebody puts an end to it.
    pub const fn lasts(self) -> i64 {
        if self.is_sudden() { 72 } else { 21 * 24 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Business,
    Consumer,
    Batch,
}

/// A tenant's series: shape of the week, growth, noise.
pub struct Tenant {
    random: Random,
    shape: Shape,
    calls: f64,
    unit: f64,
    growth: f64,
    hour_noise: f64,
    day_noise: f64,
    unit_noise: f64,
    holidays: Vec<i64>,
    ar: f64,
    day: f64,
    unit_day: f64,
    burst: i64,
}

impl Tenant {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let shape = match random.uniform() {
            ..0.6 => Shape::Business,
            0.6..0.85 => Shape::Consumer,
            _ => Shape::Batch,
        };
        let between = |random: &mut Random, low: f64, high: f64| low + (high - low) * random.uniform();
        // Five holidays in 120 days, two of them in a row.
        let first = 20 + random.below(20) as i64;
        let pair = 60 + random.below(20) as i64;
        let holidays = vec![first, first + 19, pair, pair + 1, pair + 30];
        Self {
            shape,
            calls: 300.0 * between(&mut random, -1.5, 2.5).exp(),
            unit: 0.01 * between(&mut random, -1.5, 1.5).exp(),
            growth: between(&mut random, -0.001, 0.002),
            hour_noise: between(&mut random, 0.08, 0.20),
            day_noise: between(&mut random, 0.03, 0.07),
            unit_noise: between(&mut random, 0.02, 0.06),
            holidays,
            ar: 0.0,
            day: 0.0,
            unit_day: 0.0,
            burst: -1,
            random,
        }
    }

    pub fn is_holiday(&self, hour: i64) -> bool {
        self.holidays.contains(&((hour - START).div_euclid(24)))
    }

    /// The next hour; `incident` with the hour at which it begins.
    pub fn hour(&mut self, hour: i64, incident: Option<(Incident, i64)>) -> Hour {
        if hour.rem_euclid(24) == 0 {
            self.day = self.day_noise * self.random.normal();
            self.unit_day = 0.7 * self.unit_day + self.unit_noise * 0.5 * self.random.normal();
        }
        self.ar = 0.6 * self.ar + self.hour_noise * 0.8 * self.random.normal();
        // Now and then an hour of twice the traffic: a newsletter, a crawler.
        if self.random.uniform() < 1.0 / (40.0 * 24.0) {
            self.burst = hour;
        }
        let burst = if self.burst == hour { 2.0 } else { 1.0 };
        let trend = (self.growth * (hour - START) as f64 / 24.0).exp();
        let (more, dearer) = match incident {
            Some((incident, from)) if hour >= from && hour < from + incident.lasts() => incident.factors(hour - from),
            _ => (1.0, 1.0),
        };
        let mean = self.calls * self.usual(hour) * trend * burst * (self.ar + self.day).exp() * more;
        let calls = (mean + mean.sqrt() * self.random.normal()).round().max(0.0);
        // Calls cost log-normally (sigma 1): their mean over an hour wavers with the root of their count.
        let chance = 1.31 / calls.max(1.0).sqrt() * self.random.normal();
        let unit = self.unit * dearer * (self.unit_day + self.unit_noise * self.random.normal()).exp() * (1.0 + chance).max(0.1);
        Hour { calls, usd: calls * unit }
    }

    fn usual(&self, hour: i64) -> f64 {
        let (day, at) = ((hour - START).div_euclid(24).rem_euclid(7), hour.rem_euclid(24) as f64);
        let free = day >= 5 || self.is_holiday(hour);
        let wave = |peak: f64, width: f64| (-((at - peak) / width).powi(2)).exp();
        match (self.shape, free) {
            (Shape::Business, false) => 0.15 + wave(11.0, 4.0) + 0.8 * wave(16.0, 3.0),
            (Shape::Business, true) => 0.12 + 0.15 * wave(13.0, 5.0),
            (Shape::Consumer, false) => 0.25 + 0.5 * wave(13.0, 4.0) + wave(20.0, 3.0),
            (Shape::Consumer, true) => 0.3 + 0.8 * wave(14.0, 5.0) + 1.2 * wave(20.0, 3.5),
            (Shape::Batch, _) => 0.3 + 3.0 * wave(3.0, 1.2),
        }
    }
}

/// Everything of one tenant, hour by hour.
pub fn run(seed: u64, incident: Option<(Incident, i64)>) -> Vec<Hour> {
    let mut tenant = Tenant::new(seed);
    (START..START + DAYS * 24).map(|hour| tenant.hour(hour, incident)).collect()
}
