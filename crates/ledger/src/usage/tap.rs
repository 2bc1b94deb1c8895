//! Reads an answer's usage as the answer passes.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::scan::{Path, Scan};
use super::tokens::RawUsage;
use super::{RequestFacts, UsageReading};

/// Where answers hold usage (even index) and their target (odd index): plain, within an event of the responses API,
/// within the first event of an Anthropic stream.
const ANSWER: &[Path] =
    &[&["usage"], &["model"], &["response", "usage"], &["response", "model"], &["message", "usage"], &["message", "model"]];
const REQUEST: &[Path] = &[&["model"], &["stream"]];
/// Longest target that is believed, bytes.
const MAX_TARGET: usize = 256;

/// Reads usage out of a body that is pushed through it chunk by chunk, in bounded memory (about 8 KiB at most).
#[derive(Debug)]
pub struct UsageTap {
    lines: Option<Lines>,
    scan: Scan,
    usage: Option<RawUsage>,
    target: Option<Arc<str>>,
}

impl UsageTap {
    /// For an answer with these headers; `None` when it is neither JSON nor an event stream, or is compressed.
    pub fn for_answer(headers: &HeaderMap) -> Option<Self> {
        let encoded = headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
        if encoded {
            return None;
        }
        let media = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
        match media.as_str() {
            "text/event-stream" => Some(Self::events()),
            media if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) => Some(Self::json()),
            _ => None,
        }
    }

    /// For a plain JSON body.
    pub fn json() -> Self {
        Self { lines: None, scan: Scan::new(ANSWER), usage: None, target: None }
    }

    /// For server-sent events.
    pub fn events() -> Self {
        Self { lines: Some(Lines::default()), ..Self::json() }
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { lines, scan, usage, target } = self;
        let mut found = |path: usize, text: &[u8]| keep(path, text, usage, target);
        match lines {
            None => scan.push(bytes, &mut found),
            Some(lines) => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => scan.push(data, &mut found),
                Piece::EndOfEvent => scan.reset(),
            }),
        }
    }

    /// What has been read so far. A stream that broke off still tells what it told before.
    pub fn reading(&self) -> UsageReading {
        UsageReading { usage: self.usage.and_then(|usage| usage.buckets()), target: self.target.clone() }
    }

    /// The reading of a whole body.
    pub fn read_json(body: &[u8]) -> UsageReading {
        let mut tap = Self::json();
        tap.push(body);
        tap.reading()
    }
}

fn keep(path: usize, text: &[u8], usage: &mut Option<RawUsage>, target: &mut Option<Arc<str>>) {
    if path % 2 == 1 {
        *target = text_of(text).or_else(|| target.take());
    } else if let Ok(Some(later)) = serde_json::from_slice::<Option<RawUsage>>(text) {
        usage.get_or_insert_default().update(later);
    }
}

fn text_of(json: &[u8]) -> Option<Arc<str>> {
    serde_json::from_slice::<Arc<str>>(json).ok().filter(|text| !text.is_empty() && text.len() <= MAX_TARGET)
}

pub(super) fn request_facts(body: &[u8]) -> RequestFacts {
    let mut facts = RequestFacts::default();
    Scan::new(REQUEST).push(body, &mut |path, text| match path {
        0 => facts.target = text_of(text),
        _ => facts.stream = text == b"true",
    });
    facts
}

/// Splits an event stream into the content of its `data` fields; holds at most a field name.
#[derive(Debug, Default)]
struct Lines {
    field: Field,
    /// The last byte was a CR: an LF right after belongs to it.
    after_cr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// So many bytes of `data:` were seen at the start of the line.
    Name(usize),
    Data,
    Other,
}

impl Default for Field {
    fn default() -> Self {
        Self::Name(0)
    }
}

enum Piece<'a> {
    Data(&'a [u8]),
    EndOfEvent,
}

const DATA: &[u8] = b"data:";

impl Lines {
    fn push(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(Piece<'_>)) {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = rest;
                continue;
            }
            bytes = match self.field {
                _ if first == b'\n' || first == b'\r' => {
                    self.end_of_line(first, take);
                    rest
                }
                Field::Name(seen) => {
                    self.field = match DATA.get(seen) {
                        Some(&wanted) if wanted == first && seen + 1 == DATA.len() => Field::Data,
                        Some(&wanted) if wanted == first => Field::Name(seen + 1),
                        _ => Field::Other,
                    };
                    rest
                }
                field => {
                    let (line, rest) = bytes.split_at(memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len()));
                    if field == Field::Data {
                        take(Piece::Data(line));
                    }
                    rest
                }
            };
        }
    }

    fn end_of_line(&mut self, byte: u8, take: &mut dyn FnMut(Piece<'_>)) {
        self.after_cr = byte == b'\r';
        if self.field == Field::Name(0) {
            take(Piece::EndOfEvent);
        }
        self.field = Field::default();
    }
}
