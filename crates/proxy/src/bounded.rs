//! Bodies of requests: held whole where that is needed and fits, else streamed through, up to a bound.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use farthing_types::{Body, BodyError};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::load::Loaded;
use crate::problem::Problem;
use crate::route::RouteState;

/// Ends with an error when more than `left` bytes come.
struct Bounded {
    inner: Body,
    left: u64,
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
struct Prefixed {
    first: Option<Bytes>,
    rest: Bounded,
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

/// Holds the body whole where it is needed and fits; `None` leaves it streaming.
pub async fn read_body(
    body: &mut Body,
    headers: &HeaderMap,
    (route, load): (&RouteState, Option<&Loaded>),
    wanted: bool,
) -> Result<Option<Bytes>, Problem> {
    let declared = declared(headers);
    if declared.is_some_and(|n| n > route.route.max_body) {
        return Err(too_large(route));
    }
    if !wanted || declared.is_some_and(|n| n > route.route.buffer_limit) {
        let inner = std::mem::take(body);
        *body = Body::stream(Bounded { inner, left: route.route.max_body });
        return Ok(None);
    }
    collect(body, route, load).await
}

/// The length that the head tells.
pub fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(route: &RouteState) -> Problem {
    let detail = format!("the body is larger than `max_body` = {} bytes of route `{}`", route.route.max_body, route.route.name);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
}

async fn collect(whole: &mut Body, route: &RouteState, load: Option<&Loaded>) -> Result<Option<Bytes>, Problem> {
    let mut body = std::mem::take(whole);
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Problem::new(StatusCode::BAD_REQUEST, "request-body", e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        held.extend_from_slice(&data);
        if held.len() as u64 > route.route.buffer_limit {
            let rest = Bounded { inner: body, left: route.route.max_body.saturating_sub(held.len() as u64) };
            *whole = Body::stream(Prefixed { first: Some(held.freeze()), rest });
            return Ok(None);
        }
        load.map_or(Ok(()), |load| load.grow(held.len() as u64))?;
    }
    let held = held.freeze();
    *whole = Body::full(held.clone());
    Ok(Some(held))
}
