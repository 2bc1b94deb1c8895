//! Routes with several providers: what they are built of, what a call is weighed by, and what is told of them.

use std::hash::Hasher;
use std::sync::Arc;

use farthing_config::{AdapterConfig, CredentialPlace, Dialect, LegConfig, Mode, Provider, Route, RoutingConfig};
use farthing_ledger::RequestFacts;
use farthing_policy::prompt_cache::{PromptCache, PromptCacheTerms};
use farthing_policy::routing::Weights;
use farthing_types::{CallReport, Money, Priority, RouteName, RouteTerms, Span, Usage};
use farthing_upstream::{
    Adapter, AnswerMap, CREDENTIAL_HEADERS, ErrorIf, Leg, Origin, RequestMap, RetrySpec, Router, RouterReport, RouterSpec, Upstream, over,
};
use http::header::{COOKIE, HeaderName};
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::flight::Flight;
use crate::pricing::Charged;
use crate::request::{Planned, Variant};
use crate::state::State;

/// Bytes of a request's body for which a provider's prompt cache is followed as one.
const BLOCK: usize = 2_048;
/// Such blocks of one request; what is beyond them is not followed.
const MOST_BLOCKS: usize = 64;
/// How a provider keeps prompts: as long as the shortest of the common lifetimes.
const KEPT: PromptCacheTerms = PromptCacheTerms { ttl: Span::from_secs(300), block: BLOCK as u64, capacity: 4_096 };
/// Bytes of a token, where nothing is known yet.
const TOKEN: u64 = 4;
/// Tokens of an answer whose request does not bound it.
const OUTPUT: u64 = 256;
/// How much the latest cost of a call counts in the mean.
const LATEST: f64 = 0.1;

/// The providers of a route at work.
pub struct Routing {
    origin: Arc<dyn Origin>,
    router: Router,
    /// In the route's order.
    legs: Vec<Priced>,
    /// The ways to them: whose credential is sent, and the upstream.
    pub ways: Vec<(Arc<str>, &'static str, Arc<Upstream>)>,
    /// Bodies of requests go out compressed to some of them.
    pub compresses: bool,
    /// Bodies are prompts, which providers may have kept.
    prompts: bool,
}

/// What calls of one provider cost.
struct Priced {
    provider: Arc<str>,
    kept: Mutex<PromptCache>,
    /// It keeps prompts without being told to.
    keeps: bool,
    /// Nano-dollars of a call, the latest counting most; `None` before any was charged.
    mean: Mutex<Option<f64>>,
}

/// What is told of a route with several providers.
#[derive(Clone, Debug)]
pub struct RoutingReport {
    /// The route.
    pub route: RouteName,
    /// The least quality of who gets calls.
    pub floor: f64,
    /// Its providers and their scores.
    pub router: RouterReport,
}

/// What a call of such a route is chosen by, and what of its prompt providers may keep.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// What goes with the call.
    pub terms: RouteTerms,
    blocks: Arc<[u64]>,
    bytes: u64,
}

/// Where a provider of several is asked: with its own credential, or with none.
pub type Way = (Arc<Provider>, &'static str, Arc<Upstream>);

impl Routing {
    /// The providers of a route, by the ways to them in its order; `None` where it has one.
    pub fn of(route: &Route, seed: u64, ways: impl Iterator<Item = Way>) -> Option<Self> {
        let config = route.routing.as_ref()?;
        // Who only looks on changes nobody's provider.
        let most = if route.mode == Mode::Observe { 1 } else { config.providers.len() };
        let ways: Vec<Way> = ways.take(most).collect();
        let legs = config.providers.iter().zip(&ways).map(|(config_of, way)| leg(config, config_of, way));
        let providers: Vec<&Provider> = ways.iter().map(|(provider, ..)| &**provider).collect();
        let retry = retry(providers.first().copied(), seed);
        let (router, origin) = over(legs.collect(), spec(route, config, (&providers, seed)), retry);
        let priced = |(provider, ..): &Way| Priced {
            provider: provider.name.clone(),
            kept: Mutex::new(PromptCache::new(KEPT)),
            keeps: provider.dialect != Dialect::Anthropic,
            mean: Mutex::default(),
        };
        let prompts = providers.first().is_some_and(|provider| provider.dialect != Dialect::Generic);
        let legs = ways.iter().map(priced).collect();
        let compresses = providers.iter().any(|provider| provider.upstream.compress_requests.is_some());
        let ways = ways.into_iter().map(|(provider, whose, upstream)| (provider.name.clone(), whose, upstream)).collect();
        Some(Self { origin, router, legs, ways, compresses, prompts })
    }

    /// Who answers calls.
    pub fn origin(&self) -> Arc<dyn Origin> {
        self.origin.clone()
    }

    /// What is told of it.
    pub fn report(&self, route: &Route) -> RoutingReport {
        let floor = route.routing.as_ref().map_or(0.0, |routing| routing.floor);
        RoutingReport { route: route.name.clone(), floor, router: self.router.report() }
    }

    /// What a request's call is chosen by: what it would cost at each provider now, with what is left of free quotas and of the prompt that the
    /// provider has kept. Where the price hangs on the answer, the mean of the latest calls stands for it.
    pub fn weigh(&self, state: &State, planned: &Planned) -> Weighed {
        let body = planned.outbound.body.as_full().unwrap_or_default();
        let none = RequestFacts::default();
        let facts = planned.outbound.facts().unwrap_or(&none);
        let blocks: Arc<[u64]> = if self.prompts { blocks(&body) } else { Arc::default() };
        let (bytes, at) = (body.len() as u64, planned.account.at);
        let price = |leg: &Priced| {
            let kept = if blocks.is_empty() { 0 } else { leg.kept.lock().kept(at, &blocks, bytes) };
            let names = (&*planned.account.route.route.name, &*leg.provider);
            state.pricing.quote(names, facts.target.as_deref(), at, &expected(facts, (bytes, kept))).or_else(|| leg.mean())
        };
        let plan = planned.account.variant.as_ref().and_then(Variant::plan);
        let bypassed = plan.is_some_and(|plan| !plan.routing) || planned.account.route.switches.is_bypassed(at);
        let weights = plan.and_then(|plan| plan.weights.of(planned.priority));
        Weighed { terms: RouteTerms { prices: self.legs.iter().map(price).collect(), only: None, bypassed, weights }, blocks, bytes }
    }

    /// Notes what the attempts of a call cost, where that is known, and whose prompt cache has seen it.
    pub fn settled(&self, flight: &Flight, reports: &[CallReport], charged: &Charged) {
        for (index, report) in reports.iter().enumerate() {
            let Some(leg) = report.routed.as_ref().and_then(|routed| self.legs.get(routed.place)) else { continue };
            let answered = report.status.is_some_and(|status| status.is_success());
            if let Some(cost) = charged.cost(index).filter(|_| answered) {
                leg.charged(cost);
            }
            // Who keeps what it is told to says so in its usage.
            let Usage { cached_input, cache_write, cache_write_1h, .. } = charged.usage;
            let told = [cached_input, cache_write, cache_write_1h].into_iter().flatten().any(|tokens| tokens > 0);
            let kept = answered && (leg.keeps || told);
            if let Some(weighed) = flight.weighed.as_ref().filter(|weighed| kept && !weighed.blocks.is_empty()) {
                leg.kept.lock().call(flight.at, &weighed.blocks, weighed.bytes);
            }
        }
    }
}

impl Weighed {
    /// With money for one of the providers alone, where it is so.
    #[must_use]
    pub fn only(mut self, place: Option<usize>) -> Self {
        self.terms.only = place;
        self
    }
}

impl Priced {
    fn charged(&self, cost: Money) {
        let (mut mean, cost) = (self.mean.lock(), cost.nanos() as f64);
        *mean = Some(mean.map_or(cost, |mean| mean + LATEST * (cost - mean)));
    }

    fn mean(&self) -> Option<Money> {
        // A guess for a choice, and no money that anybody is charged.
        let nanos = (*self.mean.lock())?;
        Some(Money::from_nanos(nanos.round() as i64))
    }
}

/// What a call will probably use.
fn expected(facts: &RequestFacts, (bytes, kept): (u64, u64)) -> Usage {
    let input = bytes / TOKEN;
    let cached = (kept / TOKEN).min(input);
    let output = facts.max_output.unwrap_or(OUTPUT).saturating_mul(u64::from(facts.choices.unwrap_or(1).max(1)));
    Usage { input: Some(input - cached), cached_input: Some(cached), output: Some(output), ..Usage::default() }
}

/// The blocks of a prompt: each stands for itself and all before it.
fn blocks(body: &[u8]) -> Arc<[u64]> {
    let mut hasher = SipHasher13::new();
    let hash = |block: &[u8]| {
        hasher.write(block);
        hasher.finish()
    };
    body.chunks_exact(BLOCK).take(MOST_BLOCKS).map(hash).collect()
}

fn retry(first: Option<&Provider>, seed: u64) -> RetrySpec {
    let usual = RetrySpec { seed, ..RetrySpec::default() };
    first.map_or(usual, |provider| crate::route::retry(provider, seed))
}

fn spec(route: &Route, config: &RoutingConfig, (providers, seed): (&[&Provider], u64)) -> RouterSpec {
    let weights = |priority: Priority| config.weights.of(priority).map_or(Weights::of(priority), Weights::from);
    let header = |provider: &&Provider| match &provider.credential_place {
        CredentialPlace::Header(name) => Some(name.clone()),
        _ => None,
    };
    let parameter = |provider: &&Provider| match &provider.credential_place {
        CredentialPlace::Query(name) => Some(name.clone()),
        _ => None,
    };
    let ours = CREDENTIAL_HEADERS.into_iter().map(HeaderName::from_static).chain([COOKIE]);
    let mut of = [Weights::of(Priority::Medium); Priority::ALL.len()];
    Priority::ALL.iter().zip(&mut of).for_each(|(priority, place)| *place = weights(*priority));
    RouterSpec {
        route: route.name.clone(),
        weights: of,
        floor: config.floor,
        seed,
        credential_headers: ours.chain(providers.iter().filter_map(header)).collect(),
        credential_parameters: providers.iter().filter_map(parameter).collect(),
    }
}

fn leg(routing: &RoutingConfig, config: &LegConfig, (provider, _, upstream): &Way) -> Leg {
    let none = AdapterConfig::default();
    Leg {
        provider: provider.name.clone(),
        upstream: upstream.clone(),
        quality: config.quality,
        adapter: adapter(config.adapter.as_ref().unwrap_or(&none), routing),
        breaker: crate::route::breaker(provider),
    }
}

fn adapter(config: &AdapterConfig, routing: &RoutingConfig) -> Adapter {
    let rule = |rule: &farthing_config::ErrorIfConfig| ErrorIf { pointer: rule.pointer.clone(), is: rule.is.clone(), status: rule.status };
    let request = RequestMap {
        path: config.path.clone(),
        to: config.to.clone(),
        rename_query: config.rename_query.clone(),
        set_query: config.set_query.clone(),
        drop_query: config.drop_query.clone(),
        rename_body: config.rename_body.clone(),
        set_body: config.set_body.clone(),
        set_headers: config.set_headers.clone(),
    };
    let answer = AnswerMap {
        fields: config.answer.clone(),
        constants: config.set_answer.clone(),
        errors: config.error.clone(),
        error_if: config.error_if.iter().map(rule).collect(),
        required: routing.required.clone(),
        complete: routing.complete,
        max_bytes: usize::try_from(config.max_answer).unwrap_or(usize::MAX),
    };
    Adapter { request, answer }
}

impl State {
    /// What is told of the routes with several providers.
    pub fn routings(&self) -> Vec<RoutingReport> {
        self.live().routes.iter().filter_map(|route| Some(route.routing.as_ref()?.report(&route.route))).collect()
    }
}
