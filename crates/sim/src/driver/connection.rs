//! One keep-alive connection of the driver.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// Largest answer that is read.
const MAX_ANSWER: usize = 16 << 20;

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("cannot connect")]
    Connect,
    #[error("the connection broke")]
    Broken,
    #[error("no answer in time")]
    Timeout,
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Reconnects when the server has closed; a request is never sent twice.
pub(crate) struct Connection {
    to: SocketAddr,
    tasks: TaskTracker,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Connection {
    pub fn new(to: SocketAddr, tasks: TaskTracker) -> Self {
        Self { to, tasks, sender: None }
    }

    pub async fn get(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, NoAnswer> {
        let result = match tokio::time::timeout(DEADLINE, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(NoAnswer::Timeout),
        };
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Answer, NoAnswer> {
        let sender = self.ready().await?;
        let response = sender.send_request(request).await.map_err(|_| NoAnswer::Broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| NoAnswer::Broken)?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn ready(&mut self) -> Result<&mut SendRequest<Empty<Bytes>>, NoAnswer> {
        if let Some(sender) = &mut self.sender
            && (sender.is_closed() || sender.ready().await.is_err())
        {
            self.sender = None;
        }
        match &mut self.sender {
            Some(_) => {}
            slot => {
                let stream = TcpStream::connect(self.to).await.map_err(|_| NoAnswer::Connect)?;
                let _ = stream.set_nodelay(true); // only a matter of speed
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| NoAnswer::Connect)?;
                self.tasks.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "driver connection ended");
                    }
                });
                *slot = Some(sender);
            }
        }
        self.sender.as_mut().ok_or(NoAnswer::Connect)
    }
}
