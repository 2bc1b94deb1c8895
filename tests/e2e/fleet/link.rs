//! A way to a server that can be frozen and cut.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Hands bytes on between whoever connects and a server.
pub struct Link {
    addr: SocketAddr,
    /// Frozen, and how often it was cut.
    state: watch::Sender<(bool, u64)>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (state, watched) = watch::channel((false, 0));
        let task = tokio::task::spawn(accept(listener, port, watched));
        Self { addr, state, task }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// From now on nothing comes through, as with a network that is gone.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.0 = true);
    }

    /// What was held up comes through.
    pub fn thaw(&self) {
        self.state.send_modify(|state| state.0 = false);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.1 += 1);
    }
}

async fn accept(listener: TcpListener, port: u16, state: watch::Receiver<(bool, u64)>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(join(client, port, state.clone()));
    }
}

async fn join(client: TcpStream, port: u16, mut state: watch::Receiver<(bool, u64)>) {
    thawed(&mut state).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (_, cuts) = *state.borrow();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, state.clone()) => {}
        () = copy(from_server, to_client, state.clone()) => {}
        _ = state.wait_for(|state| state.1 != cuts) => {}
    }
}

async fn thawed(state: &mut watch::Receiver<(bool, u64)>) {
    let _the_test_has_ended = state.wait_for(|state| !state.0).await;
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<(bool, u64)>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        thawed(&mut state).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
