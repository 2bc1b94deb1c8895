//! A provider: where its upstream is, how it wants to be asked, what it charges and what its terms allow.

use std::sync::Arc;

use farthing_types::{Money, Rate, Span, Time};
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
    /// What it charges, the most special first: the first that matches a call counts. Empty: unknown.
    pub prices: Vec<Price>,
    /// What its terms allow.
    pub terms: Terms,
    /// Volatile JSON pointers of its answers; routes have them already merged in.
    pub volatile: Vec<Arc<str>>,
    /// How it is reached.
    pub upstream: UpstreamConfig,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            name: "default".into(),
            base_url: Uri::from_static("http://127.0.0.1"),
            credential_place: CredentialPlace::None,
            credential: None,
            dialect: Dialect::Generic,
            prices: Vec::new(),
            terms: Terms::default(),
            volatile: Vec::new(),
            upstream: UpstreamConfig::default(),
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
    /// Answers may be fetched before anybody asked.
    pub prefetch: bool,
    /// One principal's answer may be given to another.
    pub share: bool,
    /// Where this is written, and when it was read.
    pub source: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self { storable: true, max_store: None, prefetch: true, share: true, source: String::new() }
    }
}

/// Which answers are billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Billed {
    /// Those with a status below 400.
    #[default]
    Success,
    /// All.
    All,
}

/// One price: what a call costs that falls under it. Meters add up; they are multiplied first and rounded once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Price {
    /// Upstream path prefixes it holds for; empty means all.
    pub paths: Vec<Arc<str>>,
    /// The request's `model`, exact or with a `*` at the end; empty means any.
    pub targets: Vec<Arc<str>>,
    /// From when it holds (midnight UTC); `None` since ever.
    pub from: Option<Time>,
    /// Until when it holds, exclusive.
    pub until: Option<Time>,
    /// Per call.
    pub call: Option<Money>,
    /// Per call answered with 304; the price of a call when absent.
    pub not_modified: Option<Money>,
    /// Per 1,000 bytes of the answer's body.
    pub kilobyte: Option<Rate>,
    /// Per uncached input token.
    pub input: Option<Rate>,
    /// Per input token read from the provider's prompt cache.
    pub cached_input: Option<Rate>,
    /// Per input token written to the provider's prompt cache.
    pub cache_write: Option<Rate>,
    /// Per output token, reasoning included when it has no rate of its own.
    pub output: Option<Rate>,
    /// Per reasoning token.
    pub reasoning: Option<Rate>,
    /// Per unit that the answer states.
    pub units: Option<UnitMeter>,
    /// Which answers are billed.
    pub billed: Billed,
    /// Calls per month that are free.
    pub free_calls: u64,
    /// The day the price was read, `YYYY-MM-DD`.
    pub as_of: String,
    /// Where it is written.
    pub source: String,
}

/// A meter that counts units stated in the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitMeter {
    /// Where the count stands.
    pub count: UnitCount,
    /// Price of one unit.
    pub rate: Rate,
}

/// Where an answer states its count of units.
#[derive(Clone, Debug, PartialEq)]
pub enum UnitCount {
    /// JSON pointer to a number, or to an array whose length counts.
    Pointer(Arc<str>),
    /// A response header with a number.
    Header(HeaderName),
}
