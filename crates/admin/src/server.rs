//! Runs the service on a listener.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use farthing_tls::Certificates;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::brisk::Brisk;
use crate::places::Places;
use crate::problem::Problem;

/// Time that running requests get to end after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Time a client has to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a client has to take 32 KiB of an answer, or what is left of one.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// Most of one address; more are refused.
const MAX_CONNECTIONS_PER_IP: usize = 64;
/// Wait after a failed accept: the usual reason is that the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port broke down.
#[derive(Debug, thiserror::Error)]
#[error("the admin port broke down: {0}")]
pub struct ServeError(#[from] std::io::Error);

/// Serves `router` on `listener`, over TLS where there are certificates, until `stop` resolves; then takes no new connection, lets running requests end, and
/// returns after a few seconds at the latest. Never more than 256 connections at a time, 64 of one address, and none that sends its head
/// or takes its answers slowly: anybody could have all of them else, without a token.
///
/// # Errors
/// When the listener has no address any more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Certificates>>,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    listener.local_addr()?;
    let graceful = GracefulShutdown::new();
    let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_IP);
    let mut connections = JoinSet::new();
    let (ending, ended) = tokio::sync::watch::channel(());
    tokio::pin!(stop);
    loop {
        let accept = async {
            let room = places.room().await;
            (room, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (room, accepted) = accept => match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = places.of(peer.ip(), room) else {
                        tracing::debug!(%peer, "an admin connection too many of one address");
                        if tls.is_none() {
                            // A new socket takes this whole; a client that cannot be told is just closed.
                            drop(stream.try_write(&crowded()));
                        }
                        continue;
                    };
                    let (router, watcher, tls, mut ended) = (router.clone(), graceful.watcher(), tls.clone(), ended.clone());
                    connections.spawn(async move {
                        let _place = place;
                        let ended = match tls {
                            None => watcher.watch(connection(stream, peer, router)).await,
                            Some(tls) => {
                                // Nothing of a request is under way during a handshake.
                                let secured = tokio::select! {
                                    _ = ended.changed() => return,
                                    secured = tls.accept(stream, HEADER_TIMEOUT) => secured,
                                };
                                match secured {
                                    Ok(stream) => watcher.watch(connection(stream, peer, router)).await,
                                    Err(unsecured) => {
                                        drop(watcher);
                                        return unsecured.tell(&plain_http()).await;
                                    }
                                }
                            }
                        };
                        if let Err(error) = ended {
                            tracing::debug!(%error, %peer, "admin connection broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop((listener, ending));
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("admin requests were cut off at shutdown");
    }
    Ok(())
}

/// What one is told who speaks plain HTTP to a port that speaks TLS.
fn plain_http() -> Vec<u8> {
    wire(&Problem::new(StatusCode::BAD_REQUEST, "plain-http", "this port speaks TLS: write https:// in the URL"))
}

/// What one is told who has too many connections.
fn crowded() -> Vec<u8> {
    let detail = format!("your address has {MAX_CONNECTIONS_PER_IP} connections to this port: close some");
    wire(&Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", detail))
}

/// A whole answer that ends the connection.
fn wire(problem: &Problem) -> Vec<u8> {
    let document = problem.document();
    let body = serde_json::to_string(&document).unwrap_or_default(); // texts and a number: this cannot fail
    let head = "content-type: application/problem+json\r\nconnection: close\r\n";
    format!("HTTP/1.1 {} {}\r\n{head}content-length: {}\r\n\r\n{body}", document.status, document.title, body.len()).into_bytes()
}

type Connection<IO> = http1::Connection<TokioIo<Brisk<IO>>, TowerToHyperService<BoxService>>;
type BoxService = tower::util::BoxCloneSyncService<Request<Incoming>, http::Response<Body>, std::convert::Infallible>;

fn connection<IO: AsyncRead + AsyncWrite + Unpin + 'static>(stream: IO, peer: SocketAddr, router: Router) -> Connection<IO> {
    let service = router.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(Brisk::new(stream, WRITE_TIMEOUT)), TowerToHyperService::new(BoxService::new(service)))
}
