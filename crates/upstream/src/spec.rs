//! What an upstream is and how it is reached.

use std::fmt;
use std::sync::Arc;

use farthing_types::Span;
use http::Uri;

use crate::{BreakerSpec, CompressSpec, Credential, Gated, RetrySpec};

/// Which HTTP the upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 where TLS negotiates it (ALPN), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS by prior knowledge.
    Http2,
}

/// The certificate authorities that may vouch for the upstream.
#[derive(Clone, Default)]
pub enum Roots {
    /// Mozilla's list, as bundled in the program.
    #[default]
    WebPki,
    /// These and no others: PEM text with one certificate or more.
    Pem(Arc<[u8]>),
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebPki => "WebPki",
            Self::Pem(_) => "Pem(..)",
        })
    }
}

/// An upstream: an endpoint of a provider, how to reach it and how to behave towards it.
#[derive(Clone, Debug)]
pub struct UpstreamSpec {
    /// Its name in reports, logs and metrics.
    pub name: Arc<str>,
    /// Scheme, authority and path prefix; the call's path and query are appended byte by byte.
    pub base: Uri,
    /// Our credential, which replaces the client's. `None` passes the client's through.
    pub credential: Option<Credential>,
    /// Which HTTP it speaks.
    pub protocol: Protocol,
    /// Who may vouch for it.
    pub roots: Roots,
    /// Longest time to a usable connection: name resolution, TCP and TLS.
    pub connect_deadline: Span,
    /// Longest time from the start of an attempt to the head of its answer.
    pub head_deadline: Span,
    /// The same for attempts that may be repeated, where that is shorter.
    pub try_deadline: Option<Span>,
    /// Longest silence within an answer's body.
    pub body_idle: Span,
    /// How long an unused connection is kept at most; answers may ask for less. Zero: none is used again.
    pub pool_idle: Span,
    /// How many unused connections are kept.
    pub pool_max_idle: usize,
    /// Most calls under way at a time, bodies included; further ones wait as long as for a connection, then are refused.
    pub max_concurrent: usize,
    /// When and how often a failed call is repeated.
    pub retry: RetrySpec,
    /// When the upstream is left alone for a while.
    pub breaker: BreakerSpec,
    /// Where attempts wait for their turn; `None` where the provider has no limit.
    pub gate: Option<Gated>,
    /// Which request bodies are compressed; `None` leaves all as they are.
    pub compress: Option<CompressSpec>,
}

impl UpstreamSpec {
    /// An upstream called `name` at `base`, with the defaults: connect 5 s, head 300 s, body silence 120 s, 256 idle connections for
    /// 50 s, 1,024 calls at a time.
    pub fn new(name: impl Into<Arc<str>>, base: Uri) -> Self {
        Self {
            name: name.into(),
            base,
            credential: None,
            protocol: Protocol::Auto,
            roots: Roots::WebPki,
            connect_deadline: Span::from_secs(5),
            head_deadline: Span::from_secs(300),
            try_deadline: None,
            body_idle: Span::from_secs(120),
            pool_idle: Span::from_secs(50),
            pool_max_idle: 256,
            max_concurrent: 1_024,
            retry: RetrySpec::default(),
            breaker: BreakerSpec::default(),
            gate: None,
            compress: None,
        }
    }
}
