//! The pool of an upstream that speaks HTTP/1.1: see [`crate::line`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_types::{Body, Span};
use futures_util::future::{Either, select};
use http::{Request, Uri};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::connect::Connector;
use crate::deadline::Deadline;
use crate::line::{Line, Stopped};
use crate::pool::{Answered, Lost, Rest, Sent};

/// Connections are looked at for their age as often as they may be old, but not more often than this.
const LEAST_TURN: Span = Span::from_millis(90);

/// The pool.
pub(crate) struct Lines {
    connector: Connector,
    to: Uri,
    max_idle: usize,
    /// How long an unused connection is kept, ms.
    idle_ms: AtomicU64,
    /// Connections that are older than this are not kept.
    age: AtomicU64,
    shelf: Mutex<Shelf>,
    bell: Arc<Notify>,
    tasks: TaskTracker,
    is_kept: AtomicBool,
}

#[derive(Default)]
struct Shelf {
    /// Unused connections; the one that was used last is the last.
    idle: Vec<Resting>,
    /// Who would take a connection that another request needs no more, rather than wait for a new one.
    waiting: VecDeque<oneshot::Sender<Box<Line>>>,
}

struct Resting {
    line: Box<Line>,
    since: Instant,
}

/// A connection that goes back to its pool when its answer is here.
pub(crate) struct OnLine {
    /// `None` once it is given back.
    line: Option<Box<Line>>,
    home: Arc<Lines>,
}

impl OnLine {
    /// The next frame of the answer.
    pub(crate) fn poll_frame(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(line) = &mut self.line else { return Pin::new(body).poll_frame(cx) };
        let frame = line.poll_frame(body, cx);
        self.release();
        frame
    }

    /// The connection's deadline, which has a timer already.
    pub(crate) fn deadline(&mut self) -> Option<&mut Deadline> {
        self.line.as_mut().map(|line| &mut line.deadline)
    }

    /// Gives it back where nothing more is to come over it.
    fn release(&mut self) {
        if let Some(line) = self.line.take_if(|line| line.is_over() || line.is_free()) {
            self.home.put_back(line);
        }
    }
}

impl Drop for OnLine {
    fn drop(&mut self) {
        self.release();
    }
}

impl Lines {
    pub(crate) fn new(connector: Connector, to: Uri, (idle, max_idle): (Span, usize)) -> Arc<Self> {
        Arc::new(Self {
            connector,
            to,
            max_idle,
            idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX).into(),
            age: AtomicU64::new(0),
            shelf: Mutex::default(),
            bell: Arc::default(),
            tasks: TaskTracker::new(),
            is_kept: AtomicBool::new(false),
        })
    }

    /// Unused connections are kept for so long from now on; those there are now are left as soon as nobody uses them.
    pub(crate) fn keep_for(&self, idle_ms: u64) {
        self.idle_ms.store(idle_ms, Ordering::Release);
        self.age.fetch_add(1, Ordering::AcqRel);
        let left = std::mem::take(&mut self.shelf.lock().idle);
        drop(left);
    }

    /// Sends a request; `sent` tells, whatever becomes of this future, whether something of it was written.
    pub(crate) async fn request(
        self: &Arc<Self>,
        mut request: Request<Body>,
        (by, ends): (Instant, Instant),
        sent: &mut Sent,
    ) -> Result<Answered, Lost> {
        loop {
            let (mut line, used) = match self.take() {
                Some(line) => (line, true),
                // Seldom, and large.
                None => Box::pin(self.open(by)).await?,
            };
            sent.line = Some(line.written());
            match line.exchange(request, by).await {
                Ok(response) => return Ok(Answered { response, rest: self.after_head(line, ends) }),
                Err(Stopped::Unbegun(again, _)) if used => {
                    sent.line = None;
                    request = *again;
                }
                Err(Stopped::Unbegun(_, error)) => return Err(Lost::Unbegun(error)),
                Err(Stopped::Broken(error)) => return Err(Lost::Broken(error)),
                Err(Stopped::Late) => return Err(Lost::Late),
            }
        }
    }

    fn after_head(self: &Arc<Self>, mut line: Box<Line>, ends: Instant) -> Rest {
        if line.is_sending() && !line.is_over() {
            let home = Arc::clone(self);
            drop(self.tasks.spawn(async move {
                // Whoever answers early may take no more.
                if timeout_at(ends, line.finish()).await == Ok(true) {
                    home.put_back(line);
                }
            }));
            return Rest::Brought(None);
        }
        // One that takes the next request has given all of its answer; one that has ended, or still gives, may break off.
        if line.is_free() {
            self.put_back(line);
            return Rest::Here;
        }
        if line.is_over() { Rest::Brought(None) } else { Rest::Coming(OnLine { line: Some(line), home: Arc::clone(self) }) }
    }

    /// An unused connection.
    fn take(&self) -> Option<Box<Line>> {
        let mut shelf = self.shelf.lock();
        let last = shelf.idle.pop()?;
        if last.since.elapsed() < self.idle() {
            return Some(last.line);
        }
        // Those before it have lain longer.
        let old = std::mem::take(&mut shelf.idle);
        drop(shelf);
        drop((last, old));
        None
    }

    fn idle(&self) -> Span {
        Span::from_millis(self.idle_ms.load(Ordering::Acquire))
    }

    fn keeps(&self, line: &Line) -> bool {
        line.age == self.age.load(Ordering::Acquire) && self.keeps_any()
    }

    /// Whether connections are kept at all.
    fn keeps_any(&self) -> bool {
        self.max_idle > 0 && !self.idle().is_zero()
    }

    /// Keeps a connection that nobody uses any more, unless somebody waits for one.
    fn put_back(&self, mut line: Box<Line>) {
        if !self.keeps(&line) || !line.rest() {
            return;
        }
        let mut shelf = self.shelf.lock();
        while let Some(waiting) = shelf.waiting.pop_front() {
            match waiting.send(line) {
                Ok(()) => return,
                Err(back) => line = back,
            }
        }
        if shelf.idle.len() >= self.max_idle {
            return;
        }
        let stirred = line.is_stirred();
        shelf.idle.push(Resting { line, since: Instant::now() });
        drop(shelf);
        if stirred {
            // The bell may have been heard before it was here.
            self.bell.notify_one();
        }
    }

    /// A new connection, or one that another request has given back before that stood; whether it was used before.
    async fn open(self: &Arc<Self>, by: Instant) -> Result<(Box<Line>, bool), Lost> {
        let opening = Box::pin(self.clone().opened());
        if !self.keeps_any() {
            return match timeout_at(by, opening).await {
                Ok(line) => line.map(|line| (line, false)),
                Err(_) => Err(Lost::Late),
            };
        }
        let mut told = self.wait();
        let either = timeout_at(by, select(&mut told, opening)).await;
        match either {
            Ok(Either::Left((Ok(line), opening))) => {
                // What was begun is of use to others.
                let home = Arc::clone(self);
                drop(self.tasks.spawn(async move {
                    if let Ok(line) = opening.await {
                        home.put_back(line);
                    }
                }));
                Ok((line, true))
            }
            Ok(Either::Left((Err(_), opening))) => opening.await.map(|line| (line, false)),
            Ok(Either::Right((opened, _))) => {
                told.close();
                match told.try_recv() {
                    Ok(line) if opened.is_err() => return Ok((line, true)),
                    Ok(line) => self.put_back(line),
                    Err(_) => {}
                }
                opened.map(|line| (line, false))
            }
            Err(_) => Err(Lost::Late),
        }
    }

    /// Waits for a connection that another request gives back.
    fn wait(&self) -> oneshot::Receiver<Box<Line>> {
        let (tell, told) = oneshot::channel();
        let mut shelf = self.shelf.lock();
        // Some of those before had a connection of their own sooner.
        shelf.waiting.retain(|waiting| !waiting.is_closed());
        shelf.waiting.push_back(tell);
        told
    }

    async fn opened(self: Arc<Self>) -> Result<Box<Line>, Lost> {
        let age = self.age.load(Ordering::Acquire);
        let wire = self.connector.clone().call(self.to.clone()).await.map_err(Lost::Unconnected)?;
        let line = Line::open(wire, &self.bell, age).await.map_err(Lost::Unbegun)?;
        if !self.is_kept.swap(true, Ordering::AcqRel) {
            drop(self.tasks.spawn(keep(Arc::downgrade(&self), Arc::clone(&self.bell))));
        }
        Ok(line)
    }

    /// Leaves connections that have ended or have lain too long; answers when they are to be looked at again.
    fn sweep(&self) -> Span {
        let (idle, now) = (self.idle(), Instant::now());
        let mut left = Vec::new();
        let mut shelf = self.shelf.lock();
        for mut resting in std::mem::take(&mut shelf.idle) {
            let young = now.saturating_duration_since(resting.since) < idle;
            let stands = young && (!resting.line.is_stirred() || resting.line.rest());
            if stands { shelf.idle.push(resting) } else { left.push(resting) }
        }
        drop(shelf);
        drop(left);
        idle.max(LEAST_TURN)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.bell.notify_one();
    }
}

/// Looks after unused connections for as long as the pool is there.
async fn keep(lines: Weak<Lines>, bell: Arc<Notify>) {
    while let Some(turn) = lines.upgrade().map(|lines| lines.sweep()) {
        drop(timeout(turn, bell.notified()).await);
    }
}
