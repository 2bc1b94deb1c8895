//! CloudEvents 1.0 in JSON: structured, binary and batched (<https://github.com/cloudevents/spec>).

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::Event;
use crate::canonical::is_json;

/// Events of one batch at most.
const MOST: usize = 1_000;

/// Why there is no event to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Neither mode fits.
    #[error("send a CloudEvent: `Content-Type: application/cloudevents+json` (or `-batch+json`), or `ce-` headers with JSON data")]
    NoEvent,
    /// It is not what the specification says.
    #[error("not a CloudEvent 1.0: `specversion` \"1.0\" and texts `id`, `source` and `type` are needed")]
    Malformed,
    /// A batch is too long.
    #[error("more than 1,000 events in a batch: send several")]
    TooMany,
}

#[derive(Deserialize)]
struct Structured {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: Option<String>,
    #[serde(default)]
    data: Value,
}

impl Structured {
    fn event(self) -> Result<Event, CloudError> {
        let whole = self.specversion == "1.0" && [&self.id, &self.source, &self.kind].iter().all(|text| !text.is_empty());
        if whole { Ok(Event { kind: self.kind, subject: self.subject, data: self.data, at: None }) } else { Err(CloudError::Malformed) }
    }
}

/// An event in JSON.
pub fn structured(bytes: &[u8]) -> Result<Event, CloudError> {
    serde_json::from_slice::<Structured>(bytes).map_err(|_| CloudError::Malformed)?.event()
}

/// The events of a request, in whichever mode.
pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, CloudError> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/cloudevents+json" => structured(body).map(|event| vec![event]),
        "application/cloudevents-batch+json" => {
            let batch: Vec<Structured> = serde_json::from_slice(body).map_err(|_| CloudError::Malformed)?;
            if batch.len() > MOST {
                return Err(CloudError::TooMany);
            }
            batch.into_iter().map(Structured::event).collect()
        }
        _ => binary(headers, body).map(|event| vec![event]),
    }
}

fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Event, CloudError> {
    let of = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    let specversion = of("ce-specversion").ok_or(CloudError::NoEvent)?;
    let data =
        if body.is_empty() || !is_json(headers) { Value::Null } else { serde_json::from_slice(body).map_err(|_| CloudError::Malformed)? };
    let needed = |name| of(name).ok_or(CloudError::Malformed);
    let (id, source, kind) = (needed("ce-id")?, needed("ce-source")?, needed("ce-type")?);
    Structured { specversion, id, source, kind, subject: of("ce-subject"), data }.event()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    fn whole(subject: &str) -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "t", "subject": subject, "data": {"id": 7}, "extension": true})
    }

    #[test]
    fn all_modes_say_the_same() {
        let expected = Event { kind: "t".into(), subject: Some("a/ü".into()), data: json!({"id": 7}), at: None };
        let structured = headers(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
        assert_eq!(read(&structured, whole("a/ü").to_string().as_bytes()), Ok(vec![expected.clone()]));
        let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
        let two = json!([whole("a/ü"), whole("b")]).to_string();
        assert_eq!(read(&batch, two.as_bytes()).unwrap()[0], expected);
        assert_eq!(read(&batch, b"[]"), Ok(Vec::new()));
        let fields =
            [("content-type", "application/json"), ("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "t")];
        let binary = headers(&[&fields[..], &[("ce-subject", "a/%C3%BC")]].concat());
        assert_eq!(read(&binary, b"{\"id\": 7}"), Ok(vec![expected]));
        assert_eq!(read(&headers(&fields), b"").unwrap()[0].subject, None);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let structured = headers(&[("content-type", "application/cloudevents+json")]);
        for key in ["specversion", "id", "source", "type"] {
            let mut event = whole("x");
            event[key] = json!("");
            assert_eq!(read(&structured, event.to_string().as_bytes()), Err(CloudError::Malformed), "{key}");
            event.as_object_mut().unwrap().remove(key);
            assert_eq!(read(&structured, event.to_string().as_bytes()), Err(CloudError::Malformed), "{key}");
        }
        assert_eq!(read(&structured, b"[]"), Err(CloudError::Malformed));
        assert_eq!(read(&headers(&[("content-type", "application/json")]), b"{}"), Err(CloudError::NoEvent));
        let many = json!(vec![whole("x"); MOST + 1]).to_string();
        assert_eq!(read(&headers(&[("content-type", "application/cloudevents-batch+json")]), many.as_bytes()), Err(CloudError::TooMany));
    }
}
