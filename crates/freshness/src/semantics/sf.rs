//! Structured Fields (RFC 8941, RFC 9651), as far as fields about caching need them: dictionaries, and lists of strings.

use http::{HeaderMap, HeaderName};

/// Members that are kept of a dictionary; a longer one is read to its end for its syntax only.
const MAX_MEMBERS: usize = 64;

/// A value of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A Boolean; also a member of a dictionary without a value.
    Flag(bool),
    /// An Integer.
    Integer(i64),
    /// A String.
    Text(String),
    /// Any other type; nothing that we read has it.
    Other,
}

/// The members of a field that is a dictionary; `None` where there is no such field, or it is not valid.
pub(super) fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<(String, Value)>> {
    Reader(joined(headers, name)?.as_bytes()).dictionary()
}

/// The strings of a field that is a list of strings, in their order. Empty where there is no such field, it is not valid, or has a member
/// of another type: such a field counts as absent as a whole (RFC 9651 section 4.2).
pub fn strings(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    joined(headers, name).and_then(|text| Reader(text.as_bytes()).strings()).unwrap_or_default()
}

/// The lines of a field as one text; `None` where there are none, or they are no ASCII.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = headers.get_all(name).iter();
    let mut text = lines.next()?.to_str().ok()?.to_owned();
    for line in lines {
        text.push(',');
        text.push_str(line.to_str().ok()?);
    }
    Some(text)
}

/// A reader of the grammar; `None` anywhere makes the whole field invalid.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn dictionary(mut self) -> Option<Vec<(String, Value)>> {
        let mut members: Vec<(String, Value)> = Vec::new();
        self.members(|reader| {
            let (name, value) = reader.member()?;
            // What comes twice counts as it comes last.
            members.retain(|(other, _)| *other != name);
            if members.len() < MAX_MEMBERS {
                members.push((name, value));
            }
            Some(())
        })?;
        Some(members)
    }

    fn strings(mut self) -> Option<Vec<String>> {
        let mut out = Vec::new();
        self.members(|reader| {
            let Value::Text(text) = reader.item_or_list()? else { return None };
            reader.parameters()?;
            out.push(text);
            Some(())
        })?;
        Some(out)
    }

    /// Reads members between commas, to the end.
    fn members(&mut self, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.skip(b" ");
        while !self.0.is_empty() {
            one(self)?;
            self.skip(b" \t");
            if self.0.is_empty() {
                break;
            }
            self.expect(b',')?;
            self.skip(b" \t");
            if self.0.is_empty() {
                return None;
            }
        }
        Some(())
    }

    fn member(&mut self) -> Option<(String, Value)> {
        let name = self.key()?;
        let value = if self.eat(b'=') { self.item_or_list()? } else { Value::Flag(true) };
        self.parameters()?;
        Some((name, value))
    }

    fn item_or_list(&mut self) -> Option<Value> {
        if !self.eat(b'(') {
            return self.item();
        }
        loop {
            self.skip(b" ");
            if self.eat(b')') {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.peek()?, b' ' | b')') {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Value> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string().map(Value::Text),
            b'*' | b'A'..=b'Z' | b'a'..=b'z' => {
                self.take(|b| is_tchar(b) || matches!(b, b':' | b'/'));
                Some(Value::Other)
            }
            b':' => {
                self.expect(b':')?;
                self.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.expect(b':')?;
                Some(Value::Other)
            }
            b'?' => {
                self.expect(b'?')?;
                let digit = self.next()?;
                matches!(digit, b'0' | b'1').then_some(Value::Flag(digit == b'1'))
            }
            b'@' => {
                self.expect(b'@')?;
                self.number().filter(|value| matches!(value, Value::Integer(_))).map(|_| Value::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let sign = if self.eat(b'-') { -1 } else { 1 };
        let whole = self.take(|b| b.is_ascii_digit());
        if !(1..=15).contains(&whole.len()) {
            return None;
        }
        if self.eat(b'.') {
            let fraction = self.take(|b| b.is_ascii_digit()).len();
            return (whole.len() <= 12 && (1..=3).contains(&fraction)).then_some(Value::Other);
        }
        std::str::from_utf8(whole).ok()?.parse::<i64>().ok().map(|n| Value::Integer(sign * n))
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            match self.next()? {
                b'"' => return Some(out),
                b'\\' => out.push(char::from(self.next().filter(|b| matches!(b, b'"' | b'\\'))?)),
                byte @ b' '..=b'~' => out.push(char::from(byte)),
                _ => return None,
            }
        }
    }

    /// Parameters are ignored (RFC 9213 section 2.1, RFC 9875 section 2), but they must be well-formed.
    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.skip(b" ");
            self.key()?;
            if self.eat(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn key(&mut self) -> Option<String> {
        if !matches!(self.peek()?, b'a'..=b'z' | b'*') {
            return None;
        }
        let key = self.take(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*'));
        Some(String::from_utf8_lossy(key).into_owned())
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn eat(&mut self, byte: u8) -> bool {
        self.expect(byte).is_some()
    }
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }
    fn skip(&mut self, bytes: &[u8]) {
        self.take(|b| bytes.contains(&b));
    }
    fn take(&mut self, which: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|b| !which(*b)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(members in proptest::collection::btree_map("[a-z*][a-z0-9_.*-]{0,5}", -1_000_000i64..1_000_000, 1..6)) {
            let text = members.iter().map(|(name, n)| format!("{name}={n};p")).collect::<Vec<_>>().join(" ,\t");
            let expected: Vec<_> = members.into_iter().map(|(name, n)| (name, Value::Integer(n))).collect();
            prop_assert_eq!(read(&text), Some(expected));
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(prop_oneof![prop::sample::select(&b"a1=\",;()?:@ -.\\"[..]), any::<u8>()], 0..24)) {
            if let Some(members) = Reader(&bytes).dictionary() {
                prop_assert!(members.iter().all(|(name, _)| !name.is_empty()));
            }
            let _ = Reader(&bytes).strings();
        }
    }

    fn read(text: &str) -> Option<Vec<(String, Value)>> {
        Reader(text.as_bytes()).dictionary()
    }

    #[test]
    fn reads_dictionaries_as_the_rfc_writes_them() {
        use Value::{Flag, Integer, Other, Text};
        let cases: &[(&str, &[(&str, Value)])] = &[
            ("max-age=60", &[("max-age", Integer(60))]),
            (" no-store , max-age=-5;a;b=\"x\"", &[("no-store", Flag(true)), ("max-age", Integer(-5))]),
            ("a=?0, a=?1, *b=1.5", &[("a", Flag(true)), ("*b", Other)]),
            ("no-cache=\"a, \\\"b\\\"\",\tx=tok/en:1;q=(", &[]),
            ("no-cache=\"a, \\\"b\\\"\",\tx=tok/en:1;q=2", &[("no-cache", Text("a, \"b\"".into())), ("x", Other)]),
            ("x=(1 \"two\";p three), y=:aGk=:, z=@1659578233", &[("x", Other), ("y", Other), ("z", Other)]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect();
            assert_eq!(read(text).unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_nothing() {
        for bad in [
            "max-age=60,",
            "MaX-aGe=60",
            "max-age =60",
            "max-age= 60",
            "max-age=60 no-store",
            "a, &&&&&",
            "a=\"x",
            "a=1.2345",
            "a=1234567890123456",
            "a=\u{e9}",
            "a=?2",
            "a=(1",
            "a=(1,2)",
            ",a",
            "a;;b",
            "a=:*:",
            "a=@1.5",
            "a=",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(""), Some(Vec::new()));
    }

    #[test]
    fn lists_of_strings_are_read_and_others_count_as_absent() {
        let name = HeaderName::from_static("cache-groups");
        let of = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(&name, line.parse().unwrap());
            }
            strings(&headers, &name)
        };
        assert_eq!(of(&[]), [""; 0]);
        assert_eq!(of(&["\"a\", \"B c\";x=1 ,\t\"q\\\"\\\\\"", "\"d\""]), ["a", "B c", "q\"\\", "d"]);
        assert_eq!(of(&[""]), [""; 0]);
        for bad in ["a", "\"a\", b", "\"a\",", "(\"a\")", "1", "\"a\" \"b\"", "\"a", "\"a\"=1", "\"\u{e9}\""] {
            assert_eq!(of(&[bad]), [""; 0], "{bad}");
        }
        assert_eq!(of(&["\"a\"", "b"]), [""; 0], "one bad line makes the field invalid");
    }
}
