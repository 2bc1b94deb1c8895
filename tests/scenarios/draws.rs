//! Seeded draws for scripts.

use farthing_types::Span;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Draws of one script.
pub struct Draws(StdRng);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    /// From 0 on, below 1.
    pub fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random_bool(p)
    }

    /// Time until the next of events that come by chance, so many a second on average.
    pub fn until_next(&mut self, per_second: f64) -> Span {
        Span::from_secs_f64(-(1.0 - self.0.random::<f64>()).ln() / per_second)
    }

    /// A rank below `n` by Zipf's law with exponent `s` (by inverting its continuous form).
    pub fn zipf(&mut self, n: u64, s: f64) -> u64 {
        let (u, end) = (self.0.random::<f64>(), n as f64 + 1.0);
        let rank = if (s - 1.0).abs() < 1e-9 { end.powf(u) } else { (u * (end.powf(1.0 - s) - 1.0) + 1.0).powf(1.0 / (1.0 - s)) };
        (rank as u64).clamp(1, n) - 1
    }
}

/// What a provider takes for a call: of the call alone, so that two runs meet the same one.
pub fn latency(text: &str, from_ms: u64, to_ms: u64) -> Span {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    Span::from_millis(from_ms + (hash >> 20) % (to_ms - from_ms))
}
