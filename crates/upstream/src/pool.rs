//! The pool of an upstream's connections, and for how long one of them may lie unused.
//!
//! A request that goes out on a connection which the other end is just closing is lost, and cannot be made again safely. So connections are
//! left before that end would: after [`UpstreamSpec::pool_idle`], or sooner where answers say so (`Keep-Alive: timeout=5`).
//!
//! Where HTTP/1.1 is sure to be spoken, connections are moved on by those who wait for their answers ([`crate::line`]). Where HTTP/2 may be negotiated, by
//! tasks ([`crate::lanes`]): several calls share a connection then, and none of them may keep it from the others. Those that become tunnels are among the latter.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::{Body, BodyError, FailureKind};
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::connect::{BoxError, Connector, Written, was_written};
use crate::lanes::{Lanes, Seat};
use crate::lines::{Lines, OnLine};
use crate::target::Base;
use crate::{Protocol, UpstreamSpec};

/// The pool.
pub(crate) struct Pool {
    name: Arc<str>,
    kind: Kind,
    /// How long an unused connection is kept, ms.
    idle_ms: AtomicU64,
    changes: Mutex<()>,
}

enum Kind {
    Lines(Arc<Lines>),
    Shared(Box<Lanes>),
}

/// The head of an answer, and how the rest of it comes.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) rest: Rest,
}

/// How the rest of an answer comes.
pub(crate) enum Rest {
    /// It is here, to its end.
    Here,
    /// Over a connection that is moved on by whoever reads it.
    Coming(OnLine),
    /// A task moves its connection on, or that has ended. Where the connection is shared, with its place there.
    Brought(Option<Seat>),
}

/// Whether anything of a request went out.
#[derive(Default)]
pub(crate) struct Sent {
    /// The connection that it was given to.
    pub(crate) line: Option<Written>,
    shared: Option<CaptureConnection>,
}

impl Sent {
    /// Whether bytes of it may have. On a shared connection that was used before, the moment it was given to this request counts; else the first byte.
    pub(crate) fn is_set(&self) -> bool {
        let shared = |wire: &CaptureConnection| wire.connection_metadata().as_ref().is_some_and(was_written);
        self.line.as_ref().is_some_and(Written::is_set) || self.shared.as_ref().is_some_and(shared)
    }
}

/// Why there is no answer.
pub(crate) enum Lost {
    /// There is no connection.
    Unconnected(BoxError),
    /// The upstream ended a new connection before the request was begun.
    Unbegun(hyper::Error),
    /// The connection broke.
    Broken(hyper::Error),
    /// The same of a shared one, or of none.
    Shared(legacy::Error),
    /// Its time is over.
    Late,
}

impl Lost {
    /// Its kind, what is to be told of it, and whether the peer surely processed nothing of the request.
    pub(crate) fn told(&self) -> (FailureKind, String, bool) {
        match self {
            Self::Unconnected(error) => (FailureKind::Connect, format!("no connection: {}", chain(&**error)), true),
            Self::Unbegun(error) => (FailureKind::Broken, chain(error), true),
            Self::Broken(error) => of_error(error, false),
            Self::Shared(error) => of_error(error, error.is_connect()),
            Self::Late => (FailureKind::Timeout, "no answer in time".to_owned(), false),
        }
    }
}

fn of_error(error: &(dyn Error + 'static), unconnected: bool) -> (FailureKind, String, bool) {
    let (kind, untouched) = classify(error, unconnected);
    (kind, chain(error), untouched)
}

/// The kind of a client error, and whether the peer surely processed nothing of the request.
fn classify(error: &(dyn Error + 'static), unconnected: bool) -> (FailureKind, bool) {
    if find::<BodyError>(error).is_some() {
        return (FailureKind::RequestBody, false);
    }
    if unconnected {
        return (FailureKind::Connect, true);
    }
    if let Some(h2) = find::<h2::Error>(error) {
        // A stream ends with the other end's GOAWAY only where that says that it was not processed: its number is above the last that was, or it
        // was never begun (RFC 9113 section 6.8). The others go on, or break with their connection.
        let refused = h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM));
        let broken = refused || h2.is_io() || h2.is_go_away() || h2.is_reset();
        return (if broken { FailureKind::Broken } else { FailureKind::Protocol }, refused);
    }
    match find::<hyper::Error>(error) {
        Some(inner) if inner.is_canceled() => (FailureKind::Broken, true),
        Some(inner) if inner.is_parse() => (FailureKind::Protocol, false),
        _ => (FailureKind::Broken, false),
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The error and its sources; these name operations and addresses, never headers or targets.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

impl Pool {
    /// For calls to `base`.
    pub(crate) fn new(spec: &UpstreamSpec, base: &Base, connector: Connector) -> Self {
        let plain = spec.protocol == Protocol::Auto && base.is_plain();
        if spec.protocol != Protocol::Http1 && !plain {
            return Self::shared(spec, connector);
        }
        Self::of(spec, Kind::Lines(Lines::new(connector, spec.base.clone(), (spec.pool_idle, spec.pool_max_idle))))
    }

    /// One whose connections may become others' than the pool's, or may be shared.
    pub(crate) fn shared(spec: &UpstreamSpec, connector: Connector) -> Self {
        Self::of(spec, Kind::Shared(Box::new(Lanes::new(spec, connector))))
    }

    fn of(spec: &UpstreamSpec, kind: Kind) -> Self {
        let idle_ms = u64::try_from(spec.pool_idle.as_millis()).unwrap_or(u64::MAX).into();
        Self { name: Arc::clone(&spec.name), kind, idle_ms, changes: Mutex::default() }
    }

    /// The target of a request as its connections want it.
    pub(crate) fn address(&self, base: &Base, path_and_query: String, headers: &mut HeaderMap<HeaderValue>) -> Result<Uri, http::Error> {
        if matches!(self.kind, Kind::Shared(_)) {
            return Ok(base.uri(path_and_query)?);
        }
        headers.insert(http::header::HOST, base.host().clone());
        Ok(base.origin_form(path_and_query)?)
    }

    /// Sends a request, and waits for the head of its answer until `by`; `sent` tells, whatever becomes of this future, whether any of it went out.
    pub(crate) async fn request(
        &self,
        mut request: Request<Body>,
        (by, ends): (Instant, Instant),
        sent: &mut Sent,
    ) -> Result<Answered, Lost> {
        let lanes = match &self.kind {
            Kind::Lines(lines) => return lines.request(request, (by, ends), sent).await,
            Kind::Shared(lanes) => lanes,
        };
        sent.shared = Some(capture_connection(&mut request));
        let (http, seat) = lanes.seat();
        match timeout_at(by, http.request(request)).await {
            Ok(Ok(response)) => {
                lanes.note(response.version());
                Ok(Answered { response, rest: Rest::Brought(Some(seat)) })
            }
            Ok(Err(error)) => Err(Lost::Shared(error)),
            Err(_) => Err(Lost::Late),
        }
    }

    /// Takes note of how long the other end keeps connections: the shortest that it ever said holds.
    pub(crate) fn heed(&self, headers: &HeaderMap) {
        let Some(told) = told(headers) else { return };
        if told >= self.idle_ms.load(Ordering::Relaxed) {
            return;
        }
        let _one_at_a_time = self.changes.lock();
        if told < self.idle_ms.load(Ordering::Relaxed) {
            self.idle_ms.store(told, Ordering::Relaxed);
            tracing::info!(
                upstream = &*self.name,
                idle_ms = told,
                "unused connections are left sooner: the other end keeps them no longer"
            );
            match &self.kind {
                Kind::Lines(lines) => lines.keep_for(told),
                // Unused connections of the old one are closed with it.
                Kind::Shared(lanes) => lanes.keep_for(told),
            }
        }
    }
}

/// For how many ms a connection may lie unused after an answer with these fields; `None` where they do not say.
fn told(headers: &HeaderMap) -> Option<u64> {
    let fields = headers.get_all("keep-alive").iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let named = fields.filter_map(|field| field.split_once('=')).filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    let shortest = named.filter_map(|(_, secs)| secs.trim().trim_matches('"').parse::<u64>().ok()).min()?;
    // Its clock began before the answer came here, and a request takes its time to get there.
    let told = shortest.saturating_mul(1_000);
    Some(if shortest > 1 { told - 1_000 } else { told / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_tell_of_their_connection_is_heeded_with_a_margin() {
        let of = |text: &str| told(&HeaderMap::from_iter([(http::HeaderName::from_static("keep-alive"), text.parse().unwrap())]));
        for (text, ms) in
            [("timeout=5", 4_000), ("timeout=5, max=100", 4_000), ("max=7, Timeout=\"72\"", 71_000), ("timeout=1", 500), ("timeout=0", 0)]
        {
            assert_eq!(of(text), Some(ms), "{text}");
        }
        for text in ["max=5", "timeout", "timeout=soon", "timeout=-1", ""] {
            assert_eq!(of(text), None, "{text}");
        }
        assert!(of("timeout=18446744073709551615").is_some() && told(&HeaderMap::new()).is_none());
    }
}
