//! OpenAI's Batch API: a file of requests, one a line; the batch; files of answers, one a line.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use farthing_types::Time;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Line, Standing, push_body};

/// Appends the line of a request.
pub fn push(file: &mut BytesMut, id: &str, endpoint: &str, body: &[u8]) {
    file.put_slice(format!("{{\"custom_id\":\"{id}\",\"method\":\"POST\",\"url\":\"/v1{endpoint}\",\"body\":").as_bytes());
    push_body(file, body);
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

/// How a batch stands, as the API has it.
#[derive(Deserialize)]
pub struct Raw {
    id: String,
    status: String,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    /// Of batches of others, too: whatever it holds.
    metadata: Option<HashMap<String, serde_json::Value>>,
    /// Seconds since 1970.
    created_at: Option<i64>,
}

impl From<Raw> for Standing {
    fn from(raw: Raw) -> Self {
        let files = [raw.output_file_id, raw.error_file_id].into_iter().flatten();
        Self {
            id: raw.id,
            has_ended: matches!(&*raw.status, "completed" | "failed" | "expired" | "cancelled"),
            is_complete: raw.status == "completed",
            answers: files.map(|file| format!("/files/{file}/content")).collect(),
            name: raw.metadata.and_then(|metadata| Some(metadata.get("farthing")?.as_str()?.to_owned())),
            requests: None,
            created: raw.created_at.map(|secs| Time::from_millis(secs.saturating_mul(1_000))),
        }
    }
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

/// Reads a line of answers: whose it is, and the answer, where there is one: without it the request has not run.
///
/// # Errors
/// It is none.
pub fn line(text: &[u8]) -> Result<(String, Option<Line>), serde_json::Error> {
    let RawLine { custom_id, response } = serde_json::from_slice(text)?;
    let Some(RawResponse { status_code, request_id, body }) = response else { return Ok((custom_id, None)) };
    // Nothing has run where there is no status of HTTP.
    let Some(status) = StatusCode::from_u16(status_code).ok() else { return Ok((custom_id, None)) };
    let body = Bytes::copy_from_slice(body.map_or("{}", RawValue::get).as_bytes());
    Ok((custom_id, Some(Line { status, body, request_id })))
}

#[cfg(test)]
mod tests {
    use super::super::page;
    use super::*;

    #[test]
    fn a_request_is_one_line_whatever_white_space_it_has() {
        let mut file = BytesMut::new();
        let body = b"{\n  \"model\": \"m\",\r\n  \"input\": \"a\\nb\"}";
        push(&mut file, "f-1", "/embeddings", body);
        assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line: serde_json::Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(line["body"], serde_json::from_slice::<serde_json::Value>(body).unwrap());
        assert_eq!((&line["url"], &line["custom_id"], &line["method"]), (&"/v1/embeddings".into(), &"f-1".into(), &"POST".into()));
    }

    #[test]
    fn answers_are_told_from_requests_that_have_not_run() {
        let file = concat!(
            "{\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"request_id\":\"r\",\"body\":{\"b\":1, \"a\":2}},\"error\":null}\n",
            "{\"custom_id\":\"b\",\"response\":null,\"error\":{\"code\":\"batch_expired\"}}\n",
            "{\"custom_id\":\"c\",\"response\":{\"status_code\":400,\"body\":{\"error\":{}}}}\n{\"custom_id\":\"a\",\"respo",
        );
        let read: Vec<_> = file.as_bytes().split(|byte| *byte == b'\n').map(line).collect();
        let unread = read.iter().filter(|line| line.is_err()).count();
        let lines: HashMap<String, Option<Line>> = read.into_iter().filter_map(Result::ok).collect();
        assert_eq!((lines.len(), unread), (3, 1));
        let answer = Line { status: StatusCode::OK, body: "{\"b\":1, \"a\":2}".into(), request_id: Some("r".to_owned()) };
        assert_eq!((&lines["a"], &lines["b"]), (&Some(answer), &None));
        assert_eq!(lines["c"].as_ref().map(|line| line.status), Some(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn batches_of_others_may_have_any_metadata() {
        let text =
            br#"{"data":[{"id":"b","status":"completed","metadata":{"n":1}},{"id":"c","status":"failed","created_at":1700000000,"metadata":{"farthing":"x"}}],"has_more":true}"#;
        let page = page::<Raw>(text, "&after=").unwrap();
        assert_eq!(page.batches.iter().map(|batch| batch.name.as_deref()).collect::<Vec<_>>(), [None, Some("x")]);
        assert_eq!(page.batches.iter().map(|batch| batch.created).collect::<Vec<_>>(), [None, Some(Time::from_millis(1_700_000_000_000))]);
        assert_eq!((page.next.as_deref(), page.batches[1].has_ended, page.batches[1].is_complete), (Some("&after=c"), true, false));
    }
}
