//! Errors of ours as HTTP: the one place that turns a refusal into a status and a document.

use std::fmt::Write as _;

use bytes::Bytes;
use farthing_types::{Body, Failure, FailureKind};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use crate::limits::seconds;

/// Shape of the error documents that the caller's client library understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// RFC 9457 `application/problem+json`.
    #[default]
    Problem,
    /// `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}}`.
    Anthropic,
    /// `{"error": {"code", "message", "status"}}`.
    Gemini,
}

/// A refusal or failure of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status.
    pub status: StatusCode,
    /// Stable kind, also the label of the metric and the log's `error_class`.
    pub kind: &'static str,
    /// What happened and what to do about it; holds no secrets.
    pub detail: String,
    /// Seconds after which a retry makes sense.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// A problem with `status`, a stable `kind` and a sentence that names the remedy.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    /// The problem as a response in the caller's dialect.
    pub fn response(&self, dialect: Dialect) -> Response<Body> {
        let (text, content_type) = self.document(dialect);
        let mut response = Response::new(Body::full(Bytes::from(text)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn document(&self, dialect: Dialect) -> (String, &'static str) {
        let detail = quoted(&self.detail);
        match dialect {
            Dialect::Problem => {
                let title = quoted(self.status.canonical_reason().unwrap_or("error"));
                let status = self.status.as_u16();
                let kind = self.kind;
                (
                    format!("{{\"type\":\"urn:farthing:problem:{kind}\",\"title\":{title},\"status\":{status},\"detail\":{detail}}}\n"),
                    "application/problem+json",
                )
            }
            Dialect::OpenAi => {
                let kind = self.kind;
                (
                    format!("{{\"error\":{{\"message\":{detail},\"type\":\"{kind}\",\"param\":null,\"code\":\"{kind}\"}}}}\n"),
                    "application/json",
                )
            }
            Dialect::Anthropic => {
                let kind = anthropic(self.kind);
                (format!("{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":{detail}}}}}\n"), "application/json")
            }
            Dialect::Gemini => (self.google(&detail), "application/json"),
        }
    }

    /// The document of Google's APIs; its `reason` is our kind.
    fn google(&self, detail: &str) -> String {
        let (code, status, kind) = (self.status.as_u16(), google_status(self.status), self.kind);
        let info = format!("{{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"{kind}\",\"domain\":\"farthing\"}}");
        format!("{{\"error\":{{\"code\":{code},\"message\":{detail},\"status\":\"{status}\",\"details\":[{info}]}}}}\n")
    }
}

/// The name that Google's APIs give to a status (google/rpc/code.proto).
const fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 411 | 413 | 431 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500..=599 => "INTERNAL",
        _ => "FAILED_PRECONDITION",
    }
}

/// Anthropic's own name for a kind that it has, too: its clients know a closed list.
fn anthropic(kind: &'static str) -> &'static str {
    match kind {
        "rate_limited" => "rate_limit_error",
        "overloaded" => "overloaded_error",
        other => other,
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let status = match failure.kind {
            FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            // Bounds of ours (waiting requests, concurrent calls), not a rate the client broke.
            FailureKind::BreakerOpen | FailureKind::Refused => StatusCode::SERVICE_UNAVAILABLE,
            FailureKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            FailureKind::RequestBody => StatusCode::BAD_REQUEST,
            FailureKind::Connect
            | FailureKind::Broken
            | FailureKind::Protocol
            | FailureKind::Unmapped
            | FailureKind::LeaderGone
            | FailureKind::ListRefused => StatusCode::BAD_GATEWAY,
        };
        let kind = if failure.kind == FailureKind::RateLimited { "rate_limited" } else { failure.kind.as_str() };
        let mut problem = Self::new(status, kind, failure.detail.to_string());
        problem.retry_after = failure.limited.map(|limited| seconds(limited.retry_after));
        if matches!(failure.kind, FailureKind::BreakerOpen | FailureKind::Refused) {
            problem.retry_after = Some(1);
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_json_in_every_dialect() {
        let problem = Problem::new(StatusCode::NOT_FOUND, "no-route", "no route for \"/x\"\nadd one");
        for dialect in [Dialect::Problem, Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
            let (text, _) = problem.document(dialect);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(value.to_string().contains("add one"), "{text}");
        }
    }

    #[test]
    fn a_timeout_is_a_gateway_timeout() {
        let failure = Failure::sent(FailureKind::Timeout, "no head within 30s");
        assert_eq!(Problem::from(&failure).status, StatusCode::GATEWAY_TIMEOUT);
    }
}
