//! Each change that is ordered is noted: who, what, with which words, and what came of it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::guard::{Right, looks};
use crate::views::config::{AuditControl, ChangeNote};
use crate::{Parts, Problem};

/// By this header a caller says who it is.
const ACTOR: HeaderName = HeaderName::from_static("x-farthing-actor");
/// Longest name that is noted.
const LONGEST_NAME: usize = 128;
/// Bytes of a body that are noted.
const NOTED: usize = 1_024;
/// Questions by another method than GET.
const QUESTIONS: [&str; 1] = ["/api/v1/config/diff"];

/// This order must not bring back the name that it takes away.
const FORGETS: &str = "/api/v1/forget";

/// What the middleware needs.
#[derive(Clone)]
pub(crate) struct Noting {
    pub parts: Parts,
    /// Most bytes of a body.
    pub max_body: usize,
}

/// Notes a change when it has been answered. What was refused to a stranger does not come here: nobody else may fill the record.
pub(crate) async fn note(State(noting): State<Noting>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Who has shown no right orders nothing: what answers anybody, and signed deliveries of events.
    let right = request.extensions().get::<Right>().map(Right::told);
    let Some(by) = right.filter(|_| !looks(request.method()) && !QUESTIONS.contains(&path)) else { return next.run(request).await };
    let path = path.to_owned();
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, noting.max_body).await else {
        let detail = format!("the body has more than {} bytes, or broke off", noting.max_body);
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail).into_response();
    };
    let audit = noting.parts.audit.clone();
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.to_string());
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let change = ChangeNote {
        by,
        said: said(&head.headers),
        peer,
        what: format!("{} {target}", head.method),
        with: if path == FORGETS { "(not noted: it names who is forgotten)".to_owned() } else { words(&body) },
        before: audit.digest(),
        ..ChangeNote::default()
    };
    // Told also where the answer does not come, or nobody waits for it: the change may go on.
    let mut pending = Pending(Some((audit, change)));
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    pending.end(response.status()).await;
    response
}

pub(crate) fn said(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(ACTOR)?.to_str().ok()?;
    Some(text.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect())
}

/// The body as text; of a long one its beginning.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(NOTED)]);
    if body.len() > NOTED { format!("{text}... ({} bytes)", body.len()) } else { text.into_owned() }
}

/// A change that is not answered yet.
struct Pending(Option<(Arc<dyn AuditControl>, ChangeNote)>);

impl Pending {
    async fn end(&mut self, status: StatusCode) {
        if let Some(work) = self.0.take().map(|(audit, change)| move || write(&*audit, change, status.as_u16().to_string())) {
            let _ = tokio::task::spawn_blocking(work).await;
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some((audit, change)) = self.0.take() {
            let work = move || write(&*audit, change, "not answered".to_owned());
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(work)),
                Err(_) => work(),
            }
        }
    }
}

fn write(audit: &dyn AuditControl, mut change: ChangeNote, outcome: String) {
    (change.outcome, change.after) = (outcome, audit.digest());
    audit.note(change);
}
