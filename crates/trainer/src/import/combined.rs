//! `combined`: the access log of Apache and nginx, also in its common form (without referer and agent), with a leading virtual host,
//! and with the request time in seconds at its end.

use std::borrow::Cow;
use std::path::Path;

use super::format::{Format, Sink, each_line};
use super::mapping::Mapping;
use super::record::{Record, Text, What, url};
use super::skipped::Reason;
use super::time::clf;
use crate::error::TrainError;

/// The format.
pub struct Combined;

impl Format for Combined {
    fn name(&self) -> &'static str {
        "combined"
    }
    fn about(&self) -> &'static str {
        "access log of Apache or nginx: common, combined or vhost_combined; a decimal at the end is the request time in seconds"
    }
    fn read(&self, _: &Mapping, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
        each_line(path, sink, |line| parse(line).map(Some))
    }
}

/// One line: `[vhost] client ident user [time] "request" status bytes ["referer" "agent" ... seconds]`.
fn parse(line: &[u8]) -> Result<Record<'_>, Reason> {
    let open = find(line, b" [").ok_or(Reason::Shape)?;
    let (who, rest) = line.split_at(open);
    let close = find(rest, b"] \"").ok_or(Reason::Shape)?;
    let at_ns = rest.get(2..close).and_then(clf).ok_or(Reason::Time)?;
    let (request, rest) = quoted(rest.get(close + 3..).unwrap_or_default()).ok_or(Reason::Shape)?;
    let mut words = rest.split(|b| *b == b' ').filter(|w| !w.is_empty());
    let status = words.next().and_then(status).ok_or(Reason::Status)?;
    let bytes = words.next().and_then(size).ok_or(Reason::Number)?;
    let (method, target) = request_line(request)?;
    let (vhost, client) = client(who)?;
    let (host, target) = match target {
        Cow::Borrowed(target) => {
            let (host, target) = url(target).ok_or(Reason::Target)?;
            (host.map(Cow::Borrowed), Cow::Borrowed(target))
        }
        Cow::Owned(target) => {
            let (host, rest) = url(&target).ok_or(Reason::Target)?;
            (host.map(|h| Cow::Owned(h.to_owned())), Cow::Owned(rest.to_owned()))
        }
    };
    Ok(Record {
        at_ns,
        method,
        what: What::Url { host: host.or(vhost.map(Cow::Borrowed)), target },
        status: Some(status),
        bytes: Some(bytes),
        latency_us: seconds_at_the_end(rest),
        client: Some(Cow::Borrowed(client)),
        ..Record::default()
    })
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}

/// What stands before the next quote that is not escaped, and what follows it.
fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((bytes.get(..at)?, bytes.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// Virtual host, where there is one, and client.
fn client(who: &[u8]) -> Result<(Option<&str>, &str), Reason> {
    let who = std::str::from_utf8(who).map_err(|_| Reason::NotText)?;
    let mut words = who.split(' ').filter(|w| !w.is_empty());
    let (first, second) = (words.next().ok_or(Reason::Shape)?, words.next());
    let named = |word: &str| word.rsplit_once(':').is_some_and(|(name, port)| !name.contains(':') && port.parse::<u16>().is_ok());
    match second {
        Some(second) if named(first) && words.clone().count() >= 2 => Ok((Some(first), second)),
        _ => Ok((None, first)),
    }
}

/// Method and target of `GET /a HTTP/1.1`; the protocol may be missing (HTTP/0.9).
fn request_line(request: &[u8]) -> Result<(Text<'_>, Text<'_>), Reason> {
    let request = unescaped(request)?;
    let (method, target) = parts(&request).ok_or(Reason::Request)?;
    Ok(match &request {
        Cow::Borrowed(text) => {
            let (method, target) = parts(text).ok_or(Reason::Request)?;
            (Cow::Borrowed(method), Cow::Borrowed(target))
        }
        Cow::Owned(_) => (Cow::Owned(method.to_owned()), Cow::Owned(target.to_owned())),
    })
}

fn parts(request: &str) -> Option<(&str, &str)> {
    let (method, rest) = request.split_once(' ')?;
    let is_method = (1..=20).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_'));
    let rest = rest.trim_end();
    let target = match rest.rsplit_once(' ') {
        Some((target, protocol)) if protocol.starts_with("HTTP/") => target.trim_end(),
        _ => rest,
    };
    (is_method && !target.is_empty()).then_some((method, target))
}

/// Undoes `\"`, `\\`, `\xhh` and the like.
fn unescaped(bytes: &[u8]) -> Result<Text<'_>, Reason> {
    if !bytes.contains(&b'\\') {
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Reason::NotText);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'\\', rest.get(1..).unwrap_or_default()),
            },
            (b'\\', [next, after @ ..]) => (escape(*next), after),
            (byte, after) => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| Reason::NotText)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

const fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        other => other,
    }
}

fn status(word: &[u8]) -> Option<i32> {
    let number = number(word)?;
    i32::try_from(number).ok().filter(|n| word.len() == 3 && (100..=999).contains(n))
}

/// Body bytes; `-` is none.
fn size(word: &[u8]) -> Option<i64> {
    if word == b"-" { Some(0) } else { number(word) }
}

fn number(word: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.checked_sub(b'0').filter(|d| *d < 10).map(|d| sum * 10 + i64::from(d));
    if word.is_empty() || word.len() > 18 { None } else { word.iter().try_fold(0, digit) }
}

/// A decimal with a point at the very end, outside of quotes: nginx's `$request_time`.
fn seconds_at_the_end(rest: &[u8]) -> Option<i64> {
    if !rest.last()?.is_ascii_digit() {
        return None;
    }
    let word = rest.rsplit(|b| *b == b' ').next()?;
    let (whole, fraction) = std::str::from_utf8(word).ok()?.split_once('.')?;
    let (whole, digits) = (number(whole.as_bytes())?, number(fraction.as_bytes())?);
    let scale = 10i64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    whole.checked_mul(1_000_000)?.checked_add(digits.checked_mul(1_000_000)? / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(line: &str) -> (String, Option<String>, String, i32, i64, Option<i64>, String) {
        let r = parse(line.as_bytes()).unwrap();
        let What::Url { host, target } = r.what else { panic!() };
        (
            r.method.into_owned(),
            host.map(Cow::into_owned),
            target.into_owned(),
            r.status.unwrap(),
            r.bytes.unwrap(),
            r.latency_us,
            r.client.unwrap().into_owned(),
        )
    }

    fn s(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn lines_of_every_kind() {
        let apache = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif?x=1 HTTP/1.0" 200 2326 "http://r/\"q\"" "Mozilla/4.08 [en] (Win98; I ;Nav)""#;
        assert_eq!(seen(apache), (s("GET"), None, s("/a.gif?x=1"), 200, 2_326, None, s("127.0.0.1")));
        let common = r#"2001:db8::1 - - [10/Oct/2000:13:55:36 +0000] "HEAD / HTTP/2.0" 304 -"#;
        assert_eq!(seen(common), (s("HEAD"), None, s("/"), 304, 0, None, s("2001:db8::1")));
        let vhost = r#"api.test:443 10.0.0.1 - a user [10/Oct/2000:13:55:36 +0000] "GET /v1/x HTTP/1.1" 200 5 "-" "-" 0.053"#;
        assert_eq!(seen(vhost), (s("GET"), Some(s("api.test:443")), s("/v1/x"), 200, 5, Some(53_000), s("10.0.0.1")));
        let proxy = r#"10.0.0.1 - - [10/Oct/2000:13:55:36 +0000] "GET https://u:p@api.test/v1?k=\"1\" HTTP/1.1" 200 5 "-" "-""#;
        assert_eq!(seen(proxy), (s("GET"), Some(s("api.test")), s("/v1?k=\"1\""), 200, 5, None, s("10.0.0.1")));
        let old = r#"h - - [01/Jul/1995:00:00:06 -0400] "GET /shuttle/a b.html" 404 -"#;
        assert_eq!(seen(old).2, "/shuttle/a b.html");
        let bytes = r#"h - - [01/Jul/1995:00:00:06 -0400] "GET /\xc3\xa4\q\xzz HTTP/1.1" 200 1"#;
        assert_eq!(seen(bytes).2, "/\u{e4}q\\xzz");
    }

    #[test]
    fn bad_lines_say_why() {
        let line = |request: &str, rest: &str| format!("h - - [01/Jul/1995:00:00:06 -0400] \"{request}\" {rest}");
        for (text, reason) in [
            (s(""), Reason::Shape),
            (s("hello world"), Reason::Shape),
            (s("h - - [01/Jul/1995:00:00:06 -0400] \"GET / HTTP/1.1"), Reason::Shape),
            (s("h - - [01/Foo/1995:00:00:06 -0400] \"GET / HTTP/1.1\" 200 1"), Reason::Time),
            (line("-", "408 -"), Reason::Request),
            (line("\\x16\\x03\\x01", "400 0"), Reason::Request),
            (line("get / HTTP/1.1", "400 0"), Reason::Request),
            (line("CONNECT api.test:443 HTTP/1.1", "200 0"), Reason::Target),
            (line("GET / HTTP/1.1", "2OO 0"), Reason::Status),
            (line("GET / HTTP/1.1", "200 many"), Reason::Number),
            (line("GET / HTTP/1.1", "200"), Reason::Number),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(reason), "{text}");
        }
        assert_eq!(parse(b"h - - [01/Jul/1995:00:00:06 -0400] \"GET /\xff HTTP/1.1\" 200 1"), Err(Reason::NotText));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn damaged_lines_do_not_either(at in 0usize..90, byte in any::<u8>(), cut in 0usize..90) {
            let mut line = br#"api.test:443 ::1 - - [10/Oct/2000:13:55:36 -0700] "GET /\x41\"?x=1 HTTP/1.0" 200 26 "-" "a" 0.5"#.to_vec();
            line[at] = byte;
            let _ = parse(&line);
            let _ = parse(&line[..cut]);
        }

        #[test]
        fn what_is_written_is_read(path in "/[a-z0-9/._-]{0,40}", status in 100i32..600, bytes in 0i64..1_000_000_000, ms in 0i64..100_000) {
            let line = format!("1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"-\" {}.{:03}", ms / 1_000, ms % 1_000);
            let record = parse(line.as_bytes()).unwrap();
            prop_assert_eq!(record.what, What::Url { host: None, target: Cow::Owned(path) });
            prop_assert_eq!((record.status, record.bytes, record.latency_us), (Some(status), Some(bytes), Some(ms * 1_000)));
        }
    }
}
