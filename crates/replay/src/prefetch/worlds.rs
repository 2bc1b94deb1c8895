//! Generated sessions whose structure is known.

use farthing_contract::features::thing_of;
use farthing_policy::prefetch::PrefetchParams;
use farthing_types::{Money, Span, Time};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp, Zipf};
use serde::{Deserialize, Serialize};

use super::sessions::{SessionRoute, Sessions, Visited};

/// What sessions look like.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum WorldShape {
    /// A list page, then most of its detail pages, sometimes a page about one of them, then the next list.
    Structured {
        /// Lists; their popularity is Zipf with exponent 0.7.
        lists: u32,
        /// Details per list.
        details: u32,
        /// Share of the details that a session opens.
        opened: f64,
    },
    /// Each request is for any key, evenly.
    Random {
        /// Keys.
        keys: u32,
    },
    /// Each request is for a key by popularity (Zipf with exponent 1), whatever came before.
    Popular {
        /// Keys.
        keys: u32,
    },
}

/// A generated session log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionWorld {
    /// Seed.
    pub seed: u64,
    /// Start, seconds since 1970 UTC.
    pub start_s: i64,
    /// Length, seconds.
    pub duration_s: f64,
    /// New sessions per second (Poisson).
    pub sessions_per_s: f64,
    /// Requests of a session, on average (geometric), at least one.
    pub requests: f64,
    /// Mean time between two requests of a session, seconds (exponential).
    pub think_s: f64,
    /// Price of a call, dollars as a decimal string.
    pub price: Money,
    /// Lifetime of a copy, seconds.
    pub ttl_s: f64,
    /// Structure.
    pub shape: WorldShape,
}

/// Several worlds at once, each a provider with routes of its own: a recipe file such as `data/sessions.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRecipe {
    /// The worlds; each adds its own `seed` to the seed of the whole.
    pub worlds: Vec<SessionWorld>,
}

impl SessionRecipe {
    /// Generates all worlds under `seed` and mixes them by time.
    ///
    /// # Errors
    /// As [`SessionWorld::check`], with the number of the world.
    pub fn generate(&self, seed: u64, params: PrefetchParams) -> Result<Sessions, String> {
        if self.worlds.is_empty() || self.worlds.len() > 1_000 {
            return Err(format!("worlds: give between 1 and 1000, not {}", self.worlds.len()));
        }
        let mut all = Sessions::default();
        for (n, world) in self.worlds.iter().enumerate() {
            let made = world.generate(seed.wrapping_add(world.seed), params).map_err(|e| format!("worlds[{n}]: {e}"))?;
            let first = all.routes.len() as u16;
            all.routes.extend(made.routes.into_iter().map(|r| SessionRoute {
                name: format!("{}-{}", r.name, n + 1),
                provider: n as u16,
                ..r
            }));
            all.visits.extend(made.visits.into_iter().map(|v| {
                let route = first + v.route;
                Visited { session: v.session + ((n as u64 + 1) << 40), route, thing: thing_of(route, v.params), ..v }
            }));
        }
        all.visits.sort_by_key(|v| (v.at, v.session));
        Ok(all)
    }
}

const LIST: u16 = 0;
const DETAIL: u16 = 1;
const ABOUT: u16 = 2;

impl SessionWorld {
    /// Checks every number.
    ///
    /// # Errors
    /// Names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let within = |key: &str, value: f64, low: f64, high: f64| {
            let inside = (low..=high).contains(&value);
            if inside { Ok(()) } else { Err(format!("{key}: {value} is not allowed; give a number from {low} to {high}")) }
        };
        within("duration_s", self.duration_s, 1.0, 1e9)?;
        within("sessions_per_s", self.sessions_per_s, 1e-6, 1e4)?;
        within("requests", self.requests, 1.0, 1e4)?;
        within("think_s", self.think_s, 0.001, 1e5)?;
        within("ttl_s", self.ttl_s, 0.001, 1e8)?;
        match self.shape {
            WorldShape::Structured { lists, details, opened } => {
                within("shape.lists", f64::from(lists), 1.0, 1e7)?;
                within("shape.details", f64::from(details), 1.0, 1e4)?;
                within("shape.opened", opened, 0.0, 1.0)
            }
            WorldShape::Random { keys } | WorldShape::Popular { keys } => within("shape.keys", f64::from(keys), 1.0, 1e8),
        }
    }

    /// Generates the sessions under `seed`: the same world and seed give the same requests, byte for byte. Routes get `params`.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn generate(&self, seed: u64, params: PrefetchParams) -> Result<Sessions, String> {
        self.check()?;
        let mut rng = StdRng::seed_from_u64(seed);
        let starts = Exp::new(self.sessions_per_s).map_err(|e| e.to_string())?;
        let start = Time::from_millis(self.start_s.saturating_mul(1_000));
        let (mut at, mut session, mut visits) = (0.0, 0u64, Vec::new());
        loop {
            at += starts.sample(&mut rng);
            if at >= self.duration_s {
                break;
            }
            session += 1;
            self.play(session, at, &mut rng, &mut visits);
        }
        visits.retain(|(at, _)| *at < self.duration_s);
        visits.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.session.cmp(&b.1.session)));
        let visits = visits.into_iter().map(|(at, visit)| Visited { at: start + Span::from_secs_f64(at), ..visit }).collect();
        let ttl = Span::from_secs_f64(self.ttl_s);
        let route = |name: &str| SessionRoute { name: name.to_owned(), price: self.price, ttl, params, provider: 0 };
        let routes = match self.shape {
            WorldShape::Structured { .. } => vec![route("list"), route("detail"), route("about")],
            WorldShape::Random { .. } | WorldShape::Popular { .. } => vec![route("any")],
        };
        Ok(Sessions { routes, visits })
    }

    fn play(&self, session: u64, mut at: f64, rng: &mut StdRng, visits: &mut Vec<(f64, Visited)>) {
        let Ok(think) = Exp::new(1.0 / self.think_s) else { return };
        let mut ask = |rng: &mut StdRng, route: u16, params: u64| {
            let visit = Visited { at: Time::ZERO, session, thing: thing_of(route, params), route, params };
            visits.push((at, visit));
            at += think.sample(rng);
            // A session ends after each request with the same chance: its length is geometric.
            rng.random::<f64>() >= 1.0 / self.requests
        };
        match self.shape {
            WorldShape::Structured { lists, details, opened } => {
                let mut list = zipf(rng, lists, 0.7);
                while ask(rng, LIST, u64::from(list) + 1) {
                    for detail in 0..details {
                        if rng.random::<f64>() >= opened {
                            continue;
                        }
                        let number = u64::from(list) * 100_000 + u64::from(detail) + 1;
                        if !ask(rng, DETAIL, number) || (rng.random::<f64>() < 0.3 && !ask(rng, ABOUT, number)) {
                            return;
                        }
                    }
                    list = (list + 1) % lists;
                }
            }
            WorldShape::Random { keys } => {
                while {
                    let key = rng.random_range(0..keys);
                    ask(rng, 0, u64::from(key) + 1)
                } {}
            }
            WorldShape::Popular { keys } => {
                while {
                    let key = zipf(rng, keys, 1.0);
                    ask(rng, 0, u64::from(key) + 1)
                } {}
            }
        }
    }
}

fn zipf(rng: &mut StdRng, keys: u32, exponent: f64) -> u32 {
    Zipf::new(f64::from(keys), exponent).map_or(0, |law| (law.sample(rng) as u32).clamp(1, keys) - 1)
}
