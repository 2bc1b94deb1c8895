//! WebSockets and CONNECT: a connection that has been upgraded carries what it likes, both ways, until an end closes it or a bound is reached.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use farthing_types::{Body, BodyError, Span};
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::EdgeStats;
use super::stats::TunnelEnd;

/// Bytes that are read at once from a client.
const PIECE: usize = 16 << 10;
/// Pieces from a client that wait for the provider.
const WAITING: usize = 4;
/// After a client's end the provider has so long to end, too: the protocol has no half-open connections.
const AFTER_END: Span = Span::from_secs(10);

type Io = TokioIo<Upgraded>;

/// Put into an answer by its handler, 101 for a WebSocket and 200 for CONNECT: the connection goes on as a tunnel. What the client sends comes as the request's body, what the answer's
/// body brings goes to the client.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// It is closed when nothing has passed for so long, either way.
    pub idle: Span,
    /// It is closed after so long.
    pub longest: Span,
}

/// Whether a request asks, without ambiguity, to go on as a WebSocket: GET in HTTP/1.1, one `Upgrade` to that alone, which `Connection` names, and no
/// body.
pub(super) fn is_asked(parts: &Parts) -> bool {
    let fields = &parts.headers;
    let mut upgrades = fields.get_all(UPGRADE).iter();
    let to_websocket =
        upgrades.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) && upgrades.next().is_none();
    let options = fields.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named = options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let no_body = !fields.contains_key(TRANSFER_ENCODING) && fields.get(CONTENT_LENGTH).is_none_or(|length| length.as_bytes() == b"0");
    to_websocket && named && no_body && parts.method == Method::GET && parts.version == Version::HTTP_11
}

/// A request that may become a tunnel: the connection as it will be, and where what comes over it goes.
pub(super) struct Offer {
    upgraded: OnUpgrade,
    up: mpsc::Sender<Bytes>,
}

impl Offer {
    /// That of a request, and its body; `None` where the connection cannot go on as anything else.
    pub(super) fn take(parts: &mut Parts) -> Option<(Self, Body)> {
        let upgraded = parts.extensions.remove::<OnUpgrade>()?;
        let (up, came) = mpsc::channel(WAITING);
        Some((Self { upgraded, up }, Body::stream(Coming(came))))
    }

    /// The answer that goes out for the handler's 101 or 200, and what then happens over the connection.
    pub(super) fn accept(self, answer: Response<Body>, terms: Tunnel, stats: &Arc<EdgeStats>) -> (Response<Body>, BoxFuture<'static, ()>) {
        let (mut head, down) = answer.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        (Response::from_parts(head, Body::empty()), Box::pin(run(self, down, terms, Arc::clone(stats))))
    }
}

/// What comes from a client.
struct Coming(mpsc::Receiver<Bytes>);

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Where the tunnel of a connection waits until HTTP has ended on it.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Option<BoxFuture<'static, ()>>>);

impl Waiting {
    pub(super) fn put(&self, tunnel: BoxFuture<'static, ()>) {
        *self.0.lock() = Some(tunnel);
    }
    pub(super) fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.0.lock().take()
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

/// Counts a tunnel, from its begin to its end; cut off where that is not said.
struct Open(Arc<EdgeStats>, Instant, TunnelEnd);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count_tunnel_closed(self.2, self.1.elapsed());
    }
}

async fn run(offer: Offer, down: Body, terms: Tunnel, stats: Arc<EdgeStats>) {
    let Offer { upgraded, up } = offer;
    let Ok(io) = upgraded.await else { return };
    stats.count_tunnel_opened();
    let mut open = Open(Arc::clone(&stats), Instant::now(), TunnelEnd::Cut);
    let last = Mutex::new(Instant::now());
    let passed = |up: usize, down: usize| {
        *last.lock() = Instant::now();
        stats.count_tunnel_bytes(up, down);
    };
    let (read, write) = tokio::io::split(TokioIo::new(io));
    let upward = async {
        if from_client(read, up, &passed).await {
            sleep(AFTER_END).await;
        }
    };
    open.2 = tokio::select! {
        biased;
        end = to_client(down, write, &passed) => end,
        () = upward => TunnelEnd::Client,
        () = quiet(&last, terms.idle) => TunnelEnd::Idle,
        () = sleep(terms.longest) => TunnelEnd::Longest,
    };
}

/// Told of bytes that have passed, from the client and to it.
type Passed<'a> = &'a (dyn Fn(usize, usize) + Send + Sync);

/// Hands on what the client sends; whether it has ended properly. Never ends where nobody takes it any more: then the provider's side ends.
async fn from_client(mut read: ReadHalf<Io>, up: mpsc::Sender<Bytes>, passed: Passed<'_>) -> bool {
    let mut held = BytesMut::new();
    loop {
        held.reserve(PIECE);
        match read.read_buf(&mut held).await {
            Ok(0) => return true,
            Err(_) => return false,
            Ok(bytes) => passed(bytes, 0),
        }
        if up.send(held.split().freeze()).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Writes what the provider sends, and closes when it does.
async fn to_client(mut down: Body, mut write: WriteHalf<Io>, passed: Passed<'_>) -> TunnelEnd {
    while let Some(frame) = down.frame().await {
        let Ok(frame) = frame else { return TunnelEnd::Broken };
        let Ok(data) = frame.into_data() else { continue };
        if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
            return TunnelEnd::Client;
        }
        passed(0, data.len());
    }
    let _the_client_may_be_gone = write.shutdown().await;
    TunnelEnd::Done
}

/// Resolves when nothing has passed for so long.
async fn quiet(last: &Mutex<Instant>, idle: Span) {
    loop {
        let until = *last.lock() + idle;
        sleep_until(until).await;
        if *last.lock() + idle <= Instant::now() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: &str, fields: &[(&str, &str)]) -> bool {
        let mut request = http::Request::builder().method(method);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        is_asked(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_what_cannot_be_read_in_two_ways_asks_for_a_tunnel() {
        let plain = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(asks("GET", &plain) && asks("GET", &[plain[0], plain[1], ("content-length", "0")]));
        assert!(!asks("POST", &plain));
        for more in [("content-length", "5"), ("transfer-encoding", "chunked"), ("upgrade", "h2c")] {
            assert!(!asks("GET", &[plain[0], plain[1], more]), "{more:?}");
        }
        for fields in [
            &[("upgrade", "websocket")][..],
            &[("connection", "upgrade")],
            &[("connection", "close"), ("upgrade", "websocket")],
            &[("connection", "upgrades"), ("upgrade", "websocket")],
            &[("connection", "upgrade"), ("upgrade", "websocket, h2c")],
            &[("connection", "upgrade"), ("upgrade", "h2c")],
        ] {
            assert!(!asks("GET", fields), "{fields:?}");
        }
    }
}
