//! What is told of requests to programs that watch them.

use std::sync::Arc;

use farthing_types::Span;
use http::{HeaderName, Uri};

use crate::Secret;

/// What is told of requests to programs that watch them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryConfig {
    /// Where traces are sent to; `None`: nowhere.
    pub otlp: Option<OtlpConfig>,
}

/// A collector of traces that speaks OTLP over HTTP with protobuf.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// Where it takes traces.
    pub endpoint: Uri,
    /// What is sent with each delivery beside what the protocol asks for.
    pub headers: Vec<(HeaderName, Secret)>,
    /// Share of the traces begun here that is recorded.
    pub sample: f64,
    /// Of whom all spans are: names and values, `service.name` among them.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    /// How long a span waits for others at most.
    pub interval: Span,
    /// How long a delivery may take.
    pub deadline: Span,
    /// Bytes of spans that wait or are under way; what comes beyond is dropped.
    pub queue_bytes: usize,
    /// Certificates of authorities to trust (PEM) in place of the public ones.
    pub authorities: Option<String>,
}
