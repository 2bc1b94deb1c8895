//! JSON taken apart without changing a byte of what is handed on.

use std::fmt;

use farthing_types::json::Sound;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in their order, each with its bytes. An object that names a member twice is refused: readers differ in which of
/// the two they take.
pub struct Object<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object; `None` when the text is none.
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.iter().any(|(other, _)| *other == name) {
                        return Err(A::Error::custom("a member is named twice"));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A body as a text that may go into a body with those of others; `None` where a reader could refuse it, and the others with it.
pub fn sound(body: &[u8]) -> Option<&str> {
    serde_json::from_slice::<Sound>(body).ok().and_then(|Sound| std::str::from_utf8(body).ok())
}

/// The elements of an array; `None` when the text is none.
pub fn elements(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// The value that a JSON pointer (RFC 6901) names.
pub fn at<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut value = text;
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        value = match value.trim_start().as_bytes().first()? {
            b'{' => Object::read(value)?.get(&segment)?.get(),
            b'[' => elements(value)?.get(segment.parse::<usize>().ok()?)?.get(),
            _ => return None,
        };
    }
    Some(value)
}

/// The text that a string or an integer stands for: what an id is compared by.
pub fn id(value: &str) -> Option<String> {
    if value.starts_with('"') {
        return serde_json::from_str(value).ok();
    }
    let digits = value.strip_prefix('-').unwrap_or(value);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| value.to_owned())
}

/// The text that a string, a number or a flag stands for; any other value stands for its own text.
pub fn text(value: &str) -> String {
    if value.starts_with('"') { serde_json::from_str(value).unwrap_or_default() } else { value.to_owned() }
}

/// A text as a JSON string.
pub fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_reader_could_refuse_is_not_sound() {
        assert_eq!(sound(b" [1] "), Some(" [1] "));
        for body in ["[1", "\"\\ud800\"", "{\"a\":{\"\\udfff\":1}}", &("[".repeat(1_000) + &"]".repeat(1_000))] {
            assert_eq!(sound(body.as_bytes()), None, "{body}");
        }
        assert_eq!(sound(b"\"caf\xe9\""), None);
    }

    #[test]
    fn bytes_stay_as_they_are_and_doubles_are_refused() {
        let object = Object::read(r#"{"b": 1.500, "a" : [ 1,2 ]}"#).unwrap();
        assert_eq!((object.get("b").unwrap().get(), object.get("a").unwrap().get(), object.0.len()), ("1.500", "[ 1,2 ]", 2));
        assert!(Object::read(r#"{"a":1,"a":2}"#).is_none());
        assert!(Object::read("[]").is_none() && elements("{}").is_none());
    }

    #[test]
    fn pointers_lead_into_objects_and_arrays() {
        let text = r#"{"data": {"items": [{"a/b": 1}, {"a/b": 2.0}]}}"#;
        assert_eq!(at(text, "/data/items/1/a~1b"), Some("2.0"));
        assert_eq!(at(text, ""), Some(text));
        assert_eq!((at(text, "/data/other"), at(text, "/data/items/7"), at("3", "/a")), (None, None, None));
    }

    #[test]
    fn ids_are_texts_and_integers() {
        assert_eq!((id("\"a\\u0062\"").as_deref(), id("-17").as_deref()), (Some("ab"), Some("-17")));
        for none in ["1.0", "true", "null", "[1]", "-", ""] {
            assert_eq!(id(none), None, "{none}");
        }
    }
}
