//! The head guard's core: tells where HTTP/1 messages begin and end on a connection, strictly, before hyper sees a byte.
//!
//! Pure: bytes in, verdict out. It follows the framing over pipelined requests (Content-Length, chunked) so that it knows which bytes are a
//! head. What it lets pass is unambiguous, so every later reader frames it alike.

mod chunk;
mod head;
#[cfg(test)]
mod tests;

use chunk::Chunks;
pub(super) use head::check_host;
use head::{Framing, HeadScan, TrailerScan};

use super::Refusal;

/// Bounds of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most bytes of a head, request line included; also of a trailer section.
    pub bytes: usize,
    /// Most header lines.
    pub headers: usize,
    /// Most bytes of the request target.
    pub target: usize,
    /// Whether CONNECT passes.
    pub connect: bool,
}

enum Phase {
    Head,
    Length(u64),
    Chunked(Chunks),
    Trailers(TrailerScan),
    /// After CONNECT: whether what follows is HTTP is decided by the answer.
    Connect,
}

/// Where a refused byte stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In a message of which nothing has passed yet: it can be answered in its place.
    Head,
    /// In the body of a message whose head has passed.
    Body,
}

/// What [`Scanner::scan`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// How many of the bytes may pass on; the rest must be shown again, with more after them.
    pub pass: usize,
    /// Set when what follows must never pass; the scanner is not to be asked again.
    pub refused: Option<(Refusal, At)>,
}

/// Follows the messages of one connection.
pub(super) struct Scanner {
    limits: HeadLimits,
    phase: Phase,
    head: HeadScan,
    heads: u64,
}

impl Scanner {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self { limits, phase: Phase::Head, head: HeadScan::default(), heads: 0 }
    }

    /// How many heads have passed.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next byte belongs to a head.
    pub(super) fn between_messages(&self) -> bool {
        matches!(self.phase, Phase::Head)
    }

    /// Whether a CONNECT was the last to pass: nothing after it does.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connect)
    }

    /// Looks at `data`: what earlier calls did not let pass, followed by new bytes.
    pub(super) fn scan(&mut self, data: &[u8]) -> Scanned {
        let mut pass = 0;
        // Where the head of the current message begins, when it is in `data`: a fault in its body then refuses all of it.
        let mut begun = None;
        while pass < data.len() {
            let rest = &data[pass..];
            let step = match &mut self.phase {
                Phase::Head => self.scan_head(rest).inspect(|length| {
                    begun = length.map(|_| pass);
                }),
                Phase::Connect => Ok(None),
                Phase::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.phase = Phase::Head;
                    }
                    Ok(Some(taken))
                }
                Phase::Chunked(chunks) => chunks.scan(rest).map(|(taken, done)| {
                    if done {
                        self.phase = Phase::Trailers(TrailerScan::default());
                    }
                    Some(taken)
                }),
                Phase::Trailers(trailers) => trailers.scan(rest, &self.limits).inspect(|length| {
                    if length.is_some() {
                        self.phase = Phase::Head;
                    }
                }),
            };
            match step {
                Ok(Some(taken)) => pass += taken,
                Ok(None) => break,
                Err(refusal) => return self.refuse(refusal, pass, begun),
            }
            if self.between_messages() {
                begun = None;
            }
        }
        Scanned { pass, refused: None }
    }

    fn scan_head(&mut self, rest: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some((length, framing)) = self.head.scan(rest, &self.limits)? else { return Ok(None) };
        self.head = HeadScan::default();
        self.heads += 1;
        self.phase = match framing {
            Framing::Length(0) => Phase::Head,
            Framing::Length(length) => Phase::Length(length),
            Framing::Chunked => Phase::Chunked(Chunks::default()),
            Framing::Connect => Phase::Connect,
        };
        Ok(Some(length))
    }

    fn refuse(&mut self, refusal: Refusal, pass: usize, begun: Option<usize>) -> Scanned {
        match begun {
            Some(start) => {
                self.heads -= 1;
                Scanned { pass: start, refused: Some((refusal, At::Head)) }
            }
            None if self.between_messages() => Scanned { pass, refused: Some((refusal, At::Head)) },
            None => Scanned { pass, refused: Some((refusal, At::Body)) },
        }
    }
}
