//! The head guard: sits between the transport and hyper and shows hyper only bytes the scanner let pass.
//!
//! A refused message is replaced by a small stand-in request, so that hyper itself sends the refusal in its place among pipelined answers
//! and closes. A fault within a body that hyper already reads becomes a read error: the body breaks off and is never seen as complete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use farthing_types::Span;
use farthing_upstream::Deadline;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::recall::{Out, Recall, Recalled, Wire};
use super::scan::{At, Scanned, Scanner};
use super::state::ConnState;
use super::{Closed, EdgeConfig, Refusal};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
/// After a refusal what the client still sends is read and dropped for so long, or the reset would destroy the answer on its way.
pub(super) const LINGER: Span = Span::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// HTTP/1: the scanner decides.
    Scanning,
    /// HTTP/2, whose framing hyper keeps strictly by itself; or no HTTP any more.
    Open,
    /// Nothing passes any more.
    Shut,
    /// The body under way is broken off.
    Broken(Refusal),
    /// As if the client had closed.
    Ended,
}

/// What the next byte is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// A body: its reader keeps time.
    Body,
    /// The next request.
    Idle,
    /// The rest of a head.
    Head,
}

enum Closing {
    No,
    Lingering(usize),
    Done,
}

pub(super) struct Guard<IO> {
    io: IO,
    state: Arc<ConnState>,
    scanner: Scanner,
    gate: Gate,
    /// Bytes that were read but not yet given to hyper; the first `ready` of them may be.
    held: BytesMut,
    ready: usize,
    waiting: (Wait, u64),
    read_deadline: Deadline,
    write_deadline: Deadline,
    header_timeout: Span,
    idle_timeout: Span,
    write_stall: Span,
    closing: Closing,
    recall: Recall,
    /// An answer that was recalled, not yet wholly written. Until it is, nothing more is read.
    out: Option<Out>,
    /// An interim answer that is not yet wholly written. Until it is, hyper writes nothing.
    early: Option<Out>,
    /// Whether hyper may still hold bytes of an answer: it has written since it flushed last.
    unflushed: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    pub(super) fn new(io: IO, config: &EdgeConfig, state: Arc<ConnState>, recall: Recall) -> Self {
        Self {
            io,
            state,
            scanner: Scanner::new(config.head_limits()),
            gate: Gate::Scanning,
            held: BytesMut::new(),
            ready: 0,
            waiting: (Wait::Body, 0),
            read_deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            header_timeout: config.header_timeout,
            idle_timeout: config.idle_timeout,
            write_stall: config.body_idle,
            closing: Closing::No,
            recall,
            out: None,
            early: None,
            unflushed: false,
        }
    }

    /// Reads until it is known what the client speaks; `None` when it leaves or says nothing in time.
    pub(super) fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<Option<Protocol>> {
        self.read_deadline.start(self.header_timeout);
        loop {
            let known = self.held.len().min(PREFACE.len());
            if known > 0 && self.held[..known] != PREFACE[..known] {
                self.read_deadline.clear();
                self.scan_held();
                return Poll::Ready(Some(Protocol::Http1));
            }
            if known == PREFACE.len() {
                self.read_deadline.clear();
                self.gate = Gate::Open;
                self.ready = self.held.len();
                return Poll::Ready(Some(Protocol::Http2));
            }
            match self.poll_hold(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    ready!(self.read_deadline.poll(cx));
                    if self.held.is_empty() {
                        self.state.ending(Closed::Idle);
                        return Poll::Ready(None);
                    }
                    self.refuse(Refusal::HeadTimeout, At::Head);
                    return Poll::Ready(Some(Protocol::Http1));
                }
            }
        }
    }

    /// Reads once into `held`: the number of bytes, 0 at the end.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0u8; 4_096];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        self.held.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn scan_held(&mut self) {
        let Scanned { pass, refused } = self.scanner.scan(&self.held);
        self.ready = pass;
        if let Some((refusal, at)) = refused {
            self.refuse(refusal, at);
        }
    }

    fn refuse(&mut self, refusal: Refusal, at: At) {
        self.held.truncate(self.ready);
        match at {
            At::Head => {
                self.state.refuse(refusal, self.scanner.heads());
                self.held.extend_from_slice(STAND_IN);
                self.ready = self.held.len();
                self.gate = Gate::Shut;
            }
            At::Body => {
                self.state.break_body(refusal);
                self.gate = Gate::Broken(refusal);
            }
        }
    }

    /// Gives hyper what is ready.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.ready -= length;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Reads into hyper's own buffer and scans there; what may not pass yet is taken back. A head that the handler knows by its bytes is
    /// answered here and never reaches hyper.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        let read = fresh.len();
        let heads = self.scanner.heads();
        let recalled = if self.is_quiet() { self.recall.ask(fresh) } else { Recalled::Unknown };
        if let Recalled::Answer(wire) = recalled {
            buf.set_filled(before);
            self.out = Some(Out::new(wire));
            self.state.stats.count_request();
            self.read_deadline.clear();
            return Poll::Ready(Ok(read));
        }
        let Scanned { pass, refused } = self.scanner.scan(fresh);
        match (refused, recalled) {
            (Some((refusal, at)), _) => self.refuse(refusal, at),
            (None, Recalled::Wanted(name)) if pass == read && self.scanner.heads() == heads + 1 && self.scanner.between_messages() => {
                self.state.name_next(name);
            }
            (None, _) => self.held.extend_from_slice(&fresh[pass..]),
        }
        buf.set_filled(before + pass);
        Poll::Ready(Ok(read))
    }

    /// Whether hyper has nothing to do: all it was shown is answered, and what it wrote is out of its hands. Only then may somebody else
    /// write, or the order of answers would break.
    fn is_quiet(&self) -> bool {
        !self.unflushed && self.scanner.between_messages() && self.state.is_done(self.scanner.heads())
    }

    /// Writes what was recalled.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(out) = &mut self.out else { return Poll::Ready(Ok(())) };
        let result = out.poll_write(&mut self.io, cx);
        let result = ready!(self.watch(cx, result));
        self.out = None;
        Poll::Ready(result)
    }

    /// Writes what is left of an interim answer.
    fn poll_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(early) = &mut self.early else { return Poll::Ready(Ok(())) };
        let result = early.poll_write(&mut self.io, cx);
        let result = ready!(self.watch(cx, result));
        self.early = None;
        Poll::Ready(result)
    }

    /// Keeps time while nothing arrives: ready when the connection was shut or refused for it.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = match (self.scanner.between_messages(), &self.held[..]) {
            (false, _) => Wait::Body,
            (true, b"" | b"\r" | b"\r\n") => Wait::Idle,
            (true, _) => Wait::Head,
        };
        // Each wait has a deadline of its own, and so has each message.
        if (wait, self.scanner.heads()) != self.waiting {
            self.waiting = (wait, self.scanner.heads());
            self.read_deadline.clear();
        }
        match wait {
            Wait::Body => return Poll::Pending,
            Wait::Idle if self.state.poll_busy(cx) => {
                self.read_deadline.clear();
                return Poll::Pending;
            }
            Wait::Idle => self.read_deadline.start(self.idle_timeout),
            Wait::Head => self.read_deadline.start(self.header_timeout),
        }
        ready!(self.read_deadline.poll(cx));
        if wait == Wait::Idle {
            self.state.ending(Closed::Idle);
            self.gate = Gate::Ended;
        } else {
            self.refuse(Refusal::HeadTimeout, At::Head);
        }
        Poll::Ready(())
    }

    fn poll_scanned(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            ready!(self.poll_out(cx))?;
            if self.ready > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            match self.gate {
                // The answer is on its way, so what comes now is no head; what of one was held came too early, and belongs to the tunnel as well.
                Gate::Scanning if self.state.is_upgraded() => {
                    (self.gate, self.ready) = (Gate::Open, self.held.len());
                    continue;
                }
                // What follows is read when the answer is on its way: nobody knows yet what it is. Without a tunnel the answer ends the connection.
                Gate::Scanning if self.scanner.is_connecting() => return Poll::Pending,
                Gate::Scanning => {}
                Gate::Open => return Pin::new(&mut self.io).poll_read(cx, buf),
                // hyper closes once the stand-in is answered; until then there is nothing to wake for.
                Gate::Shut => return Poll::Pending,
                Gate::Broken(refusal) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal.as_str()))),
                Gate::Ended => return Poll::Ready(Ok(())),
            }
            let direct = self.held.is_empty();
            match if direct { self.poll_direct(cx, buf) } else { self.poll_hold(cx) } {
                Poll::Ready(Ok(0)) => self.gate = Gate::Ended,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) if !direct => self.scan_held(),
                Poll::Ready(Ok(_)) if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => ready!(self.poll_wait(cx)),
            }
        }
    }

    /// Watches a write: an error once the client has taken nothing for too long.
    fn watch<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_deadline.clear();
            return result;
        }
        self.write_deadline.start(self.write_stall);
        ready!(self.write_deadline.poll(cx));
        self.state.ending(Closed::WriteStall);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0u8; 4_096];
        while let Closing::Lingering(dropped) = self.closing {
            let mut buf = ReadBuf::new(&mut scrap);
            let over = match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => buf.filled().is_empty() || dropped > LINGER_BYTES,
                Poll::Ready(Err(_)) => true,
                Poll::Pending => {
                    ready!(self.read_deadline.poll(cx));
                    true
                }
            };
            self.closing = if over { Closing::Done } else { Closing::Lingering(dropped + buf.filled().len()) };
        }
        Poll::Ready(())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_scanned(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        ready!(self.poll_early(cx))?;
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, result)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        ready!(self.poll_early(cx))?;
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, result)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has nothing of its own to flush then, and the deadline is that of the answer under way.
        if self.out.is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_early(cx))?;
        // hyper flushes when its own buffer is empty.
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.unflushed &= !matches!(result, Poll::Ready(Ok(())));
        ready!(self.watch(cx, result))?;
        // Only here is it sure that hyper holds no bytes of an answer before.
        self.early = self.state.early.take().map(|head| Out::new(Wire { head, body: Bytes::new() }));
        self.poll_early(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_out(cx))?;
        if matches!(self.closing, Closing::No) {
            let result = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.watch(cx, result))?;
            let unread = self.state.is_refused() || (self.gate == Gate::Scanning && !self.scanner.between_messages());
            self.closing = if unread { Closing::Lingering(0) } else { Closing::Done };
            self.read_deadline.clear();
            self.read_deadline.start(LINGER);
        }
        self.poll_linger(cx).map(Ok)
    }
}
