//! The data listener: accepts connections, guards them against ambiguous, slow and oversized input, and hands requests to a [`Handler`].
//!
//! Bytes pass three gates. The *guard* (`guard`, its pure core in `scan`) reads HTTP/1 heads and framing before hyper does and lets only
//! unambiguous ones pass. hyper parses. The *service* (`connection`) checks what needs a parsed request and watches its body's pace.
//! A request refused at any gate never reaches the handler; one refused within its body breaks that body off, so it is never seen whole.

mod body;
mod connection;
mod early;
mod guard;
mod listen;
mod recall;
mod refusal;
mod scan;
mod stall;
mod state;
mod stats;
mod tunnel;

use std::net::SocketAddr;

use farthing_types::{Body, Span};
use futures_util::future::BoxFuture;
use http::{Request, Response};

pub use connection::Server;
pub use early::Early;
pub use listen::{Drained, Edge, EdgeError};
pub use recall::{RawHead, Recalled, Wire};
pub use refusal::Refusal;
pub use scan::HeadLimits;
pub use stats::{Closed, EdgeStats, TunnelEnd};
pub use tunnel::Tunnel;

use std::sync::Arc;

/// Answers requests. A panic in it costs one request: it is answered 500.
pub trait Handler: Send + Sync + 'static {
    /// Answers `request`, which came from `peer`. HTTP/1 requests carry `Host`, HTTP/2 ones the authority in their URI.
    /// The future is dropped when the client leaves or its body breaks off before there is an answer. A request for a WebSocket is answered 101, and CONNECT 200, with a
    /// [`Tunnel`] among the answer's extensions, or as any other.
    fn handle(self: Arc<Self>, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>>;

    /// As [`Handler::handle`], for a client that takes interim answers: one of HTTP/1.1.
    fn handle_early(self: Arc<Self>, request: Request<Body>, peer: PeerInfo, _early: Early) -> BoxFuture<'static, Response<Body>> {
        self.handle(request, peer)
    }

    /// Called with bytes that a client of HTTP/1 sent at once, before anything has looked at them. A handler that has met just these
    /// bytes as a request's whole head may answer them here, without waiting. What it was never shown as a request it must not know.
    fn recall(&self, _head: &[u8]) -> Recalled {
        Recalled::Unknown
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The client's address.
    pub addr: SocketAddr,
    /// Our address, as the client reached it.
    pub local: SocketAddr,
    /// The connection's number since the start.
    pub connection: u64,
}

/// Settings of a data listener.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// From a head's first byte (or the accept, for the first head) to its end.
    pub header_timeout: Span,
    /// Least bytes per second of a request body, counted over the time we wait for the client. 0 turns the check off.
    pub body_min_rate: u64,
    /// Waiting time granted to a body before its rate counts.
    pub body_grace: Span,
    /// Longest wait for the next byte of a request body, and for a client to take bytes of its answer.
    pub body_idle: Span,
    /// Longest wait for the next request of a connection.
    pub idle_timeout: Span,
    /// Most connections; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Most connections of one IPv4 address or IPv6 /64 network; further ones are answered 503.
    pub max_connections_per_ip: usize,
    /// Most bytes of a request head.
    pub max_header_bytes: usize,
    /// Most header lines of a request.
    pub max_headers: usize,
    /// Most bytes of a request target.
    pub max_target: usize,
    /// Most bytes of a request body; `None` for no bound (bodies are never held by the edge).
    pub max_body: Option<u64>,
    /// Most concurrent streams of an HTTP/2 connection.
    pub max_streams: u32,
    /// Whether requests for WebSockets reach the handler; else they are refused.
    pub tunnels: bool,
    /// Whether CONNECT, in HTTP/1, reaches the handler; else it is refused.
    pub connect: bool,
    /// Whether clients of HTTP/1.1 are sent interim answers.
    pub interim: bool,
    /// How long open requests may take to end after the stop signal.
    pub drain: Span,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8_787)),
            header_timeout: Span::from_secs(10),
            body_min_rate: 240,
            body_grace: Span::from_secs(10),
            body_idle: Span::from_secs(30),
            idle_timeout: Span::from_secs(75),
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            max_header_bytes: 64 * 1_024,
            max_headers: 100,
            max_target: 16 * 1_024,
            max_body: Some(256 * 1_024 * 1_024),
            max_streams: 128,
            tunnels: false,
            connect: false,
            interim: true,
            drain: Span::from_secs(30),
        }
    }
}

impl EdgeConfig {
    pub(crate) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.max_header_bytes,
            headers: self.max_headers,
            target: self.max_target.min(u16::MAX as usize - 1),
            connect: self.connect,
        }
    }
}
