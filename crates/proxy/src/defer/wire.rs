//! Batches as the provider has them (OpenAI's Batch API): a file of requests, one a line; the batch; files of answers, one a line.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Whether a body is one JSON object.
pub fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// Appends the line of a request. A line break in JSON is white space, and becomes a space.
pub fn push_line(file: &mut BytesMut, id: &str, endpoint: &str, body: &[u8]) {
    file.put_slice(format!("{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1{endpoint}\",\"body\":").as_bytes());
    let start = file.len();
    file.put_slice(body);
    file.iter_mut().skip(start).filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    file.put_slice(b"}\n");
}

/// A form that uploads `file`, and its media type; `name` must be in no request.
pub fn upload(name: &str, file: &[u8]) -> (String, Bytes) {
    let boundary = format!("farthing-{name}");
    let mut head = String::new();
    let _ = write!(head, "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\n");
    let _ = write!(head, "Content-Disposition: form-data; name=\"file\"; filename=\"farthing-{name}.jsonl\"\r\n");
    head.push_str("Content-Type: application/jsonl\r\n\r\n");
    let form = [head.as_bytes(), file, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
    (format!("multipart/form-data; boundary={boundary}"), form.into())
}

/// The order of a batch.
pub fn order(name: &str, file: &str, endpoint: &str) -> Bytes {
    let order = serde_json::json!({
        "input_file_id": file, "endpoint": format!("/v1{endpoint}"), "completion_window": "24h", "metadata": {"farthing": name},
    });
    order.to_string().into()
}

/// What has an id.
#[derive(Deserialize)]
pub struct Named {
    /// The id.
    pub id: String,
}

/// How a batch stands.
#[derive(Debug, Deserialize)]
pub struct Standing {
    /// The provider's id.
    pub id: String,
    status: String,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    /// Of batches of others, too: whatever it holds.
    metadata: Option<HashMap<String, serde_json::Value>>,
}

impl Standing {
    /// Whether nothing more will come.
    pub fn has_ended(&self) -> bool {
        matches!(&*self.status, "completed" | "failed" | "expired" | "cancelled")
    }

    /// Whether all of it has run.
    pub fn is_complete(&self) -> bool {
        self.status == "completed"
    }

    /// The files with its answers.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        [&self.output_file_id, &self.error_file_id].into_iter().flatten().map(String::as_str)
    }

    /// Its name of ours.
    pub fn name(&self) -> Option<&str> {
        self.metadata.as_ref()?.get("farthing")?.as_str()
    }
}

/// A page of batches.
#[derive(Deserialize)]
pub struct Page {
    /// The batches.
    pub data: Vec<Standing>,
    /// Whether there are more.
    #[serde(default)]
    pub has_more: bool,
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

#[derive(Deserialize)]
struct RawLine<'a> {
    custom_id: String,
    #[serde(borrow)]
    response: Option<RawResponse<'a>>,
}

#[derive(Deserialize)]
struct RawResponse<'a> {
    status_code: u16,
    request_id: Option<String>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// The answer in a line of a file, with its request's id; `None` where there is none: the request has not run, or the line is blank.
///
/// # Errors
/// It cannot be read.
pub fn line(text: &[u8]) -> Result<Option<(String, Line)>, serde_json::Error> {
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    let RawLine { custom_id, response } = serde_json::from_slice(text)?;
    let Some(RawResponse { status_code, request_id, body }) = response else { return Ok(None) };
    // Nothing has run where there is no status of HTTP.
    let Some(status) = StatusCode::from_u16(status_code).ok() else { return Ok(None) };
    let body = Bytes::copy_from_slice(body.map_or("{}", RawValue::get).as_bytes());
    Ok(Some((custom_id, Line { status, body, request_id })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_line_whatever_white_space_it_has() {
        let mut file = BytesMut::new();
        let body = b"{\n  \"model\": \"m\",\r\n  \"input\": \"a\\nb\"}";
        push_line(&mut file, "f-1", "/embeddings", body);
        assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: serde_json::Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(line["body"], serde_json::from_slice::<serde_json::Value>(body).unwrap());
        assert_eq!((&line["url"], &line["custom_id"], &line["method"]), (&"/v1/embeddings".into(), &"f-1".into(), &"POST".into()));
    }

    #[test]
    fn answers_are_told_from_requests_that_have_not_run() {
        let file = concat!(
            "{\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"request_id\":\"r\",\"body\":{\"b\":1, \"a\":2}},\"error\":null}\n",
            "{\"custom_id\":\"b\",\"response\":null,\"error\":{\"code\":\"batch_expired\"}}\n\n",
            "{\"custom_id\":\"c\",\"response\":{\"status_code\":400,\"body\":{\"error\":{}}}}\n{\"custom_id\":\"a\",\"respo",
        );
        let read: Vec<_> = file.as_bytes().split(|byte| *byte == b'\n').map(line).collect();
        let unread = read.iter().filter(|line| line.is_err()).count();
        let lines: HashMap<String, Line> = read.into_iter().filter_map(|line| line.ok().flatten()).collect();
        assert_eq!((lines.len(), unread), (2, 1));
        assert_eq!(lines["a"], Line { status: StatusCode::OK, body: "{\"b\":1, \"a\":2}".into(), request_id: Some("r".to_owned()) });
        assert_eq!(lines["c"].status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn batches_of_others_may_have_any_metadata() {
        let page =
            br#"{"data":[{"id":"b","status":"completed","metadata":{"n":1}},{"id":"c","status":"completed","metadata":{"farthing":"x"}}]}"#;
        let page: Page = serde_json::from_slice(page).unwrap();
        assert_eq!(page.data.iter().map(Standing::name).collect::<Vec<_>>(), [None, Some("x")]);
    }

    #[test]
    fn only_objects_go_into_a_file() {
        assert!(is_object(b" {\"a\":1}") && !is_object(b"[1]") && !is_object(b"{\"a\":1} {\"b\":2}") && !is_object(b"{\"a\":"));
    }
}
