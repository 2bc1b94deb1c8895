//! Embeddings as OpenAI has them: `input` is a text, an array of texts, or token arrays; the answer names each by its `index`.
//!
//! All but `input` must be equal (model, encoding, dimensions, user ...). What the answer says of usage is split by the length of the
//! inputs, so that the members' usages sum to the whole's.
//!
//! A request whose `input` is an array of texts or of token arrays carries a list: one item for each.

use std::fmt::Write;

use bytes::Bytes;
use farthing_policy::batch::Alone;
use farthing_types::{Call, largest_remainder};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde_json::value::RawValue;

use super::format::{BatchFormat, Broken, Item, Joined, ListFormat, Part, Piece, text};
use super::headers::{is_json, of_pieces};
use super::json::{self, Object};

/// See the module.
pub struct Embeddings;

impl BatchFormat for Embeddings {
    fn part(&self, call: &Call, body: &Bytes) -> Result<Part, Alone> {
        if call.method != Method::POST {
            return Err(Alone::Method);
        }
        if !call.target.path().ends_with("/embeddings") {
            return Err(Alone::Target);
        }
        let body = json::sound(body).filter(|_| is_json(&call.headers)).ok_or(Alone::Body)?;
        let request = Object::read(body).ok_or(Alone::Body)?;
        let (kind, units, inputs) = request.get("input").and_then(|input| inputs(input.get())).ok_or(Alone::Body)?;
        let mut rest: Vec<_> = request.0.iter().filter(|(name, _)| name != "input").collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        let mut group = format!("{} {kind}", call.target);
        for (name, value) in rest {
            let _ = write!(group, ",{}:{}", json::string(name), value.get());
        }
        let weight = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        Ok(Part { group, text: inputs, units, weight, repeatable: false })
    }

    fn join(&self, first: &Call, parts: &[&Part]) -> Option<Joined> {
        let body = first.body.as_full()?;
        let request = Object::read(std::str::from_utf8(&body).ok()?)?;
        let inputs: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
        let mut joined = format!("{{\"input\":[{}]", inputs.join(","));
        for (name, value) in request.0.iter().filter(|(name, _)| name != "input") {
            let _ = write!(joined, ",{}:{}", json::string(name), value.get());
        }
        joined.push('}');
        Some(Joined { method: Method::POST, target: first.target.clone(), body: Some(joined.into()) })
    }

    fn split(&self, parts: &[&Part], headers: &HeaderMap, body: &Bytes) -> Result<Vec<Piece>, Broken> {
        let answer = Object::read(text(body)?).ok_or_else(|| Broken::new("the answer is no JSON object"))?;
        let all =
            answer.get("data").and_then(|data| json::elements(data.get())).ok_or_else(|| Broken::new("the answer has no array `data`"))?;
        let units: usize = parts.iter().map(|part| part.units as usize).sum();
        let ordered = by_index(all, units)?;
        let weights: Vec<u32> = parts.iter().map(|part| part.weight).collect();
        let usage = answer.get("usage").and_then(|usage| Usage::read(usage.get(), &weights));
        let mut headers = of_pieces(headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut rest = ordered.as_slice();
        let mut pieces = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let (own, others) = rest.split_at_checked(part.units as usize).ok_or_else(|| Broken::new("too few embeddings"))?;
            rest = others;
            let body = one(&answer, own, usage.as_ref().map(|usage| usage.of(index))).into();
            pieces.push(Piece { status: StatusCode::OK, headers: headers.clone(), body, concluded: false });
        }
        Ok(pieces)
    }

    fn lists(&self) -> Option<&dyn ListFormat> {
        Some(self)
    }
}

impl ListFormat for Embeddings {
    fn items(&self, method: &Method, request: &Item) -> Option<Vec<Item>> {
        if method != Method::POST || !request.target.path().ends_with("/embeddings") {
            return None;
        }
        let body = std::str::from_utf8(&request.body).ok()?;
        let object = Object::read(body)?;
        // What comes as a stream of events has another shape.
        if object.get("stream").is_some_and(|stream| stream.get() != "false") {
            return None;
        }
        let input = object.get("input")?.get();
        let (_, units, _) = inputs(input)?;
        let elements = json::elements(input)?;
        // One array of tokens is one input.
        if elements.len() != units as usize || elements.first()?.get().starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        elements.into_iter().map(|element| with_input(request, element.get())).collect()
    }

    fn only(&self, request: &Item, items: &[&Item]) -> Option<Item> {
        let mut inputs = Vec::with_capacity(items.len());
        for item in items {
            let object = Object::read(std::str::from_utf8(&item.body).ok()?)?;
            inputs.push(object.get("input")?.get());
        }
        with_input(request, &format!("[{}]", inputs.join(",")))
    }

    fn assemble(&self, answers: &[Bytes]) -> Result<Bytes, Broken> {
        let mut all = Vec::with_capacity(answers.len());
        for body in answers {
            all.push(Object::read(text(body)?).ok_or_else(|| Broken::new("an answer is no JSON object"))?);
        }
        let first = all.first().ok_or_else(|| Broken::new("there are no answers"))?;
        let mut data = Vec::with_capacity(all.len());
        for answer in &all {
            if kind(answer) != kind(first) {
                return Err(Broken::new("the answers differ in more than their embeddings"));
            }
            let own = answer.get("data").and_then(|data| json::elements(data.get()));
            let [own] = own.as_deref().unwrap_or_default() else { return Err(Broken::new("an answer has not one embedding")) };
            data.push(Object::read(own.get()).ok_or_else(|| Broken::new("an embedding is no object"))?);
        }
        Ok(one(first, &data, summed(&all)).into())
    }
}

/// The request with another input, and else byte by byte as it was.
fn with_input(request: &Item, input: &str) -> Option<Item> {
    let body = std::str::from_utf8(&request.body).ok()?;
    let old = Object::read(body)?.get("input")?.get();
    let start = (old.as_ptr() as usize).checked_sub(body.as_ptr() as usize)?;
    let (before, after) = (body.get(..start)?, body.get(start + old.len()..)?);
    Some(Item { target: request.target.clone(), body: format!("{before}{input}{after}").into() })
}

/// Members that say which answer it is, and nothing of what is answered.
const OF_ONE: [&str; 4] = ["data", "usage", "id", "created"];

/// What answers must have in common to stand in one: all but the embeddings, what they used, and which answer it was.
fn kind<'a>(answer: &'a Object<'_>) -> Vec<(&'a str, &'a str)> {
    let told = answer.0.iter().filter(|(name, _)| !OF_ONE.contains(&&**name));
    let mut told: Vec<_> = told.map(|(name, value)| (&**name, value.get())).collect();
    told.sort_unstable();
    told
}

/// The usage of all together: what each answer counts in whole numbers. What one of them does not tell is left out, because the sum is not known.
fn summed(answers: &[Object<'_>]) -> Option<String> {
    let usages: Vec<Object<'_>> = answers.iter().map(|answer| Object::read(answer.get("usage")?.get())).collect::<Option<_>>()?;
    let sum = |name: &str| {
        usages.iter().try_fold(0i64, |sum, usage| usage.get(name)?.get().parse().ok().and_then(|count: i64| sum.checked_add(count)))
    };
    let members = usages.first()?.0.iter().filter_map(|(name, _)| Some(format!("{}:{}", json::string(name), sum(name)?)));
    Some(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
}

/// What an input consists of: its kind, how many inputs it is, and their text without the brackets around them.
fn inputs(input: &str) -> Option<(&'static str, u32, String)> {
    if input.starts_with('"') {
        return Some(("texts", 1, input.to_owned()));
    }
    let elements = json::elements(input)?;
    let all = |start: fn(u8) -> bool| elements.iter().all(|element| element.get().bytes().next().is_some_and(start));
    let count = u32::try_from(elements.len()).ok().filter(|count| *count > 0)?;
    if all(|b| b.is_ascii_digit()) {
        return Some(("tokens", 1, input.to_owned()));
    }
    let kind = if all(|b| b == b'"') {
        "texts"
    } else if all(|b| b == b'[') {
        "tokens"
    } else {
        return None;
    };
    let texts: Vec<&str> = elements.iter().map(|element| element.get()).collect();
    Some((kind, count, texts.join(",")))
}

/// The embeddings in the order of their indexes, each of which must be there once.
fn by_index(all: Vec<&RawValue>, units: usize) -> Result<Vec<Object<'_>>, Broken> {
    let mut ordered: Vec<Option<Object<'_>>> = Vec::new();
    ordered.resize_with(units, || None);
    for embedding in all {
        let embedding = Object::read(embedding.get()).ok_or_else(|| Broken::new("an embedding is no object"))?;
        let index = embedding.get("index").and_then(|index| index.get().parse::<usize>().ok());
        let place = index.and_then(|index| ordered.get_mut(index)).ok_or_else(|| Broken::new("an index that was not asked for"))?;
        if place.replace(embedding).is_some() {
            return Err(Broken::new("two embeddings with one index"));
        }
    }
    ordered.into_iter().collect::<Option<_>>().ok_or_else(|| Broken::new("an index without its embedding"))
}

/// The answer to one call: what the whole says, with its own embeddings under its own indexes and its share of usage.
fn one(answer: &Object<'_>, own: &[Object<'_>], usage: Option<String>) -> String {
    let member = |(name, value): &(String, &RawValue)| match &**name {
        "data" => Some(format!("\"data\":[{}]", renumbered(own).join(","))),
        "usage" => usage.as_ref().map(|usage| format!("\"usage\":{usage}")),
        _ => Some(format!("{}:{}", json::string(name), value.get())),
    };
    format!("{{{}}}", answer.0.iter().filter_map(member).collect::<Vec<_>>().join(","))
}

fn renumbered(own: &[Object<'_>]) -> Vec<String> {
    let one = |(index, embedding): (usize, &Object<'_>)| {
        let members: Vec<String> = embedding
            .0
            .iter()
            .map(|(name, value)| match &**name {
                "index" => format!("\"index\":{index}"),
                _ => format!("{}:{}", json::string(name), value.get()),
            })
            .collect();
        format!("{{{}}}", members.join(","))
    };
    own.iter().enumerate().map(one).collect()
}

/// Usage by member: of what is counted in whole numbers. What is not is left out, because nobody's share of it is known.
struct Usage(Vec<(String, Vec<i64>)>);

impl Usage {
    fn read(whole: &str, weights: &[u32]) -> Option<Self> {
        let shares = |(name, count): (String, &RawValue)| Some((name, largest_remainder(count.get().parse().ok()?, weights)));
        Some(Self(Object::read(whole)?.0.into_iter().filter_map(shares).collect()))
    }

    fn of(&self, index: usize) -> String {
        let share = |(name, shares): &(String, Vec<i64>)| Some(format!("{}:{}", json::string(name), shares.get(index)?));
        format!("{{{}}}", self.0.iter().filter_map(share).collect::<Vec<_>>().join(","))
    }
}
