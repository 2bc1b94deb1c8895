//! Brings answers of one provider into the shape of the route.

use std::sync::Arc;

use farthing_types::{BatchAnswer, Body, Call, CallSink, Failure, FailureKind, MappedAnswer, Reply};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use http::header::{ACCEPT_ENCODING, HeaderValue};
use tokio::time::{Instant, timeout_at};

use crate::Origin;
use crate::adapter::{AnswerMap, Unmapped, mend};
use crate::batch::whole;
use crate::client::after;

/// Reads each answer whole and maps it. What cannot be mapped is a failure, after it was sent.
pub(super) struct Mapping {
    inner: Arc<dyn Origin>,
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    map: AnswerMap,
}

impl Mapping {
    pub(super) fn new(inner: Arc<dyn Origin>, name: Arc<str>, map: AnswerMap) -> Self {
        Self { inner, shared: Arc::new(Shared { name, map }) }
    }
}

impl Origin for Mapping {
    fn fetch(&self, mut call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        // What is compressed cannot be read.
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let (sink, ends, bare) = (call.sink.clone(), after(Instant::now(), call.deadline), call.method == Method::HEAD);
        let (shared, fetching) = (self.shared.clone(), self.inner.fetch(call));
        async move {
            let reply = fetching.await?;
            if bare { Ok(shared.bare(reply)) } else { shared.map(reply, &*sink, ends).await }
        }
        .boxed()
    }
}

impl Shared {
    /// An answer that has no body: its head, without what was about the body that it would have.
    fn bare(&self, mut reply: Reply) -> Reply {
        mend(&mut reply.headers, false);
        reply
    }

    async fn map(&self, reply: Reply, sink: &dyn CallSink, ends: Instant) -> Result<Reply, Failure> {
        let Reply { status, mut headers, body } = reply;
        let read = timeout_at(ends, whole(body, self.map.max_bytes as u64)).await;
        let (body, broken) = match read {
            Ok(Ok(body)) => (body, None),
            Ok(Err((body, failure))) => (body, Some(failure)),
            Err(_) => (bytes::Bytes::new(), Some(Failure::sent(FailureKind::Timeout, "the answer did not end in time"))),
        };
        let answer = Arc::new(BatchAnswer { headers: headers.clone(), body: body.clone(), complete: broken.is_none() });
        let told = |complete, failure| sink.mapped(MappedAnswer { answer: answer.clone(), complete, failure });
        if let Some(failure) = broken {
            // Larger than what is held is no fault of the connection.
            let kind = if failure.kind == FailureKind::Protocol { FailureKind::Unmapped } else { failure.kind };
            told(None, Some(kind));
            let detail = format!("provider {}: {} ({})", self.name, failure.detail, Unmapped::Unread);
            return Err(Failure::sent(kind, detail));
        }
        match self.map.apply(status, &headers, &body) {
            Ok(mapped) => {
                told(mapped.complete, None);
                let error = mapped.status.is_client_error() || mapped.status.is_server_error();
                let rewritten = self.map.rewrites(error);
                if rewritten || mapped.status != status {
                    mend(&mut headers, rewritten);
                }
                Ok(Reply { status: mapped.status, headers, body: Body::full(mapped.body) })
            }
            Err((why, complete)) => {
                told(complete, Some(FailureKind::Unmapped));
                Err(Failure::sent(
                    FailureKind::Unmapped,
                    format!("provider {}: its answer cannot be brought into the route's shape ({why})", self.name),
                ))
            }
        }
    }
}
