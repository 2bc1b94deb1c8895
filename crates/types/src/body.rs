//! A message body: whole or streaming, without a runtime.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Why a body broke off.
#[derive(Clone, Debug, thiserror::Error)]
#[error("body broke off: {0}")]
pub struct BodyError(pub String);

enum Inner {
    Full(Option<Bytes>),
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

/// A body of a call or a reply. Trailers pass through the streaming form.
pub struct Body(Inner);

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Inner::Full(None))
    }
    /// All of `bytes`.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Full(Some(bytes.into())))
    }
    /// A stream; errors must have been turned into [`BodyError`].
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self(Inner::Stream(Box::pin(body)))
    }
    /// Whether the body is held whole.
    pub const fn is_full(&self) -> bool {
        matches!(self.0, Inner::Full(_))
    }
    /// The bytes when the body is held whole, without consuming it.
    pub fn as_full(&self) -> Option<Bytes> {
        match &self.0 {
            Inner::Full(bytes) => Some(bytes.clone().unwrap_or_default()),
            Inner::Stream(_) => None,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Full(bytes) => write!(f, "Body::Full({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Inner::Stream(_) => f.write_str("Body::Stream"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Full(bytes) => Poll::Ready(bytes.take().filter(|b| !b.is_empty()).map(|b| Ok(Frame::data(b)))),
            Inner::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Inner::Stream(stream) => stream.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Stream(stream) => stream.size_hint(),
        }
    }
}
