//! Asks for usage in a stream where the client did not, changing nothing else of the request.

use super::scan::{Path, Scan, Take};

const ASK: &str = "\"stream_options\":{\"include_usage\":true}";

/// The body with `stream_options.include_usage = true`; `None` when it is no JSON object, already asks, or says something of
/// `stream_options` that is not understood. All other bytes stay as they are.
pub fn with_usage(body: &[u8]) -> Option<Vec<u8>> {
    let place = place(body)?;
    let mut out = Vec::with_capacity(body.len() + ASK.len() + 1);
    let (at, skip, text) = place;
    out.extend_from_slice(body.get(..at)?);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(body.get(at + skip..)?);
    Some(out)
}

/// Where to write what, over how many bytes.
fn place(body: &[u8]) -> Option<(usize, usize, String)> {
    let value: &serde_json::value::RawValue = serde_json::from_slice(body).ok()?;
    let start = body.iter().position(|byte| *byte == b'{')?;
    let mut options = None;
    let wanted = [Path::keys(&["stream_options"], Take::Text)];
    Scan::new(wanted.into()).push(value.get().as_bytes(), &mut |_, text| options = Some(text.to_vec()));
    let Some(options) = options else {
        let empty = body.get(start + 1..)?.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
        return Some((start + 1, 0, format!("{ASK}{}", if empty { "" } else { "," })));
    };
    // The scanner drops white space outside of strings, so the value is looked for by its key.
    let (at, len) = value_of(body, "stream_options")?;
    let told: serde_json::Value = serde_json::from_slice(&options).ok()?;
    match told {
        serde_json::Value::Null => Some((at, len, "{\"include_usage\":true}".to_owned())),
        serde_json::Value::Object(map) => match map.get("include_usage") {
            Some(serde_json::Value::Bool(true)) => None,
            Some(_) => {
                let (inner, len) = value_of(body.get(at..at + len)?, "include_usage")?;
                Some((at + inner, len, "true".to_owned()))
            }
            None => Some((at + 1, 0, format!("\"include_usage\":true{}", if map.is_empty() { "" } else { "," }))),
        },
        _ => None,
    }
}

/// Where the value of a key of the outermost object stands, and how long it is.
fn value_of(object: &[u8], key: &str) -> Option<(usize, usize)> {
    let map: std::collections::BTreeMap<std::borrow::Cow<'_, str>, &serde_json::value::RawValue> = serde_json::from_slice(object).ok()?;
    let value = map.get(key)?.get();
    // The borrowed text lies within `object`.
    let at = (value.as_ptr() as usize).checked_sub(object.as_ptr() as usize)?;
    (at + value.len() <= object.len()).then_some((at, value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(body: &str) -> Option<String> {
        with_usage(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
    }

    #[test]
    fn one_member_is_added_and_all_else_stays() {
        for (body, asked) in [
            ("{\"model\": \"m\"}", "{\"stream_options\":{\"include_usage\":true},\"model\": \"m\"}"),
            (" { } ", " {\"stream_options\":{\"include_usage\":true} } "),
            ("{\"stream_options\": null,\"a\":1}", "{\"stream_options\": {\"include_usage\":true},\"a\":1}"),
            ("{\"stream_options\":{ \"x\": 1 }}", "{\"stream_options\":{\"include_usage\":true, \"x\": 1 }}"),
            ("{\"stream_options\":{ }}", "{\"stream_options\":{\"include_usage\":true }}"),
            (
                "{\"a\":\"\\\"stream_options\\\"\",\"stream_options\":{\"include_usage\" : false},\"b\":[ 1 ]}",
                "{\"a\":\"\\\"stream_options\\\"\",\"stream_options\":{\"include_usage\" : true},\"b\":[ 1 ]}",
            ),
        ] {
            assert_eq!(with(body).as_deref(), Some(asked), "{body}");
            let facts = super::super::RequestFacts::read(asked.as_bytes());
            assert_eq!(facts.include_usage, Some(true), "{asked}");
        }
    }

    #[test]
    fn what_asks_already_or_is_not_understood_stays() {
        for body in ["", "[]", "{\"a\":", "not json", "{\"stream_options\":{\"include_usage\":true}}", "{\"stream_options\":[1]}"] {
            assert_eq!(with(body), None, "{body}");
        }
    }
}
