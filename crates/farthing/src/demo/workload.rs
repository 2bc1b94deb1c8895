//! What the demo asks for: simulated APIs, the truth about their documents, and a plan of requests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use farthing_replay::{EventKind, Process, Recipe, RecipeRoute, World, WorldKey};
use farthing_sim::{ApiSpec, ListedChanges, Planned, Trace, Truth};
use farthing_types::{Draw, DrawKind, Money, Span, Time};

/// Latency of the simulated APIs: none, because a millisecond of real time is seconds of scaled time, in which far more requests
/// would share a call than ever do. The speed phase has a latency.
const LATENCY: Span = Span::ZERO;
/// The recipe of the generated world.
const RECIPE: &str = include_str!("../../../../data/demo.toml");
/// Price of a call in a trace.
const TRACE_PRICE: Money = Money::from_nanos(2_000_000);
/// Requests per second of real time that the money phases send at most.
const MAX_RATE: f64 = 2_000.0;
/// Share of the machine's capacity they take: the trainer and others need some too.
const CAPACITY_SHARE: f64 = 0.5;
/// How many times as fast as real time a trace may run: beyond that, an answer under way would be old on arrival.
const MAX_SPEED: f64 = 5_000.0;
/// APIs a trace may have; rarer endpoints are left out.
const MAX_APIS: usize = 12;

/// What the demo asks for.
pub struct Workload {
    /// The simulated APIs.
    pub apis: Vec<ApiSpec>,
    /// The truth about their documents.
    pub truth: Arc<dyn Truth>,
    /// Requests in order of time.
    pub plan: Arc<[Planned]>,
    /// When the simulated time begins.
    pub start: Time,
    /// How long it lasts.
    pub span: Span,
    /// What it is, for the reader.
    pub about: String,
}

/// What there is room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Seconds of real time.
    pub real: f64,
    /// Requests per second of real time.
    pub rate: f64,
}

impl Room {
    /// `real` seconds on a machine of this capacity (requests per second).
    pub fn new(real: f64, capacity: f64) -> Self {
        Self { real, rate: (capacity * CAPACITY_SHARE).clamp(100.0, MAX_RATE) }
    }
}

/// Reads a trace and cuts from it what there is room for: its busiest stretch, and of that a share of the keys.
pub fn from_trace(path: &Path, Room { real, rate }: Room, seed: u64) -> anyhow::Result<Workload> {
    let trace = Trace::read(path)?;
    let span_ms = trace.span_ms().min((real * MAX_SPEED * 1e3) as i64).max(1);
    let from = busiest(&trace, span_ms);
    let within = |ts: i64| (from..=from + span_ms).contains(&ts);
    let apis = commonest(&trace, &within);
    let reads: Vec<_> = trace.events.iter().filter(|e| !e.is_write && within(e.ts_ms) && apis.contains_key(&e.endpoint)).collect();
    let share = (rate * real / reads.len().max(1) as f64).min(1.0);
    let draw = Draw::new(seed);
    let keeps = |key: u32| share >= 1.0 || draw.uniform(DrawKind::Sample, "trace", u128::from(key), 0) < share;
    let plan: Arc<[Planned]> = reads
        .iter()
        .filter(|e| keeps(e.key))
        .filter_map(|e| Some(Planned { at: Time::from_millis(e.ts_ms), route: *apis.get(&e.endpoint)?, key: e.key }))
        .collect();
    anyhow::ensure!(!plan.is_empty(), "{}: no requests are left of its busiest stretch; give --seconds a larger value", path.display());
    // Changes before the stretch count too: they decide which version it begins with.
    let changes = trace.events.iter().filter(|e| e.is_write && e.ts_ms <= from + span_ms);
    let truth = ListedChanges::new(changes.filter_map(|e| Some((usize::from(*apis.get(&e.endpoint)?), e.key, e.ts_ms))));
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let about = format!(
        "{name}: the busiest {:.1} of {:.1} days, {:.0} % of its keys, {} of {} requests, {} of {} endpoints",
        span_ms as f64 / 86.4e6,
        trace.span_ms() as f64 / 86.4e6,
        share * 100.0,
        plan.len(),
        trace.events.iter().filter(|e| !e.is_write).count(),
        apis.len(),
        trace.endpoints.len(),
    );
    Ok(Workload {
        apis: specs(&trace, &apis).context("trace endpoints")?,
        truth: Arc::new(truth),
        plan,
        start: Time::from_millis(from),
        span: Span::from_millis(span_ms.unsigned_abs()),
        about,
    })
}

/// The truth of a generated world, as the simulated providers tell it.
struct Generated(World);

impl Truth for Generated {
    fn version_at(&self, route: usize, key: u32, at: Time) -> u64 {
        self.0.version_at(WorldKey { route: route as u16, index: key }, at)
    }
    fn changed_at(&self, route: usize, key: u32, at: Time) -> Option<Time> {
        self.0.last_change(WorldKey { route: route as u16, index: key }, at)
    }
}

/// Generates the demo's world and its requests from the recipe, as many as there is room for.
pub fn generated(Room { real, rate }: Room, seed: u64) -> anyhow::Result<Workload> {
    let mut recipe: Recipe = toml::from_str(RECIPE).context("data/demo.toml")?;
    let wanted = recipe.rate * recipe.duration_s;
    let held = (rate * real).min(wanted);
    // The requests of the recipe at its own rate, for as long as there is room.
    recipe.duration_s *= held / wanted;
    let trace = recipe.generate(seed).context("data/demo.toml")?;
    let first = recipe.first_keys();
    let index = |route: u16, key: u32| key - first.get(usize::from(route)).copied().unwrap_or(0);
    let reads = trace.events.iter().filter(|e| e.kind == EventKind::Read);
    let plan: Arc<[Planned]> = reads.map(|e| Planned { at: e.at, route: e.route, key: index(e.route, e.key) }).collect();
    let about = format!(
        "generated trace, seed {seed}: {} routes, {} documents, {} requests over {:.1} simulated days in {real:.0} s at most",
        recipe.routes.len(),
        recipe.routes.iter().map(|r| r.keys).sum::<u32>(),
        plan.len(),
        recipe.duration_s / 86_400.0,
    );
    Ok(Workload {
        apis: recipe.routes.iter().map(api).collect(),
        start: recipe.start(),
        span: Span::from_secs_f64(recipe.duration_s),
        truth: Arc::new(Generated(World::new(recipe, seed))),
        plan,
        about,
    })
}

fn api(route: &RecipeRoute) -> ApiSpec {
    let nondeterministic = matches!(route.process, Process::Nondeterministic);
    ApiSpec {
        latency: LATENCY,
        nondeterministic,
        volatile: !nondeterministic,
        last_modified: matches!(route.process, Process::Poisson { .. } | Process::Drifting { .. }),
        bytes: usize::try_from(route.bytes).unwrap_or(1_024),
        ..ApiSpec::new(route.name.as_str(), route.price)
    }
}

/// Start of the stretch of `span_ms` that holds the most requests.
fn busiest(trace: &Trace, span_ms: i64) -> i64 {
    let times: Vec<i64> = trace.events.iter().filter(|e| !e.is_write).map(|e| e.ts_ms).collect();
    let mut end = 0;
    let best = (0..times.len()).max_by_key(|&begin| {
        while end < times.len() && times[end] <= times[begin] + span_ms {
            end += 1;
        }
        end - begin
    });
    best.and_then(|index| times.get(index)).copied().unwrap_or(0)
}

/// The most asked endpoints and their numbers as APIs.
fn commonest(trace: &Trace, within: &impl Fn(i64) -> bool) -> HashMap<u16, u16> {
    let mut counts: HashMap<u16, usize> = HashMap::new();
    trace.events.iter().filter(|e| !e.is_write && within(e.ts_ms)).for_each(|e| *counts.entry(e.endpoint).or_default() += 1);
    let mut order: Vec<_> = counts.into_iter().collect();
    order.sort_unstable_by_key(|(endpoint, count)| (std::cmp::Reverse(*count), *endpoint));
    order.into_iter().take(MAX_APIS).zip(0..).map(|((endpoint, _), index)| (endpoint, index)).collect()
}

fn specs(trace: &Trace, apis: &HashMap<u16, u16>) -> anyhow::Result<Vec<ApiSpec>> {
    let mut order: Vec<_> = apis.iter().map(|(endpoint, index)| (*index, *endpoint)).collect();
    order.sort_unstable();
    let spec = |(index, endpoint): (u16, u16)| {
        let template = trace.endpoints.get(usize::from(endpoint)).context("endpoint without a name")?;
        let words: String = template.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let name: Vec<&str> = words.split('-').filter(|w| !w.is_empty() && *w != "id").take(3).collect();
        Ok(ApiSpec { latency: LATENCY, ..ApiSpec::new(format!("{}-{index}", name.join("-")), TRACE_PRICE) })
    };
    order.into_iter().map(spec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_sim::Event;

    fn trace() -> Trace {
        let event = |ts_ms, endpoint, key, is_write| Event { ts_ms, endpoint, key, is_write };
        Trace {
            endpoints: vec!["/a/{id}".into(), "/b/Stats/{id}".into()],
            events: vec![
                event(0, 0, 1, false),
                event(500, 1, 9, true),
                event(1_000, 1, 2, false),
                event(1_100, 1, 3, false),
                event(1_200, 0, 1, false),
                event(9_000, 0, 1, false),
            ],
        }
    }

    #[test]
    fn the_busiest_stretch_and_the_commonest_endpoints_are_taken() {
        let trace = trace();
        assert_eq!(busiest(&trace, 300), 1_000);
        assert_eq!(busiest(&trace, 20_000), 0);
        let apis = commonest(&trace, &|ts| (1_000..=1_300).contains(&ts));
        assert_eq!((apis[&1], apis[&0]), (0, 1));
        let names: Vec<_> = specs(&trace, &apis).unwrap().into_iter().map(|s| s.name.to_string()).collect();
        assert_eq!(names, ["b-stats-0", "a-1"]);
    }
}
