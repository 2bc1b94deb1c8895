//! Routes from a configuration, and what of those in force goes on in them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use farthing_cache::Hearing;
use farthing_config::{Config, CredentialPlace, Mode as RouteMode, Provider, Route};
use farthing_contract::features::RouteStats;
use farthing_policy::{RouteFacts, plan};
use farthing_types::Overrides;
use farthing_upstream::{Credential, Upstream, UpstreamError, UpstreamSpec};
use parking_lot::Mutex;

use crate::StartError;
use crate::batching::Batching;
use crate::content::{self, Personal};
use crate::defer::Defer;
use crate::events::SourceState;
use crate::limits::{self, Limits};
use crate::live::Live;
use crate::pace::Pace;
use crate::plans::Planning;
use crate::prefetch;
use crate::prompts::Prompts;
use crate::route::{RouteState, credential, credentials, dialect, economics, facts, key_spec, place_of, rules, upstream};
use crate::routing::{self, Routing};
use crate::stats::Numbered;
use crate::switches::Switches;
use crate::writes;

/// Builds the upstream of a specification.
pub type Build<'a> = dyn Fn(UpstreamSpec) -> Result<Arc<Upstream>, UpstreamError> + 'a;

/// Ways to providers, by name.
pub type WaysBy = HashMap<Arc<str>, Ways>;

/// What routes are compiled with beside their configuration.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Sources of events.
    pub events: &'a [Arc<SourceState>],
    /// What is heard of the fleet; `None` where this instance is alone.
    pub hearing: Option<&'a Arc<Hearing>>,
    /// What is in force: what lives on a route of the same name, and the way to a provider that is reached as before, go on.
    pub before: Option<&'a Live>,
    /// Makes upstreams.
    pub build: &'a Build<'a>,
}

/// Compiled routes and what they share.
pub struct Compiled {
    /// In the order in which they are tried.
    pub routes: Vec<Arc<RouteState>>,
    /// The ways to their providers.
    pub ways: WaysBy,
    /// The limits, as no route sees them.
    pub limits: Limits,
    /// Numbers of all routes that there were since the start, by name.
    pub numbers: HashMap<Arc<str>, u16>,
}

/// Compiles every route of the configuration. Nothing of what is in force is changed.
///
/// # Errors
/// A provider that is missing, an upstream that cannot be built, or overrides that name nothing.
pub fn compile(config: &Config, around: Around<'_>) -> Result<Compiled, StartError> {
    let limits = around.before.map_or_else(|| Limits::new(config), |live| live.limits.clone());
    let mut numbers = around.before.map(|live| live.numbers.clone()).unwrap_or_default();
    let (mut ways, mut routes) = (WaysBy::new(), Vec::with_capacity(config.routes.len()));
    for route in &config.routes {
        let mut find = |name: &Arc<str>| {
            let missing = || StartError::NoProvider { route: route.name.clone(), provider: name.clone() };
            let provider = config.provider(name).ok_or_else(missing)?;
            Ok::<_, StartError>(match ways.entry(provider.name.clone()) {
                Entry::Occupied(ways) => ways.get().clone(),
                Entry::Vacant(place) => place.insert(Ways::to(provider, (config, &limits), around)?).clone(),
            })
        };
        let several =
            route.routing.as_ref().map(|routing| routing.providers.iter().map(|leg| find(&leg.provider)).collect::<Result<Vec<_>, _>>());
        let compiling = Compiling { config, around, limits: &limits, old: around.before.and_then(|live| live.named(&route.name)) };
        let state = compiling.route(route, find(&route.provider)?, several.transpose()?)?;
        let next = number(numbers.len());
        let index = *numbers.entry(route.name.clone()).or_insert(next);
        routes.push(Arc::new(RouteState { index, ..state }));
    }
    Ok(Compiled { routes, ways, limits, numbers })
}

/// A number among the routes; those beyond the last that can be told share it, and are not fetched ahead.
fn number(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// The ways to a provider, which its routes share: its breaker, its budget of repeats and its places are about all of them.
#[derive(Clone)]
pub struct Ways {
    provider: Arc<Provider>,
    /// Limits count attempts on it.
    counted: bool,
    pass: Arc<Upstream>,
    swap: Option<Arc<Upstream>>,
    pace: Arc<Pace>,
}

impl Ways {
    /// The one that calls take where the route has several providers: a client's own credential is for none of them.
    fn of_several(&self) -> routing::Way {
        match &self.swap {
            Some(swap) => (self.provider.clone(), "own", swap.clone()),
            None => (self.provider.clone(), "client", self.pass.clone()),
        }
    }

    fn to(provider: &Arc<Provider>, (config, limits): (&Config, &Limits), around: Around<'_>) -> Result<Self, UpstreamError> {
        let old = around.before.and_then(|live| live.ways.get(&provider.name));
        let counted = limits::counts(config, provider);
        let pace = match old {
            Some(old) if old.waits_alike(provider) => old.pace.clone(),
            Some(old) => Arc::new(old.pace.under(provider)),
            None => Arc::new(Pace::new(provider)),
        };
        if let Some(old) = old.filter(|old| old.counted == counted && old.is_reached_alike(provider)) {
            return Ok(Self { provider: provider.clone(), pace, ..old.clone() });
        }
        let gated = |credential: Option<Credential>| {
            let own = credential.is_none() && provider.credential_place != CredentialPlace::None;
            let gate = counted.then(|| limits.gate(provider, own));
            (around.build)(UpstreamSpec { gate, ..upstream(provider, credential, config.seed) })
        };
        let swap = credential(provider).map(|credential| gated(Some(credential))).transpose()?;
        Ok(Self { provider: provider.clone(), counted, pass: gated(None)?, swap, pace })
    }

    /// Whether connections, breaker and repeats may go on.
    fn is_reached_alike(&self, other: &Provider) -> bool {
        let of = |provider: &Provider| {
            let Provider { base_url, credential_place, credential, upstream, .. } = provider.clone();
            (base_url, credential_place, credential, upstream)
        };
        of(&self.provider) == of(other)
    }

    fn waits_alike(&self, other: &Provider) -> bool {
        (self.provider.refill, self.provider.refill_wait) == (other.refill, other.refill_wait)
    }
}

/// One route on its way.
struct Compiling<'a> {
    config: &'a Config,
    around: Around<'a>,
    limits: &'a Limits,
    /// The one of this name that is in force.
    old: Option<&'a Arc<RouteState>>,
}

impl Compiling<'_> {
    fn route(&self, route: &Arc<Route>, ways: Ways, several: Option<Vec<Ways>>) -> Result<RouteState, StartError> {
        let (config, Ways { provider, pass, swap, pace, .. }) = (self.config, ways);
        let facts = facts(route, &provider);
        let overrides = Overrides::default();
        let compiled = plan::compile(&facts, &overrides).map_err(|source| StartError::Plan { route: route.name.clone(), source })?;
        let source = route.events.as_ref().and_then(|name| self.around.events.iter().find(|source| source.config.name == *name));
        Ok(RouteState {
            routing: several.and_then(|several| self.routing(route, &several)),
            batching: self.batching(route, (&pass, swap.as_ref()))?,
            prompts: match self.old {
                // What one provider has kept says nothing of another.
                Some(old) if old.route.prompt_cache == route.prompt_cache && Arc::ptr_eq(&old.pass, &pass) => old.prompts.clone(),
                _ => Prompts::of(route).map(Arc::new),
            },
            defer: match self.old {
                Some(old) if old.route.defer == route.defer && old.provider.dialect == provider.dialect => old.defer.clone(),
                _ => Defer::of(config, route),
            },
            pass,
            swap,
            compress: if route.compress && route.mode != RouteMode::Observe { config.data.compress.clone().into() } else { Arc::default() },
            compress_min: config.data.compress_min,
            key_spec: key_spec(route, &provider),
            place: place_of(&provider),
            credentials: credentials(&provider),
            rules: rules(route),
            content: content::rules(route, &provider),
            personal: Personal::of(route),
            hearing: self.around.hearing.cloned(),
            events: source.cloned(),
            write_rules: route.purges.iter().cloned().map(writes::Rule::new).collect(),
            economics: economics(route),
            ahead: prefetch::params(route, &compiled),
            index: 0,
            plan: Arc::new(compiled),
            experiment: self.carried(|old| &old.experiment),
            awaited: self.carried(|old| &old.awaited),
            tuned: self.carried(|old| &old.tuned),
            switches: match self.old {
                Some(old) => old.switches.clone(),
                None => Arc::new(Switches::new(route.batch.is_some(), route.prompt_cache.is_some())),
            },
            planning: self.planning(route, &facts),
            facts,
            kept: self.carried(|old| &old.kept),
            stats: match self.old {
                Some(old) => old.stats.clone(),
                None => Arc::new(Mutex::new(Numbered::new(RouteStats::with_stale_budget(route.stale_budget)))),
            },
            watched: self.carried(|old| &old.watched),
            pace,
            limits: self.limits.of(config, (route, &provider)),
            dialect: dialect(&provider),
            route: route.clone(),
            provider,
        })
    }

    fn carried<T: Default>(&self, part: impl Fn(&RouteState) -> &Arc<T>) -> Arc<T> {
        self.old.map_or_else(Arc::default, |old| part(old).clone())
    }

    /// What calls are measured at goes on where they go to the same providers by the same terms.
    fn routing(&self, route: &Route, several: &[Ways]) -> Option<Arc<Routing>> {
        let old = self.old.zip(self.around.before).filter(|(old, live)| {
            let before = several.iter().map(|ways| live.config.provider(&ways.provider.name));
            let looks_on = |route: &Route| route.mode == RouteMode::Observe;
            old.route.routing == route.routing
                && looks_on(&old.route) == looks_on(route)
                && before.zip(several).all(|(before, ways)| before == Some(&ways.provider) && self.goes_on(ways))
        });
        match old.and_then(|(old, _)| old.routing.clone()) {
            Some(routing) => Some(routing),
            None => Routing::of(route, self.config.seed, several.iter().map(Ways::of_several)).map(Arc::new),
        }
    }

    /// Whether the way to a provider is the one that is in force.
    fn goes_on(&self, ways: &Ways) -> bool {
        let old = self.around.before.and_then(|live| live.ways.get(&ways.provider.name));
        old.is_some_and(|old| Arc::ptr_eq(&old.pass, &ways.pass))
    }

    fn batching(&self, route: &Route, (pass, swap): (&Arc<Upstream>, Option<&Arc<Upstream>>)) -> Result<Option<Arc<Batching>>, StartError> {
        let same = |old: &&Arc<RouteState>| old.route.batch == route.batch && Arc::ptr_eq(&old.pass, pass);
        match self.old.filter(same) {
            Some(old) => Ok(old.batching.clone()),
            None => Ok(Batching::of(route, (pass, swap), self.old.and_then(|old| old.batching.as_deref()))?.map(Arc::new)),
        }
    }

    /// What was decided holds as long as it could have been decided now; what it was decided from goes on in every case.
    fn planning(&self, route: &Route, facts: &RouteFacts) -> Arc<Planning> {
        let Some(old) = self.old else { return Arc::default() };
        // A TTL has no part in it.
        let alike = RouteFacts { ttl: old.facts.ttl, ..facts.clone() };
        if old.facts == alike && old.route.strategy == route.strategy {
            return old.planning.clone();
        }
        let anew = Planning::default();
        anew.start_from(old.planning.stats());
        Arc::new(anew)
    }
}
