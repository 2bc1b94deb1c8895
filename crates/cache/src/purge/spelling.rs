//! Paths by one spelling: who purges writes `sku%3A42` where clients ask for `sku:42`, and origins take both for one.

use std::borrow::Cow;

/// A path with every `%XX` decoded but those whose byte would mean something else then: a slash that is none between segments, and the `%` itself, which begins
/// an escape.
pub(super) fn spelled(path: &str) -> Cow<'_, [u8]> {
    if !path.contains('%') {
        return Cow::Borrowed(path.as_bytes());
    }
    let bytes = path.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match escaped(bytes.get(at..at + 3).unwrap_or_default()) {
            Some(kept @ (b'/' | b'%')) => {
                out.extend_from_slice(if kept == b'/' { b"%2F" } else { b"%25" });
                at += 3;
            }
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    Cow::Owned(out)
}

/// The byte that an escape stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let &[b'%', high, low] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Whether two paths are one, however they are written.
pub(super) fn are_one_path(one: &str, other: &str) -> bool {
    one == other || ((one.contains('%') || other.contains('%')) && spelled(one) == spelled(other))
}

/// Whether a path begins so, however both are written.
pub(super) fn begins_with(path: &str, prefix: &str) -> bool {
    path.starts_with(prefix) || ((path.contains('%') || prefix.contains('%')) && spelled(path).starts_with(&spelled(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_however_it_is_written() {
        for (one, other) in [
            ("/a:b", "/a%3Ab"),
            ("/a:b", "/a%3ab"),
            ("/a@b.c,d+e", "/a%40b.c%2Cd%2Be"),
            ("/K%c3%b6ln", "/K%C3%B6ln"),
            ("/a%2fb", "/a%2Fb"),
            ("/~a", "/%7Ea"),
            ("/%zz%4", "/%zz%4"),
        ] {
            assert!(are_one_path(one, other) && are_one_path(other, one), "{one} {other}");
            assert!(begins_with(&format!("{one}/c"), other) && begins_with(&format!("{other}/c"), one), "{one} {other}");
        }
        for (one, other) in [("/a/b", "/a%2Fb"), ("/a%3Ab", "/a%253Ab"), ("/a%252Fb", "/a%2Fb"), ("/a%", "/a"), ("/A", "/a")] {
            assert!(!are_one_path(one, other) && !are_one_path(other, one), "{one} {other}");
        }
        assert!(begins_with("/a%2Fb", "/a%2") && !begins_with("/a%2Fb", "/a/"));
    }
}
