//! Bodies of requests that are too large to be held: they stream through, up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_types::{Body, BodyError};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Ends with an error when more than `left` bytes come.
pub struct Bounded {
    pub inner: Body,
    pub left: u64,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError("larger than the route's max_body".into())))),
            }
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body whose beginning was already read.
pub struct Prefixed {
    pub first: Option<Bytes>,
    pub rest: Bounded,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}
