//! How long one decision takes, measured here on the trees in Rust. Through ONNX Runtime the proxy's bench measures it (`make bench`).

use farthing_types::{Clock, RealClock};

use super::Size;
use crate::trees::Ensemble;

/// Decisions timed in one round.
const TIMED: usize = 1_000;
/// Rounds; the quietest counts, for the bound is meant for an idle core and a fit seldom has one.
const ROUNDS: usize = 8;

/// Times `decide` on numbers from 0 on: median and 99th percentile, microseconds.
pub fn timed(mut decide: impl FnMut(usize)) -> (f64, f64) {
    let clock = RealClock::default();
    (0..TIMED).for_each(&mut decide);
    let mut round = || {
        let mut spans: Vec<f64> = (0..TIMED)
            .map(|n| {
                let start = clock.now();
                decide(n);
                clock.now().since(start).as_secs_f64() * 1e6
            })
            .collect();
        spans.sort_by(f64::total_cmp);
        (spans[TIMED / 2], spans[TIMED * 99 / 100])
    };
    let first = round();
    (1..ROUNDS).map(|_| round()).fold(first, |best, this| if this.1 < best.1 { this } else { best })
}

impl Size {
    /// Of an ensemble; `features` fills row `n` as the proxy does before it asks.
    pub fn of(ensemble: &Ensemble, mut features: impl FnMut(usize, &mut [f32])) -> Self {
        let (mut row, mut out) = (vec![0.0; ensemble.features], vec![0.0; ensemble.outputs()]);
        let (p50_us, p99_us) = timed(|n| {
            features(n, &mut row);
            ensemble.eval(&row, &mut out);
            std::hint::black_box(&mut out);
        });
        let questions = ensemble.trees.iter().map(crate::trees::Tree::depth).sum();
        Self { trees: Some(ensemble.trees.len()), questions: Some(questions), p50_us, p99_us }
    }
}
