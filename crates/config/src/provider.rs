//! A provider: where its upstream is, how it wants to be asked, what it charges and what its terms allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Money, Rate, Span};
use http::{HeaderName, Uri};

use crate::Secret;

/// Where a provider looks for the credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CredentialPlace {
    /// None is needed.
    #[default]
    None,
    /// `Authorization: Bearer ...`.
    Bearer,
    /// A header of its own, holding the bare credential.
    Header(HeaderName),
    /// A query parameter.
    Query(Arc<str>),
}

/// The body formats a provider speaks: selects usage extraction and the shape of errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Plain HTTP.
    #[default]
    Generic,
    /// OpenAI's JSON and event streams.
    OpenAi,
    /// Anthropic's JSON and event streams.
    Anthropic,
    /// Google's JSON with `status` in the body.
    Google,
}

/// A checked provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name.
    pub name: Arc<str>,
    /// Scheme, authority and path prefix of the upstream, without a trailing slash.
    pub base_url: Uri,
    /// Where it looks for the credential.
    pub credential_place: CredentialPlace,
    /// Our own credential, for routes that swap.
    pub credential: Option<Secret>,
    /// The body formats it speaks.
    pub dialect: Dialect,
    /// What it charges; `None` is unknown, never free.
    pub prices: Option<Prices>,
    /// What its terms allow.
    pub terms: Terms,
    /// Volatile JSON pointers of its answers; routes have them already merged in.
    pub volatile: Vec<Arc<str>>,
    /// How it is reached.
    pub upstream: UpstreamConfig,
    /// Most calls while lost copies are brought back, as a multiple of the rate before; 0: no bound.
    pub refill: f64,
    /// Longest time that such a call waits for its turn.
    pub refill_wait: Span,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            name: "default".into(),
            base_url: Uri::from_static("http://127.0.0.1"),
            credential_place: CredentialPlace::None,
            credential: None,
            dialect: Dialect::Generic,
            prices: None,
            terms: Terms::default(),
            volatile: Vec::new(),
            upstream: UpstreamConfig::default(),
            refill: 2.0,
            refill_wait: Span::from_secs(5),
        }
    }
}

/// Connection, retry and breaker settings of an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// Time to connect, TLS included.
    pub connect_timeout: Span,
    /// Time from sending a request to its answer's head.
    pub head_timeout: Span,
    /// Longest silence within an answer's body.
    pub idle_timeout: Span,
    /// Attempts of one idempotent call, the first included.
    pub attempts: u32,
    /// Wait before the second attempt; doubles with each further one.
    pub backoff: Span,
    /// Share of failed attempts, of the last 20 or more, at which the breaker opens.
    pub breaker_share: f64,
    /// How long an open breaker waits before it tries one call.
    pub breaker_cooldown: Span,
    /// Most idle connections that are kept.
    pub max_idle: usize,
    /// Most calls at a time.
    pub max_concurrent: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Span::from_secs(5),
            head_timeout: Span::from_secs(60),
            idle_timeout: Span::from_secs(60),
            attempts: 3,
            backoff: Span::from_millis(100),
            breaker_share: 0.5,
            breaker_cooldown: Span::from_secs(5),
            max_idle: 64,
            max_concurrent: 1_024,
        }
    }
}

/// What a provider's terms allow with its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Answers may be kept at all.
    pub storable: bool,
    /// Longest time an answer may be kept.
    pub max_store: Option<Span>,
    /// JSON pointers to the only fields that may be kept; empty means all.
    pub storable_fields: Vec<Arc<str>>,
    /// Answers may be fetched before anybody asked.
    pub prefetch: bool,
    /// One principal's answer may be given to another.
    pub share: bool,
    /// Where this is written, and when it was read.
    pub source: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self { storable: true, max_store: None, storable_fields: Vec::new(), prefetch: true, share: true, source: String::new() }
    }
}

/// What a provider (or, by local contract, a route) charges. All meters given are summed exactly and rounded once;
/// the ledger's price specification has the same fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// Costs nothing, by agreement: the one way to say that a price is zero without rates.
    pub free: bool,
    /// Dollars per call.
    pub per_call: Option<Rate>,
    /// Dollars per 1,024 bytes of the answer's body, charged by the byte.
    pub per_kb: Option<Rate>,
    /// Dollars per unit of the provider's own meter.
    pub per_unit: Option<Rate>,
    /// Token rates by target: a name, with a `*` at its end for whatever begins so.
    pub targets: BTreeMap<String, TokenRates>,
    /// Dollars per answer with status 304; the price of a call when absent.
    pub not_modified: Option<Rate>,
    /// Whether answers other than 2xx and 304, and calls without an answer, are charged like the rest.
    pub errors_billed: bool,
    /// Day from which the prices hold, `YYYY-MM-DD`.
    pub effective: Option<String>,
    /// Day on which they were read at the source, `YYYY-MM-DD`.
    pub read: Option<String>,
    /// Where they come from: a page, a contract.
    pub source: Option<String>,
}

impl Prices {
    /// One flat price per call, billed for every answer of success and for 304.
    pub fn per_call(price: Money) -> Self {
        Self { per_call: Some(Rate::per_unit(price)), ..Self::default() }
    }
}

/// Dollars per token for one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenRates {
    /// Per uncached input token.
    pub input: Option<Rate>,
    /// Per input token read from the provider's prompt cache.
    pub cached_input: Option<Rate>,
    /// Per input token written to the provider's prompt cache.
    pub cache_write: Option<Rate>,
    /// Per output token.
    pub output: Option<Rate>,
    /// Per reasoning token; the output rate when absent.
    pub reasoning: Option<Rate>,
}
