//! Reads an answer's usage as the answer passes.

use std::sync::{Arc, LazyLock};

use farthing_types::Usage;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::UsageReading;
use super::decode::{Decoder, Reader, Stopped};
use super::gemini::GeminiUsage;
use super::scan::{Path, Scan, Take};
use super::service::{Extra, Extras};
use super::tokens::RawUsage;
use crate::prices::{Amount, Amounts, Reads};

/// What an answer is searched for, before the prices' own pointers.
#[derive(Clone, Copy)]
enum What {
    Usage,
    Gemini,
    /// Searches of the web that the answer rests on, which are charged beside its tokens.
    Searches,
    Target,
    Service,
    /// What kind of thing an item is: use of a tool, or the source of a text.
    Kind,
    /// Generated text, whose bytes count.
    Text,
}

/// Where answers hold it: plain, within an event of the responses API, within the first event of an Anthropic stream, in Gemini's
/// words. Text: of chat completions and legacy ones, of responses, of messages, of candidates; whole and as it comes.
const ANSWER: &[(&[&str], What)] = &[
    (&["usage"], What::Usage),
    (&["response", "usage"], What::Usage),
    (&["message", "usage"], What::Usage),
    (&["model"], What::Target),
    (&["response", "model"], What::Target),
    (&["message", "model"], What::Target),
    (&["service_tier"], What::Service),
    (&["response", "service_tier"], What::Service),
    (&["usage", "service_tier"], What::Service),
    (&["message", "usage", "service_tier"], What::Service),
    (&["output", "*", "type"], What::Kind),
    (&["response", "output", "*", "type"], What::Kind),
    (&["item", "type"], What::Kind),
    (&["choices", "*", "message", "annotations", "*", "type"], What::Kind),
    (&["choices", "*", "delta", "annotations", "*", "type"], What::Kind),
    (&["choices", "*", "delta", "content"], What::Text),
    (&["choices", "*", "delta", "reasoning_content"], What::Text),
    (&["choices", "*", "delta", "tool_calls", "*", "function", "arguments"], What::Text),
    (&["choices", "*", "message", "content"], What::Text),
    (&["choices", "*", "message", "tool_calls", "*", "function", "arguments"], What::Text),
    (&["choices", "*", "text"], What::Text),
    (&["delta"], What::Text),
    (&["output", "*", "content", "*", "text"], What::Text),
    (&["delta", "text"], What::Text),
    (&["delta", "thinking"], What::Text),
    (&["delta", "partial_json"], What::Text),
    (&["content", "*", "text"], What::Text),
    (&["content", "*", "thinking"], What::Text),
    (&["usageMetadata"], What::Gemini),
    (&["modelVersion"], What::Target),
    (&["candidates", "*", "groundingMetadata", "webSearchQueries"], What::Searches),
    (&["candidates", "*", "content", "parts", "*", "text"], What::Text),
];

/// Where Gemini says which service tier answered.
const GEMINI_TIER: &str = "x-gemini-service-tier";
/// Tools of OpenAI's own whose uses are charged beside the tokens.
const TOOLS: [&[u8]; 3] = [b"\"file_search_call\"", b"\"code_interpreter_call\"", b"\"image_generation_call\""];
/// The same for searches of the web: those of responses, and what tells of one in a chat.
const SEARCHES: [&[u8]; 2] = [b"\"web_search_call\"", b"\"url_citation\""];

static USUAL: LazyLock<Arc<[Path]>> = LazyLock::new(|| wanted(&[]));

/// Where the elements of a list are searched: Gemini streams one unless it is asked for events. Other places keep their numbers.
static LISTED: LazyLock<Arc<[Path]>> = LazyLock::new(|| {
    let gemini = |keys: &[&str]| keys.first().is_some_and(|first| ["usageMetadata", "modelVersion", "candidates"].contains(first));
    ANSWER.iter().map(|(keys, what)| if gemini(keys) { path(keys, *what) } else { nothing() }).collect()
});

/// Everything an answer is searched for: the usual places, then these pointers.
pub(crate) fn wanted(pointers: &[Arc<str>]) -> Arc<[Path]> {
    let usual = ANSWER.iter().map(|(keys, what)| path(keys, *what));
    // A pointer to the whole document finds nothing; the place is kept, so that the others keep theirs.
    usual.chain(pointers.iter().map(|pointer| Path::pointer(pointer).unwrap_or_else(nothing))).collect()
}

fn path(keys: &[&str], what: What) -> Path {
    match what {
        What::Text => Path::keys(keys, Take::Length),
        What::Searches => Path::keys(keys, Take::Amount),
        What::Usage | What::Gemini | What::Target | What::Service | What::Kind => Path::keys(keys, Take::Text),
    }
}

/// Leads nowhere.
fn nothing() -> Path {
    Path::keys(&[], Take::Text)
}

/// Longest target that is believed, bytes.
pub(super) const MAX_TARGET: usize = 256;

/// Reads usage out of a body that is pushed through it chunk by chunk, in bounded memory (about 32 KiB beyond a decoder's window).
#[derive(Debug)]
pub struct UsageTap {
    decoder: Decoder<Inner>,
    stopped: Option<Stopped>,
    /// The service tier that the head named.
    tier: Option<Arc<str>>,
}

#[derive(Debug)]
struct Inner {
    lines: Option<Lines>,
    /// The document has begun.
    begun: bool,
    scan: Scan,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    usage: Option<RawUsage>,
    gemini: Option<GeminiUsage>,
    /// What was met beside the usage.
    extras: Extras,
    target: Option<Arc<str>>,
    service: Option<Arc<str>>,
    text_bytes: u64,
    amounts: Amounts,
    reads: Option<Arc<Reads>>,
}

impl UsageTap {
    /// For an answer with these headers, looking where the prices' meters `reads`; `None` when it is neither JSON nor an event stream.
    /// A compressed one is decoded on the way.
    pub fn for_answer(headers: &HeaderMap, reads: Option<&Arc<Reads>>) -> Option<Self> {
        let media = headers.get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim().to_ascii_lowercase();
        let lines = match media.as_str() {
            "text/event-stream" => Some(Lines::default()),
            media if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) => None,
            _ => return None,
        };
        let mut tap = Self::new(lines, reads, &encoding(headers));
        let tier = headers.get(GEMINI_TIER).and_then(|value| value.to_str().ok());
        tap.tier = tier.filter(|tier| tier.len() <= MAX_TARGET).map(|tier| tier.to_ascii_lowercase().into());
        Some(tap)
    }

    fn new(lines: Option<Lines>, reads: Option<&Arc<Reads>>, encoding: &str) -> Self {
        let inner = || {
            let named = reads.filter(|reads| !reads.pointers.is_empty());
            let wanted = named.map_or_else(|| USUAL.clone(), |reads| reads.wanted());
            Inner { lines, begun: false, scan: Scan::new(wanted), found: Found { reads: reads.cloned(), ..Found::default() } }
        };
        let none = || Inner { lines: None, begun: false, scan: Scan::new(USUAL.clone()), found: Found::default() };
        let plain = |stopped| (Decoder::Plain(none()), Some(stopped));
        let (decoder, stopped) = match Decoder::new(encoding, inner()) {
            Ok(decoder) => (decoder, None),
            Err(stopped) => plain(stopped),
        };
        Self { decoder, stopped, tier: None }
    }

    /// For a plain JSON body.
    pub fn json() -> Self {
        Self::new(None, None, "")
    }

    /// For server-sent events.
    pub fn events() -> Self {
        Self::new(Some(Lines::default()), None, "")
    }

    /// Takes the next bytes of the body.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.stopped.is_none() {
            self.stopped = self.decoder.push(bytes).err();
        }
    }

    /// What has been read so far. A stream that broke off still tells what it told before.
    pub fn reading(&self) -> UsageReading {
        let found = &self.decoder.reader().found;
        let (usage, contradictory) = found.usage();
        let Found { target, text_bytes, amounts, .. } = found;
        UsageReading {
            usage,
            contradictory,
            target: target.clone(),
            service: found.service(self.tier.as_ref()),
            amounts: amounts.clone(),
            text_bytes: *text_bytes,
            stopped: self.stopped,
        }
    }

    /// The reading of a whole body.
    pub fn read_json(body: &[u8]) -> UsageReading {
        let mut tap = Self::json();
        tap.push(body);
        tap.reading()
    }
}

/// The content encoding, in lower case; several become one that nobody knows.
fn encoding(headers: &HeaderMap) -> String {
    let all = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let named: Vec<String> = all.map(|one| one.trim().to_ascii_lowercase()).filter(|one| !one.is_empty() && one != "identity").collect();
    named.join(", ")
}

impl Reader for Inner {
    fn read(&mut self, bytes: &[u8]) {
        if self.lines.is_none() && !self.begun {
            self.begin(bytes);
        }
        let Self { lines, scan, found, .. } = self;
        let mut keep = |path: usize, text: &[u8]| found.keep(path, text);
        match lines {
            None => {
                scan.push(bytes, &mut keep);
                self.give_up();
            }
            Some(lines) => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => scan.push(data, &mut keep),
                Piece::EndOfEvent => scan.reset(),
            }),
        }
    }
}

impl Inner {
    /// A list is a stream of documents.
    fn begin(&mut self, bytes: &[u8]) {
        let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { return };
        self.begun = true;
        if *first == b'[' {
            self.scan = Scan::of_list(LISTED.clone());
        }
    }

    /// Most lists are no answers of an LLM: their first element tells.
    fn give_up(&mut self) {
        let Found { gemini, target, text_bytes, .. } = &self.found;
        if self.scan.is_of_list() && self.scan.ended() > 0 && gemini.is_none() && target.is_none() && *text_bytes == 0 {
            self.scan.give_up();
        }
    }
}

impl Found {
    /// The buckets, and whether they contradict the provider's own sums.
    fn usage(&self) -> (Option<Usage>, bool) {
        if let Some(raw) = &self.gemini {
            let usage = raw.buckets();
            return (usage, usage.is_some_and(|usage| raw.contradicts(&usage)));
        }
        let usage = self.usage.and_then(|raw| raw.buckets());
        (usage, usage.is_some() && self.usage.is_some_and(|raw| raw.contradicts()))
    }

    /// What stands for the service tier; the body says more than the head, and what a meter of the prices counts is charged.
    fn service(&self, head: Option<&Arc<str>>) -> Option<Arc<str>> {
        let of_usage = match &self.gemini {
            Some(raw) => raw.extras(),
            None => self.usage.map(|raw| raw.extras()).unwrap_or_default(),
        };
        let pointers = self.reads.as_ref().map_or(&[][..], |reads| &reads.pointers);
        self.extras.and(of_usage).but_counted(pointers).joined(self.service.as_ref().or(head).cloned())
    }

    fn keep(&mut self, path: usize, text: &[u8]) {
        match ANSWER.get(path).map(|(_, what)| what) {
            Some(What::Usage) => {
                if let Ok(Some(later)) = serde_json::from_slice::<Option<RawUsage>>(text) {
                    self.usage.get_or_insert_default().update(later);
                }
            }
            Some(What::Gemini) => {
                if let Ok(Some(later)) = serde_json::from_slice::<Option<GeminiUsage>>(text) {
                    self.gemini.get_or_insert_default().update(later);
                }
            }
            Some(What::Searches) if text != b"0" => self.extras.add(Extra::Grounded),
            Some(What::Searches) => {}
            Some(What::Kind) if SEARCHES.contains(&text) => self.extras.add(Extra::Grounded),
            Some(What::Kind) if TOOLS.contains(&text) => self.extras.add(Extra::Tools),
            Some(What::Kind) => {}
            Some(What::Target) => self.target = text_of(text).or_else(|| self.target.take()),
            Some(What::Service) => self.service = text_of(text).or_else(|| self.service.take()),
            Some(What::Text) => {
                let bytes = std::str::from_utf8(text).ok().and_then(|text| text.parse::<u64>().ok());
                self.text_bytes = self.text_bytes.saturating_add(bytes.unwrap_or(0));
            }
            None => {
                let place = self.reads.as_ref().and_then(|reads| reads.pointers.get(path - ANSWER.len()));
                if let (Some(place), Some(amount)) = (place, Amount::parse(text)) {
                    self.amounts.set(place, amount);
                }
            }
        }
    }
}

pub(super) fn text_of(json: &[u8]) -> Option<Arc<str>> {
    serde_json::from_slice::<Arc<str>>(json).ok().filter(|text| !text.is_empty() && text.len() <= MAX_TARGET)
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
