//! Answers compressed for clients that accept it, on their way out. Entries, keys, prices and the log know nothing of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use farthing_cache::{Cached, FormRoom};
use farthing_freshness::semantics::coding::{may_code, negotiate};
use farthing_types::coding::fields;
use farthing_types::{Body, BodyError, Coding};
use farthing_upstream::coding::{Encoder, Passed, encode};
use http::header::{ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::{Body as HttpBody, Frame};

use crate::request::Planned;
use crate::route::RouteState;
use crate::state::State;
use crate::stream::content_length;

/// Bytes that are compressed without a pause: half a millisecond of work.
const STEP: usize = 32 << 10;
/// Most bytes that are taken in before something is given out.
const SILENT: usize = 256 << 10;

/// What was compressed since the start.
#[derive(Debug, Default)]
pub struct Compressed {
    answers: [AtomicU64; Coding::ALL.len()],
    /// Of these, answers whose body had been compressed before.
    pub reused: AtomicU64,
    /// Bytes before and after, where they were compressed.
    pub bytes: Passed,
    /// Bodies that broke off because they could not be compressed any further.
    pub failed: AtomicU64,
}

impl Compressed {
    /// Answers that went out in a coding.
    pub fn answers(&self, coding: Coding) -> u64 {
        self.answers[coding as usize].load(Ordering::Relaxed)
    }
    fn count(&self, coding: Coding) {
        self.answers[coding as usize].fetch_add(1, Ordering::Relaxed);
    }
    /// Counts an answer whose body had been compressed before.
    pub fn count_reused(&self, coding: Coding) {
        self.count(coding);
        self.reused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The coding that a client would get on a route, where the answer may have one.
pub fn wanted(route: &RouteState, request: &HeaderMap) -> Option<Coding> {
    let keep = |value: &HeaderValue| value.as_bytes().split(|b| *b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(b"no-transform"));
    negotiate(request, &route.compress).filter(|_| !request.get_all(CACHE_CONTROL).iter().any(keep))
}

/// Whether `Vary` must still be told that the coding depends on the request.
pub fn vary_is_silent<'a>(mut vary: impl Iterator<Item = &'a [u8]>) -> bool {
    let tells = |name: &[u8]| name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str().as_bytes());
    !vary.any(|value| value.split(|b| *b == b',').any(|name| tells(name.trim_ascii())))
}

/// What `Vary` says of it.
pub const VARIES: &str = "accept-encoding";

/// An answer as its client gets it: where it may have a content coding `Vary` says so, and where the client accepts one it has it. HEAD is
/// told what GET would be.
/// What is made of an entry's body is kept with it.
pub fn compressed(state: &Arc<State>, planned: &Planned, entry: Option<Arc<Cached>>, mut response: Response<Body>) -> Response<Body> {
    let route = &planned.account.route;
    if route.compress.is_empty() || route.switches.is_lean() || route.switches.is_bypassed(planned.account.at) {
        return response;
    }
    let length = response.body().size_hint().exact().filter(|_| planned.account.method != Method::HEAD);
    let length = length.or_else(|| content_length(response.headers()));
    if !may_code(response.status(), length, planned.account.route.compress_min, || fields(response.headers())) {
        return response;
    }
    if vary_is_silent(response.headers().get_all(VARY).iter().map(HeaderValue::as_bytes)) {
        response.headers_mut().append(VARY, HeaderValue::from_static(VARIES));
    }
    match wanted(route, &planned.headers) {
        Some(coding) => coded(state, (coding, planned.account.method == Method::HEAD), entry, response),
        None => response,
    }
}

/// The answer in a coding; as it is where that saves nothing.
fn coded(state: &Arc<State>, (coding, head_only): (Coding, bool), entry: Option<Arc<Cached>>, response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let counters = &state.counters.compressed;
    let kept = entry.as_ref().and_then(|entry| entry.form(coding)).cloned();
    let body = match (kept, body.as_full()) {
        _ if head_only => body,
        (Some(small), Some(_)) => {
            counters.reused.fetch_add(1, Ordering::Relaxed);
            Body::full(small)
        }
        (_, Some(whole)) if whole.len() <= STEP => match encode(coding, &whole) {
            Ok(small) if small.len() < whole.len() => {
                counters.bytes.add(whole.len(), small.len());
                if let Some(entry) = entry {
                    entry.keep_form(coding, small.clone(), &state.forms);
                }
                Body::full(small)
            }
            _ => return Response::from_parts(head, body),
        },
        _ => match Encoder::new(coding) {
            Ok(encoder) => {
                let kept_by = entry.map(|entry| (entry, coding, state.forms.clone()));
                Body::stream(Coded { kept_by, ..Coded::new(body, encoder, counters.clone()) })
            }
            Err(_) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                return Response::from_parts(head, body);
            }
        },
    };
    counters.count(coding);
    head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
    // Its length is another one, and ranges are cut from the plain bytes.
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(ACCEPT_RANGES);
    Response::from_parts(head, body)
}

/// A body compressed as it comes. What came goes out before anything more is waited for, so a stream is never delayed.
struct Coded {
    inner: Body,
    /// `None` once the body has ended.
    encoder: Option<Encoder>,
    /// What has come and is not compressed yet.
    rest: Bytes,
    /// Bytes that the encoder took since it last gave all that it had.
    held: usize,
    trailers: Option<Frame<Bytes>>,
    counted: Arc<Compressed>,
    /// The entry that keeps what comes out, with its coding and room.
    kept_by: Option<(Arc<Cached>, Coding, Arc<FormRoom>)>,
    out: BytesMut,
}

impl Coded {
    fn new(inner: Body, encoder: Encoder, counted: Arc<Compressed>) -> Self {
        Self { inner, encoder: Some(encoder), rest: Bytes::new(), held: 0, trailers: None, counted, kept_by: None, out: BytesMut::new() }
    }

    /// Compresses the next piece of what has come; gives nothing while the encoder still collects.
    fn step(&mut self) -> io::Result<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Ok(Bytes::new()) };
        let piece = self.rest.split_to(self.rest.len().min(STEP));
        let out = encoder.push(&piece)?;
        self.counted.bytes.add(piece.len(), out.len());
        self.held += piece.len();
        if out.is_empty() && self.held >= SILENT { self.flush() } else { Ok(out) }
    }

    fn flush(&mut self) -> io::Result<Bytes> {
        let Some(encoder) = self.encoder.as_mut().filter(|_| self.held > 0) else { return Ok(Bytes::new()) };
        self.held = 0;
        let out = encoder.flush()?;
        self.counted.bytes.add(0, out.len());
        Ok(out)
    }

    fn finish(&mut self) -> io::Result<Bytes> {
        let out = self.encoder.take().map_or(Ok(Bytes::new()), Encoder::finish)?;
        self.counted.bytes.add(0, out.len());
        if let Some((entry, coding, room)) = self.kept_by.take() {
            let mut whole = std::mem::take(&mut self.out);
            whole.extend_from_slice(&out);
            entry.keep_form(coding, whole.freeze(), &room);
        }
        Ok(out)
    }

    /// What is given out of an encoder; a failure ends the body where it stands.
    fn given(&mut self, out: io::Result<Bytes>) -> Option<Result<Frame<Bytes>, BodyError>> {
        match out {
            Ok(out) => {
                if self.kept_by.is_some() {
                    self.out.extend_from_slice(&out);
                }
                (!out.is_empty()).then(|| Ok(Frame::data(out)))
            }
            Err(error) => {
                self.encoder = None;
                self.rest = Bytes::new();
                self.counted.failed.fetch_add(1, Ordering::Relaxed);
                Some(Err(BodyError(format!("compressing: {error}"))))
            }
        }
    }
}

impl HttpBody for Coded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.encoder.is_none() {
                return Poll::Ready(this.trailers.take().map(Ok));
            }
            let out = if this.rest.is_empty() {
                match Pin::new(&mut this.inner).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            this.rest = data;
                            continue;
                        }
                        Err(trailers) => {
                            this.trailers = Some(trailers);
                            this.finish()
                        }
                    },
                    Poll::Ready(Some(Err(error))) => {
                        this.encoder = None;
                        return Poll::Ready(Some(Err(error)));
                    }
                    Poll::Ready(None) => this.finish(),
                    Poll::Pending => {
                        let out = this.flush();
                        return this.given(out).map_or(Poll::Pending, |frame| Poll::Ready(Some(frame)));
                    }
                }
            } else {
                this.step()
            };
            if let Some(frame) = this.given(out) {
                return Poll::Ready(Some(frame));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none() && self.trailers.is_none()
    }
}

#[cfg(test)]
#[path = "compress_tests.rs"]
mod tests;
