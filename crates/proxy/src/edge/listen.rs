//! The listener: accepts, counts, drains.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use farthing_tls::{Certificates, Handshake, TlsStream};
use farthing_types::{Span, neighbours};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{EdgeConfig, EdgeStats, Handler, PeerInfo, Refusal, Server};

/// The listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen}: {source}; choose another address or port")]
pub struct EdgeError {
    /// The configured address.
    pub listen: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Whether every connection ended by itself within the time to drain.
    pub clean: bool,
    /// Connections that were cut off.
    pub cut: u64,
}

/// A bound data listener.
pub struct Edge {
    listener: TcpListener,
    local: SocketAddr,
    config: EdgeConfig,
    stats: Arc<EdgeStats>,
    tls: Option<Arc<Certificates>>,
}

impl Edge {
    /// Opens the listener; connections wait in the backlog until [`Edge::serve`].
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(config: EdgeConfig) -> Result<Self, EdgeError> {
        let failed = |source| EdgeError { listen: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, local, config, stats: Arc::default(), tls: None })
    }

    /// Speaks TLS, with these certificates.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<Certificates>>) -> Self {
        Self { tls, ..self }
    }

    /// The address it listens on, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its counters.
    pub fn stats(&self) -> Arc<EdgeStats> {
        Arc::clone(&self.stats)
    }

    /// Serves until `stop`, then ends idle connections at once and waits for open requests up to the time to drain.
    pub async fn serve(self, handler: Arc<dyn Handler>, stop: CancellationToken) -> Drained {
        let Self { listener, local, config, stats, tls } = self;
        let (drain, deadline) = (config.drain, config.header_timeout);
        let places = Places { plain: tls.is_none(), ..Places::new(&config) };
        let server = Server::new(config, handler, Arc::clone(&stats), stop.clone());
        let connections = TaskTracker::new();
        let accepting = accept(&listener, local, &places, &stats, |stream, place, peer| {
            let (server, tls, stop) = (server.clone(), tls.clone(), stop.clone());
            drop(connections.spawn(async move {
                match tls {
                    None => server.serve(stream, peer).await,
                    // Nothing of a request is under way during a handshake.
                    Some(tls) => {
                        let secured = stop.run_until_cancelled(secured(&tls, stream, (deadline, &server)));
                        if let Some(Some(stream)) = secured.await {
                            server.serve(stream, peer).await;
                        }
                    }
                }
                drop(place);
            }));
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = accepting => {}
        }
        drop(listener);
        connections.close();
        let clean = tokio::time::timeout(drain, connections.wait()).await.is_ok();
        let cut = if clean { 0 } else { stats.active() };
        server.cut().await;
        connections.wait().await;
        Drained { clean, cut }
    }
}

async fn accept(
    listener: &TcpListener,
    local: SocketAddr,
    places: &Places,
    stats: &EdgeStats,
    mut serve: impl FnMut(TcpStream, Place, PeerInfo),
) {
    let mut connection = 0;
    loop {
        // The place comes first: above the cap clients wait in the backlog instead of costing us memory.
        let Ok(permit) = Arc::clone(&places.all).acquire_owned().await else { return };
        let (stream, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                stats.count_accept_error();
                if !is_of_one_connection(&error) {
                    // Out of files or memory: trying again at once would only spin.
                    tokio::time::sleep(Span::from_millis(50)).await;
                }
                continue;
            }
        };
        // Small writes must not wait for each other; where the system refuses, the connection still works.
        drop(stream.set_nodelay(true));
        let Some(place) = places.of(addr.ip(), permit) else {
            stats.count_refused(Refusal::AddressCap);
            // A new socket's send buffer takes this whole; a client that cannot be told is just closed.
            if places.plain {
                drop(stream.try_write(&Refusal::AddressCap.wire()));
            }
            continue;
        };
        // A listener on all addresses does not say which one the client has reached.
        let local = stream.local_addr().map_or(local, |own| SocketAddr::new(own.ip().to_canonical(), own.port()));
        connection += 1;
        serve(stream, place, PeerInfo { addr, local, connection });
    }
}

/// A connection after its handshake; `None` where it came to none.
async fn secured(tls: &Certificates, stream: TcpStream, (deadline, server): (Span, &Server)) -> Option<TlsStream<TcpStream>> {
    match tls.accept(stream, deadline).await {
        Ok(stream) => Some(stream),
        Err(unsecured) => {
            if unsecured.why == Handshake::Plain {
                server.count_refused(Refusal::PlainHttp);
            }
            unsecured.tell(&Refusal::PlainHttp.wire()).await;
            None
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted
    )
}

/// Who may be connected.
struct Places {
    all: Arc<Semaphore>,
    by_network: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_network: usize,
    /// Whether clients understand what is told before a handshake.
    plain: bool,
}

/// A connection's place, given back on drop.
struct Place {
    network: IpAddr,
    by_network: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Places {
    fn new(config: &EdgeConfig) -> Self {
        Self {
            all: Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            by_network: Arc::default(),
            per_network: config.max_connections_per_ip.max(1),
            plain: true,
        }
    }

    fn of(&self, addr: IpAddr, permit: tokio::sync::OwnedSemaphorePermit) -> Option<Place> {
        let network = neighbours(addr);
        let mut counts = self.by_network.lock();
        let count = counts.entry(network).or_insert(0);
        if *count >= self.per_network {
            return None;
        }
        *count += 1;
        Some(Place { network, by_network: Arc::clone(&self.by_network), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.by_network.lock();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_cannot_take_all_places() {
        let config = EdgeConfig { max_connections: 10, max_connections_per_ip: 2, ..EdgeConfig::default() };
        let places = Places::new(&config);
        let take = |addr: &str| places.of(addr.parse().unwrap(), Arc::clone(&places.all).try_acquire_owned().unwrap());
        let first = take("2001:db8::1");
        let second = take("2001:db8::2:3");
        assert!(first.is_some() && second.is_some());
        assert!(take("2001:db8::ffff").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        assert!(take("::ffff:10.0.0.1").is_some());
        drop(first);
        let again = take("2001:db8::ffff");
        assert!(again.is_some());
        drop((second, again));
        assert!(places.by_network.lock().is_empty());
        assert_eq!(places.all.available_permits(), 10);
    }
}
