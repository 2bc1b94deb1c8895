//! Interim answers (1xx, RFC 9110 section 15.2). hyper reads them but has no way to send one, so the guard writes them: while hyper has
//! nothing of its own to write, and before the answer that they belong to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use super::state::ConnState;

/// Most bytes of interim answers that wait for one connection; what comes beyond is left out.
const MOST: usize = 32 << 10;

/// Sends interim answers to the client of one request, until its answer begins.
#[derive(Debug)]
pub struct Early {
    state: Arc<ConnState>,
    request: u64,
}

impl Early {
    pub(super) const fn new(state: Arc<ConnState>, request: u64) -> Self {
        Self { state, request }
    }

    /// Sends one with these end-to-end headers. Left out, and counted so, are those that come when the answer has begun, and what waits
    /// for a client that takes nothing. Never waits.
    pub fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let taken = status.is_informational() && self.state.early.put(self.request, |out| write(out, status, headers));
        self.state.stats.count_early(taken);
    }
}

fn write(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    // One has no body, whatever it says.
    for (name, value) in headers.iter().filter(|(name, _)| **name != CONTENT_LENGTH && **name != TRANSFER_ENCODING) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Interim answers of one connection on their way to its guard. They are put in by whoever makes the call; the guard that takes them and the handler
/// whose answer begins are polled by one task, the connection's.
#[derive(Debug, Default)]
pub(super) struct Interims {
    /// Whose they are, and their bytes.
    waiting: Mutex<(u64, Vec<u8>)>,
    /// Whether there may be some, to be asked without the lock.
    some: AtomicBool,
    /// So many requests of the connection have an answer that has begun.
    begun: AtomicU64,
    /// The connection, while it waits for a handler.
    task: AtomicWaker,
}

impl Interims {
    fn put(&self, request: u64, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut waiting = self.waiting.lock();
        if self.begun.load(Ordering::Acquire) > request {
            return false;
        }
        if waiting.0 != request {
            *waiting = (request, Vec::new());
        }
        let before = waiting.1.len();
        write(&mut waiting.1);
        let fits = waiting.1.len() <= MOST;
        if !fits {
            waiting.1.truncate(before);
        }
        self.some.store(!waiting.1.is_empty(), Ordering::Release);
        drop(waiting);
        self.task.wake();
        fits
    }

    /// While the handler of a request is at work: its connection is woken by what is sent.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
    }

    /// Lets the answer of a request begin once the guard has all that was sent before.
    pub(super) fn poll_begin(&self, request: u64, cx: &Context<'_>) -> Poll<()> {
        if self.some.load(Ordering::Acquire) {
            self.watch(cx);
            // The guard takes it when hyper flushes, which it does after each turn. It may have done so before the waker was there.
            if self.some.load(Ordering::Acquire) {
                return Poll::Pending;
            }
        }
        self.begin(request);
        Poll::Ready(())
    }

    /// The answer of a request begins now, whatever was sent before: it was refused while its handler was at work.
    pub(super) fn begin(&self, request: u64) {
        self.begun.store(request + 1, Ordering::Release);
    }

    /// What is to be written now, while hyper has nothing to write. What came too late for its answer is dropped.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        if !self.some.load(Ordering::Acquire) {
            return None;
        }
        let mut waiting = self.waiting.lock();
        let (request, bytes) = std::mem::take(&mut *waiting);
        self.some.store(false, Ordering::Release);
        drop(waiting);
        self.task.wake();
        (self.begun.load(Ordering::Acquire) <= request).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(interims: &Interims, request: u64) -> bool {
        interims.poll_begin(request, &Context::from_waker(futures_util::task::noop_waker_ref())).is_ready()
    }

    #[test]
    fn an_answer_begins_when_all_before_it_is_taken_and_nothing_comes_after() {
        let interims = Interims::default();
        assert!(interims.take().is_none());
        assert!(interims.put(0, |out| out.push(b'a')) && interims.put(0, |out| out.push(b'b')));
        assert!(!polled(&interims, 0), "the guard has it not yet");
        assert_eq!(interims.take(), Some(b"ab".to_vec()));
        assert!(polled(&interims, 0));
        assert!(!interims.put(0, |out| out.push(b'c')), "too late");
        assert!(interims.take().is_none());
        assert!(interims.put(1, |out| out.push(b'd')));
        interims.begin(1);
        assert!(interims.take().is_none(), "its answer has begun meanwhile");
    }

    #[test]
    fn what_waits_is_bounded() {
        let interims = Interims::default();
        assert!(interims.put(0, |out| out.resize(MOST, 0)));
        assert!(!interims.put(0, |out| out.push(0)));
        assert_eq!(interims.take().map(|bytes| bytes.len()), Some(MOST));
        assert!(interims.put(0, |out| out.push(0)), "there is room again");
        let alone = Interims::default();
        assert!(!alone.put(0, |out| out.resize(MOST + 1, 0)));
        assert!(polled(&alone, 0), "what was left out is not waited for");
    }

    #[test]
    fn one_is_a_head_without_a_body() {
        let headers = [("link", "</a>; rel=preload"), ("content-length", "3"), ("x-a", "1")];
        let headers: HeaderMap = headers.iter().map(|(n, v)| (n.parse::<http::HeaderName>().unwrap(), v.parse().unwrap())).collect();
        let mut out = Vec::new();
        write(&mut out, StatusCode::EARLY_HINTS, &headers);
        assert_eq!(String::from_utf8(out).unwrap(), "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nx-a: 1\r\n\r\n");
        let mut unknown = Vec::new();
        write(&mut unknown, StatusCode::from_u16(155).unwrap(), &HeaderMap::new());
        assert_eq!(unknown, b"HTTP/1.1 155 \r\n\r\n");
    }
}
