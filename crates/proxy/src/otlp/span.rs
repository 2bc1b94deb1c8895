//! A span, as it waits to be sent.

use std::sync::Arc;

use farthing_types::{Money, Span as Length, Time, TraceContext};

/// Longest text of an attribute: some are what a client or a provider wrote.
const LONGEST: usize = 128;

/// What a span stands for (`Span.SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within Farthing.
    Internal = 1,
    /// An answered request.
    Server = 2,
    /// A call to a provider.
    Client = 3,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One of our own words.
    Text(&'static str),
    /// A name that is known.
    Shared(Arc<str>),
    /// Yes or no.
    Flag(bool),
    /// A count, nanoseconds or nano-dollars.
    Number(i64),
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its trace, and itself.
    pub at: TraceContext,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// That one is another process's.
    pub remote: bool,
    /// What it is called: one of few names.
    pub name: Arc<str>,
    /// What it stands for.
    pub kind: Kind,
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// It is an error in the sense of the conventions.
    pub failed: bool,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans that it has to do with.
    pub links: Vec<TraceContext>,
}

impl Span {
    /// A span of which nothing more is known.
    pub fn new(at: TraceContext, kind: Kind, name: impl Into<Arc<str>>, (start, end): (Time, Time)) -> Self {
        // A few are usual; a vector grows by doubling.
        let attributes = Vec::with_capacity(16);
        Self {
            at,
            parent: None,
            remote: false,
            name: name.into(),
            kind,
            start,
            end: end.max(start),
            failed: false,
            attributes,
            links: Vec::new(),
        }
    }

    /// Adds what is known.
    pub fn put(&mut self, name: &'static str, value: impl Into<Option<Value>>) {
        if let Some(value) = value.into() {
            self.attributes.push((name, value));
        }
    }

    /// Bytes that it takes, about: names are counted as if nobody else had them.
    pub fn bytes(&self) -> usize {
        let text = |value: &Value| if let Value::Shared(text) = value { text.len() + 16 } else { 0 };
        size_of::<Self>()
            + self.name.len()
            + self.attributes.capacity() * size_of::<(&str, Value)>()
            + self.attributes.iter().map(|(_, value)| text(value)).sum::<usize>()
            + self.links.capacity() * size_of::<TraceContext>()
    }
}

/// A word of ours.
pub const fn text(text: &'static str) -> Value {
    Value::Text(text)
}

/// A name; a long one is cut.
pub fn shared(name: &Arc<str>) -> Value {
    let cut = || (0..=LONGEST).rev().find_map(|at| name.get(..at)).unwrap_or_default();
    Value::Shared(if name.len() <= LONGEST { name.clone() } else { cut().into() })
}

/// A whole number.
pub fn number(number: impl TryInto<i64>) -> Option<Value> {
    number.try_into().ok().map(Value::Number)
}

/// Money in nano-dollars; what is unknown is left out.
pub fn money(money: Option<Money>) -> Option<Value> {
    money.map(|money| Value::Number(money.nanos()))
}

/// An id as the log and `farthing explain` write it.
pub fn id(id: u64) -> Value {
    Value::Shared(format!("{id:016x}").into())
}

/// A length of time in microseconds, where there is one.
pub fn micros(length: Length) -> Option<Value> {
    number(length.as_micros()).filter(|_| !length.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        let name: Arc<str> = "é".repeat(100).into();
        let Value::Shared(cut) = shared(&name) else { panic!("a name") };
        assert_eq!(&*cut, "é".repeat(64));
        assert_eq!(shared(&"gpt".into()), Value::Shared("gpt".into()));
    }

    #[test]
    fn a_span_never_ends_before_it_began() {
        let at = TraceContext::start(1, 2);
        let span = Span::new(at, Kind::Client, "GET", (Time::from_millis(5), Time::from_millis(3)));
        assert_eq!(span.end, span.start);
        let mut more = span.clone();
        let before = more.bytes();
        more.put("farthing.route", shared(&"geo".into()));
        more.put("farthing.cost", money(None));
        assert_eq!((more.attributes.len(), more.bytes() > before), (1, true), "what is unknown is not said");
    }
}
