//! Runs the service on a listener.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Time that running requests get to end after the stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The admin port broke down.
#[derive(Debug, thiserror::Error)]
#[error("the admin port broke down: {0}")]
pub struct ServeError(#[from] std::io::Error);

/// Serves `router` on `listener` until `stop` resolves; then takes no new connection, lets running requests end, and
/// returns after a few seconds at the latest.
///
/// # Errors
/// When the listener breaks down.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
    let stopping = std::sync::Arc::new(Notify::new());
    let told = stopping.clone();
    let signal = async move {
        stop.await;
        told.notify_one();
    };
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(signal);
    let overdue = async {
        stopping.notified().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = async { serving.await } => ended.map_err(ServeError),
        () = overdue => {
            tracing::warn!("admin requests were cut off at shutdown");
            Ok(())
        }
    }
}
