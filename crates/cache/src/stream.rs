//! A body that several readers follow while it is written.
//!
//! While it is *whole* (byte 0 is held) readers may join from the start and the writer never waits. When the bound of
//! the stream or of all streams together is reached it *slides*: what everyone has read is let go, the writer waits for
//! the slowest reader, and cuts it off visibly when it takes too long.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use farthing_types::BodyError;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes that many hold together, up to a bound.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
    pub(crate) fn try_take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }
    pub(crate) fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
    }
}

struct ReaderState {
    /// Index of the next chunk, counted from the start of the body.
    next: u64,
    waker: Option<Waker>,
    cut: bool,
}

#[derive(Clone)]
enum End {
    Complete(Option<HeaderMap>),
    Broken(BodyError),
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Bytes>,
    /// Index of the first chunk held.
    base: u64,
    held: usize,
    slid: bool,
    end: Option<End>,
    readers: Vec<Option<ReaderState>>,
    live: usize,
}

/// The shared buffer of one body.
pub(crate) struct Stream {
    state: Mutex<State>,
    budget: Arc<Budget>,
    bound: usize,
    /// Told when a reader of a sliding stream went on or left.
    room: Notify,
    /// Told when the last reader left.
    idle: Notify,
}

impl Stream {
    pub(crate) fn new(budget: Arc<Budget>, bound: usize) -> Self {
        Self { state: Mutex::default(), budget, bound, room: Notify::new(), idle: Notify::new() }
    }

    /// A reader from byte 0; `None` when that is held no longer.
    pub(crate) fn attach(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.state.lock();
        if state.slid {
            return None;
        }
        let reader = Some(ReaderState { next: 0, waker: None, cut: false });
        state.live += 1;
        let id = match state.readers.iter().position(Option::is_none) {
            Some(id) => id,
            None => {
                state.readers.push(None);
                state.readers.len() - 1
            }
        };
        if let Some(slot) = state.readers.get_mut(id) {
            *slot = reader;
        }
        Some(Reader { stream: Arc::clone(self), id })
    }

    pub(crate) fn readers(&self) -> usize {
        self.state.lock().live
    }

    /// Resolves when nobody reads.
    pub(crate) async fn idle(self: Arc<Self>) {
        loop {
            let told = self.idle.notified();
            if self.readers() == 0 {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.room.notified()
    }

    /// Appends a chunk if it fits, letting go what everyone has read when it does not fit otherwise; whether it did.
    pub(crate) fn offer(&self, chunk: &Bytes) -> bool {
        let mut state = self.state.lock();
        if state.slid {
            self.budget.give(state.trim());
        }
        let mut fits = self.reserve(&state, chunk.len());
        if !fits {
            state.slid = true;
            self.budget.give(state.trim());
            fits = self.reserve(&state, chunk.len());
        }
        if !fits && state.chunks.is_empty() {
            // One chunk always passes, or a flight could starve on what the others hold.
            self.budget.take(chunk.len());
            fits = true;
        }
        if !fits {
            return false;
        }
        state.held += chunk.len();
        state.chunks.push_back(chunk.clone());
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    fn reserve(&self, state: &State, bytes: usize) -> bool {
        state.held + bytes <= self.bound && self.budget.try_take(bytes)
    }

    /// Cuts off the readers that hold up others; returns how many. Nobody is cut when all have read equally far.
    pub(crate) fn cut_slowest(&self) -> usize {
        let mut state = self.state.lock();
        let base = state.base;
        let held_up = state.readers.iter().flatten().any(|r| !r.cut && r.next > base);
        let mut wakers = Vec::new();
        let mut cut = 0;
        for reader in state.readers.iter_mut().flatten().filter(|r| held_up && r.next == base && !r.cut) {
            reader.cut = true;
            wakers.extend(reader.waker.take());
            cut += 1;
        }
        self.budget.give(state.trim());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        cut
    }

    pub(crate) fn finish(&self, trailers: Option<HeaderMap>) {
        self.end(End::Complete(trailers));
    }

    pub(crate) fn abort(&self, error: BodyError) {
        self.end(End::Broken(error));
    }

    fn end(&self, end: End) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The whole body, if it is held and has ended well.
    pub(crate) fn whole(&self) -> Option<(Bytes, Option<HeaderMap>)> {
        let state = self.state.lock();
        let Some(End::Complete(trailers)) = state.end.clone() else { return None };
        if state.slid {
            return None;
        }
        if state.chunks.len() > 1 {
            let mut all = BytesMut::with_capacity(state.held);
            state.chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
            return Some((all.freeze(), trailers));
        }
        Some((state.chunks.front().cloned().unwrap_or_default(), trailers))
    }

    /// Nobody may join from byte 0 any more; what is read can go.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.slid = true;
        self.budget.give(state.trim());
    }

    fn leave(&self, id: usize) {
        let mut state = self.state.lock();
        let gone = state.readers.get_mut(id).and_then(Option::take);
        if gone.is_none() {
            return;
        }
        state.live -= 1;
        if state.slid {
            self.budget.give(state.trim());
        }
        let last = state.live == 0;
        drop(state);
        self.room.notify_waiters();
        if last {
            self.idle.notify_waiters();
        }
    }

    fn poll(&self, id: usize, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.state.lock();
        let State { chunks, base, slid, end, readers, .. } = &mut *state;
        let Some(Some(reader)) = readers.get_mut(id) else { return Poll::Ready(None) };
        if reader.cut {
            return Poll::Ready(Some(Err(BodyError("the reader fell too far behind the others".to_owned()))));
        }
        let chunk = reader.next.checked_sub(*base).and_then(|at| chunks.get(usize::try_from(at).ok()?)).cloned();
        if let Some(chunk) = chunk {
            reader.next += 1;
            let slid = *slid;
            let freed = if slid { state.trim() } else { 0 };
            drop(state);
            self.budget.give(freed);
            if slid {
                self.room.notify_waiters();
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        match end {
            None => {
                if reader.waker.as_ref().is_none_or(|w| !w.will_wake(cx.waker())) {
                    reader.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            Some(End::Broken(error)) => Poll::Ready(Some(Err(error.clone()))),
            Some(End::Complete(trailers)) => {
                let past_trailers = *base + chunks.len() as u64 + 1;
                let first = reader.next < past_trailers;
                reader.next = past_trailers;
                Poll::Ready(trailers.clone().filter(|_| first).map(|t| Ok(Frame::trailers(t))))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.budget.give(self.state.get_mut().held);
    }
}

impl State {
    /// Lets go of the chunks that every reader has had; returns the bytes freed.
    fn trim(&mut self) -> usize {
        let end = self.base + self.chunks.len() as u64;
        let slowest = self.readers.iter().flatten().filter(|r| !r.cut).map(|r| r.next).min().unwrap_or(end);
        let mut freed = 0;
        while self.base < slowest.min(end) {
            freed += self.chunks.pop_front().map_or(0, |chunk| chunk.len());
            self.base += 1;
        }
        self.held -= freed;
        freed
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|r| r.waker.take()).collect()
    }
}

/// One reader of a stream; dropping it leaves.
pub(crate) struct Reader {
    stream: Arc<Stream>,
    id: usize,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.stream.poll(self.id, cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.stream.state.lock();
        let end = state.base + state.chunks.len() as u64;
        let Some(Some(reader)) = state.readers.get(self.id) else { return true };
        match &state.end {
            Some(End::Complete(trailers)) => !reader.cut && (reader.next > end || (reader.next == end && trailers.is_none())),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.stream.state.lock();
        let Some(Some(reader)) = state.readers.get(self.id) else { return SizeHint::with_exact(0) };
        let skip = usize::try_from(reader.next.saturating_sub(state.base)).unwrap_or(usize::MAX);
        let left = state.chunks.iter().skip(skip).map(|c| c.len() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(left);
        if matches!(state.end, Some(End::Complete(_))) && !reader.cut {
            hint.set_upper(left);
        }
        hint
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.leave(self.id);
    }
}
