//! A provider's answer in the shape of the route.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::tree::{Found, Node, What, find, steps};
use super::{AnswerMap, ErrorIf, Unmapped};
use crate::batch::json;

/// Fields that are about the bytes of the provider's answer, or about its own cache: not true of another text, or at another provider.
const OF_THE_BYTES: [HeaderName; 10] = [
    HeaderName::from_static("content-length"),
    HeaderName::from_static("content-range"),
    HeaderName::from_static("accept-ranges"),
    HeaderName::from_static("etag"),
    HeaderName::from_static("last-modified"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("trailer"),
];

/// An answer in the shape of the route.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
    /// The share of required fields that it has; `None` for errors.
    pub complete: Option<f64>,
}

/// Takes out of a head what is not true of an answer that went through a map.
pub(crate) fn mend(headers: &mut HeaderMap, rewritten: bool) {
    for name in OF_THE_BYTES {
        headers.remove(name);
    }
    if rewritten {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
}

impl AnswerMap {
    /// The answer in the route's shape.
    ///
    /// # Errors
    /// Why it cannot be delivered, and the share of required fields that it has where that was seen.
    pub fn apply(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Result<Mapped, (Unmapped, Option<f64>)> {
        if status == StatusCode::NOT_MODIFIED {
            return Err((Unmapped::NotModified, None));
        }
        let passes = status.is_client_error() || status.is_server_error();
        if passes && self.errors.is_empty() && self.fields.is_empty() {
            return Ok(Mapped { status, body: body.clone(), complete: None });
        }
        let plain = headers.get_all(CONTENT_ENCODING).iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let text =
            std::str::from_utf8(body).ok().filter(|text| plain && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok());
        let text = text.ok_or((Unmapped::NotJson, (!passes).then_some(0.0)))?;
        let said = self.error_if.iter().find(|rule| rule.meets(text)).map(|rule| rule.status);
        if let Some(status) = said.or_else(|| passes.then_some(status)) {
            return self.error(status, text, body).map_err(|why| (why, None));
        }
        self.good(status, text, body)
    }

    fn good(&self, status: StatusCode, text: &str, body: &Bytes) -> Result<Mapped, (Unmapped, Option<f64>)> {
        let body = match self.fields.is_empty() {
            true => body.clone(),
            false => mapped(&self.fields, &self.constants, text).map_err(|why| (why, None))?.0.into(),
        };
        // What was text stays text.
        let complete = std::str::from_utf8(&body).map_or(0.0, |text| completeness(&self.required, text));
        if complete < self.complete {
            return Err((Unmapped::Incomplete, Some(complete)));
        }
        Ok(Mapped { status, body, complete: Some(complete) })
    }

    fn error(&self, status: StatusCode, text: &str, body: &Bytes) -> Result<Mapped, Unmapped> {
        if self.errors.is_empty() && self.fields.is_empty() {
            return Ok(Mapped { status, body: body.clone(), complete: None });
        }
        match mapped(&self.errors, &[], text)? {
            (_, 0) => Err(Unmapped::Shape),
            (error, _) => Ok(Mapped { status, body: error.into(), complete: None }),
        }
    }

    /// Whether bodies with this status come out as other texts.
    pub(crate) fn rewrites(&self, error: bool) -> bool {
        if error { !self.errors.is_empty() } else { !self.fields.is_empty() }
    }
}

impl ErrorIf {
    fn meets(&self, text: &str) -> bool {
        let Some(value) = json::at(text, &self.pointer).map(str::trim) else { return false };
        if self.is.is_empty() {
            return !matches!(value, "null" | "false");
        }
        let said = json::text(value);
        self.is.iter().any(|wanted| **wanted == said)
    }
}

/// The text that `fields` make of another, and how many values they found in it.
fn mapped(fields: &[(Arc<str>, Arc<str>)], constants: &[(Arc<str>, Arc<str>)], text: &str) -> Result<(String, usize), Unmapped> {
    let (mut tree, mut count) = (Node::Object(Vec::new()), 0);
    for (ours, theirs) in fields {
        let place = steps(ours);
        for Found { at, what } in find(text, &steps(theirs)) {
            let set = match what {
                What::Value(value) => {
                    count += 1;
                    tree.set(&place, &at, Node::Raw(value.trim().into()))
                }
                What::Element | What::Empty => tree.touch(&place, &at),
            };
            if !set {
                return Err(Unmapped::Shape);
            }
        }
    }
    for (place, constant) in constants {
        if !tree.set(&steps(place), &[], Node::Raw(constant.clone())) {
            return Err(Unmapped::Shape);
        }
    }
    let mut out = String::with_capacity(text.len() / 2);
    tree.write(&mut out);
    Ok((out, count))
}

/// The share of `required` that a text has: of a pointer with `*` the share of elements that have it.
fn completeness(required: &[Arc<str>], text: &str) -> f64 {
    if required.is_empty() {
        return 1.0;
    }
    required.iter().map(|pointer| share(pointer, text)).sum::<f64>() / required.len() as f64
}

fn share(pointer: &str, text: &str) -> f64 {
    let good = |what: &What<'_>| match what {
        What::Value(value) => value.trim() != "null",
        What::Element => false,
        What::Empty => true,
    };
    let there = |found: &[Found<'_>]| found.iter().filter(|found| good(&found.what)).count();
    let found = find(text, &steps(pointer));
    let Some((list, _)) = pointer.rsplit_once("/*") else { return f64::from(u8::from(there(&found) > 0)) };
    // Elements that are null have nothing, and count all the same.
    let all = find(text, &steps(&format!("{list}/*"))).iter().filter(|found| found.what != What::Element).count();
    if all == 0 { 0.0 } else { there(&found) as f64 / all as f64 }
}
