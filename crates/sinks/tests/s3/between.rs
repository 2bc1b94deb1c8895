//! What can go wrong between us and a store: passes requests on to a server, or does with them what a test says.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// What becomes of a request.
#[derive(Clone)]
pub enum Fate {
    Pass,
    /// The store says this and does nothing.
    Say(StatusCode, &'static str),
    /// The connection breaks off before the store has it.
    Drop,
    /// The store does it, and the answer is lost.
    Lose,
    /// The store gets it when told to, whether or not somebody still waits.
    Wait(CancellationToken),
    /// The store does it, and then somebody else has a word before the answer goes out.
    Then(Arc<dyn Fn() + Send + Sync>),
}

/// A request as a test sees it.
pub struct Seen {
    pub method: Method,
    pub target: String,
    /// `if-match` or `if-none-match`.
    pub conditional: bool,
    pub authorization: String,
}

type Decide = Box<dyn FnMut(&Seen) -> Fate + Send>;

pub struct Between {
    pub port: u16,
    decide: Arc<Mutex<Decide>>,
    done: Arc<Mutex<Vec<(Method, u16)>>>,
    _stop: tokio_util::sync::DropGuard,
}

impl Between {
    pub async fn start(server: u16) -> Self {
        Self::start_with(server, None).await
    }

    /// The same over TLS.
    pub async fn start_with(server: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(|_| Fate::Pass)));
        let (stop, done) = (CancellationToken::new(), Arc::<Mutex<Vec<_>>>::default());
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let world = Arc::new(World { server, decide: decide.clone(), done: done.clone(), client });
        let until = stop.clone();
        tokio::spawn(async move {
            while let Some(Ok((stream, _))) = until.run_until_cancelled(listener.accept()).await {
                let world = world.clone();
                let service = service_fn(move |request| handle(world.clone(), request));
                let http = hyper::server::conn::http1::Builder::new();
                match tls.clone() {
                    None => drop(tokio::spawn(http.serve_connection(TokioIo::new(stream), service))),
                    Some(tls) => drop(tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            let _broken_off = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    })),
                }
            }
        });
        Self { port, decide, done, _stop: stop.drop_guard() }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn decide(&self, decide: impl FnMut(&Seen) -> Fate + Send + 'static) {
        *self.decide.lock() = Box::new(decide);
    }

    /// What the server has answered so far.
    pub fn done(&self) -> Vec<(Method, u16)> {
        self.done.lock().clone()
    }
}

struct World {
    server: u16,
    decide: Arc<Mutex<Decide>>,
    done: Arc<Mutex<Vec<(Method, u16)>>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug, thiserror::Error)]
#[error("broken off, as ordered")]
struct Broken;

async fn handle(world: Arc<World>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let seen = Seen {
        method: head.method.clone(),
        target: head.uri.to_string(),
        conditional: head.headers.contains_key("if-match") || head.headers.contains_key("if-none-match"),
        authorization: text("authorization"),
    };
    let fate = (world.decide.lock())(&seen);
    let request = Request::from_parts(head, Full::new(body));
    match fate {
        Fate::Pass => world.forward(request).await,
        Fate::Say(status, said) => Ok(Response::builder().status(status).body(Full::from(said)).unwrap()),
        Fate::Drop => Err(Broken),
        Fate::Lose => {
            let _lost = world.forward(request).await;
            Err(Broken)
        }
        Fate::Wait(until) => {
            let later = tokio::spawn(async move {
                until.cancelled().await;
                world.forward(request).await
            });
            later.await.unwrap()
        }
        Fate::Then(what) => {
            let answer = world.forward(request).await;
            tokio::task::block_in_place(|| what());
            answer
        }
    }
}

impl World {
    async fn forward(&self, request: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Broken> {
        let (mut head, body) = request.into_parts();
        let target = head.uri.to_string();
        head.uri = format!("http://127.0.0.1:{}{target}", self.server).parse().unwrap();
        let method = head.method.clone();
        let answer = self.client.request(Request::from_parts(head, body)).await.map_err(|_| Broken)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        self.done.lock().push((method, head.status.as_u16()));
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// Serves one answer for every request: a metadata server of a platform.
pub async fn answers(body: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let body = body.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let body = body.clone();
                async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}
