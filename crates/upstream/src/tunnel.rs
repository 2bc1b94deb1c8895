//! Tunnels, of WebSockets and blind ones: what a client sends goes to the other end as a body, and what comes from there is the body of its answer. Neither is
//! read.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use farthing_types::{Body, BodyError, Failure, FailureKind};
use futures_util::future::AbortHandle;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use crate::client::Slot;

/// The only protocol that is switched to.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// Whether fields name a tunnel: those of a call ask for one, those of an answer 101 grant it.
pub(crate) fn is_named(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

/// Asks for one.
pub(crate) fn ask(headers: &mut HeaderMap) {
    headers.insert(UPGRADE, WEBSOCKET);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// The body of an answer that comes through a tunnel: it ends when the other end does. What goes up is on its way in a task of its own, so that one who does
/// not read does not keep it from going; it ends with this.
pub(crate) struct Tunnel<IO> {
    down: ReadHalf<IO>,
    up: AbortHandle,
    _slot: Option<Slot>,
}

impl Tunnel<TokioIo<Upgraded>> {
    /// A tunnel through a connection, for what comes out of `body`.
    pub(crate) fn open(io: Upgraded, body: Body, (slot, tasks): (Slot, &TaskTracker)) -> Self {
        Self::through(TokioIo::new(io), body, (Some(slot), tasks))
    }
}

impl<IO: AsyncRead + AsyncWrite + Send + 'static> Tunnel<IO> {
    fn through(io: IO, body: Body, (slot, tasks): (Option<Slot>, &TaskTracker)) -> Self {
        let (down, up) = tokio::io::split(io);
        let (pumped, abort) = futures_util::future::abortable(pump(body, up));
        tasks.spawn(pumped);
        Self { down, up: abort, _slot: slot }
    }
}

/// What comes from the other end of a connection to which `body` is sent. It ends with what is returned.
pub fn blind(io: TcpStream, body: Body, tasks: &TaskTracker) -> Body {
    Body::stream(Tunnel::through(io, body, (None, tasks)))
}

/// What could be sent; the upstream is told of the end.
async fn pump<IO: AsyncRead + AsyncWrite>(mut body: Body, mut up: WriteHalf<IO>) {
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        if up.write_all(&data).await.is_err() || up.flush().await.is_err() {
            return;
        }
    }
    let _the_other_end_may_be_gone = up.shutdown().await;
}

impl<IO> Drop for Tunnel<IO> {
    fn drop(&mut self) {
        self.up.abort();
    }
}

impl<IO: AsyncRead + AsyncWrite> HttpBody for Tunnel<IO> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut space = [0u8; PIECE];
        let mut buf = ReadBuf::new(&mut space);
        let read = ready!(Pin::new(&mut self.down).poll_read(cx, &mut buf));
        Poll::Ready(match read {
            Ok(()) if buf.filled().is_empty() => None,
            Ok(()) => Some(Ok(Frame::data(BytesMut::from(buf.filled()).freeze()))),
            Err(error) => Some(Err(BodyError(format!("upstream: {error}")))),
        })
    }
}

/// An upstream that cannot be asked.
pub(crate) fn impossible(name: &str) -> Failure {
    Failure::unsent(FailureKind::Refused, format!("upstream {name}: no connection that could be upgraded can be made"))
}
