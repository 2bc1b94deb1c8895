//! GraphQL: an array of requests where the server takes one, else one query with the fields of all.
//!
//! Queries only, and only such of which it is proved that they answer the same beside others. A query changes nothing, so it may be made
//! again like a GET. Errors go to whom their path names; an error of the whole makes every member go alone.

use std::fmt::Write;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::Call;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde_json::value::RawValue;

use super::format::{BatchFormat, Broken, Joined, Part, Piece, slice, text};
use super::graphql_query::{PREFIX, only_reads, pieces};
use super::headers::{is_json, of_pieces};
use super::json::{self, Object};

/// Between the pieces of a merged query within a part.
const BORDER: char = '\u{2}';

/// An array of requests, answered by an array in their order.
pub struct GraphqlArray;

/// One query with the fields of all, each under a name of its own.
pub struct GraphqlMerge;

/// A request as it is posted.
struct Posted<'a> {
    query: String,
    operation: Option<String>,
    variables: Option<&'a RawValue>,
    /// Members beside those of the specification.
    others: bool,
}

impl<'a> Posted<'a> {
    fn read(call: &Call, body: &'a Bytes) -> Result<Self, Alone> {
        if call.method != Method::POST {
            return Err(Alone::Method);
        }
        let body = json::sound(body).filter(|_| is_json(&call.headers)).ok_or(Alone::Body)?;
        let request = Object::read(body).ok_or(Alone::Body)?;
        let given = |name: &str| request.get(name).filter(|value| value.get() != "null");
        let texts = |name: &str| given(name).map(|value| serde_json::from_str::<String>(value.get()).map_err(|_| Alone::Body)).transpose();
        let known = ["query", "operationName", "variables"];
        Ok(Self {
            query: texts("query")?.ok_or(Alone::Body)?,
            operation: texts("operationName")?,
            variables: given("variables"),
            others: request.0.iter().any(|(name, _)| !known.contains(&&**name)),
        })
    }
}

fn part(call: &Call, text: String) -> Part {
    Part { repeatable: true, ..Part::equal(call.target.to_string(), text) }
}

fn posted(first: &Call, body: String) -> Option<Joined> {
    Some(Joined { method: Method::POST, target: first.target.clone(), body: Some(body.into()) })
}

fn answered(headers: &HeaderMap) -> HeaderMap {
    let mut headers = of_pieces(headers);
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    headers
}

impl BatchFormat for GraphqlArray {
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone> {
        let request = Posted::read(call, body)?;
        if !only_reads(&request.query) {
            return Err(Alone::Body);
        }
        let body = std::str::from_utf8(body).map_err(|_| Alone::Body)?;
        Ok(part(call, body.trim().to_owned()))
    }

    fn join(&self, first: &Call, parts: &[&Part]) -> Option<Joined> {
        let requests: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
        posted(first, format!("[{}]", requests.join(",")))
    }

    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken> {
        let answers = json::elements(text(body)?).ok_or_else(|| Broken::new("the answer is no array"))?;
        if answers.len() != parts.len() {
            return Err(Broken::new("not as many answers as requests"));
        }
        let headers = answered(headers);
        let piece = |answer: &RawValue| {
            let read = Object::read(answer.get()).filter(|read| read.get("data").is_some() || read.get("errors").is_some());
            read.ok_or_else(|| Broken::new("an answer without data and errors"))?;
            Ok(Piece { status: StatusCode::OK, headers: headers.clone(), body: slice(body, answer.get()), concluded: false })
        };
        answers.into_iter().map(piece).collect()
    }
}

impl BatchFormat for GraphqlMerge {
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone> {
        let request = Posted::read(call, body)?;
        let pieces = pieces(&request.query, request.operation.as_deref()).filter(|_| !request.others).ok_or(Alone::Body)?;
        let values = match request.variables {
            Some(values) => Object::read(values.get()).ok_or(Alone::Body)?.0,
            None => Vec::new(),
        };
        let mut given = String::new();
        for (name, value) in values {
            // Names have a form in which they cannot be taken for anything else.
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(Alone::Body);
            }
            let _ = write!(given, "{}\"{PREFIX}{name}\":{}", if given.is_empty() { "" } else { "," }, value.get());
        }
        let texts = [pieces.variables, pieces.selections, pieces.fragments, given];
        if texts.iter().any(|text| text.contains(BORDER)) {
            return Err(Alone::Body);
        }
        Ok(part(call, texts.join(&BORDER.to_string())))
    }

    fn join(&self, first: &Call, parts: &[&Part]) -> Option<Joined> {
        let (mut declared, mut selected, mut fragments, mut given) = (String::new(), String::new(), String::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let own = part.text.replace(PREFIX, &prefix(index));
            let [variables, selections, of_part, values] = own.split(BORDER).collect::<Vec<_>>().try_into().ok()?;
            // A line of its own for each: a comment ends with it.
            for (all, one) in [(&mut declared, variables), (&mut selected, selections), (&mut fragments, of_part)] {
                if !one.is_empty() {
                    let _ = writeln!(all, "{one}");
                }
            }
            given.extend((!values.is_empty()).then(|| values.to_owned()));
        }
        let declared = if declared.trim().is_empty() { String::new() } else { format!("({declared})") };
        let query = json::string(&format!("query{declared}{{\n{selected}}}\n{fragments}"));
        posted(first, format!("{{\"query\":{query},\"variables\":{{{}}}}}", given.join(",")))
    }

    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken> {
        let answer = Object::read(text(body)?).ok_or_else(|| Broken::new("the answer is no JSON object"))?;
        // Null data is everybody's loss for one member's error, and no data is an error of the whole query.
        let data = answer.get("data").and_then(|data| Object::read(data.get())).ok_or_else(|| Broken::new("the answer has no data"))?;
        let mut own: Vec<(String, Vec<String>)> = vec![(String::new(), Vec::new()); parts.len()];
        for (key, value) in &data.0 {
            let (index, name) = unprefixed(key).ok_or_else(|| Broken::new("data that was not asked for"))?;
            let (fields, _) = own.get_mut(index).ok_or_else(|| Broken::new("data that was not asked for"))?;
            let _ = write!(fields, "{}{}:{}", if fields.is_empty() { "" } else { "," }, json::string(name), value.get());
        }
        let errors = match answer.get("errors").filter(|errors| errors.get() != "null") {
            Some(errors) => json::elements(errors.get()).ok_or_else(|| Broken::new("errors that are no array"))?,
            None => Vec::new(),
        };
        for error in errors {
            let (index, error) = own_error(error.get()).ok_or_else(|| Broken::new("an error that names nobody"))?;
            own.get_mut(index).ok_or_else(|| Broken::new("an error that names nobody"))?.1.push(error);
        }
        let headers = answered(headers);
        let piece = |(fields, errors): (String, Vec<String>)| {
            let errors = if errors.is_empty() { String::new() } else { format!("\"errors\":[{}],", errors.join(",")) };
            let body = format!("{{{errors}\"data\":{{{fields}}}}}").into();
            Piece { status: StatusCode::OK, headers: headers.clone(), body, concluded: false }
        };
        Ok(own.into_iter().map(piece).collect())
    }
}

fn prefix(index: usize) -> String {
    format!("m{index}_")
}

/// Whose a key is, and what it was before.
fn unprefixed(key: &str) -> Option<(usize, &str)> {
    let (index, name) = key.strip_prefix('m')?.split_once('_')?;
    let index = index.parse().ok().filter(|number: &usize| number.to_string() == index)?;
    Some((index, name))
}

/// Whose an error is, and what it would be alone: with its own path, and without places in a text that the client never saw.
fn own_error(error: &str) -> Option<(usize, String)> {
    let error = Object::read(error)?;
    let path = json::elements(error.get("path")?.get())?;
    let key: String = serde_json::from_str(path.first()?.get()).ok()?;
    let (index, name) = unprefixed(&key)?;
    let rest: String = path.iter().skip(1).fold(String::new(), |all, step| all + "," + step.get());
    let member = |(label, value): &(String, &RawValue)| match &**label {
        "locations" => None,
        "path" => Some(format!("\"path\":[{}{rest}]", json::string(name))),
        _ => Some(format!("{}:{}", json::string(label), value.get())),
    };
    Some((index, format!("{{{}}}", error.0.iter().filter_map(member).collect::<Vec<_>>().join(","))))
}
