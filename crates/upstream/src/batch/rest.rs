//! The envelope `{"requests":[{"id","method","url","body"}]}`, answered by `{"responses":[{"id","status","headers","body"}]}`.
//!
//! Ids are ours and are checked: an answer that lacks one, has one twice, or has one that was not asked for is of no use to anybody.

use std::fmt::Write;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::Call;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::format::{BatchFormat, Broken, Joined, Part, Piece, slice, text};
use super::headers::{is_json, is_plain_json, of_envelope};
use super::json::{self, Object};

/// See the module.
pub struct Rest {
    /// Where batches are posted.
    pub target: Uri,
}

impl BatchFormat for Rest {
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone> {
        if !matches!(call.method, Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE) {
            return Err(Alone::Method);
        }
        let url = call.target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut part = format!("\"method\":{},\"url\":{}", json::string(call.method.as_str()), json::string(url));
        if !body.is_empty() {
            let body = json::sound(body).filter(|_| is_plain_json(&call.headers)).ok_or(Alone::Body)?;
            let _ = write!(part, ",\"body\":{}", body.trim());
        }
        Ok(Part::equal(String::new(), part))
    }

    fn join(&self, _first: &Call, parts: &[&Part]) -> Option<Joined> {
        let mut body = String::from("{\"requests\":[");
        for (index, part) in parts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let _ = write!(body, "{comma}{{\"id\":\"{index}\",{}}}", part.text);
        }
        body.push_str("]}");
        Some(Joined { method: Method::POST, target: self.target.clone(), body: Some(body.into()) })
    }

    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken> {
        let answer = Object::read(text(body)?).ok_or_else(|| Broken::new("the answer is no JSON object"))?;
        let responses = answer.get("responses").and_then(|responses| json::elements(responses.get()));
        let responses = responses.ok_or_else(|| Broken::new("the answer has no array `responses`"))?;
        let mut pieces: Vec<Option<Piece>> = vec![None; parts.len()];
        for response in responses {
            let response = Object::read(response.get()).ok_or_else(|| Broken::new("a response is no object"))?;
            let id = response.get("id").and_then(|id| json::id(id.get())).ok_or_else(|| Broken::new("a response has no id"))?;
            // The number as we write it and no other: `01` was not asked for.
            let index = id.parse::<usize>().ok().filter(|index| index.to_string() == id);
            let place = index.and_then(|index| pieces.get_mut(index)).ok_or_else(|| Broken::new("a response to what was not asked for"))?;
            if place.replace(piece(&response, headers, body)?).is_some() {
                return Err(Broken::new("two responses to one request"));
            }
        }
        pieces.into_iter().collect::<Option<_>>().ok_or_else(|| Broken::new("a request without a response"))
    }
}

fn piece(response: &Object<'_>, outer: &HeaderMap, whole: &Bytes) -> Result<Piece, Broken> {
    let status = response.get("status").and_then(|status| status.get().parse::<u16>().ok()).filter(|status| *status >= 200);
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).ok_or_else(|| Broken::new("a response without a status"))?;
    let mut headers = of_envelope(outer);
    if let Some(own) = response.get("headers").filter(|own| own.get() != "null") {
        fields(own.get(), &mut headers)?;
    }
    let body = match response.get("body").map(|body| body.get()).filter(|body| *body != "null") {
        None => Bytes::new(),
        // Of another type than JSON it can only be a text.
        Some(body) if body.starts_with('"') && headers.contains_key(CONTENT_TYPE) && !is_json(&headers) => {
            serde_json::from_str::<String>(body).map_err(|_| Broken::new("a body is no text"))?.into()
        }
        Some(body) => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            slice(whole, body)
        }
    };
    Ok(Piece { status, headers, body, concluded: false })
}

/// Reads the headers of a response; those of a connection or of a length say nothing any more.
fn fields(text: &str, headers: &mut HeaderMap) -> Result<(), Broken> {
    let broken = || Broken::new("the headers of a response cannot be read");
    for (name, value) in Object::read(text).ok_or_else(broken)?.0 {
        let name: HeaderName = name.parse().map_err(|_| broken())?;
        let value = json::id(value.get()).and_then(|value| HeaderValue::from_str(&value).ok()).ok_or_else(broken)?;
        if !matches!(name.as_str(), "content-length" | "content-encoding" | "trailer") && !crate::is_hop_by_hop(&name) {
            headers.append(name, value);
        }
    }
    Ok(())
}
