//! `json-lines`: one JSON object per line; a mapping file says which JSON pointer holds what.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::cells::{Cell, Row, record};
use super::format::{Format, Sink, each_line};
use super::mapping::{Field, Mapping};
use super::record::Record;
use super::skipped::Reason;
use crate::error::TrainError;

/// The format.
pub struct JsonLines;

/// Where fields are looked for without a mapping; the first that is there counts.
const USUAL: &[(Field, &[&str])] = &[
    (Field::Time, &["/time", "/timestamp", "/ts", "/@timestamp", "/time_local", "/start_time", "/startTime"]),
    (Field::Method, &["/method", "/request_method", "/http_method"]),
    (Field::Url, &["/url", "/request_uri", "/uri", "/path"]),
    (Field::Host, &["/host", "/authority"]),
    (Field::Status, &["/status", "/status_code"]),
    (Field::Bytes, &["/bytes", "/body_bytes_sent", "/bytes_sent", "/response_size"]),
    (Field::Cost, &["/cost_usd", "/cost"]),
    (Field::Client, &["/client", "/remote_addr", "/client_ip"]),
    (Field::Etag, &["/etag", "/resp_headers/ETag"]),
    (Field::CacheControl, &["/cache_control"]),
];

impl Format for JsonLines {
    fn name(&self) -> &'static str {
        "json-lines"
    }
    fn about(&self) -> &'static str {
        "one JSON object per line; --mapping names the JSON pointers of time, url, method, status, bytes, cost, body digest ..."
    }
    fn read(&self, mapping: &Mapping, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
        each_line(path, sink, |line| {
            let value = object(line)?;
            let made: Result<Record<'static>, Reason> = record(&Pointed { value: &value, mapping }, mapping);
            made.map(Some)
        })
    }
}

/// The object of a line.
pub fn object(line: &[u8]) -> Result<Value, Reason> {
    match serde_json::from_slice(line) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) | Err(_) if std::str::from_utf8(line).is_err() => Err(Reason::NotText),
        Ok(_) | Err(_) => Err(Reason::Json),
    }
}

struct Pointed<'v> {
    value: &'v Value,
    mapping: &'v Mapping,
}

impl Row<'static> for Pointed<'_> {
    fn cell(&self, field: Field) -> Option<Cell<'static>> {
        if self.mapping.is_empty() {
            let (_, usual) = USUAL.iter().find(|(f, _)| *f == field)?;
            return usual.iter().find_map(|pointer| cell(self.value.pointer(pointer)?));
        }
        let place = self.mapping.place(field)?;
        if place.starts_with('/') { cell(self.value.pointer(place)?) } else { cell(self.value.get(place)?) }
    }
}

/// A JSON value as a cell; arrays and objects as their text.
pub fn cell(value: &Value) -> Option<Cell<'static>> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(b) => Cell::Bool(*b),
        Value::Number(n) => n.as_i64().map_or_else(|| Cell::Float(n.as_f64().unwrap_or(f64::NAN)), Cell::Int),
        Value::String(text) => Cell::Text(Cow::Owned(text.clone())),
        other => Cell::Text(Cow::Owned(other.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::What;
    use super::*;

    fn read(line: &str, mapping: &Mapping) -> Result<Record<'static>, Reason> {
        record(&Pointed { value: &object(line.as_bytes())?, mapping }, mapping)
    }

    #[test]
    fn usual_names_need_no_mapping() {
        let line = r#"{"@timestamp":"2024-05-01T12:51:30Z","method":"GET","path":"/a?b","status":404,"body_bytes_sent":"12"}"#;
        let record = read(line, &Mapping::default()).unwrap();
        assert_eq!((record.at_ns, record.status, record.bytes), (1_714_567_890_000_000_000, Some(404), Some(12)));
        assert_eq!(record.what, What::Url { host: None, target: "/a?b".into() });
    }

    #[test]
    fn pointers_reach_into_the_object() {
        let mapping = Mapping::parse(
            "time = \"/t/0\"\ntime_format = \"epoch_s\"\nendpoint = \"route\"\nkey = \"/args\"\nbody_hash = \"/resp/sha\"\n",
        )
        .unwrap();
        let record = read(r#"{"t":[1714567890.25],"route":"/geo","args":{"q":1},"resp":{"sha":"abc"}}"#, &mapping).unwrap();
        assert_eq!(record.at_ns, 1_714_567_890_250_000_000);
        assert_eq!(record.what, What::Endpoint { endpoint: "/geo".into(), key: Some("{\"q\":1}".into()), provider: None });
        assert!(record.body.is_some() && record.etag.is_none());
    }

    #[test]
    fn lines_that_are_no_objects_say_so() {
        assert_eq!(read("[1]", &Mapping::default()), Err(Reason::Json));
        assert_eq!(read("{\"time\":", &Mapping::default()), Err(Reason::Json));
        assert_eq!(read("{}", &Mapping::default()), Err(Reason::Time));
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(Reason::NotText));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn no_text_makes_it_panic(line in ".{0,120}") {
            let _ = read(&line, &Mapping::default());
        }
    }
}
