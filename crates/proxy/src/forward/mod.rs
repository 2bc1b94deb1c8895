//! Clients that take Farthing for their proxy: what they ask takes a route where one leads there, else it passes unobserved where that is allowed.
//!
//! Nothing is intercepted: a CONNECT opens a blind tunnel or is refused. Where a name leads is looked up once, and the address that was looked at is the one
//! that is connected to.

mod auth;
mod counts;
mod pass;
mod reach;
mod tunnel;
mod urls;

use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_config::ForwardConfig;
use farthing_types::{Body, reasons};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{HOST, HeaderValue, PROXY_AUTHENTICATE, VIA};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::edge::PeerInfo;
use crate::live::Live;
use crate::problem::{Dialect, Problem};
use crate::state::State;

pub use counts::{HostReport, Unobserved};
pub use urls::Urls;

/// Names that are looked up at a time: a look may hold a thread for as long as the system's resolver likes.
const LOOKS: usize = 64;

reasons! {
    /// Why a request to the proxy was not carried out.
    Refused {
        /// It has been here before.
        Loop = "forward-loop",
        /// No key or token, or none that is taken.
        Key = "forward-key",
        /// The key is for some routes alone.
        Rights = "forward-rights",
        /// Nothing leads to the host.
        Host = "forward-host",
        /// The host's addresses must not be reached.
        Address = "forward-address",
        /// The host cannot be reached.
        Unreachable = "forward-unreachable",
        /// The host's answer did not come.
        Unanswered = "forward-unanswered",
    }
}

/// What lasts while configurations change.
pub struct Forwarding {
    /// What passed unobserved, by host.
    pub unobserved: Unobserved,
    refused: [AtomicU64; Refused::ALL.len()],
    /// Where this process answers.
    ours: RwLock<Vec<SocketAddr>>,
    /// What is added to `Via`.
    via: HeaderValue,
    looks: Arc<Semaphore>,
}

impl Forwarding {
    /// Of an instance; `number` tells it from others.
    pub fn new(number: u64) -> Self {
        Self {
            unobserved: Unobserved::default(),
            refused: Default::default(),
            ours: RwLock::default(),
            via: HeaderValue::try_from(format!("1.1 farthing-{number:016x}")).unwrap_or(HeaderValue::from_static("1.1 farthing")),
            looks: Arc::new(Semaphore::new(LOOKS)),
        }
    }

    /// This process answers at `addr`, too.
    pub fn answers_at(&self, addr: SocketAddr) {
        self.ours.write().push(addr);
    }

    /// Requests that were refused so.
    pub fn refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// A refusal, counted, as the client is told it.
    fn refuse(&self, (why, problem): (Refused, Problem)) -> Response<Body> {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        let mut response = problem.response(Dialect::Problem);
        if problem.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            response.headers_mut().insert(PROXY_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"farthing\""));
        }
        response
    }

    /// Whether a request has been here before.
    fn has_seen<B>(&self, request: &Request<B>) -> bool {
        let by = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(|one| one.trim_ascii() == self.via.as_bytes());
        request.headers().get_all(VIA).iter().any(by)
    }
}

fn refusal(why: Refused, status: StatusCode, detail: impl Into<String>) -> (Refused, Problem) {
    (why, Problem::new(status, why.as_str(), detail))
}

/// Where a request is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    /// In lower case, an address without brackets, no dot at the end.
    host: Arc<str>,
    port: u16,
}

impl Destination {
    /// That of a URL, or of a CONNECT, whose port is always there.
    fn of(uri: &Uri) -> Option<Self> {
        let host = uri.host()?.to_ascii_lowercase();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = host.strip_suffix('.').unwrap_or(host);
        // One address has one text.
        let host = host.parse::<IpAddr>().map_or_else(|_| host.into(), |ip| ip.to_canonical().to_string().into());
        let port = uri.port_u16().or_else(|| urls::own_port(uri.scheme_str()))?;
        Some(Self { host, port })
    }

    /// Whether it is this proxy, as the client reached it.
    fn is_us(&self, forward: &ForwardConfig, local: SocketAddr) -> bool {
        let here = || match self.host.parse::<IpAddr>() {
            Ok(ip) => ip == local.ip().to_canonical(),
            Err(_) => *self.host == *"localhost" && local.ip().to_canonical().is_loopback(),
        };
        forward.names.iter().any(|name| **name == *self.host) || (self.port == local.port() && here())
    }
}

/// What becomes of a request.
enum Way {
    /// What becomes of any other.
    Usual,
    Pass(Destination),
    Tunnel(Destination),
}

/// Whether a request is written as to a proxy. In HTTP/2 all have a scheme.
fn is_to_a_proxy<B>(request: &Request<B>) -> bool {
    request.version() < Version::HTTP_2 && (request.uri().scheme().is_some() || *request.method() == Method::CONNECT)
}

/// A request that takes the usual way, as its route knows it; or the answer to one that does not.
///
/// # Errors
/// None: the second way out is the answer.
pub fn take(state: &Arc<State>, mut request: Request<Body>, peer: PeerInfo) -> Result<Request<Body>, BoxFuture<'static, Response<Body>>> {
    if !is_to_a_proxy(&request) {
        return Ok(request);
    }
    let live = state.live.load_full();
    let Some(forward) = live.config.forward.as_ref() else { return Ok(request) };
    match way(state, (&live, forward), &mut request, peer) {
        Ok(Way::Usual) => Ok(request),
        Ok(Way::Pass(to)) => Err(pass::send(state.clone(), forward.clone(), request, to).boxed()),
        Ok(Way::Tunnel(to)) => Err(tunnel::open(state.clone(), live.clone(), request, to, peer.local).boxed()),
        Err(refused) => Err(ready(state.forwarding.refuse(refused)).boxed()),
    }
}

fn way(
    state: &State,
    (live, forward): (&Live, &ForwardConfig),
    request: &mut Request<Body>,
    peer: PeerInfo,
) -> Result<Way, (Refused, Problem)> {
    if state.forwarding.has_seen(request) {
        let detail = "this request has come through this proxy before: take it out of the way that leads back to it";
        return Err(refusal(Refused::Loop, StatusCode::LOOP_DETECTED, detail));
    }
    let bad = || refusal(Refused::Host, StatusCode::BAD_REQUEST, "the request names no host and port");
    let to = Destination::of(request.uri()).ok_or_else(bad)?;
    let connect = *request.method() == Method::CONNECT;
    if !connect && to.is_us(forward, peer.local) {
        return Ok(Way::Usual);
    }
    let holder = auth::holder((state, live), forward, request.headers_mut())?;
    if !connect && takes_route((live, forward), request, (&to, peer)) {
        return Ok(Way::Usual);
    }
    let unbounded = holder.is_none_or(|grant| grant.rights.routes.is_none());
    match (connect, request.uri().scheme_str()) {
        (true, _) if forward.takes(&forward.tunnel, (&to.host, to.port)) => {
            if unbounded {
                Ok(Way::Tunnel(to))
            } else {
                Err(bounded())
            }
        }
        (false, Some("http")) if forward.takes(&forward.pass, (&to.host, to.port)) => {
            if unbounded {
                Ok(Way::Pass(to))
            } else {
                Err(bounded())
            }
        }
        _ => Err(refusal(Refused::Host, StatusCode::FORBIDDEN, nothing_leads((live, peer), &to, connect))),
    }
}

fn bounded() -> (Refused, Problem) {
    let detail = "this key is for some routes alone, and no route leads to the host: ask whoever runs Farthing to allow it";
    refusal(Refused::Rights, StatusCode::FORBIDDEN, detail)
}

/// Whether a route takes the request, which is then as if the client had asked the route.
fn takes_route((live, forward): (&Live, &ForwardConfig), request: &mut Request<Body>, (to, peer): (&Destination, PeerInfo)) -> bool {
    let (path, method) = (request.uri().path(), request.method());
    // A route by host takes what is sent to that, whoever its provider is.
    if live.route(&to.host, path, method).is_some_and(|route| !route.route.matcher.hosts.is_empty()) {
        return true;
    }
    let found = forward.providers.then(|| live.urls.find(live, request)).flatten();
    let Some(target) = found.and_then(|target| PathAndQuery::try_from(target).ok()) else { return false };
    let Ok(host) = HeaderValue::try_from(peer.local.to_string()) else { return false };
    *request.uri_mut() = Uri::from(target);
    request.headers_mut().insert(HOST, host);
    true
}

/// What a client is told whose host nothing leads to.
fn nothing_leads((live, peer): (&Live, PeerInfo), to: &Destination, connect: bool) -> String {
    let Destination { host, port } = to;
    let otherwise = || format!("add a provider with `base_url = \"https://{host}\"`");
    let instead = instead(live, peer.local, to).map_or_else(otherwise, |url| format!("set the client's base URL to {url}"));
    match connect {
        true => {
            format!("no tunnel may be opened to {host}:{port}, where nothing would be saved: {instead}, or list the host in forward.tunnel")
        }
        false => format!("no route leads to {host}:{port}: {instead}, or list the host in forward.pass (for http:// URLs)"),
    }
}

/// The base URL to set in a client in place of the one that it has; `None` where no route leads to it.
fn instead(live: &Live, local: SocketAddr, to: &Destination) -> Option<String> {
    let scheme = if live.config.data.tls.is_some() { "https" } else { "http" };
    live.urls.instead(to).map(|path| format!("{scheme}://{local}{path}"))
}
