//! Recipes of generated traces: routes, how their keys change, how they are read, what a call costs.

use farthing_types::{Money, Span, Time};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp, Poisson, Zipf};
use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind, Trace, TraceRoute};
use crate::recipe_terms::{RecipeTerms, RecipeTokens};
use crate::worlds::{World, WorldKey};

/// How the answers of a route's keys change. Spans in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Process {
    /// At random moments; the keys' hazards are log-normal around `1 / mean_interval_s` (median).
    Poisson {
        /// Median over the keys of the mean time between changes.
        mean_interval_s: f64,
        /// Standard deviation of the log hazard within the route.
        sigma: f64,
    },
    /// As `poisson`, but every `every_s` each key's hazard is drawn anew: its own times or divided by `factor`.
    Drifting {
        /// As in `poisson`.
        mean_interval_s: f64,
        /// As in `poisson`.
        sigma: f64,
        /// At least 1.
        factor: f64,
        /// Time between two draws.
        every_s: f64,
    },
    /// Once per period for all keys, up to `jitter_s` late.
    Periodic {
        /// Period.
        period_s: f64,
        /// Time of the first change after the epoch.
        offset_s: f64,
        /// Lateness, uniform.
        jitter_s: f64,
    },
    /// As `poisson`, but people ask because something changed: each change draws readers of its own.
    Informative {
        /// As in `poisson`.
        mean_interval_s: f64,
        /// As in `poisson`.
        sigma: f64,
        /// Mean number of reads that a change draws (Poisson).
        reads_per_change: f64,
        /// Mean time from the change to such a read (exponential).
        delay_s: f64,
    },
    /// Never.
    Never,
    /// Each call gets another answer.
    Nondeterministic,
}

/// Sets the draws of informed reads apart from the others.
const INFORMED: u64 = 0x01f0_6ded;

/// One route of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeRoute {
    /// Name.
    pub name: String,
    /// Number of keys.
    pub keys: u32,
    /// Share of all reads, relative to the other routes.
    pub weight: f64,
    /// Price of a call, dollars as a decimal string.
    pub price: Money,
    /// Length of a body, bytes.
    #[serde(default = "default_bytes")]
    pub bytes: u32,
    /// Latency of a call in real time, ms.
    #[serde(default = "default_latency")]
    pub latency_ms: u32,
    /// How its keys change.
    pub process: Process,
    /// Prices and promises beyond the price of a call.
    #[serde(default, skip_serializing_if = "RecipeTerms::is_plain")]
    pub terms: RecipeTerms,
    /// For calls that are billed by the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<RecipeTokens>,
}

fn default_bytes() -> u32 {
    1_024
}
fn default_latency() -> u32 {
    20
}

/// A generated trace: what changes, what is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of everything.
    pub seed: u64,
    /// Start, seconds since 1970 UTC.
    pub start_s: i64,
    /// Length, seconds.
    pub duration_s: f64,
    /// Reads per second over all routes (Poisson).
    pub rate: f64,
    /// Exponent of the Zipf law of the keys of a route.
    pub zipf: f64,
    /// Price of one stale answer, dollars as a decimal string: what the money cost counts it with.
    pub stale_price: Money,
    /// The routes.
    pub routes: Vec<RecipeRoute>,
}

/// A recipe that cannot be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecipeError {
    /// There are no routes, or more than 65,535.
    #[error("routes: a recipe needs between 1 and 65535 routes, this one has {0}")]
    Routes(usize),
    /// A number is out of its range.
    #[error("{place}: {value} is not allowed; give {allowed}")]
    Number {
        /// Key within the recipe.
        place: String,
        /// What was given.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl Recipe {
    /// Checks every number.
    ///
    /// # Errors
    /// The first one out of range, with its key and the allowed range.
    pub fn check(&self) -> Result<(), RecipeError> {
        if self.routes.is_empty() || self.routes.len() > usize::from(u16::MAX) {
            return Err(RecipeError::Routes(self.routes.len()));
        }
        within("duration_s", self.duration_s, 1.0, 1e9)?;
        within("rate", self.rate, 1e-6, 1e6)?;
        within("zipf", self.zipf, 0.0, 10.0)?;
        self.routes.iter().try_for_each(RecipeRoute::check)
    }

    /// When it starts.
    pub fn start(&self) -> Time {
        Time::from_millis(self.start_s.saturating_mul(1_000))
    }

    /// Generates the trace under `seed`. The same recipe and seed give the same events, byte for byte.
    ///
    /// # Errors
    /// As [`Recipe::check`].
    pub fn generate(&self, seed: u64) -> Result<Trace, RecipeError> {
        self.check()?;
        let world = World::new(self.clone(), seed);
        let mut events = self.reads(seed);
        self.add_changes(&world, &mut events);
        self.add_informed(seed, &mut events);
        events.sort_by_key(|e| (e.at, e.kind == EventKind::Read, e.key));
        let routes = self.routes.iter().map(RecipeRoute::facts).collect();
        Ok(Trace { routes, events })
    }

    /// Number of the first key of each route in a trace; keys of a route follow each other.
    pub fn first_keys(&self) -> Vec<u32> {
        let mut next = 0u32;
        let step = |route: &RecipeRoute| {
            let first = next;
            next = next.saturating_add(route.keys);
            first
        };
        self.routes.iter().map(step).collect()
    }

    fn reads(&self, seed: u64) -> Vec<Event> {
        let mut rng = StdRng::seed_from_u64(seed);
        let total: f64 = self.routes.iter().map(|r| r.weight).sum();
        let first = self.first_keys();
        let mut events = Vec::new();
        for (index, route) in self.routes.iter().enumerate() {
            let (Ok(gaps), Ok(ranks)) = (Exp::new(self.rate * route.weight / total), Zipf::new(f64::from(route.keys), self.zipf)) else {
                continue;
            };
            let mut at = 0.0;
            loop {
                at += gaps.sample(&mut rng);
                if at >= self.duration_s {
                    break;
                }
                let key = first[index] + (ranks.sample(&mut rng) as u32).clamp(1, route.keys) - 1;
                let at = self.start() + Span::from_secs_f64(at);
                events.push(Event { at, key, route: index as u16, kind: EventKind::Read, bytes: 0 });
            }
            // One draw between routes keeps the stream of one from running into the next when a weight changes.
            let _: u64 = rng.random();
        }
        events
    }

    /// Reads that changes draw.
    fn add_informed(&self, seed: u64, events: &mut Vec<Event>) {
        let mut rng = StdRng::seed_from_u64(seed ^ INFORMED);
        let end = self.start() + Span::from_secs_f64(self.duration_s);
        let mut drawn = Vec::new();
        for change in events.iter().filter(|e| e.kind == EventKind::Change) {
            let Process::Informative { reads_per_change, delay_s, .. } = self.routes[usize::from(change.route)].process else { continue };
            let (Ok(count), Ok(delay)) = (Poisson::new(reads_per_change), Exp::new(1.0 / delay_s)) else { continue };
            for _ in 0..count.sample(&mut rng) as u32 {
                let at = change.at + Span::from_secs_f64(delay.sample(&mut rng));
                drawn.push(Event { at, kind: EventKind::Read, bytes: 0, ..*change });
            }
        }
        events.extend(drawn.into_iter().filter(|e| e.at < end));
    }

    /// Changes of every key between its first and its last read (others cannot matter).
    fn add_changes(&self, world: &World, events: &mut Vec<Event>) {
        let first = self.first_keys();
        let mut spans = std::collections::BTreeMap::new();
        for event in events.iter() {
            let span = spans.entry((event.route, event.key)).or_insert((event.at, event.at));
            *span = (span.0.min(event.at), span.1.max(event.at));
        }
        for ((route, key), (from, to)) in spans {
            let index = key - first[usize::from(route)];
            let bytes = self.routes[usize::from(route)].bytes;
            let mut at = from;
            while let Some(next) = world.next_change(WorldKey { route, index }, at).filter(|t| *t <= to && *t > at) {
                events.push(Event { at: next, key, route, kind: EventKind::Change, bytes });
                at = next;
            }
        }
    }
}

impl RecipeRoute {
    fn facts(&self) -> TraceRoute {
        TraceRoute { name: self.name.clone(), price: self.price, nondeterministic: matches!(self.process, Process::Nondeterministic) }
    }

    fn check(&self) -> Result<(), RecipeError> {
        let place = |key: &str| format!("routes.{}.{key}", self.name);
        within(&place("keys"), f64::from(self.keys), 1.0, 1e8)?;
        within(&place("weight"), self.weight, 1e-9, 1e9)?;
        self.terms.check(&place)?;
        self.tokens.iter().try_for_each(|tokens| tokens.check(&place))?;
        match self.process {
            Process::Never | Process::Nondeterministic => Ok(()),
            Process::Poisson { mean_interval_s, sigma } => {
                within(&place("process.mean_interval_s"), mean_interval_s, 1.0, 1e10)?;
                within(&place("process.sigma"), sigma, 0.0, 4.0)
            }
            Process::Informative { mean_interval_s, sigma, reads_per_change, delay_s } => {
                within(&place("process.mean_interval_s"), mean_interval_s, 1.0, 1e10)?;
                within(&place("process.sigma"), sigma, 0.0, 4.0)?;
                within(&place("process.reads_per_change"), reads_per_change, 1e-6, 1e3)?;
                within(&place("process.delay_s"), delay_s, 0.001, 1e9)
            }
            Process::Drifting { mean_interval_s, sigma, factor, every_s } => {
                within(&place("process.mean_interval_s"), mean_interval_s, 1.0, 1e10)?;
                within(&place("process.sigma"), sigma, 0.0, 4.0)?;
                within(&place("process.factor"), factor, 1.0, 100.0)?;
                within(&place("process.every_s"), every_s, 60.0, 1e10)
            }
            Process::Periodic { period_s, offset_s, jitter_s } => {
                within(&place("process.period_s"), period_s, 1.0, 1e9)?;
                within(&place("process.offset_s"), offset_s, 0.0, 1e9)?;
                within(&place("process.jitter_s"), jitter_s, 0.0, period_s)
            }
        }
    }
}

pub(crate) fn within(place: &str, value: f64, low: f64, high: f64) -> Result<(), RecipeError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(RecipeError::Number { place: place.to_owned(), value, allowed: "a finite number in the documented range (data/README.md)" })
}
