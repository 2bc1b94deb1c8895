//! Prefetch: what it earns, loses and wastes in generated worlds and on real sessions.

use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, PrefetchSource, Tariff};
use farthing_replay::prefetch::{Books, SessionWorld, Sessions, WorldShape};
use farthing_types::{Money, Span};
use serde::Serialize;

use super::section::{Bar, Found, Ground, Measured, Section};
use crate::error::TrainError;
use crate::learn::Setting;
use crate::predictor::Trees;
use crate::prefetch::{TRAIN_SHARE, judge, learn};
use crate::read::read_session_trace;

/// See the module.
pub struct Prefetch;

/// Price of a call, everywhere.
const PRICE: Money = Money::from_nanos(1_000_000);
/// What a client's wait is worth on the real traces, in thousandths of a call: a prefetch then pays above a probability of 0.43.
const WAIT_MILLI: i64 = 1_300;
/// The same for the aim: above 0.65.
const WAIT_AIM_MILLI: i64 = 540;
/// Lifetime on the real traces; the horizon is half of it.
const TTL: Span = Span::from_secs(60);
const HORIZON: Span = Span::from_secs(30);

#[derive(Clone, Debug, Serialize)]
struct Run {
    on: String,
    terms: &'static str,
    by: &'static str,
    requests: u64,
    base_calls: u64,
    prefetches: u64,
    precision: f64,
    misses_removed: f64,
    more_calls: f64,
    fewer_billed: f64,
    net_calls: f64,
    calibration: f64,
}

fn terms() -> [(&'static str, PrefetchParams); 4] {
    let base = PrefetchParams::default();
    [
        ("money only", base),
        ("wait worth a call", PrefetchParams { latency: PRICE, ..base }),
        ("half price", PrefetchParams { tariff: Tariff::Share(0.5), ..base }),
        ("batch of 10", PrefetchParams { tariff: Tariff::Batch(10), ..base }),
    ]
}

fn world(shape: WorldShape) -> SessionWorld {
    SessionWorld {
        seed: 0,
        start_s: 1_767_225_600,
        duration_s: 21_600.0,
        sessions_per_s: 0.05,
        requests: 14.0,
        think_s: 2.0,
        price: PRICE,
        ttl_s: 60.0,
        shape,
    }
}

fn worlds() -> [(&'static str, SessionWorld); 3] {
    [
        ("structured", world(WorldShape::Structured { lists: 400, details: 9, opened: 0.9 })),
        ("random", world(WorldShape::Random { keys: 500 })),
        ("popular", world(WorldShape::Popular { keys: 500 })),
    ]
}

fn waiting(milli: i64) -> PrefetchParams {
    PrefetchParams { latency: Money::from_nanos(PRICE.nanos() * milli / 1_000), ..PrefetchParams::default() }
}

struct Bench<'a> {
    ground: &'a Ground<'a>,
    runs: Vec<Run>,
}

impl Bench<'_> {
    /// Learns on the first part of `sessions`, replays under each of `terms` with the model, and by the rule.
    fn run(&mut self, on: &str, sessions: &Sessions, terms: &[(&'static str, PrefetchParams)], seed: u64) -> Result<(), TrainError> {
        let cut = sessions.split(TRAIN_SHARE);
        let learned = learn(sessions, cut, HORIZON, &Setting { seed, watch: self.ground.watch });
        // Without sessions there is nothing to learn from, and the rule has no candidates either.
        let levels = match learned {
            Ok(learned) => Trees::levels(&learned.model),
            Err(TrainError::TooLittle(_)) => Levels::default(),
            Err(error) => return Err(error),
        };
        for (name, params) in terms {
            for (by, source) in [("model", PrefetchSource::Model), ("rule", PrefetchSource::Rule)] {
                let (books, told) = judge(sessions, cut, &levels, PrefetchParams { source, ..*params }, HORIZON);
                self.runs.push(run((on, name, by), &books, told.error()));
            }
        }
        Ok(())
    }

    fn of(&self, on: &str, terms: &str, by: &str) -> Option<&Run> {
        self.runs.iter().find(|r| r.on == on && r.terms == terms && r.by == by)
    }
    fn models(&self, on: impl Fn(&str) -> bool) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |r| r.by == "model" && on(&r.on))
    }
}

fn run((on, terms, by): (&str, &'static str, &'static str), books: &Books, calibration: f64) -> Run {
    Run {
        on: on.to_owned(),
        terms,
        by,
        requests: books.requests,
        base_calls: books.base_misses,
        prefetches: books.prefetches,
        precision: books.precision(),
        misses_removed: books.removed(),
        more_calls: books.more_calls(),
        fewer_billed: books.fewer_billed(),
        net_calls: books.net().nanos() as f64 / PRICE.nanos() as f64,
        calibration,
    }
}

impl Section for Prefetch {
    fn name(&self) -> &'static str {
        "prefetch"
    }
    fn title(&self) -> &'static str {
        "Fetching ahead"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let mut bench = Bench { ground, runs: Vec::new() };
        for (n, (name, world)) in worlds().iter().enumerate() {
            ground.watch.step("prefetch worlds", n, 3);
            for seed in 1..=2 {
                let sessions = world.generate(seed, PrefetchParams::default()).map_err(TrainError::TooLittle)?;
                bench.run(&format!("{name} {seed}"), &sessions, &terms(), seed)?;
            }
        }
        let mut absent = Vec::new();
        let real = [("wait 1.3 calls", waiting(WAIT_MILLI)), ("wait 0.54 calls", waiting(WAIT_AIM_MILLI)), ("money only", waiting(0))];
        for (n, name) in ["http_nasa", "http_thedash_api", "http_semicomplete", "block_cloudphysics"].into_iter().enumerate() {
            ground.watch.step("prefetch traces", n, 4);
            match ground.trace(&format!("{name}.parquet")) {
                Err(why) => absent.push(why),
                Ok(path) => {
                    let mut sessions = read_session_trace(&path)?.sessions.with(TTL, PrefetchParams::default());
                    sessions.routes.iter_mut().for_each(|r| r.price = PRICE);
                    bench.run(name, &sessions, &real, 1)?;
                }
            }
        }
        Ok(Found::Measured(measured(&bench, &absent)))
    }
}

fn measured(bench: &Bench<'_>, absent: &[String]) -> Measured {
    let least = |of: &mut dyn Iterator<Item = f64>| of.fold(f64::INFINITY, f64::min);
    let most = |of: &mut dyn Iterator<Item = f64>| of.fold(f64::NEG_INFINITY, f64::max);
    let generated = |on: &str| !on.contains('_');
    let batches = || bench.models(|on| on.starts_with("structured")).filter(|r| r.terms == "batch of 10");
    let mut bars = vec![
        Bar::at_least("least net money in any world under any terms, calls", least(&mut bench.models(generated).map(|r| r.net_calls)), 0.0),
        Bar::at_least(
            "billed calls saved by a batch endpoint of 10, structured, worst seed",
            least(&mut batches().map(|r| r.fewer_billed)),
            0.6,
        ),
        Bar::at_most(
            "calibration error, structured worlds, worst",
            most(&mut bench.models(|on| on.starts_with("structured")).filter(|r| r.calibration > 0.0).map(|r| r.calibration)),
            0.03,
        ),
    ];
    if let (Some(nasa), Some(aim)) = (bench.of("http_nasa", "wait 1.3 calls", "model"), bench.of("http_nasa", "wait 0.54 calls", "model")) {
        bars.extend([
            Bar::at_least("NASA, TTL 60 s, a wait worth 1.3 calls: precision", nasa.precision, 0.8),
            Bar::at_least("the same: misses removed", nasa.misses_removed, 0.4),
            Bar::at_most("the same: calls beyond no prefetch", nasa.more_calls, 0.14),
            Bar::at_most("the same: calibration error", nasa.calibration, 0.03),
            Bar::at_least("NASA, a wait worth 0.54 calls: precision (aim .90 with 30 % removed, +5 % calls)", aim.precision, 0.8)
                .aiming_at(0.9),
            Bar::at_most("the same: calls beyond no prefetch", aim.more_calls, 0.14).aiming_at(0.05),
        ]);
    }
    if bench.of("http_thedash_api", "wait 1.3 calls", "model").is_some() {
        let calls = most(&mut bench.models(|on| on == "http_thedash_api").map(|r| r.more_calls));
        bars.push(Bar::at_most("thedash: calls beyond no prefetch, worst terms", calls, 0.015));
    }
    if bench.of("http_semicomplete", "wait 1.3 calls", "model").is_some() {
        let net = least(&mut bench.models(|on| on.contains('_')).map(|r| r.net_calls));
        bars.push(Bar::at_least("least net money on any real trace, with the stated worth of a wait, calls", net, 0.0));
    }
    Measured { text: text(bench, absent), bars, figures: serde_json::json!({ "runs": bench.runs }) }
}

fn text(bench: &Bench<'_>, absent: &[String]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "Learned on the first 60 % of the time, replayed on the rest with live statistics and the stop rule. *Precision*: share of the things fetched \
         ahead that were used while fresh by a request that would have missed. *Calls* count each fetched thing, *billed* a batch once. *Net* is money saved plus the \
         stated worth of waits avoided, in prices of a call. At the price of a call and with money only nothing is ever fetched ahead: it cannot save.\n\n\
         | on | terms | by | fetched ahead | precision | misses removed | calls | billed calls saved | net | calibration error |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for r in &bench.runs {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {:.3} | {:.1} % | {:+.1} % | {:.1} % | {:.0} | {:.3} |",
            r.on,
            r.terms,
            r.by,
            r.prefetches,
            r.precision,
            r.misses_removed * 100.0,
            r.more_calls * 100.0,
            r.fewer_billed * 100.0,
            r.net_calls,
            r.calibration
        );
    }
    for why in absent {
        let _ = writeln!(out, "\nNot measured: {why}.");
    }
    out
}
