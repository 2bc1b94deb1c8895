//! A connection of HTTP/1.1 that is moved on by whoever waits for its answer.
//!
//! In a task of its own it would have to be woken to send and would have to wake to hand on what came, each time another thread as often as not: more than
//! the rest of a small call takes. So whoever waits for an answer polls the connection, and nobody is woken but by the network. Only while nothing is
//! waited for, it is watched by its pool, and where a request's body is still on its way up when the answer begins, by a task: whoever reads the
//! answer may be slow, and must not keep what the upstream waits for.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use farthing_types::{Body, BodyError};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connect::{Wire, Written};
use crate::deadline::Deadline;

/// Why no answer came over a connection.
pub(crate) enum Stopped {
    /// The request was not begun; here it is.
    Unbegun(Box<Request<Body>>, hyper::Error),
    /// It broke.
    Broken(hyper::Error),
    /// Its time is over.
    Late,
}

/// A connection.
pub(crate) struct Line {
    sender: SendRequest<Up>,
    /// `None` once it has ended.
    connection: Option<Connection<Wire, Up>>,
    written: Written,
    marks: Arc<Marks>,
    watcher: Waker,
    /// Of what is waited for.
    pub(crate) deadline: Deadline,
    /// Of its pool, when it was opened.
    pub(crate) age: u64,
}

impl Line {
    /// HTTP over a connection that stands; `bell` is rung when something comes over it while it lies unused.
    pub(crate) async fn open(wire: Wire, bell: &Arc<Notify>, age: u64) -> Result<Box<Self>, hyper::Error> {
        let written = wire.written();
        let (sender, connection) = Builder::new().max_headers(256).handshake(wire).await?;
        let marks = Arc::new(Marks { bell: Arc::clone(bell), ..Marks::default() });
        let watcher = Waker::from(Arc::clone(&marks));
        Ok(Box::new(Self { sender, connection: Some(connection), written, marks, watcher, deadline: Deadline::default(), age }))
    }

    /// Whether anything of the request that it has now was written.
    pub(crate) fn written(&self) -> Written {
        self.written.clone()
    }

    /// Sends a request, and waits for the head of its answer until `by`.
    pub(crate) async fn exchange(&mut self, request: Request<Body>, by: Instant) -> Result<Response<Incoming>, Stopped> {
        self.marks.idle.store(false, Ordering::Release);
        self.written.renew();
        self.deadline.set(by);
        let mut answer = pin!(self.sender.try_send_request(request.map(|body| Up::new(body, &self.marks))));
        let Self { connection, deadline, .. } = self;
        let mut begun = false;
        let answer = std::future::poll_fn(|cx| {
            // There is none before the request has gone out.
            let answer = advance(connection, (cx, std::mem::replace(&mut begun, true)), |quiet| answer.as_mut().poll(quiet));
            match answer {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => deadline.poll(cx).map(|()| None),
            }
        });
        let answer = answer.await;
        self.deadline.clear();
        match answer {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => Err(match error.take_message() {
                Some(request) => Stopped::Unbegun(Box::new(request.map(Up::into_body)), error.into_error()),
                None => Stopped::Broken(error.into_error()),
            }),
            None => Err(Stopped::Late),
        }
    }

    /// The next frame of its answer.
    pub(crate) fn poll_frame(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut quiet = Context::from_waker(Waker::noop());
        let frame = Pin::new(&mut *body).poll_frame(&mut quiet);
        if frame.is_ready() {
            return frame;
        }
        advance(&mut self.connection, (cx, true), |quiet| Pin::new(&mut *body).poll_frame(quiet))
    }

    /// Whether all of its answer has come, and it can take the next request.
    pub(crate) fn is_free(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it has ended.
    pub(crate) const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// Whether the request's body is still on its way up: it comes bit by bit, or hyper holds some of it.
    pub(crate) fn is_sending(&self) -> bool {
        self.marks.up.load(Ordering::Acquire) || self.written.is_held()
    }

    /// Moves it on until it can take the next request; `false` when it ends before.
    pub(crate) async fn finish(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            turn(&mut self.connection, cx);
            if self.is_over() { Poll::Ready(false) } else { self.sender.poll_ready(cx).map(|ready| ready.is_ok()) }
        })
        .await
    }

    /// Lies unused from now on; whether it still can be used then.
    pub(crate) fn rest(&mut self) -> bool {
        self.marks.stirred.store(false, Ordering::Release);
        self.marks.idle.store(true, Ordering::Release);
        turn(&mut self.connection, &mut Context::from_waker(&self.watcher));
        self.is_free()
    }

    /// Whether something has come over it since it began to rest.
    pub(crate) fn is_stirred(&self) -> bool {
        self.marks.stirred.load(Ordering::Acquire)
    }
}

/// Moves a connection on until `came` has what it brings, or `cx` is to be woken when there is more of it.
///
/// What is taken from a connection wakes whoever has polled it last, to be polled for more. So where something may be there it is first polled for nobody:
/// else whoever takes it would wake itself, each time.
fn advance<T>(
    connection: &mut Option<Connection<Wire, Up>>,
    (cx, may_be_there): (&mut Context<'_>, bool),
    mut came: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Poll<T> {
    let mut quiet = Context::from_waker(Waker::noop());
    if may_be_there {
        turn(connection, &mut quiet);
        let came = came(&mut quiet);
        if came.is_ready() {
            return came;
        }
    }
    turn(connection, cx);
    came(&mut quiet)
}

/// Polls a connection. Its errors come with the answer; one that has ended lets go of what it holds.
fn turn(connection: &mut Option<Connection<Wire, Up>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
        *connection = None;
    }
}

/// What a connection, its request's body and its pool tell each other.
#[derive(Default)]
struct Marks {
    /// The request's body is on its way up.
    up: AtomicBool,
    /// It lies unused.
    idle: AtomicBool,
    /// Something has come while it did.
    stirred: AtomicBool,
    bell: Arc<Notify>,
}

impl Wake for Marks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        // A request that is given to it wakes it, too, and polls it anyway.
        if self.idle.load(Ordering::Acquire) && !self.stirred.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }
}

/// A request's body; one that comes bit by bit is on its way until hyper has let go of it.
pub(crate) struct Up {
    body: Body,
    marks: Option<Arc<Marks>>,
}

impl Up {
    fn new(body: Body, marks: &Arc<Marks>) -> Self {
        let comes = !body.is_full();
        marks.up.store(comes, Ordering::Release);
        Self { body, marks: comes.then(|| Arc::clone(marks)) }
    }
    fn into_body(mut self) -> Body {
        std::mem::take(&mut self.body)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(marks) = &self.marks {
            marks.up.store(false, Ordering::Release);
        }
    }
}

impl HttpBody for Up {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
