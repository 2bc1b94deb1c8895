//! Cells of foreign rows, and the record that a mapping makes of them.

use std::borrow::Cow;

use farthing_types::{Money, UncachedReason};

use super::fingerprint;
use super::mapping::{Field, Mapping};
use super::record::{Record, Reuse, What, cache_control, dollars, url};
use super::skipped::Reason;

/// A value of a foreign row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Text.
    Text(Cow<'a, str>),
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl<'a> Cell<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text).filter(|t| !t.is_empty()),
            Self::Int(n) => Some(Cow::Owned(n.to_string())),
            Self::Float(x) => Some(Cow::Owned(x.to_string())),
            Self::Bool(b) => Some(Cow::Borrowed(if b { "true" } else { "false" })),
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Text(text) => text.trim().parse().ok(),
            Self::Int(n) => Some(*n as f64),
            Self::Float(x) => Some(*x),
            Self::Bool(_) => None,
        }
        .filter(|x: &f64| x.is_finite())
    }

    fn whole(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            Self::Text(text) if text.trim().parse::<i64>().is_ok() => text.trim().parse().ok(),
            // Whole numbers up to 2^53 are exact in a float.
            _ => self.number().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64),
        }
    }

    fn flag(&self) -> bool {
        match self {
            Self::Text(text) => matches!(text.trim().to_ascii_lowercase().as_str(), "true" | "t" | "1" | "yes" | "hit"),
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Bool(b) => *b,
        }
    }

    fn money(&self) -> Option<Money> {
        match self {
            Self::Text(text) => dollars(text),
            Self::Int(n) => n.checked_mul(1_000_000_000).map(Money::from_nanos),
            Self::Float(x) => dollars(&x.to_string()),
            Self::Bool(_) => None,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty() || text == "-" || text == "null")
    }
}

/// A row whose fields can be asked for.
pub trait Row<'a> {
    /// The cell of a field; `None` when it is not mapped, absent or null.
    fn cell(&self, field: Field) -> Option<Cell<'a>>;
}

/// Makes a record of a row.
///
/// # Errors
/// Why it cannot be used. A number that is none is an error only where a wrong one would tell a wrong story.
pub fn record<'a>(row: &dyn Row<'a>, mapping: &Mapping) -> Result<Record<'a>, Reason> {
    let cell = |field| row.cell(field).filter(|c: &Cell<'_>| !c.is_empty());
    let flag = |field| cell(field).is_some_and(|c| c.flag());
    if flag(Field::Cached) {
        return Err(Reason::Cached);
    }
    let whole = |field| cell(field).map(|c| c.whole().filter(|n| *n >= 0).ok_or(Reason::Number)).transpose();
    let text = |field| cell(field).and_then(Cell::text);
    let etag = text(Field::Etag).map(|t| fingerprint::of(t.as_bytes()));
    let body = text(Field::BodyHash).map(|t| fingerprint::of(t.as_bytes()));
    let said = text(Field::CacheControl).map_or_else(Reuse::default, |t| cache_control(&t));
    // A lifetime that the log names by itself is the one that was in force.
    let reuse = whole(Field::TtlS)?.map_or(said, |ttl_s| Reuse { ttl_s: Some(ttl_s), shared_ttl_s: None, ..said });
    let input = whole(Field::TokensInput)?;
    let cached = whole(Field::TokensCachedInput)?;
    Ok(Record {
        at_ns: time(cell(Field::Time), mapping)?,
        method: text(Field::Method).map_or(Cow::Borrowed("GET"), capitals),
        what: what(&text)?,
        status: status(whole(Field::Status)?)?,
        bytes: whole(Field::Bytes)?,
        latency_us: latency(cell(Field::Latency), mapping)?,
        cost: cell(Field::Cost).map(|c| c.money().ok_or(Reason::Number)).transpose()?,
        client: text(Field::Client),
        body: body.or(etag),
        etag,
        last_modified_ns: text(Field::LastModified).and_then(|t| modified(&t, mapping)),
        reuse,
        request_body: text(Field::RequestBody),
        tokens: [input.map(|all| (all - cached.unwrap_or(0)).max(0)), cached, whole(Field::TokensOutput)?],
        model: text(Field::Model),
        is_change: flag(Field::IsWrite),
    })
}

fn time(cell: Option<Cell<'_>>, mapping: &Mapping) -> Result<i64, Reason> {
    let format = mapping.time_format;
    match cell {
        Some(Cell::Text(text)) => format.text(&text),
        Some(Cell::Int(n)) => format.whole(n),
        // Shortest text that reads back: the digits of the log.
        Some(Cell::Float(x)) => format.text(&x.to_string()),
        Some(Cell::Bool(_)) | None => None,
    }
    .ok_or(Reason::Time)
}

fn capitals(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_lowercase()) { Cow::Owned(text.to_ascii_uppercase()) } else { text }
}

/// The URL where there is one, else the endpoint.
fn what<'a>(text: &dyn Fn(Field) -> Option<Cow<'a, str>>) -> Result<What<'a>, Reason> {
    if let Some(whole) = text(Field::Url) {
        let (host, target) = url(&whole).ok_or(Reason::Target)?;
        let host = host.map(|h| Cow::Owned(h.to_owned())).or_else(|| text(Field::Host));
        let same = target.len() == whole.len();
        let target = target.to_owned();
        return Ok(What::Url { host, target: if same { whole } else { Cow::Owned(target) } });
    }
    let endpoint = text(Field::Endpoint).ok_or(Reason::Endpoint)?;
    Ok(What::Endpoint { endpoint, key: text(Field::Key), provider: text(Field::Provider).or_else(|| text(Field::Host)) })
}

fn status(number: Option<i64>) -> Result<Option<i32>, Reason> {
    let checked = |n: i64| i32::try_from(n).ok().filter(|n| (100..=999).contains(n)).ok_or(Reason::Status);
    number.map(checked).transpose()
}

fn latency(cell: Option<Cell<'_>>, mapping: &Mapping) -> Result<Option<i64>, Reason> {
    let Some(cell) = cell else { return Ok(None) };
    let micros = cell.number().map(|x| x * mapping.latency_unit.micros()).filter(|us| (0.0..1e15).contains(us));
    micros.map(|us| Some(us.round() as i64)).ok_or(Reason::Number)
}

/// An HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`), or a time as the mapping says.
fn modified(text: &str, mapping: &Mapping) -> Option<i64> {
    let http = || {
        let mut words = text.split_once(", ")?.1.split(' ');
        let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
        super::time::clf(format!("{day:0>2}/{month}/{year}:{time} +0000").as_bytes())
    };
    mapping.time_format.text(text).or_else(http)
}

/// Why an answer with this status must not be kept without the origin saying so.
pub fn kept(status: i32) -> Option<UncachedReason> {
    (!matches!(status, 200 | 203 | 204 | 300 | 301 | 304 | 308)).then_some(UncachedReason::Status)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    struct Map(HashMap<&'static str, Cell<'static>>);
    impl Row<'static> for Map {
        fn cell(&self, field: Field) -> Option<Cell<'static>> {
            self.0.get(field.name()).cloned()
        }
    }

    fn row(pairs: &[(&'static str, Cell<'static>)]) -> Map {
        Map(pairs.iter().cloned().collect())
    }

    fn text(t: &'static str) -> Cell<'static> {
        Cell::Text(Cow::Borrowed(t))
    }

    #[test]
    fn a_full_row_becomes_a_record() {
        let row = row(&[
            ("time", text("2024-05-01T12:51:30.5Z")),
            ("method", text("post")),
            ("url", text("https://api.test/v1/x?q=1#f")),
            ("status", text("200")),
            ("bytes", Cell::Int(7)),
            ("latency", Cell::Float(1.25)),
            ("cost", Cell::Float(0.000_002)),
            ("etag", text("\"a\"")),
            ("cache_control", text("max-age=5, no-store")),
            ("last_modified", text("Sun, 06 Nov 1994 08:49:37 GMT")),
            ("tokens_input", Cell::Int(100)),
            ("tokens_cached_input", Cell::Int(30)),
        ]);
        let record = record(&row, &Mapping::default()).unwrap();
        assert_eq!(record.at_ns, 1_714_567_890_500_000_000);
        assert_eq!(record.what, What::Url { host: Some("api.test".into()), target: "/v1/x?q=1".into() });
        assert_eq!((&*record.method, record.status, record.bytes, record.latency_us), ("POST", Some(200), Some(7), Some(1_250)));
        assert_eq!(record.cost.map(Money::nanos), Some(2_000));
        assert!(record.etag.is_some() && record.body == record.etag, "an ETag stands for the body where no digest does");
        assert_eq!((record.reuse.ttl_s, record.reuse.forbidden), (Some(5), Some(UncachedReason::OriginNoStore)));
        assert_eq!(record.last_modified_ns, Some(784_111_777_000_000_000));
        assert_eq!(record.tokens, [Some(70), Some(30), None]);
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let base = [("time", Cell::Int(1_714_567_890)), ("endpoint", text("/x"))];
        let with = |name, cell| record(&row(&[base.as_slice(), &[(name, cell)]].concat()), &Mapping::default()).map(|_| ());
        assert_eq!(with("key", text("k")), Ok(()));
        assert_eq!(with("time", text("soon")), Err(Reason::Time));
        assert_eq!(with("status", Cell::Int(7)), Err(Reason::Status));
        assert_eq!(with("bytes", text("many")), Err(Reason::Number));
        assert_eq!(with("latency", text("-3")), Err(Reason::Number));
        assert_eq!(with("cost", text("free")), Err(Reason::Number));
        assert_eq!(with("served_from_cache", text("True")), Err(Reason::Cached));
        assert_eq!(with("url", text("nowhere")), Err(Reason::Target));
        assert_eq!(with("status", text("")), Ok(()), "an empty cell is an absent one");
        assert_eq!(record(&row(&base[..1]), &Mapping::default()), Err(Reason::Endpoint));
    }
}
