//! Compresses request bodies for upstreams that take them so.

use std::sync::Arc;

use bytes::Bytes;
use farthing_types::coding::{fields, may_recode};
use farthing_types::{Call, CallSink, Coding, Failure, Reply, Span};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Origin;
use crate::client::after;
use crate::coding::encode;
use crate::later::Later;
use crate::traffic::{Squeezed, Traffic};

/// How long no body is compressed after the upstream refused one with 415.
pub const REST: Span = Span::from_secs(600);
/// Bodies above this are compressed on a thread where that delays nobody else.
const LARGE: usize = 64 << 10;

/// Which request bodies are compressed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressSpec {
    /// Smallest body, in bytes.
    pub min: usize,
    /// The coding, which the upstream must take.
    pub coding: Coding,
}

/// Sends a body compressed when all of these hold:
/// - it is held whole, of at least the configured size, and compression saves at least a fifth of it;
/// - it has no content coding yet, is no gRPC, and no field vouches for its bytes: a digest, a signature;
/// - the upstream has not refused one with 415 a short while ago.
///
/// A 415 says that nothing was processed (RFC 9110 section 15.5.16), so the call is made once more with the body as it was, whatever its
/// method. What of the deadline is left counts for both.
pub struct Compress(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Origin>,
    spec: CompressSpec,
    traffic: Arc<Traffic>,
    rests_until: Mutex<Option<Instant>>,
}

impl Compress {
    /// Compresses bodies of calls to `inner`.
    pub fn new(inner: Arc<dyn Origin>, spec: CompressSpec, traffic: Arc<Traffic>) -> Self {
        Self(Arc::new(Shared { inner, spec, traffic, rests_until: Mutex::new(None) }))
    }
}

impl Origin for Compress {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let body = call.body.as_full().filter(|body| body.len() >= self.0.spec.min && may_change(&call.headers));
        let Some(body) = body else { return self.0.inner.fetch(call) };
        if self.0.rests() {
            self.0.traffic.count_squeezed(Squeezed::Resting);
            return self.0.inner.fetch(call);
        }
        let shared = Arc::clone(&self.0);
        async move { shared.compressed(call, body).await }.boxed()
    }
}

impl Shared {
    async fn compressed(&self, call: Call, body: Bytes) -> Result<Reply, Failure> {
        let ends = after(Instant::now(), call.deadline);
        let Some(small) = smaller(self.spec.coding, body.clone()).await else {
            self.traffic.count_squeezed(Squeezed::NotWorth);
            return self.inner.fetch(Call { deadline: ends.saturating_duration_since(Instant::now()), ..call }).await;
        };
        self.traffic.count_squeezed(Squeezed::Sent);
        self.traffic.requests.add(body.len(), small.len());
        let first = Later::new(Arc::clone(&call.sink), 0);
        let coded = Call {
            headers: coded(&call.headers, self.spec.coding),
            deadline: ends.saturating_duration_since(Instant::now()),
            sink: Arc::clone(&first) as Arc<dyn CallSink>,
            ..call.with_body(small)
        };
        match self.inner.fetch(coded).await {
            Ok(reply) if reply.status == StatusCode::UNSUPPORTED_MEDIA_TYPE => {}
            result => return result,
        }
        let sink = Later::new(Arc::clone(&call.sink), first.made());
        let deadline = ends.saturating_duration_since(Instant::now());
        let result = self.inner.fetch(Call { sink, deadline, ..call.with_body(body) }).await;
        // The same answer without the coding: it was about something else.
        if !matches!(&result, Ok(reply) if reply.status == StatusCode::UNSUPPORTED_MEDIA_TYPE) {
            self.refused();
        }
        result
    }

    fn rests(&self) -> bool {
        self.rests_until.lock().is_some_and(|until| Instant::now() < until)
    }

    fn refused(&self) {
        self.traffic.count_squeezed(Squeezed::Unsupported);
        *self.rests_until.lock() = Some(after(Instant::now(), REST));
    }
}

/// Whether these are the headers of a message of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Whether a body may go out in another coding. That of gRPC has its own, message by message.
fn may_change(headers: &HeaderMap) -> bool {
    may_recode(fields(headers)) && !is_grpc(headers)
}

/// The body in `coding`, where that saves at least a fifth.
async fn smaller(coding: Coding, body: Bytes) -> Option<Bytes> {
    let length = body.len();
    let work = move || encode(coding, &body).ok();
    let small = if length > LARGE { tokio::task::spawn_blocking(work).await.ok().flatten() } else { work() };
    small.filter(|small| small.len().saturating_mul(5) <= length.saturating_mul(4))
}

fn coded(headers: &HeaderMap, coding: Coding) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    // The client says what is true of the body that goes out.
    headers.remove(CONTENT_LENGTH);
    headers
}

#[cfg(test)]
#[path = "compress_tests.rs"]
mod tests;
