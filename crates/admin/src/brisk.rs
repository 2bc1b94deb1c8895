//! A connection whose client has to take what it is sent.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A client that takes so much has all its time again: one that takes a byte now and then would hold its connection for ever else.
const ENOUGH: usize = 32 << 10;

/// Breaks off where the client takes too long for what is sent. Reading has deadlines of its own.
pub(crate) struct Brisk<IO> {
    io: IO,
    within: Duration,
    /// Of what waits to be taken now.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Taken since that began.
    taken: usize,
}

impl<IO> Brisk<IO> {
    pub(crate) const fn new(io: IO, within: Duration) -> Self {
        Self { io, within, deadline: None, taken: 0 }
    }

    /// What becomes of a write that went as far as this.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.taken = self.taken.saturating_add(*written.as_ref().unwrap_or(&0));
            if self.taken >= ENOUGH {
                self.all_taken();
            }
            return Poll::Ready(written);
        }
        let within = self.within;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + within)));
        ready!(Future::poll(deadline.as_mut(), cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    fn all_taken(&mut self) {
        (self.deadline, self.taken) = (None, 0);
    }

    fn judge_flush(&mut self, cx: &mut Context<'_>, flushed: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            self.all_taken();
        }
        self.judge(cx, flushed.map_ok(|()| 0)).map_ok(|_| ())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Brisk<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Brisk<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.judge_flush(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.judge_flush(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off() {
        let (client, server) = tokio::io::duplex(16);
        let mut server = Brisk::new(server, WITHIN);
        let begun = Instant::now();
        let told = server.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!((told.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, WITHIN));
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_a_byte_now_and_then_is_cut_off() {
        let (mut client, server) = tokio::io::duplex(16);
        let mut server = Brisk::new(server, WITHIN);
        let begun = Instant::now();
        let drips = async {
            let mut every = tokio::time::interval(Duration::from_secs(1));
            loop {
                every.tick().await;
                client.read_u8().await.unwrap();
            }
        };
        tokio::select! {
            told = server.write_all(&[0; 1_000]) => assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut),
            () = drips => {}
        }
        assert_eq!(begun.elapsed(), WITHIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_has_as_long_as_it_goes_on() {
        let (mut client, server) = tokio::io::duplex(ENOUGH);
        let mut server = Brisk::new(server, WITHIN);
        let begun = Instant::now();
        let takes = async {
            let mut every = tokio::time::interval(Duration::from_secs(9));
            let mut part = vec![0; ENOUGH];
            for _ in 0..5 {
                every.tick().await;
                client.read_exact(&mut part).await.unwrap();
            }
        };
        let sends = async {
            server.write_all(&vec![0; 5 * ENOUGH]).await.unwrap();
            server.flush().await.unwrap();
        };
        tokio::join!(sends, takes);
        assert_eq!(begun.elapsed(), Duration::from_secs(36));
        // Between answers nothing waits.
        assert!(server.deadline.is_none());
    }
}
