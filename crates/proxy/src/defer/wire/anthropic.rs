//! Anthropic's Message Batches: the requests are in the order itself; answers come as one text, one a line. A batch has no name of ours: one
//! whose order was answered by nobody is known by the ids of its requests.

use bytes::{BufMut, Bytes, BytesMut};
use farthing_types::Time;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Line, Standing, push_body};

/// Appends a request to an order.
pub fn push(order: &mut BytesMut, id: &str, body: &[u8]) {
    order.put_slice(if order.is_empty() { b"{\"requests\":[" } else { b"," });
    order.put_slice(format!("{{\"custom_id\":\"{id}\",\"params\":").as_bytes());
    push_body(order, body);
    order.put_slice(b"}");
}

/// The order, of all that was pushed.
pub fn order(mut order: BytesMut) -> Bytes {
    order.put_slice(b"]}");
    order.freeze()
}

/// How a batch stands, as the API has it.
#[derive(Deserialize)]
pub struct Raw {
    id: String,
    processing_status: String,
    /// As RFC 3339 has it.
    created_at: Option<String>,
    #[serde(default)]
    request_counts: Counts,
}

/// Requests of a batch by what became of them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counts {
    processing: u64,
    succeeded: u64,
    errored: u64,
    canceled: u64,
    expired: u64,
}

impl From<Raw> for Standing {
    fn from(raw: Raw) -> Self {
        let Counts { processing, succeeded, errored, canceled, expired } = raw.request_counts;
        let has_ended = raw.processing_status == "ended";
        Self {
            has_ended,
            is_complete: has_ended && canceled + expired == 0,
            answers: vec![format!("/messages/batches/{}/results", raw.id)],
            name: None,
            created: raw.created_at.and_then(|at| rfc_3339(&at)),
            requests: Some(processing + succeeded + errored + canceled + expired),
            id: raw.id,
        }
    }
}

fn rfc_3339(text: &str) -> Option<Time> {
    let at: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(Time::from_nanos)
}

#[derive(Deserialize)]
struct RawLine<'a> {
    custom_id: String,
    #[serde(borrow)]
    result: RawResult<'a>,
}

#[derive(Deserialize)]
struct RawResult<'a> {
    r#type: String,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    error: Typed,
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

/// Reads a line of answers: whose it is, and the answer, where there is one: without it the request has not run.
///
/// # Errors
/// It is none.
pub fn line(text: &[u8]) -> Result<(String, Option<Line>), serde_json::Error> {
    let RawLine { custom_id, result } = serde_json::from_slice(text)?;
    let answer = match (&*result.r#type, result.message, result.error) {
        ("succeeded", Some(message), _) => {
            Some(Line { status: StatusCode::OK, body: Bytes::copy_from_slice(message.get().as_bytes()), request_id: None })
        }
        ("errored", _, Some(error)) => {
            let refusal: Refusal = serde_json::from_str(error.get())?;
            let body = Bytes::copy_from_slice(error.get().as_bytes());
            Some(Line { status: status_of(&refusal.error.r#type), body, request_id: refusal.request_id })
        }
        _ => None,
    };
    Ok((custom_id, answer))
}

/// The status with which the API answers an error of this type (its page "Errors").
fn status_of(error: &str) -> StatusCode {
    let code = match error {
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "api_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 400,
    };
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::super::{page, standing};
    use super::*;

    #[test]
    fn an_order_has_its_requests() {
        let mut file = BytesMut::new();
        push(&mut file, "f-1", b"{\n \"model\": \"m\"}");
        push(&mut file, "f-2", b"{}");
        let order: serde_json::Value = serde_json::from_slice(&order(file)).unwrap();
        assert_eq!(
            order,
            serde_json::json!({"requests": [{"custom_id": "f-1", "params": {"model": "m"}}, {"custom_id": "f-2", "params": {}}]})
        );
    }

    #[test]
    fn answers_are_told_from_errors_and_from_requests_that_have_not_run() {
        let read = |result: &str| line(format!("{{\"custom_id\":\"a\",\"result\":{result}}}").as_bytes()).map(|(_, answer)| answer);
        let answer = read(r#"{"type":"succeeded","message":{"b":1, "a":2}}"#).unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &br#"{"b":1, "a":2}"#[..]));
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"o"},"request_id":"r"}"#;
        let answer = read(&format!("{{\"type\":\"errored\",\"error\":{error}}}")).unwrap().unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.body, answer.request_id.as_deref()), (529, error.as_bytes(), Some("r")));
        assert_eq!(read(r#"{"type":"expired"}"#).unwrap(), None);
        assert_eq!(read(r#"{"type":"canceled"}"#).unwrap(), None);
        assert!(read(r#"{"type":"errored","error":{"typ"#).is_err());
    }

    #[test]
    fn a_batch_is_complete_when_all_of_it_has_run() {
        let of = |status: &str, counts: &str| {
            let text = format!("{{\"id\":\"b\",\"processing_status\":\"{status}\",\"request_counts\":{counts},\"results_url\":null}}");
            let standing = standing::<Raw>(text.as_bytes()).unwrap();
            (standing.has_ended, standing.is_complete, standing.requests)
        };
        assert_eq!(of("in_progress", r#"{"processing":3}"#), (false, false, Some(3)));
        assert_eq!(of("canceling", r#"{"processing":3}"#), (false, false, Some(3)));
        assert_eq!(of("ended", r#"{"succeeded":2,"errored":1}"#), (true, true, Some(3)));
        assert_eq!(of("ended", r#"{"succeeded":2,"expired":1}"#), (true, false, Some(3)));
        let page =
            page::<Raw>(br#"{"data":[{"id":"b","processing_status":"ended"}],"has_more":true,"last_id":"b"}"#, "&after_id=").unwrap();
        assert_eq!((page.next.as_deref(), page.batches[0].created), (Some("&after_id=b"), None));
        assert_eq!(rfc_3339("2024-08-20T18:37:24.100435Z"), Some(Time::from_nanos(1_724_179_044_100_435_000)));
        assert_eq!((rfc_3339("2024-08-20"), rfc_3339("")), (None, None));
    }
}
