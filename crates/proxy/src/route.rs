//! Routes as the request path uses them: matched, with plan, keys, rules, upstreams and live statistics.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use farthing_cache::Hearing;
use farthing_config::{CredentialPlace, HttpProtocol, Mode as RouteMode, Profile as RouteProfile, Provider, Route, TargetedField, TtlBy};
use farthing_experiment::Experiment;
use farthing_freshness::key::{CREDENTIAL_NAMES, Credentials};
use farthing_freshness::semantics::{Target, Targets};
use farthing_freshness::{BodyKey, ContentRules, KeySpec, Mode, Profile, Rules};
use farthing_policy::fill::Kept;
use farthing_policy::plan::RequestKind;
use farthing_policy::prefetch::PrefetchParams;
use farthing_policy::{Plan, RouteEconomics, RouteFacts, TtlParams, TtlSource};
use farthing_types::{Coding, Span, Time};
use farthing_upstream::{BreakerSpec, CompressSpec, Credential, Origin, Place, Protocol, RetrySpec, Upstream, UpstreamSpec};
use http::{Method, Uri, header};
use parking_lot::Mutex;

use crate::batching::Batching;
use crate::content::Personal;
use crate::defer::Defer;
use crate::events::SourceState;
use crate::experiments::Bears;
use crate::lifecycle::Watched;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::plans::Planning;
use crate::prefetch::Off;
use crate::problem::Dialect;
use crate::prompts::Prompts;
use crate::routing::Routing;
use crate::stats::Numbered;
use crate::switches::Switches;
use crate::tuned::Tuned;
use crate::writes;

/// One configured route, compiled. What lives on it is shared with the one of its name that another configuration brings.
pub struct RouteState {
    /// Its configuration.
    pub route: Arc<Route>,
    /// Who is asked and billed.
    pub provider: Arc<Provider>,
    /// Asked with the client's own credential.
    pub pass: Arc<Upstream>,
    /// Asked with the provider's configured credential; `None` when there is none.
    pub swap: Option<Arc<Upstream>>,
    /// Who is asked in their place where the route has several providers.
    pub routing: Option<Arc<Routing>>,
    /// What stands in front of them where calls are made together.
    pub batching: Option<Arc<Batching>>,
    /// Prompts that are marked for the provider's own cache; `None` where none are.
    pub prompts: Option<Arc<Prompts>>,
    /// Calls that wait for the provider's batch endpoint; `None` where none may.
    pub defer: Option<Arc<Defer>>,
    /// Codings in which its answers may go to clients.
    pub compress: Arc<[Coding]>,
    /// Smallest answer that is, in bytes.
    pub compress_min: u64,
    /// What enters keys.
    pub key_spec: KeySpec,
    /// What tells its targets apart beyond the path of a request: see [`place_of`].
    pub place: Arc<str>,
    /// Query parameters that the principal stands for.
    pub credentials: Credentials,
    /// What may be reused.
    pub rules: Rules,
    /// What bodies may hold for their answers to be kept.
    pub content: ContentRules,
    /// Requests that have a personal field.
    pub personal: Personal,
    /// The source of events that tells of changes.
    pub events: Option<Arc<SourceState>>,
    /// What was heard of the fleet's purges; `None` where this instance is alone.
    pub hearing: Option<Arc<Hearing>>,
    /// What its writes purge.
    pub write_rules: Vec<writes::Rule>,
    /// What the plan is compiled from.
    pub facts: RouteFacts,
    /// Money and trust, as decisions see them.
    pub economics: RouteEconomics,
    /// The plan without an experiment.
    pub plan: Arc<Plan>,
    /// The experiments that run on the route, each with a plan for each variant; a request belongs to one of them at most.
    pub experiment: Arc<ArcSwapOption<Vec<Arc<RouteExperiment>>>>,
    /// The experiment on its copies that a canary waits for.
    pub awaited: Arc<Mutex<Option<Arc<str>>>>,
    /// Values that experiments have found for it.
    pub tuned: Arc<Tuned>,
    /// What is switched off on it while it runs.
    pub switches: Arc<Switches>,
    /// Which strategies it uses.
    pub planning: Arc<Planning>,
    /// Whether its answers come to be kept.
    pub kept: Arc<Mutex<Kept>>,
    /// Live statistics of the route.
    pub stats: Arc<Mutex<Numbered>>,
    /// What is watched of predictors on it.
    pub watched: Arc<Mutex<Watched>>,
    /// The line in front of the provider, shared by its routes.
    pub pace: Arc<Pace>,
    /// The limits that may count its calls.
    pub limits: Limits,
    /// Shape of our errors.
    pub dialect: Dialect,
    /// Its number among all that there were since the start.
    pub index: u16,
    /// What is configured about fetching ahead, or why that is never done.
    pub ahead: Result<PrefetchParams, Off>,
}

/// An experiment as a route sees it: immutable, replaced as a whole.
pub struct RouteExperiment {
    /// The snapshot that assigns.
    pub experiment: Arc<Experiment>,
    /// One plan for each of its variants.
    pub plans: Vec<Arc<Plan>>,
    /// Which requests it compares.
    pub bears: Bears,
    /// Its variants have TTLs of their own, and no canary runs beside it.
    pub copies: bool,
    /// Answers that take longer are late, where nothing else is promised.
    pub latency: Option<Span>,
}

pub const fn dialect(provider: &Provider) -> Dialect {
    match provider.dialect {
        farthing_config::Dialect::OpenAi => Dialect::OpenAi,
        farthing_config::Dialect::Anthropic => Dialect::Anthropic,
        farthing_config::Dialect::Gemini => Dialect::Gemini,
        farthing_config::Dialect::Generic | farthing_config::Dialect::Google => Dialect::Problem,
    }
}

const fn target(field: &TargetedField) -> Target {
    match field {
        TargetedField::Farthing => Target::Own,
        TargetedField::Cdn => Target::Cdn,
    }
}

/// What may be reused on a route.
pub fn rules(route: &Route) -> Rules {
    let mode = match route.mode {
        RouteMode::Respect => Mode::Respect,
        RouteMode::Learned => Mode::Learned,
        RouteMode::Override => Mode::Override,
        RouteMode::Observe => Mode::Observe,
    };
    Rules {
        shared: route.shared,
        any_method: route.idempotent && route.key_body,
        max_age: Some(match route.max_store {
            Some(terms) if terms.as_nanos() < route.max_ttl.as_nanos() => terms,
            _ => route.max_ttl,
        }),
        stale_if_error: route.stale_if_error,
        targets: route.targeted.as_ref().map(|fields| Targets::new(fields.iter().map(target))),
        ..Rules::new(mode)
    }
}

/// Where the targets of a provider are: its authority and the path of its base URL. `/v1/users` and `/v2/users` are two things, also to a store that outlives
/// the configuration. By which scheme it is reached makes no other API of it.
pub fn place_of(provider: &Provider) -> Arc<str> {
    let authority = provider.base_url.authority().map_or("", http::uri::Authority::as_str);
    format!("{authority}{}", provider.base_url.path().trim_end_matches('/')).into()
}

/// The query parameter in which the provider wants its credential.
fn place(provider: &Provider) -> Option<&str> {
    match &provider.credential_place {
        CredentialPlace::Query(name) => Some(&**name),
        _ => None,
    }
}

pub fn credentials(provider: &Provider) -> Credentials {
    Credentials::new(CREDENTIAL_NAMES.iter().copied().chain(place(provider)))
}

/// Left out of a key is what the principal stands for, and what the configuration says means nothing. On a shared route no principal
/// stands for anything: there a parameter that only looks like a credential may be data, and counts.
pub fn key_spec(route: &Route, provider: &Provider) -> KeySpec {
    let stood_for: &[&str] = if route.shared { &[] } else { CREDENTIAL_NAMES };
    let named = route.strip_query.iter().map(|n| &**n).chain(place(provider));
    let all: Vec<&str> = stood_for.iter().copied().chain(named).collect();
    KeySpec {
        profile: match route.profile {
            RouteProfile::Http => Profile::Http,
            RouteProfile::Api => Profile::Api,
        },
        body: if route.key_body { BodyKey::CanonicalJson } else { BodyKey::Ignored },
        credentials: Arc::new(Credentials::new(all)),
    }
}

/// What a route's plan is compiled from.
pub fn facts(route: &Route, provider: &Provider) -> RouteFacts {
    RouteFacts {
        cache: route.cache,
        dedupe: route.dedupe,
        batch: route.batch.is_some(),
        prefetch: route.prefetch == farthing_config::Prefetch::Auto,
        prompt_cache: route.prompt_cache.is_some(),
        defer: route.defer.is_some(),
        shared: route.shared,
        realtime: route.realtime,
        personalised: route.personalised,
        sensitive: route.sensitive,
        observe: route.mode == RouteMode::Observe,
        terms_forbid: !provider.terms.storable,
        terms_forbid_prefetch: !provider.terms.prefetch,
        ttl: ttl_params(route),
        ..RouteFacts::default()
    }
}

/// What a route says about money and trust. A configured stale-while-revalidate window is a share of the base TTL; it grows with the
/// chosen TTL.
pub fn economics(route: &Route) -> RouteEconomics {
    let base = route.base_ttl.as_secs_f64();
    let stale_share_of_ttl = if base > 0.0 { (route.stale_while_revalidate.as_secs_f64() / base).min(1.0) } else { 0.0 };
    RouteEconomics {
        price_stale: route.price_stale,
        stale_budget: route.stale_budget,
        stale_share_of_ttl,
        trust_shipped: route.trust_shipped,
    }
}

/// What a route's TTL decisions work with, before prices and the bundle's operating point are known.
pub fn ttl_params(route: &Route) -> TtlParams {
    TtlParams {
        source: match route.ttl {
            TtlBy::Model => TtlSource::Model,
            TtlBy::Table => TtlSource::Table,
            TtlBy::Rule => TtlSource::Rule,
            TtlBy::Fixed(ttl) => TtlSource::Fixed(ttl),
        },
        base: route.base_ttl,
        min: route.min_ttl,
        max: route.max_ttl,
        stale_budget: route.stale_budget,
        ..TtlParams::default()
    }
}

pub fn credential(provider: &Provider) -> Option<Credential> {
    let secret = farthing_upstream::Secret::new(provider.credential.as_ref()?.expose());
    let place = match &provider.credential_place {
        CredentialPlace::None => return None,
        CredentialPlace::Bearer => Place::Header(header::AUTHORIZATION, "Bearer ".into()),
        CredentialPlace::Header(name) => Place::Header(name.clone(), "".into()),
        CredentialPlace::Query(name) => Place::Query(name.clone()),
    };
    Some(Credential::new(place, secret))
}

pub fn upstream(provider: &Provider, credential: Option<Credential>, seed: u64) -> UpstreamSpec {
    let settings = &provider.upstream;
    UpstreamSpec {
        credential,
        connect_deadline: settings.connect_timeout,
        protocol: match settings.protocol {
            HttpProtocol::Auto => Protocol::Auto,
            HttpProtocol::Http1 => Protocol::Http1,
            HttpProtocol::Http2 => Protocol::Http2,
        },
        head_deadline: settings.head_timeout,
        try_deadline: settings.try_timeout,
        body_idle: settings.idle_timeout,
        pool_max_idle: settings.max_idle,
        pool_idle: settings.keep_idle,
        retry: retry(provider, seed),
        breaker: breaker(provider),
        max_concurrent: settings.max_concurrent,
        compress: settings.compress_requests.map(|wanted| CompressSpec { min: wanted.min, coding: wanted.encoding }),
        ..UpstreamSpec::new(provider.name.clone(), provider.base_url.clone())
    }
}

/// When a provider is left alone.
pub fn breaker(provider: &Provider) -> BreakerSpec {
    let settings = &provider.upstream;
    BreakerSpec { cool_down: settings.breaker_cooldown, error_share: settings.breaker_share, ..BreakerSpec::default() }
}

/// When and how often calls to a provider are made again.
pub fn retry(provider: &Provider, seed: u64) -> RetrySpec {
    let settings = &provider.upstream;
    RetrySpec {
        attempts: settings.attempts.clamp(1, 10) as u16,
        backoff: settings.backoff,
        budget_share: settings.retry_share,
        budget_floor: settings.retry_floor,
        seed,
        ..RetrySpec::default()
    }
}

impl RouteState {
    /// Whether nothing of the fleet has been heard for too long at `at`; where there is one.
    pub fn is_silent(&self, at: Time) -> bool {
        self.hearing.as_ref().is_some_and(|hearing| hearing.is_silent(at))
    }

    /// What a request of this method is to the plan.
    pub fn kind(&self, method: &Method) -> RequestKind {
        RequestKind::of(method.as_str(), self.route.idempotent && self.route.key_body)
    }

    /// Whether bodies of requests go out compressed to any of its providers.
    pub fn compresses_requests(&self) -> bool {
        match &self.routing {
            Some(routing) => routing.compresses,
            None => self.provider.upstream.compress_requests.is_some(),
        }
    }

    /// The ways to its providers: name, whose credential is sent, upstream.
    pub fn ways(&self) -> impl Iterator<Item = (Arc<str>, &'static str, Arc<Upstream>)> {
        let name = self.provider.name.clone();
        let swap = self.swap.iter().map(|swap| ("own", swap.clone()));
        let own = std::iter::once(("client", self.pass.clone())).chain(swap);
        let several = self.routing.iter().flat_map(|routing| routing.ways.clone());
        own.map(move |(whose, upstream)| (name.clone(), whose, upstream)).chain(several)
    }

    /// The path and query that go upstream: `uri` without scheme, authority and the route's prefix, byte by byte.
    pub fn target(&self, uri: &Uri) -> Option<Uri> {
        let whole = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let rest = whole.strip_prefix(&*self.route.strip_prefix).unwrap_or(whole);
        if rest.starts_with('/') { rest.parse().ok() } else { format!("/{rest}").parse().ok() }
    }

    /// What may be reused while the source of events is down; `None` while it is not.
    pub fn cautious(&self) -> Option<Rules> {
        let down = self.events.as_ref().is_some_and(|source| source.is_down());
        let longest = self.rules.max_age.map_or(self.route.ttl_when_down, |longest| longest.min(self.route.ttl_when_down));
        down.then_some(Rules { max_age: Some(longest), ..self.rules })
    }

    /// Whether requests that carry lists are split.
    pub fn splits_lists(&self) -> bool {
        self.batching.as_ref().is_some_and(|batching| batching.lists.is_some())
    }

    /// Who answers calls: with the provider's configured credential (`swap`) or with the client's own.
    pub fn origin(&self, swap: bool) -> Arc<dyn Origin> {
        if let Some(routing) = &self.routing {
            return routing.origin();
        }
        match (&self.batching, &self.swap) {
            (Some(batching), _) => batching.origin(swap),
            (None, Some(origin)) if swap => origin.clone(),
            (None, _) => self.pass.clone(),
        }
    }
}
