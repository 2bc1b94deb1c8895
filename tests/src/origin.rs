//! An origin that does what a test says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use farthing_types::{Body, BodyError};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as the origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What the origin answers; given the request and its number, from 0.
pub type Script = Arc<dyn Fn(Seen, usize) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// A running origin.
pub struct Origin {
    /// Its address.
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    /// An origin that follows `script`.
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let task = tokio::task::spawn(accept(listener, script, seen.clone()));
        Self { addr, seen, task }
    }

    /// An origin whose answers need no waiting.
    pub async fn simple(answer: impl Fn(&Seen, usize) -> Response<Body> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(Arc::new(move |seen, n| {
            let answer = answer.clone();
            Box::pin(async move { answer(&seen, n) })
        }))
        .await
    }

    /// What it was asked so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
    /// How often it was asked.
    pub fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Forgets what it has seen, and the room that this took.
    pub fn forget(&self) {
        *self.seen.lock().unwrap() = Vec::new();
    }
}

async fn accept(listener: TcpListener, script: Script, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (script, seen) = (script.clone(), seen.clone());
        connections.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| answer(request, script.clone(), seen.clone()));
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, script: Script, seen: Arc<Mutex<Vec<Seen>>>) -> Result<Response<Body>, BodyError> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| BodyError(e.to_string()))?.to_bytes();
    let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let one = Seen { method: head.method, target, headers: head.headers, body };
    let number = {
        let mut all = seen.lock().unwrap();
        all.push(one.clone());
        all.len() - 1
    };
    Ok(script(one, number).await)
}

/// A plain answer.
pub fn ok(body: impl Into<Bytes>) -> Response<Body> {
    answer_of(StatusCode::OK, &[("content-type", "application/json")], body)
}

/// An answer with a status and headers.
pub fn answer_of(status: StatusCode, headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body.into()));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().append(*name, value.parse().unwrap());
    }
    response
}
