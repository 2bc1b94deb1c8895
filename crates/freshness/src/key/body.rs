//! The request body in the key.

use std::hash::Hasher;
use std::ops::Range;

use serde_json::value::RawValue;
use siphasher::sip128::SipHasher13;

use super::{BodyKey, field};

/// Bodies up to this size are hashed as they are; longer ones through a blake3 digest, which is faster there.
const SHORT: usize = 1024;
/// Nesting beyond this is hashed byte by byte.
const DEEPEST: usize = 64;

pub(super) fn hash(hash: &mut SipHasher13, how: BodyKey, body: &[u8], salt: &[u8; 16]) {
    match how {
        BodyKey::Ignored => hash.write(b"-"),
        BodyKey::Exact => bytes(hash, b'x', body, salt),
        BodyKey::CanonicalJson => match canonical(body) {
            Some(text) => bytes(hash, b'j', &text, salt),
            None => bytes(hash, b'x', body, salt),
        },
    }
}

fn bytes(hash: &mut SipHasher13, form: u8, body: &[u8], salt: &[u8; 16]) {
    hash.write(&[form]);
    hash.write_u64(body.len() as u64);
    if body.len() <= SHORT {
        field(hash, body);
        return;
    }
    let mut key = [0u8; 32];
    key[..16].copy_from_slice(salt);
    hash.write(blake3::keyed_hash(&key, body).as_bytes());
}

/// The JSON text with sorted members and without white space between tokens. Strings and numbers keep their spelling: no
/// number is rounded. `None` for what is not JSON, has a member twice, or is nested too deeply.
fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    // Most requests have none, and an error costs more than the whole key.
    if body.is_empty() {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(body).ok()?;
    let mut writer = Writer { text: value.get(), at: 0, out: Vec::with_capacity(body.len()) };
    writer.value(0)?;
    Some(writer.out)
}

/// Goes once through a text that is JSON, however deeply it is nested.
struct Writer<'a> {
    text: &'a str,
    at: usize,
    out: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// The text of the string, number or word that begins here.
    fn leaf(&mut self) -> &'a str {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let length = if rest.first() == Some(&b'"') {
            let mut escaped = false;
            let end = rest.iter().skip(1).position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else {
            let ends = |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}') || byte.is_ascii_whitespace();
            rest.iter().position(ends).unwrap_or(rest.len())
        };
        let from = self.at;
        self.at += length;
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match self.next()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            _ => {
                let leaf = self.leaf();
                self.out.extend_from_slice(leaf.as_bytes());
                Some(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push(b'[');
        loop {
            match self.next()? {
                b']' => break,
                b',' => self.at += 1,
                _ => {
                    self.value(depth + 1)?;
                    self.out.push(b',');
                }
            }
        }
        self.at += 1;
        self.out.push(b']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push(b'{');
        let begin = self.out.len();
        let mut members: Vec<(String, Range<usize>)> = Vec::new();
        loop {
            match self.next()? {
                b'}' => break,
                b',' => self.at += 1,
                _ => members.push(self.member(begin, depth)?),
            }
        }
        self.at += 1;
        if !members.is_sorted_by(|a, b| a.0 < b.0) {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            if !members.is_sorted_by(|a, b| a.0 < b.0) {
                return None; // a member comes twice
            }
            let written = self.out.split_off(begin);
            members.iter().for_each(|(_, place)| self.out.extend_from_slice(written.get(place.clone()).unwrap_or_default()));
        }
        self.out.push(b'}');
        Some(())
    }

    /// Writes a member; its name, and where in its object it stands.
    fn member(&mut self, begin: usize, depth: usize) -> Option<(String, Range<usize>)> {
        let from = self.out.len() - begin;
        // Names are compared decoded, so that two spellings of one name are seen as a duplicate.
        let name: String = serde_json::from_str(self.leaf()).ok()?;
        self.out.extend_from_slice(serde_json::Value::from(name.as_str()).to_string().as_bytes());
        self.out.push(b':');
        if self.next()? != b':' {
            return None;
        }
        self.at += 1;
        self.value(depth + 1)?;
        self.out.push(b',');
        Some((name, from..self.out.len() - begin))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The same by parsing each level by itself.
    fn level(value: &RawValue, depth: usize) -> Option<String> {
        let text = value.get();
        let all = |of: Vec<String>| of.into_iter().map(|one| one + ",").collect::<String>();
        match text.as_bytes()[0] {
            _ if depth > DEEPEST => None,
            b'{' => {
                let members: Vec<(String, Box<RawValue>)> = serde_json::from_str::<Members>(text).ok()?.0;
                let count = members.len();
                let sorted: BTreeMap<_, _> = members.into_iter().collect();
                let name = |name: &String| serde_json::Value::from(name.as_str());
                let write = sorted.iter().map(|(of, value)| Some(format!("{}:{}", name(of), level(value, depth + 1)?)));
                (sorted.len() == count).then_some(())?;
                Some(format!("{{{}}}", all(write.collect::<Option<_>>()?)))
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                Some(format!("[{}]", all(items.iter().map(|item| level(item, depth + 1)).collect::<Option<_>>()?)))
            }
            _ => Some(text.to_owned()),
        }
    }

    struct Members(Vec<(String, Box<RawValue>)>);

    impl<'de> serde::Deserialize<'de> for Members {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Members;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let space = || prop::sample::select(vec!["", " ", "\n\t"]);
        let words = vec!["null", "true", "-1.50e+3", "0", "1E400", r#""a\"b\\""#, r#""}],:{[""#, r#""\u00e9 é""#, "\"\""];
        let leaf = (space(), prop::sample::select(words), space()).prop_map(|(a, word, b)| format!("{a}{word}{b}"));
        leaf.prop_recursive(5, 40, 5, move |inner| {
            let names = prop::sample::select(vec![r#""a""#, r#""b""#, r#""\u0061""#, r#""z\"""#, r#""é""#, r#""""#, r#""ab""#]);
            let member = (space(), names, space(), inner.clone()).prop_map(|(a, name, b, value)| format!("{a}{name}{b}:{value}"));
            prop_oneof![
                (prop::collection::vec(inner, 0..5), space()).prop_map(|(items, a)| format!("[{}{a}]", items.join(","))),
                (prop::collection::vec(member, 0..4), space()).prop_map(|(members, a)| format!("{{{}{a}}}", members.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn one_way_through_writes_what_each_level_by_itself_gives(text in json()) {
            let value: &RawValue = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(canonical(text.as_bytes()), level(value, 0).map(String::into_bytes));
        }
    }

    #[test]
    fn what_is_nested_too_deeply_has_no_form() {
        for (depth, has) in [(DEEPEST, true), (DEEPEST + 1, false)] {
            let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(canonical(text.as_bytes()).is_some(), has, "{depth}");
        }
        for text in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, "{", "nul", "[1,]"] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
    }
}
