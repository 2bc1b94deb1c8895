//! Prefetch: what it earns, loses and wastes in generated worlds and on real sessions.

mod choose;

use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, PrefetchSource, Tariff};
use farthing_replay::prefetch::{Books, SessionWorld, Sessions, WorldShape};
use farthing_types::{Money, Span};
use serde::Serialize;

use self::choose::{Wanted, choose, waiting};
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
/// What is promised of NASA, and what is aimed at: each trace gets the settings that come nearest to them on its training part.
const PROMISE: Wanted = Wanted { precision: 0.8, removed: 0.4, more_calls: 0.14 };
const AIM: Wanted = Wanted { precision: 0.9, removed: 0.3, more_calls: 0.05 };
/// Seeds of the generated worlds.
const SEEDS: u64 = 3;
const TRACES: [&str; 5] = ["http_nasa", "http_thedash_api", "http_semicomplete", "block_cloudphysics", "kv_twitter52"];
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
    ahead_calls: u64,
    precision: f64,
    misses_removed: f64,
    more_calls: f64,
    fewer_billed: f64,
    net_calls: f64,
    calibration: f64,
}

const MONEY: &str = "money only";
const WAIT: &str = "wait worth a call";
const BATCH: &str = "batch of 10";
const PROMISED: &str = "wait chosen for the promise";
const AIMED: &str = "wait chosen for the aim";

fn terms() -> [(&'static str, PrefetchParams); 4] {
    let base = PrefetchParams::default();
    [
        (MONEY, base),
        (WAIT, waiting(1_000, PRICE)),
        ("half price", PrefetchParams { tariff: Tariff::Share(0.5), ..base }),
        (BATCH, PrefetchParams { tariff: Tariff::Batch(10), ..base }),
    ]
}

/// A name, the world, and whether each route is a provider with a batch endpoint of its own.
fn worlds() -> [(&'static str, SessionWorld, bool); 5] {
    let world = |shape| SessionWorld {
        seed: 0,
        start_s: 1_767_225_600,
        duration_s: 21_600.0,
        sessions_per_s: 0.05,
        requests: 14.0,
        think_s: 2.0,
        price: PRICE,
        ttl_s: 60.0,
        shape,
    };
    let structured = |lists| world(WorldShape::Structured { lists, details: 9, opened: 0.9 });
    [
        ("structured", structured(100), false),
        ("structured new", structured(400), false),
        ("apart", structured(100), true),
        ("random", world(WorldShape::Random { keys: 500 }), false),
        ("popular", world(WorldShape::Popular { keys: 500 }), false),
    ]
}

struct Bench<'a> {
    ground: &'a Ground<'a>,
    runs: Vec<Run>,
    /// Per trace what a wait was found to have to be worth, in thousandths of a call, for promise and aim.
    chosen: Vec<(String, Vec<Option<i64>>)>,
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

    /// A real trace: with the settings chosen on its training part, and with two that are given.
    fn trace(&mut self, name: &str, sessions: &Sessions) -> Result<(), TrainError> {
        let part = Sessions { routes: sessions.routes.clone(), visits: sessions.visits[..sessions.split(TRAIN_SHARE)].to_vec() };
        let chosen = choose(&part, &[PROMISE, AIM], PRICE, (HORIZON, &Setting { seed: 1, watch: self.ground.watch }))?;
        // Where nothing met the wish nothing is fetched.
        let terms = [PROMISED, AIMED].into_iter().zip(&chosen).map(|(name, milli)| (name, waiting(milli.unwrap_or(0), PRICE)));
        let terms: Vec<_> = terms.chain([(WAIT, waiting(1_000, PRICE)), (MONEY, waiting(0, PRICE))]).collect();
        self.chosen.push((name.to_owned(), chosen));
        self.run(name, sessions, &terms, 1)
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
        ahead_calls: books.ahead_calls,
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
        let mut bench = Bench { ground, runs: Vec::new(), chosen: Vec::new() };
        for (n, (name, world, apart)) in worlds().iter().enumerate() {
            ground.watch.step("prefetch worlds", n, worlds().len());
            for seed in 1..=ground.seeds.min(SEEDS) {
                let mut sessions = world.generate(seed, PrefetchParams::default()).map_err(TrainError::TooLittle)?;
                if *apart {
                    sessions.routes.iter_mut().enumerate().for_each(|(n, route)| route.provider = n as u16);
                }
                bench.run(&format!("{name} {seed}"), &sessions, &terms(), seed)?;
            }
        }
        let mut absent = Vec::new();
        for (n, name) in TRACES.into_iter().enumerate() {
            ground.watch.step("prefetch traces", n, TRACES.len());
            match ground.trace(&format!("{name}.parquet")) {
                Err(why) => absent.push(why),
                Ok(path) => {
                    let mut sessions = read_session_trace(&path)?.sessions.with(TTL, PrefetchParams::default());
                    sessions.routes.iter_mut().for_each(|r| r.price = PRICE);
                    bench.trace(name, &sessions)?;
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
    let saved = |world: &'static str| {
        let of = move |on: &str| on.starts_with(world) && on.trim_start_matches(world).trim().parse::<u64>().is_ok();
        least(&mut bench.models(of).filter(|r| r.terms == BATCH).map(|r| r.fewer_billed))
    };
    let random = bench.runs.iter().filter(|r| r.on.starts_with("random")).map(|r| r.ahead_calls as f64);
    let mut bars = vec![
        Bar::at_least("least net money in any world under any terms, calls", least(&mut bench.models(generated).map(|r| r.net_calls)), 0.0),
        Bar::at_most("random worlds: calls made ahead before it is off, worst terms", most(&mut random.into_iter()), 500.0),
        Bar::at_least("billed calls saved by a batch endpoint of 10, structured, worst seed", saved("structured"), 0.6),
        Bar::at_least("the same where half of the lists are new, worst seed", saved("structured new"), 0.6),
        Bar::at_most(
            "calibration error, structured worlds, worst",
            most(&mut bench.models(|on| on.starts_with("structured")).map(|r| r.calibration)),
            0.03,
        ),
    ];
    if let Some(nasa) = bench.of("http_nasa", WAIT, "model") {
        bars.extend([
            Bar::at_least(
                "NASA, TTL 60 s, a wait worth one call, the terms that every fit is judged under: precision",
                nasa.precision,
                0.8,
            ),
            Bar::at_least("the same terms: misses removed", nasa.misses_removed, 0.4),
            Bar::at_most("the same terms: calls beyond no prefetch", nasa.more_calls, 0.14),
            Bar::at_most("the same terms: calibration error", nasa.calibration, 0.03),
        ]);
    }
    if let (Some(nasa), Some(aim)) = (bench.of("http_nasa", PROMISED, "model"), bench.of("http_nasa", AIMED, "model")) {
        bars.extend([
            Bar::at_least("NASA, TTL 60 s, setting chosen on the training part: precision", nasa.precision, 0.8),
            Bar::at_least("chosen: misses removed", nasa.misses_removed, 0.4),
            Bar::at_most("chosen: calls beyond no prefetch", nasa.more_calls, 0.14),
            Bar::at_most("chosen: calibration error", nasa.calibration, 0.03),
            Bar::at_least("NASA, setting chosen for the aim: precision", aim.precision, 0.8).aiming_at(0.9),
            Bar::at_least("the same: misses removed", aim.misses_removed, 0.0).aiming_at(0.3),
            Bar::at_most("the same: calls beyond no prefetch", aim.more_calls, 0.14).aiming_at(0.05),
        ]);
    }
    if bench.of("http_thedash_api", WAIT, "model").is_some() {
        let calls = most(&mut bench.models(|on| on == "http_thedash_api").map(|r| r.more_calls));
        bars.push(Bar::at_most("thedash: calls beyond no prefetch, worst terms", calls, 0.015));
    }
    if bench.models(|on| on.contains('_')).next().is_some() {
        let net = least(&mut bench.models(|on| on.contains('_')).map(|r| r.net_calls));
        bars.push(Bar::at_least("least net money on any real trace, with the stated worth of a wait, calls", net, 0.0));
    }
    let figures = serde_json::json!({ "runs": bench.runs, "chosen_milli": bench.chosen });
    Measured { text: text(bench, absent), bars, figures }
}

fn text(bench: &Bench<'_>, absent: &[String]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "Learned on the first 60 % of the time, replayed on the rest with live statistics and the stop rule. *Precision*: share of the things fetched \
         ahead that were used while fresh by a request that would have missed. *Calls* count each fetched thing, *billed* a batch once. *Net* is money saved plus the \
         stated worth of waits avoided, in prices of a call. At the price of a call and with money only nothing is ever fetched ahead: it cannot save.\n\n\
         A batch call takes things of any route of its provider; *apart*: each route has a batch endpoint of its own. *Structured new*: about half of \
         the lists that are asked for were seen less than twice. On a real trace what a wait must be worth was chosen on the training part alone, by learning \
         on 50, 60, 70 and 80 % of it and replaying what follows: the setting of a fixed grid whose worst figure comes nearest to a precision of 0.80, 40 % of \
         the misses removed and 14 % more calls (promise), or 0.90, 30 % and 5 % (aim); where none comes within a quarter, nothing is fetched.\n\n\
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
    let milli = |chosen: &Option<i64>| chosen.map_or("none".to_owned(), |milli| format!("{:.2}", milli as f64 / 1e3));
    for (trace, chosen) in &bench.chosen {
        let said: Vec<String> = chosen.iter().map(milli).collect();
        let _ = writeln!(out, "\n{trace}: worth of a wait, in calls, chosen for promise and aim: {}.", said.join(" and "));
    }
    for why in absent {
        let _ = writeln!(out, "\nNot measured: {why}.");
    }
    out
}
