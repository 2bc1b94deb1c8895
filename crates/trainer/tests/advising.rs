//! `advise` on logs of generated worlds, and whether what it advises does what it says on the time after.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::path::{Path, PathBuf};

use farthing_config::{Config, Flags, System};
use farthing_contract::log::{CallRow, Request};
use farthing_policy::Levels;
use farthing_replay::{Event, EventKind, Process, Recipe, RecipeRoute, Trace};
use farthing_trainer::advise::bundle::{Published, published};
use farthing_trainer::advise::field::{Field, Part};
use farthing_trainer::advise::{Advice, Base, Options, advise, settings_of};
use farthing_trainer::evaluate::read_recipe;
use farthing_trainer::read::{Ask, Observed, ObservedRoute, read_observed};
use farthing_trainer::write::Parts;
use farthing_types::Money;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What an observing proxy would have logged of events.
fn observed(trace: &Trace, events: &[Event], latency_us: i64) -> Observed {
    let routes =
        trace.routes.iter().map(|r| ObservedRoute { name: r.name.clone(), provider: r.name.clone(), ..ObservedRoute::default() }).collect();
    let mut versions = vec![0u64; trace.keys()];
    let mut asks = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let route = &trace.routes[usize::from(event.route)];
        if event.kind == EventKind::Change {
            versions[event.key as usize] += 1;
            continue;
        }
        let hash = if route.nondeterministic { n as u64 | 1 << 60 } else { versions[event.key as usize] };
        asks.push(Ask {
            at_ns: event.at.nanos(),
            key: u64::from(event.key),
            route: u32::from(event.route),
            weight: 1,
            is_get: true,
            status: 200,
            cost: Some(route.price.nanos()),
            latency_us: Some(latency_us),
            called: true,
            hash: Some(hash),
            bytes: Some(1_000),
            ..Ask::default()
        });
    }
    Observed { routes, asks, ..Observed::default() }
}

/// Reads with their versions, changes of before `from` kept so that the versions go on.
fn split(trace: &Trace, share: f64) -> (Observed, Observed) {
    let cut = trace.split(share);
    let at = trace.events[cut].at.nanos();
    let mut all = observed(trace, &trace.events, 20_000);
    let second = all.asks.split_off(all.asks.partition_point(|a| a.at_ns < at));
    let rest = Observed { routes: all.routes.clone(), asks: second, ..Observed::default() };
    (all, rest)
}

struct Result7 {
    advice: Advice,
    /// Saving of the advised configuration on the second part, held-out keys taken off.
    achieved: f64,
    stale: f64,
}

/// Advice on the first part, its configuration parsed and run on the second.
fn advised_and_run(recipe: &Recipe, seed: u64, table: Option<&Published>, options: Options) -> Result7 {
    let trace = recipe.generate(seed).unwrap();
    // The second part is as long as the part of the first on which the savings are counted.
    let (first, second) = split(&trace, 5.0 / 7.0);
    let advice = advise(&first, table, &Base { models: "models".into(), ..Base::default() }, options).unwrap();
    let config = Config::parse(&advice.toml, "advised.toml", &Flags::default(), &System).unwrap();
    let kappa = |budget: f64| table.and_then(|t| t.manifest.kappa(budget));
    let settings = settings_of(&config, &second.routes, &kappa);
    let field = Field::of(&second);
    let part = Part { from: (0, 0), to: field.trace.events.len(), times: (i64::MIN, i64::MAX) };
    let none = Levels::default();
    let runs = field.play(part, &settings, table.map_or(&none, |t| &t.levels), options.stale);
    let (base, bill) = runs.iter().map(|r| r.sums()).fold((0, 0), |sum, r| (sum.0 + r.0, sum.1 + r.1));
    let (stale, requests) = runs.iter().fold((0, 0), |sum, r| (sum.0 + r.stale, sum.1 + r.requests));
    let achieved = (1.0 - bill as f64 / base as f64) * (1.0 - config.holdout.share);
    Result7 { advice, achieved, stale: stale as f64 / requests as f64 }
}

fn route(name: &str, keys: u32, process: Process) -> RecipeRoute {
    RecipeRoute {
        name: name.into(),
        keys,
        weight: 1.0,
        price: Money::from_nanos(2_000_000),
        bytes: 500,
        latency_ms: 20,
        process,
        terms: Default::default(),
        tokens: None,
    }
}

fn world(rate: f64, routes: Vec<RecipeRoute>) -> Recipe {
    Recipe {
        seed: 1,
        start_s: 1_767_225_600,
        duration_s: 4.0 * 86_400.0,
        rate,
        zipf: 0.9,
        stale_price: Money::from_nanos(20_000_000),
        routes,
    }
}

fn demo(rate: f64) -> Recipe {
    Recipe { rate, ..read_recipe(&root().join("data/demo.toml")).unwrap() }
}

fn slow() -> Recipe {
    world(0.25, vec![route("never", 500, Process::Never), route("daily", 100, Process::Poisson { mean_interval_s: 86_400.0, sigma: 1.0 })])
}

/// Answers that differ by call, answers that change within a second, and things that nobody asks for twice.
fn nothing() -> Recipe {
    let hasty = Process::Poisson { mean_interval_s: 2.0, sigma: 0.2 };
    let routes =
        vec![route("sampled", 20, Process::Nondeterministic), route("ticker", 200, hasty), route("once", 2_000_000, Process::Never)];
    Recipe { zipf: 0.0, ..world(0.2, routes) }
}

/// 7b: the advised configuration, when run, saves within three points of the advice.
#[test]
#[ignore = "minutes of replay; make simulate runs it"]
fn the_advised_configuration_saves_what_was_advised() {
    let shipped = published(&root().join("models")).unwrap();
    for (name, recipe, options) in [
        ("demo", demo(0.4), Options::default()),
        ("demo at 1 %", demo(0.4), Options { stale: 0.01, ..Options::default() }),
        ("slow", slow(), Options { stale: 0.01, ..Options::default() }),
        ("nothing", nothing(), Options::default()),
    ] {
        for seed in 1..=2 {
            let run = advised_and_run(&recipe, seed, shipped.as_ref(), options);
            let promised = run.advice.saving.share;
            println!(
                "{name} seed {seed}: advised {:.2} % ({:.2} to {:.2}), run {:.2} %, stale {:.3} %",
                100.0 * promised,
                100.0 * run.advice.saving.low,
                100.0 * run.advice.saving.high,
                100.0 * run.achieved,
                100.0 * run.stale
            );
            assert!((run.achieved - promised).abs() <= 0.03, "{name} seed {seed}: {promised} advised, {} achieved", run.achieved);
            assert!(run.stale <= 1.3 * options.stale, "{name} seed {seed}: {} stale", run.stale);
            assert_eq!(run.advice.pays(), name != "nothing", "{name}: {}", run.advice.sentence);
        }
    }
}

#[test]
#[ignore = "a minute of replay; make simulate runs it"]
fn nothing_to_save_is_said_so() {
    let run = advised_and_run(&nothing(), 3, None, Options::default());
    assert!(run.advice.sentence.starts_with("There is nothing to save here"), "{}", run.advice.sentence);
    assert!(run.advice.routes.iter().all(|r| r.advised == "observe"), "{}", run.advice.toml);
    let sampled = run.advice.routes.iter().find(|r| r.facts.route == "sampled").unwrap();
    assert!(sampled.facts.nondeterministic);
}

#[test]
fn what_the_log_says_is_counted() {
    let trace = world(0.5, vec![route("never", 20, Process::Never), route("sampled", 5, Process::Nondeterministic)]).generate(4).unwrap();
    let mut log = observed(&trace, &trace.events, 3_000_000);
    let never: Vec<usize> = (0..log.asks.len()).filter(|i| log.asks[*i].route == 0).collect();
    for (n, i) in never.iter().enumerate() {
        let ask = &mut log.asks[*i];
        match n % 10 {
            0 => (ask.is_get, ask.hash) = (false, None),
            1 => ask.status = 503,
            2 => ask.forbidden = Some(farthing_types::UncachedReason::OriginNoStore),
            _ => {}
        }
    }
    let advice = advise(&log, None, &Base::default(), Options::default()).unwrap();
    let facts = &advice.routes.iter().find(|r| r.facts.route == "never").unwrap().facts;
    let all = facts.requests as f64;
    let near = |n: u64, share: f64| (n as f64 / all - share).abs() < 0.01;
    assert_eq!(facts.requests as usize, never.len());
    assert!(["method", "status", "origin-no-store"].iter().all(|r| near(facts.not_cacheable[r], 0.1)), "{facts:?}");
    assert!(near(facts.cacheable, 0.7) && near(facts.repeats, 0.7) && facts.changed == 0 && facts.keys == 20, "{facts:?}");
    // Poisson reads at 0.25/s over keys of Zipf popularity, calls of 3 s.
    assert!(facts.duplicates > 0 && (facts.duplicates as f64) < 0.5 * all, "{facts:?}");
    assert_eq!(facts.spend_nanousd, Some(2_000_000 * facts.requests as i64));
    let text = advice.text();
    for part in [
        "route never",
        "not cacheable: method",
        "answers differ from call to call",
        "mode = \"learned\"",
        "This configuration changes 1 of 2 routes",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_log_without_contents_promises_nothing() {
    let trace = slow().generate(5).unwrap();
    let mut log = observed(&trace, &trace.events, 0);
    log.asks.iter_mut().for_each(|a| (a.hash, a.cost, a.latency_us) = (None, None, None));
    log.asks.iter_mut().step_by(3).for_each(|a| (a.status, a.bytes) = (304, Some(0)));
    let advice = advise(&log, None, &Base::default(), Options::default()).unwrap();
    assert!(!advice.pays() && advice.sentence.contains("does not say when answers change"), "{}", advice.sentence);
    assert_eq!(advice.unpriced.len(), 2);
    assert!(advice.routes.iter().all(|r| r.facts.other_length == 0), "all answers have one length");
    let route = &advice.routes[0];
    assert!(route.potential.windows(2).all(|w| w[0].saving <= w[1].saving) && route.potential[3].saving > 0.1, "{:?}", route.potential);
    let text = advice.text();
    assert!(text.contains("how many answers would be stale is not known") && text.contains("not known (no latencies)"), "{text}");
    Config::parse(&advice.toml, "t", &Flags::default(), &System).unwrap();
}

/// Sixty keys that are asked for each second, of which a cache of `ttl` seconds makes a call; `version` is what that finds.
fn of_a_cache(ttl: i64, version: impl Fn(i64) -> u64) -> Observed {
    let ask = |n: i64| {
        let (second, key) = (n / 60, n % 60);
        let called = second % ttl == key % ttl;
        Ask {
            at_ns: 1_767_225_600_000_000_000 + second * 1_000_000_000 + key,
            key: key as u64 + 1,
            weight: 1,
            is_get: true,
            status: 200,
            cost: Some(2_000_000),
            called,
            hash: called.then(|| version(second)),
            ..Ask::default()
        }
    };
    let routes = vec![ObservedRoute { name: "q".into(), provider: "q".into(), ..ObservedRoute::default() }];
    Observed { routes, asks: (0..60 * 1_800).map(ask).collect(), ..Observed::default() }
}

/// Hits show nothing: a cache that finds another answer each time it asks may have served stale ones all the while.
#[test]
fn the_log_of_a_cache_does_not_say_that_its_hits_were_fresh() {
    let advice = advise(&of_a_cache(15, |second| second as u64), None, &Base::default(), Options::default()).unwrap();
    assert!(advice.routes.iter().all(|r| r.advised == "observe"), "{}", advice.text());
    assert!(!advice.pays() && advice.sentence.contains("does not say when answers change"), "{}", advice.sentence);
    let steady = advise(&of_a_cache(15, |_| 1), None, &Base::default(), Options::default()).unwrap();
    assert!(steady.pays() && steady.toml.contains("mode = \"learned\""), "what is found the same was the same: {}", steady.text());
}

/// A change that a fetch finds came somewhere since the fetch before, not at the moment of the fetch.
#[test]
fn changes_lie_between_the_fetches_that_tell_of_them() {
    // Another answer each minute, found by a cache of three seconds.
    let log = of_a_cache(3, |second| second as u64 / 60);
    let field = Field::of(&log);
    let found: Vec<i64> = field.trace.events.iter().filter(|e| e.kind == EventKind::Change).map(|e| e.at.nanos()).collect();
    let fetched: std::collections::HashSet<i64> = log.asks.iter().filter(|a| a.called).map(|a| a.at_ns).collect();
    let at_fetches = found.iter().filter(|at| fetched.contains(at)).count();
    assert_eq!((found.len(), at_fetches), (60 * 30, 60), "only the first fetch of a key begins where it is");
    assert!(field.trace.events.is_sorted_by_key(|e| e.at));
    let advice = advise(&log, None, &Base::default(), Options::default()).unwrap();
    let facts = &advice.routes[0].facts;
    assert!(facts.known && facts.changed > 0);
    assert!(advice.routes[0].lines.iter().all(|l| l.setting.is_none() || l.stale_share <= 1.5 * l.stale_budget), "{}", advice.text());
}

/// What is saved in calls has an interval as money has, and neither hides the other.
#[test]
fn routes_without_a_price_are_advised_by_themselves() {
    let trace = slow().generate(8).unwrap();
    let mut log = observed(&trace, &trace.events, 20_000);
    log.asks.iter_mut().for_each(|a| a.cost = None);
    let learned =
        |advice: &Advice| advice.routes.iter().filter(|r| r.advised != "observe").map(|r| r.facts.route.clone()).collect::<Vec<_>>();
    let alone = advise(&log, None, &Base::default(), Options::default()).unwrap();
    assert!(alone.pays() && alone.sentence.contains("(nothing is priced)"), "{}", alone.sentence);
    assert!(alone.toml.contains("mode = \"learned\"") && learned(&alone).contains(&"never".to_owned()), "{}", alone.text());
    assert_eq!(alone.calls_saving, alone.unpriced_saving);
    assert!(alone.unpriced_saving.low > 0.1 && alone.unpriced_saving.high < 1.0, "{:?}", alone.unpriced_saving);
    // Beside a route that costs money and saves none.
    log.routes.push(ObservedRoute { name: "once".into(), provider: "once".into(), ..ObservedRoute::default() });
    let once: Vec<Ask> =
        (log.asks.iter().enumerate()).map(|(n, a)| Ask { key: (1 << 40) + n as u64, route: 2, cost: Some(5), ..*a }).collect();
    log.asks.extend(once);
    log.asks.sort_by_key(|a| a.at_ns);
    let beside = advise(&log, None, &Base::default(), Options::default()).unwrap();
    assert!(beside.pays() && !beside.saving.is_worth() && beside.base_nanousd > 0, "{}", beside.sentence);
    assert_eq!(learned(&beside), learned(&alone));
    assert!(beside.sentence.contains("to routes without a price") && !beside.sentence.contains('$'), "{}", beside.sentence);
    // And the other way round: what is saved in calls is no reason to change a route on which no money is.
    assert!(beside.routes.iter().all(|r| r.facts.route != "once" || r.advised == "observe"), "{}", beside.toml);
}

#[test]
fn rows_count_as_the_requests_that_they_stand_for() {
    let trace = slow().generate(9).unwrap();
    let log = observed(&trace, &trace.events, 0);
    let changed = |count: usize, each: &dyn Fn(usize, Ask) -> Vec<Ask>| {
        let asks = log.asks[..count].iter().enumerate().flat_map(|(n, a)| each(n, Ask { is_get: n % 4 > 0, cost: None, ..*a })).collect();
        advise(&Observed { asks, ..log.clone() }, None, &Base::default(), Options::default()).unwrap().calls_saving
    };
    let times = |n: usize| 1 + 6 * usize::from(n.is_multiple_of(4)) + 2 * usize::from(n % 4 == 1);
    let rows = changed(2_000, &|n, a| vec![a; times(n)]);
    let weights = changed(2_000, &|n, a| vec![Ask { weight: times(n) as u32, ..a }]);
    assert_eq!(rows, weights);
    let many = changed(120, &|_, a| vec![Ask { weight: if a.is_get { 1_000_000 } else { 1 }, ..a }]);
    assert!(many.share > 0.98, "a row of a million is one call: {many:?}");
}

#[test]
fn origins_that_speak_are_heard() {
    let trace = slow().generate(6).unwrap();
    let mut log = observed(&trace, &trace.events, 0);
    log.asks.iter_mut().for_each(|a| (a.hash, a.origin_ttl_s) = (None, Some(600)));
    let advice = advise(&log, None, &Base::default(), Options::default()).unwrap();
    assert!(advice.routes.iter().all(|r| r.advised == "respect"), "{}", advice.toml);
    assert!(advice.pays() && advice.toml.contains("mode = \"respect\""));
    // With no-cache lifetimes of zero the origin forbids what a TTL could save.
    log.asks.iter_mut().for_each(|a| a.origin_ttl_s = Some(0));
    assert!(!advise(&log, None, &Base::default(), Options::default()).unwrap().pays());
}

#[test]
fn too_little_is_said_so() {
    let trace = slow().generate(7).unwrap();
    let log = observed(&trace, &trace.events, 0);
    for asks in [Vec::new(), log.asks[..50].to_vec(), vec![log.asks[0]; 500]] {
        let few = Observed { asks, ..log.clone() };
        assert!(advise(&few, None, &Base::default(), Options::default()).is_err());
    }
}

#[test]
fn the_log_is_read_from_files_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut parts = Parts::new(dir.path());
    for hour in 0..4i64 {
        let at = |n: i64| hour * 3_600_000_000_000 + n * 1_000_000_000;
        let id = |n: i64| (hour * 1_000 + n) as u64;
        let requests: Vec<Request> = (0..100)
            .map(|n| Request {
                ts_ns: at(n),
                request_id: id(n),
                weight: 2,
                tenant: if n % 2 == 0 { "a".into() } else { "b".into() },
                route: "geo".into(),
                endpoint: Some("/geo/{id}".into()),
                method: "GET".into(),
                key_hash: (n % 7) as u64,
                outcome: if n == 50 { "refused" } else { "bypass" },
                status: 200,
                call_id: Some(id(n)),
                base_nanousd: Some(5),
                ..Request::default()
            })
            .collect();
        let calls: Vec<CallRow> = (0..100)
            .map(|n| CallRow {
                canonical_hash: Some(9),
                not_stored_reason: Some("set-cookie"),
                origin_ttl_s: Some(3),
                provider: "maps".into(),
                ..common::call(at(n) / 1_000_000_000, id(n), (n % 7) as u64, 9)
            })
            .collect();
        parts.write(hour, &requests).unwrap();
        parts.write(hour, &calls).unwrap();
    }
    assert_eq!(parts.publish("test").unwrap(), 8);
    let pattern = dir.path().to_string_lossy();
    let log = read_observed(&pattern, 1_000).unwrap();
    assert_eq!((log.asks.len(), log.left_out, log.files), (396, 0, 8));
    let route = &log.routes[0];
    assert_eq!((route.name.as_str(), route.provider.as_str(), route.shared), ("geo", "maps", true));
    assert_eq!(route.endpoints, ["/geo/{id}"]);
    let ask = log.asks[0];
    assert_eq!((ask.weight, ask.cost, ask.hash, ask.origin_ttl_s, ask.called), (2, Some(5), Some(9), Some(3), true));
    assert_eq!(ask.forbidden, Some(farthing_types::UncachedReason::SetCookie));
    let newest = read_observed(&pattern, 150).unwrap();
    assert_eq!((newest.asks.len(), newest.left_out), (198, 200));
    assert!(newest.asks.iter().all(|a| a.at_ns >= 2 * 3_600_000_000_000 && a.hash == Some(9)));
}
