//! Batches as providers have them.

mod anthropic;
mod openai;

use bytes::{BufMut, Bytes, BytesMut};
use farthing_config::Dialect;
use farthing_types::Time;
use farthing_types::json::Sound;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use openai::order;

/// Whose way of batches it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    /// OpenAI's: a file goes up first.
    OpenAi,
    /// Anthropic's: all is in the order.
    Anthropic,
}

/// Whether a body is one JSON object that every reader can read: a provider refuses a batch as a whole, with the requests of all others in it.
pub fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<Sound>(body).is_ok()
}

/// Appends a body. A line break in JSON is white space, and becomes a space.
fn push_body(file: &mut BytesMut, body: &[u8]) {
    let start = file.len();
    file.put_slice(body);
    file.iter_mut().skip(start).filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
}

/// A page of a list, as both have it.
#[derive(Deserialize)]
struct RawPage<R> {
    data: Vec<R>,
    #[serde(default)]
    has_more: bool,
}

fn standing<R: DeserializeOwned + Into<Standing>>(text: &[u8]) -> Result<Standing, serde_json::Error> {
    serde_json::from_slice::<R>(text).map(Into::into)
}

/// `after` asks for what follows on the id after it.
fn page<R: DeserializeOwned + Into<Standing>>(text: &[u8], after: &str) -> Result<Page, serde_json::Error> {
    let RawPage { data, has_more } = serde_json::from_slice::<RawPage<R>>(text)?;
    let batches: Vec<Standing> = data.into_iter().map(Into::into).collect();
    let next = batches.last().filter(|_| has_more).map(|last| format!("{after}{}", last.id));
    Ok(Page { batches, next })
}

/// What has an id.
#[derive(Deserialize)]
pub struct Named {
    /// The id.
    pub id: String,
}

/// How a batch stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Standing {
    /// The provider's id.
    pub id: String,
    /// Nothing more will come.
    pub has_ended: bool,
    /// All of it has run.
    pub is_complete: bool,
    /// Paths of its answers, once it has ended.
    pub answers: Vec<String>,
    /// Its name of ours, where batches have one.
    pub name: Option<String>,
    /// How many requests it has, where that is told.
    pub requests: Option<u64>,
    /// When it was ordered, by the provider's clock, where that is told.
    pub created: Option<Time>,
}

/// A page of batches.
pub struct Page {
    /// The batches.
    pub batches: Vec<Standing>,
    /// What the query of the next one has more; `None` after the last.
    pub next: Option<String>,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// The provider's id of it.
    pub request_id: Option<String>,
}

impl Line {
    /// Whether the provider did not come to do what was asked: it may go well a moment later, and nothing was refused.
    pub fn has_not_run(&self) -> bool {
        self.status.is_server_error() || matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
    }
}

/// What goes out first of a batch.
pub enum First {
    /// A file, to which the [`order`] then points.
    Upload {
        /// Its media type.
        media: String,
        /// The form that carries it.
        form: Bytes,
    },
    /// The order, with all requests.
    Order(Bytes),
}

/// An answer, or none, with the id of its request.
pub type Answered = (String, Option<Line>);

impl Wire {
    /// That of a dialect; `None` where no batches of it are known.
    pub const fn of(dialect: Dialect) -> Option<Self> {
        match dialect {
            Dialect::OpenAi => Some(Self::OpenAi),
            Dialect::Anthropic => Some(Self::Anthropic),
            Dialect::Generic | Dialect::Google | Dialect::Gemini => None,
        }
    }

    /// Endpoints whose requests go into batches, below the version.
    pub const fn endpoints(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["/chat/completions", "/embeddings", "/completions", "/responses"],
            Self::Anthropic => &["/messages"],
        }
    }

    /// The field of requests that their batch needs, too.
    pub const fn version(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => None,
            Self::Anthropic => Some("anthropic-version"),
        }
    }

    /// Fields that mean something to a call, and that no batch carries.
    pub const fn of_calls(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["openai-organization", "openai-project", "openai-beta", "idempotency-key"],
            Self::Anthropic => &["anthropic-beta", "idempotency-key"],
        }
    }

    /// Where batches are ordered and listed.
    pub const fn batches(self) -> &'static str {
        match self {
            Self::OpenAi => "/batches",
            Self::Anthropic => "/messages/batches",
        }
    }

    /// Appends a request to what goes out.
    pub fn push(self, file: &mut BytesMut, (id, endpoint): (&str, &str), body: &[u8]) {
        match self {
            Self::OpenAi => openai::push(file, id, endpoint, body),
            Self::Anthropic => anthropic::push(file, id, body),
        }
    }

    /// What goes out first of a batch with this name, which must be in none of its requests.
    pub fn first(self, name: &str, file: BytesMut) -> First {
        match self {
            Self::OpenAi => {
                let (media, form) = openai::upload(name, &file);
                First::Upload { media, form }
            }
            Self::Anthropic => First::Order(anthropic::order(file)),
        }
    }

    /// Reads how a batch stands; `None` where it is none.
    pub fn standing(self, text: &[u8]) -> Option<Standing> {
        let read = match self {
            Self::OpenAi => standing::<openai::Raw>(text),
            Self::Anthropic => standing::<anthropic::Raw>(text),
        };
        read.ok()
    }

    /// Reads a page of a list of batches; `None` where it is none.
    pub fn page(self, text: &[u8]) -> Option<Page> {
        let read = match self {
            Self::OpenAi => page::<openai::Raw>(text, "&after="),
            Self::Anthropic => page::<anthropic::Raw>(text, "&after_id="),
        };
        read.ok()
    }

    /// The answer in a line, with its request's id; `None` for a blank line.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn line(self, text: &[u8]) -> Result<Option<Answered>, serde_json::Error> {
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        let read = match self {
            Self::OpenAi => openai::line(text),
            Self::Anthropic => anthropic::line(text),
        };
        read.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_go_into_a_file() {
        assert!(is_object(b" {\"a\":1}") && !is_object(b"[1]") && !is_object(b"{\"a\":1} {\"b\":2}") && !is_object(b"{\"a\":"));
    }

    #[test]
    fn what_one_reader_could_refuse_goes_into_no_file() {
        assert!(is_object("{\"a\":[1,-2,3.5,true,null,{\"\u{e9}\\ud83d\\ude00\":\"caf\u{e9}\\u00e9\"}]}".as_bytes()));
        let latin: [&[u8]; 2] = [b"{\"a\":\"caf\xe9\"}", b"{\"caf\xe9\":1}"];
        let halves: [&[u8]; 3] = [b"{\"a\":\"\\ud800\"}", b"{\"a\":[\"\\udc00\"]}", b"{\"\\ud800\":1}"];
        for body in latin.iter().chain(&halves) {
            assert!(!is_object(body), "{}", body.escape_ascii());
        }
        let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_object(deep(100).as_bytes()) && !is_object(deep(1_000).as_bytes()));
    }

    #[test]
    fn blank_lines_are_none() {
        assert!([Wire::OpenAi, Wire::Anthropic].iter().all(|wire| wire.line(b" \r\n").unwrap().is_none()));
    }
}
