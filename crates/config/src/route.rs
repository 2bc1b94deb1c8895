//! A route: which requests it takes, and what may be done with them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use farthing_types::{Money, Priority, RouteName, Span, Tenant};

use crate::{
    BatchConfig, CacheableIf, DeferConfig, Matcher, PersonalField, Prices, PromptCacheConfig, RoutingConfig, TuneConfig, UpgradeConfig,
    WarmConfig, WriteRule,
};

/// How far a route may deviate from what the origin says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never more than RFC 9111 allows.
    Respect,
    /// A predicted TTL where the origin gave no explicit freshness.
    #[default]
    Learned,
    /// The operator knows better than the origin's freshness.
    Override,
    /// Changes no answer, logs all.
    Observe,
}

/// How a cache key sees the headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Headers enter through `Vary` only.
    #[default]
    Http,
    /// All forwarded headers enter, minus a deny-list.
    Api,
}

/// Whose credential goes upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialMode {
    /// The client's own is forwarded; the tenant is its keyed digest. A Farthing key is never forwarded: it is
    /// swapped where the provider has a configured credential, and refused otherwise.
    #[default]
    Pass,
    /// Only a Farthing key comes in; the provider's configured credential goes out. All else is refused (401).
    Swap,
}

/// Who chooses a route's TTL when neither a variant nor a header says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TtlBy {
    /// The chain model, table, rule.
    #[default]
    Model,
    /// The chain table, rule.
    Table,
    /// The rule alone.
    Rule,
    /// A fixed TTL.
    Fixed(Span),
}

/// Who decides which of the strategies that a route allows are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StrategyBy {
    /// The rule; no predictor is asked.
    Rule,
    /// The rule; what the predictor would have chosen is counted and logged.
    #[default]
    Shadow,
    /// The predictor where it was trained on this deployment's log; elsewhere as [`StrategyBy::Shadow`].
    Auto,
    /// The predictor, a shipped one too.
    Model,
}

impl StrategyBy {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Shadow => "shadow",
            Self::Auto => "auto",
            Self::Model => "model",
        }
    }
}

/// Whether a route fetches ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefetch {
    /// Where a wait has a worth, terms allow it and the route's own record shows a gain.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// What becomes of a call when every client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// It goes on to its end: the bill is due anyway.
    Finish,
    /// It is broken off.
    Cancel,
}

/// A field that takes the place of `Cache-Control` for some caches (RFC 9213).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetedField {
    /// `Farthing-Cache-Control`.
    Farthing,
    /// `CDN-Cache-Control`.
    Cdn,
}

/// Who may purge by the method `PURGE` on the data port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PurgeBy {
    /// Nobody: the method goes to the provider like any other.
    #[default]
    Nobody,
    /// Every client its own entries; not on shared routes, where there are none.
    Own,
    /// Holders of a Farthing key with `purge = true`, everybody's entries of the route.
    Key,
}

/// A text that names nobody who could choose a TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write `model`, `table`, `rule` or `fixed:SECONDS`")]
pub struct TtlByError;

impl FromStr for TtlBy {
    type Err = TtlByError;
    /// Reads `model`, `table`, `rule`, `fixed:60s` or `fixed:60` (seconds).
    fn from_str(text: &str) -> Result<Self, TtlByError> {
        match text {
            "model" => Ok(Self::Model),
            "table" => Ok(Self::Table),
            "rule" => Ok(Self::Rule),
            _ => {
                let time = text.strip_prefix("fixed:").ok_or(TtlByError)?;
                let seconds = || time.parse().ok().and_then(|seconds| Span::try_from_secs_f64(seconds).ok());
                crate::read::values::parse_span(time).or_else(seconds).map(Self::Fixed).ok_or(TtlByError)
            }
        }
    }
}

impl fmt::Display for TtlBy {
    /// As in [`farthing_types::Overrides::ttl`]; reads back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model => f.write_str("model"),
            Self::Table => f.write_str("table"),
            Self::Rule => f.write_str("rule"),
            Self::Fixed(span) => write!(f, "fixed:{}", span.as_secs_f64()),
        }
    }
}

/// A checked route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name: in keys, metrics, log and `/r/<name>/`.
    pub name: RouteName,
    /// The provider that is asked and billed; of several the first.
    pub provider: Arc<str>,
    /// How one of several providers is chosen for each call; `None`: there is one.
    pub routing: Option<RoutingConfig>,
    /// Which requests it takes.
    pub matcher: Matcher,
    /// Prefix that is cut off the path before it goes upstream (without a trailing slash; empty cuts nothing).
    pub strip_prefix: Arc<str>,
    /// How far it may deviate from what the origin says.
    pub mode: Mode,
    /// How keys see the headers.
    pub profile: Profile,
    /// One cache for all principals (true) or one for each (false).
    pub shared: bool,
    /// The targeted fields of answers that are heeded, the first one first; `None`: our own, and on a shared route `CDN-Cache-Control`.
    pub targeted: Option<Vec<TargetedField>>,
    /// Whose credential goes upstream.
    pub credential: CredentialMode,
    /// Who may purge by the method `PURGE`.
    pub purge_by: PurgeBy,
    /// The only tenants that may call it; empty: all.
    pub tenants: Vec<Tenant>,
    /// The only teams that may call it, of `tenants` where that names some; empty: all.
    pub teams: Vec<Arc<str>>,
    /// Within what time its requests are promised to be answered.
    pub sla: Option<Span>,
    /// The most that a request may say that it matters.
    pub max_priority: Priority,
    /// Whether W3C trace context is sent to the provider.
    pub trace_context: bool,
    /// Whether answers are cached at all.
    pub cache: bool,
    /// Whether concurrent identical requests share one call.
    pub dedupe: bool,
    /// Whether a call is left to the instance that makes it already, where several share an L2.
    pub fill_lease: bool,
    /// How calls are made together; `None`: they are not.
    pub batch: Option<BatchConfig>,
    /// How prompts are marked for the provider's own cache; `None`: they are not.
    pub prompt_cache: Option<PromptCacheConfig>,
    /// How calls that can wait go to the provider's batch endpoint; `None`: they do not.
    pub defer: Option<DeferConfig>,
    /// How WebSockets are tunnelled; `None`: they are refused.
    pub upgrade: Option<UpgradeConfig>,
    /// When its copies are warmed by the clock; `None`: never.
    pub warm: Option<WarmConfig>,
    /// What of its plan experiments may move.
    pub tune: Option<TuneConfig>,
    /// Who decides which of these are used.
    pub strategy: StrategyBy,
    /// Whether answers must be exact at every moment: none is kept.
    pub realtime: bool,
    /// Whether answers depend on who asks: a shared route keeps and joins none.
    pub personalised: bool,
    /// Whether answers must not be kept for what they hold.
    pub sensitive: bool,
    /// Whether methods other than GET and HEAD may be deduplicated, cached and retried.
    pub idempotent: bool,
    /// Whether the body's digest is part of the key.
    pub key_body: bool,
    /// Whether answers may be compressed for clients.
    pub compress: bool,
    /// Query parameters that are not part of the key nor of any log (they still go upstream).
    pub strip_query: Vec<Arc<str>>,
    /// JSON pointers whose values differ from answer to answer and say nothing about change.
    pub volatile: Vec<Arc<str>>,
    /// Personal fields: a request or an answer that has one is neither kept nor shared.
    pub pii: Vec<PersonalField>,
    /// What an answer's body must say for the answer to be kept; all must hold.
    pub cacheable_if: Vec<CacheableIf>,
    /// What writes on it purge beside their own target.
    pub purges: Vec<WriteRule>,
    /// The source of events that tell of changes.
    pub events: Option<Arc<str>>,
    /// Longest time an answer is served for while that source is down.
    pub ttl_when_down: Span,
    /// Who chooses the TTL.
    pub ttl: TtlBy,
    /// Let a shipped predictor act before the route's own log has trained or validated one.
    pub trust_shipped: bool,
    /// TTL of the rule before anything is known.
    pub base_ttl: Span,
    /// Shortest TTL that is worth storing.
    pub min_ttl: Span,
    /// Longest TTL (already cut to `max_store`).
    pub max_ttl: Span,
    /// Share of answers that may be stale, 0 to 1.
    pub stale_budget: f64,
    /// How long after expiry a stale answer may go out while a refresh runs.
    pub stale_while_revalidate: Span,
    /// Mean time before its expiry at which an entry that is still read is refreshed in the background; zero: never.
    pub refresh_ahead: Span,
    /// Whether it fetches ahead.
    pub prefetch: Prefetch,
    /// A share of its answers is checked at the origin.
    pub audit: bool,
    /// What it is worth that a client does not wait for one call; zero: nothing is fetched ahead.
    pub price_wait: Money,
    /// Least probability of use at which a call is made ahead, 0 to 1.
    pub prefetch_confidence: f64,
    /// Most that is spent ahead in an hour, as a share of what the route's other calls cost.
    pub prefetch_budget: f64,
    /// How long after expiry a stale answer may stand in for a failed call.
    pub stale_if_error: Span,
    /// Longest time the provider's terms allow an answer to be kept; `None` when they set none.
    pub max_store: Option<Span>,
    /// Largest request body (413 beyond).
    pub max_body: u64,
    /// Largest request body that is held for key, dedupe and retry; a larger one streams through as a bypass.
    pub buffer_limit: u64,
    /// Longest time a call may take.
    pub deadline: Span,
    /// What becomes of a call when every client has left; `None`: as its dialect bills.
    pub on_disconnect: Option<OnDisconnect>,
    /// Whether usage is asked for in streams where the client did not; `None`: where the provider speaks the OpenAI dialect.
    pub include_usage: Option<bool>,
    /// Prices by local contract, in place of the provider's.
    pub prices: Option<Prices>,
    /// Price of one stale answer; `None` derives it from the stale budget.
    pub price_stale: Option<Money>,
    /// How much its requests matter where they do not say.
    pub priority: Priority,
    /// The most that one attempt of a call can cost, where prices do not tell.
    pub max_call_cost: Option<Money>,
}

impl Route {
    /// Whether its calls may go to a provider.
    pub fn asks(&self, provider: &str) -> bool {
        self.providers().any(|name| **name == *provider)
    }

    /// The names of its providers, the first one first.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<str>> {
        let several = self.routing.iter().flat_map(|routing| &routing.providers).map(|leg| &leg.provider);
        std::iter::once(&self.provider).filter(|_| self.routing.is_none()).chain(several)
    }
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: "default".into(),
            provider: "default".into(),
            routing: None,
            matcher: Matcher { path_prefix: "/".into(), ..Matcher::default() },
            strip_prefix: "".into(),
            mode: Mode::Learned,
            profile: Profile::Http,
            shared: false,
            targeted: None,
            credential: CredentialMode::Pass,
            purge_by: PurgeBy::Nobody,
            cache: true,
            dedupe: true,
            fill_lease: true,
            batch: None,
            prompt_cache: None,
            defer: None,
            upgrade: None,
            warm: None,
            tune: None,
            strategy: StrategyBy::Shadow,
            realtime: false,
            personalised: false,
            sensitive: false,
            idempotent: false,
            compress: true,
            key_body: true,
            strip_query: Vec::new(),
            volatile: Vec::new(),
            tenants: Vec::new(),
            teams: Vec::new(),
            sla: None,
            max_priority: Priority::High,
            trace_context: true,
            pii: Vec::new(),
            cacheable_if: Vec::new(),
            purges: Vec::new(),
            events: None,
            ttl_when_down: Span::from_secs(10),
            ttl: TtlBy::Model,
            trust_shipped: false,
            base_ttl: Span::from_secs(60),
            min_ttl: Span::from_secs(1),
            max_ttl: Span::from_secs(86_400),
            stale_budget: 0.005,
            stale_while_revalidate: Span::ZERO,
            refresh_ahead: Span::ZERO,
            prefetch: Prefetch::Auto,
            audit: true,
            price_wait: Money::ZERO,
            prefetch_confidence: 0.7,
            prefetch_budget: 0.25,
            stale_if_error: Span::from_secs(600),
            max_store: None,
            max_body: 100_000_000,
            buffer_limit: 8_000_000,
            deadline: Span::from_secs(60),
            on_disconnect: None,
            include_usage: None,
            prices: None,
            price_stale: None,
            priority: Priority::Medium,
            max_call_cost: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_chooses_reads_back() {
        for text in ["model", "table", "rule", "fixed:60", "fixed:0.5"] {
            assert_eq!(text.parse::<TtlBy>().unwrap().to_string(), text);
        }
        assert_eq!("fixed:1h".parse(), Ok(TtlBy::Fixed(Span::from_secs(3_600))));
        for text in ["", "fixed", "fixed:", "fixed:-1", "fixed:soon", "models", "fixed:NaN"] {
            assert_eq!(text.parse::<TtlBy>(), Err(TtlByError), "{text}");
        }
    }
}
