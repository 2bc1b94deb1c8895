//! A provider: where its upstream is, how it wants to be asked, what it charges and what its terms allow.

use std::sync::Arc;

use farthing_types::{Coding, Span};
pub use farthing_types::{PriceSpec as Prices, TokenRates};
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
    /// Gemini's JSON and event streams; the path names the target.
    Gemini,
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
    /// The same for one attempt of a call that may be made again, where that is shorter.
    pub try_timeout: Option<Span>,
    /// Longest silence within an answer's body.
    pub idle_timeout: Span,
    /// Which HTTP it speaks.
    pub protocol: HttpProtocol,
    /// Attempts of one idempotent call, the first included.
    pub attempts: u32,
    /// Upper bound of the wait before the second attempt; doubles with each further one.
    pub backoff: Span,
    /// Repeats allowed per call, all calls of the last ten seconds together.
    pub retry_share: f64,
    /// Repeats allowed per second whatever the share says.
    pub retry_floor: u32,
    /// Share of failed attempts, of the last 20 or more, at which the breaker opens.
    pub breaker_share: f64,
    /// How long an open breaker waits before it tries one call.
    pub breaker_cooldown: Span,
    /// Most idle connections that are kept.
    pub max_idle: usize,
    /// How long one is kept at most. Zero: none is used again.
    pub keep_idle: Span,
    /// Most calls at a time.
    pub max_concurrent: usize,
    /// Which request bodies are sent compressed; `None` sends all as they are.
    pub compress_requests: Option<CompressRequests>,
}

/// Which HTTP an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS by prior knowledge.
    Http2,
}

/// Which request bodies are sent compressed to an upstream that takes them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressRequests {
    /// Smallest body, in bytes.
    pub min: usize,
    /// The coding.
    pub encoding: Coding,
}

impl Default for CompressRequests {
    fn default() -> Self {
        Self { min: 4 << 10, encoding: Coding::Gzip }
    }
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Span::from_secs(5),
            head_timeout: Span::from_secs(60),
            try_timeout: None,
            idle_timeout: Span::from_secs(60),
            protocol: HttpProtocol::Auto,
            attempts: 3,
            backoff: Span::from_millis(100),
            retry_share: 0.2,
            retry_floor: 2,
            breaker_share: 0.5,
            breaker_cooldown: Span::from_secs(5),
            max_idle: 64,
            keep_idle: Span::from_secs(50),
            max_concurrent: 1_024,
            compress_requests: None,
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
