//! Answers by the bytes of a head alone: a handler may know a request by them, and then nothing parses it again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use farthing_types::KeyHash;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;

use super::Handler;

/// A name that a handler gives to the bytes of a head, and under which of its configurations; requests that it wants to remember under it carry it as an
/// extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawHead(pub KeyHash, pub u64);

/// What a handler makes of the bytes of a head.
#[derive(Debug)]
pub enum Recalled {
    /// Nothing: the request takes the usual way.
    Unknown,
    /// It takes the usual way, with its name.
    Wanted(RawHead),
    /// The whole answer.
    Answer(Wire),
}

/// An answer as it is written: HTTP/1.1, its length said, the connection kept.
#[derive(Debug)]
pub struct Wire {
    /// From the status line to the empty line.
    pub head: Vec<u8>,
    /// The body.
    pub body: Bytes,
}

/// Who is asked, and until when.
pub(super) struct Recall {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) stop: CancellationToken,
}

impl Recall {
    /// Asks about bytes that a client sent while nothing of its was under way. They must be all of one head, or the handler will not
    /// know them. Nothing is recalled once connections are to end: hyper must say so to the client.
    pub(super) fn ask(&self, fresh: &[u8]) -> Recalled {
        if !fresh.ends_with(b"\r\n\r\n") || self.stop.is_cancelled() {
            return Recalled::Unknown;
        }
        self.handler.recall(fresh)
    }
}

/// An answer on its way to the client.
pub(super) struct Out {
    head: io::Cursor<Vec<u8>>,
    body: Bytes,
}

impl Out {
    pub(super) fn new(wire: Wire) -> Self {
        Self { head: io::Cursor::new(wire.head), body: wire.body }
    }

    /// Writes what is left; ready when all of it is on its way.
    pub(super) fn poll_write<IO: AsyncWrite + Unpin>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.head.has_remaining() || self.body.has_remaining() {
            let slices = [IoSlice::new(self.head.chunk()), IoSlice::new(&self.body)];
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(self.head.remaining());
            self.head.advance(of_head);
            self.body.advance(written - of_head);
        }
        Pin::new(io).poll_flush(cx)
    }
}
