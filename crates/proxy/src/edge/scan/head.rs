//! Request heads and trailer sections (RFC 9112), line by line and without tolerance.

use std::ops::Range;

use http::Uri;
use http::uri::PathAndQuery;
use memchr::{memchr, memrchr};

use super::super::Refusal;
use super::HeadLimits;

/// Methods are names, not messages.
const MAX_METHOD: usize = 32;
/// Fields that steer framing, routing or access: they must be known before the body (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&[u8]; 12] = [
    b"transfer-encoding",
    b"content-length",
    b"host",
    b"connection",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"content-encoding",
];

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// There is none; what comes after the head waits for the answer.
    Connect,
}

/// Finds complete lines in bytes that grow between calls.
#[derive(Default)]
struct Lines {
    line: usize,
    searched: usize,
}

impl Lines {
    /// The next complete line, without its line end.
    fn next(&mut self, data: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
        let Some(found) = memchr(b'\n', &data[self.searched..]) else {
            self.searched = data.len();
            // A CR before anything but the last byte will never become a line end.
            let open = &data[self.line..];
            return if memchr(b'\r', &open[..open.len().saturating_sub(1)]).is_some() { Err(Refusal::BareCr) } else { Ok(None) };
        };
        let (start, end) = (self.line, self.searched + found);
        self.line = end + 1;
        self.searched = self.line;
        if end == start || data[end - 1] != b'\r' {
            return Err(Refusal::BareLf);
        }
        Ok(Some(start..end - 1))
    }
}

/// What is known of a head that is still arriving.
#[derive(Default)]
pub(super) struct HeadScan {
    lines: Lines,
    /// Set once the request line was read.
    version: Option<Version>,
    blank: bool,
    fields: usize,
    target: Range<usize>,
    absolute: bool,
    connect: bool,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl HeadScan {
    /// The head's length and its body's framing, when it is complete. `data` begins with the head.
    pub(super) fn scan(&mut self, data: &[u8], limits: &HeadLimits) -> Result<Option<(usize, Framing)>, Refusal> {
        while let Some(line) = self.lines.next(data)? {
            if self.lines.line > limits.bytes {
                return Err(self.too_large(line.len(), limits));
            }
            match (self.version, line.is_empty()) {
                // One empty line before a request is an old habit after POST (RFC 9112 section 2.2); more is none.
                (None, true) if !self.blank => self.blank = true,
                (None, _) => self.request_line(data, line, limits)?,
                (Some(version), true) => return self.finish(data, version).map(|framing| Some((self.lines.line, framing))),
                (Some(_), false) => {
                    self.fields += 1;
                    if self.fields > limits.headers {
                        return Err(Refusal::ManyHeaders);
                    }
                    self.field(data, line)?;
                }
            }
        }
        self.unfinished(data, limits)
    }

    /// Refuses early what cannot become a head any more.
    fn unfinished<T>(&self, data: &[u8], limits: &HeadLimits) -> Result<Option<T>, Refusal> {
        let open = &data[self.lines.line..];
        if data.len() > limits.bytes {
            return Err(self.too_large(open.len(), limits));
        }
        if self.version.is_none() {
            let method = open.split(|b| *b == b' ').next().unwrap_or_default();
            if open.len() > limits.target + MAX_METHOD + 16 {
                return Err(Refusal::LongTarget);
            }
            if !matches!(method, [] | [.., b'\r']) {
                check_method(method)?;
            }
        }
        Ok(None)
    }

    fn too_large(&self, open: usize, limits: &HeadLimits) -> Refusal {
        if self.version.is_none() && open > limits.target { Refusal::LongTarget } else { Refusal::LargeHead }
    }

    fn request_line(&mut self, data: &[u8], line: Range<usize>, limits: &HeadLimits) -> Result<(), Refusal> {
        let text = &data[line.clone()];
        let method_end = memchr(b' ', text).ok_or(Refusal::RequestLine)?;
        let target_end = memrchr(b' ', text).filter(|at| *at > method_end + 1).ok_or(Refusal::RequestLine)?;
        let method = &text[..method_end];
        check_method(method)?;
        self.version = Some(version(&text[target_end + 1..])?);
        let target = &text[method_end + 1..target_end];
        if target.len() > limits.target {
            return Err(Refusal::LongTarget);
        }
        self.target = line.start + method_end + 1..line.start + target_end;
        self.connect = method == b"CONNECT";
        match self.connect {
            true if !limits.connect => return Err(Refusal::Connect),
            true => check_destination(target)?,
            false => self.absolute = check_target(method, target)?,
        }
        Ok(())
    }

    fn field(&mut self, data: &[u8], line: Range<usize>) -> Result<(), Refusal> {
        let text = &data[line.clone()];
        let (name, value) = split_field(text)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Refusal::TwoHosts);
                }
                check_host(value)?;
                // `value` is what is left of the line after trimming, so its end is known from the line's.
                let trailing = text.len() - text.trim_ascii_end().len();
                let end = line.end - trailing;
                self.host = Some(end - value.len()..end);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::TwoLengths);
                }
                self.length = Some(decimal(value).ok_or(Refusal::Length)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::TwoCodings);
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Coding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&self, data: &[u8], version: Version) -> Result<Framing, Refusal> {
        if self.chunked && version == Version::Http10 {
            return Err(Refusal::OldCoding);
        }
        if self.chunked && self.length.is_some() {
            return Err(Refusal::LengthAndCoding);
        }
        match &self.host {
            None if version == Version::Http11 => return Err(Refusal::NoHost),
            Some(host) if self.connect => same_destination(&data[self.target.clone()], &data[host.clone()])?,
            Some(host) if self.absolute => same_host(&data[self.target.clone()], &data[host.clone()])?,
            _ => {}
        }
        if self.connect {
            let none = !self.chunked && self.length.unwrap_or(0) == 0;
            return if none { Ok(Framing::Connect) } else { Err(Refusal::ConnectBody) };
        }
        Ok(if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) })
    }
}

/// A trailer section that is still arriving.
#[derive(Default)]
pub(super) struct TrailerScan {
    lines: Lines,
    fields: usize,
}

impl TrailerScan {
    /// The section's length, empty line included, when it is complete. `data` begins with it.
    pub(super) fn scan(&mut self, data: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
        while let Some(line) = self.lines.next(data)? {
            if line.is_empty() {
                return Ok(Some(self.lines.line));
            }
            self.fields += 1;
            if self.fields > limits.headers || self.lines.line > limits.bytes {
                return Err(Refusal::LargeHead);
            }
            let (name, _) = split_field(&data[line])?;
            if NOT_IN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden)) {
                return Err(Refusal::Trailer);
            }
        }
        if data.len() > limits.bytes { Err(Refusal::LargeHead) } else { Ok(None) }
    }
}

/// Name and trimmed value of a header line.
fn split_field(text: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let end = text.iter().position(|b| !TOKEN[usize::from(*b)]).unwrap_or(text.len());
    match text.get(end) {
        Some(b':') if end > 0 => {
            let value = &text[end + 1..];
            check_controls(value)?;
            Ok((&text[..end], value.trim_ascii()))
        }
        at => Err(bad_name(text, end, at.copied())),
    }
}

/// What is wrong with a header line whose name ends at `end` with `at` instead of a colon.
fn bad_name(text: &[u8], end: usize, at: Option<u8>) -> Refusal {
    match (check_controls(text), at) {
        (Err(refusal), _) => refusal,
        (_, Some(b' ' | b'\t')) if end == 0 => Refusal::Fold,
        (_, Some(b' ' | b'\t')) if text[end..].trim_ascii_start().starts_with(b":") => Refusal::SpaceBeforeColon,
        _ => Refusal::FieldName,
    }
}

/// Refuses control characters other than TAB, sixteen bytes at a time.
fn check_controls(text: &[u8]) -> Result<(), Refusal> {
    let (blocks, rest) = text.as_chunks::<16>();
    let bad = blocks.iter().fold(0, |bad, block| bad | block.iter().fold(0, |bad, b| bad | is_control(*b)));
    match bad | rest.iter().fold(0, |bad, b| bad | is_control(*b)) {
        0 => Ok(()),
        _ if memchr(b'\r', text).is_some() => Err(Refusal::BareCr),
        _ => Err(Refusal::Control),
    }
}

/// 1 for a control character other than TAB; without branches, so that loops over it become vector instructions.
const fn is_control(byte: u8) -> u8 {
    ((byte < 0x20) as u8 & (byte != b'\t') as u8) | (byte == 0x7f) as u8
}

const fn class(allowed: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < allowed.len() {
        table[allowed[at] as usize] = true;
        at += 1;
    }
    table
}
static TOKEN: [bool; 256] = class(b"!#$%&'*+-.^_`|~");
/// What RFC 3986 allows in a path or query.
static PATH: [bool; 256] = class(b"-._~!$&'()*+,;=:@/?%");
static HOST_NAME: [bool; 256] = class(b"-._~");

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| TOKEN[usize::from(*b)])
}

fn check_method(method: &[u8]) -> Result<(), Refusal> {
    if !is_token(method) {
        return Err(if method.contains(&b'\r') { Refusal::BareCr } else { Refusal::Method });
    }
    if method.len() > MAX_METHOD { Err(Refusal::LongMethod) } else { Ok(()) }
}

fn version(text: &[u8]) -> Result<Version, Refusal> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => Err(Refusal::Version),
        _ => Err(Refusal::RequestLine),
    }
}

/// Whether the target is a URL; refuses what is neither URL nor path (nor `*` for OPTIONS).
fn check_target(method: &[u8], target: &[u8]) -> Result<bool, Refusal> {
    if matches!(target, [b'/', rest @ ..] if rest.iter().all(|b| PATH[usize::from(*b)])) {
        return Ok(false);
    }
    check_controls(target)?;
    if target.contains(&b'#') {
        return Err(Refusal::Fragment);
    }
    if target.contains(&b' ') || target.contains(&b'\t') {
        return Err(Refusal::RequestLine);
    }
    match target {
        // Rare and not quite lawful: whether it can travel on decides.
        [b'/', ..] => PathAndQuery::try_from(target).map(|_| false).map_err(|_| Refusal::Target),
        b"*" if method == b"OPTIONS" => Ok(false),
        _ => {
            let uri = Uri::try_from(target).map_err(|_| Refusal::Target)?;
            let http = matches!(uri.scheme_str(), Some("http" | "https"));
            let host = uri.authority().is_some_and(|authority| check_host(authority.as_str().as_bytes()).is_ok());
            if http && host { Ok(true) } else { Err(Refusal::Target) }
        }
    }
}

/// The URL's authority and the Host header must be the same, but for case and the scheme's own port.
fn same_host(target: &[u8], host: &[u8]) -> Result<(), Refusal> {
    let uri = Uri::try_from(target).map_err(|_| Refusal::Target)?;
    let default: &[u8] = if uri.scheme_str() == Some("https") { b":443" } else { b":80" };
    let plain = |text: &[u8]| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    let authority = uri.authority().map_or("", http::uri::Authority::as_str);
    if plain(authority.as_bytes()) == plain(host) { Ok(()) } else { Err(Refusal::HostMismatch) }
}

/// A host and a port, which must be there (RFC 9112 section 3.2.3).
fn check_destination(target: &[u8]) -> Result<(), Refusal> {
    let ports = memrchr(b':', target).is_some_and(|at| at + 1 < target.len() && !target.ends_with(b"]"));
    if ports && check_host(target).is_ok() { Ok(()) } else { Err(Refusal::Target) }
}

/// The Host header says the same, or leaves the port out.
fn same_destination(target: &[u8], host: &[u8]) -> Result<(), Refusal> {
    let name = memrchr(b':', target).map_or(target, |at| &target[..at]);
    if host.eq_ignore_ascii_case(target) || host.eq_ignore_ascii_case(name) { Ok(()) } else { Err(Refusal::HostMismatch) }
}

/// `name`, `address` or `[address]`, with an optional port.
pub(in crate::edge) fn check_host(text: &[u8]) -> Result<(), Refusal> {
    let (valid, port) = if let Some(rest) = text.strip_prefix(b"[") {
        let end = memchr(b']', rest).ok_or(Refusal::Host)?;
        let address = std::str::from_utf8(&rest[..end]).ok().and_then(|a| a.parse::<std::net::Ipv6Addr>().ok());
        (address.is_some(), &rest[end + 1..])
    } else {
        let end = memchr(b':', text).unwrap_or(text.len());
        (end > 0 && text[..end].iter().all(|b| HOST_NAME[usize::from(*b)]), &text[end..])
    };
    let port_valid = match port {
        [] => true,
        [b':', digits @ ..] => decimal(digits).is_some_and(|port| (1..=65_535).contains(&port)),
        _ => false,
    };
    if valid && port_valid { Ok(()) } else { Err(Refusal::Host) }
}

/// Digits only, no leading zero but in `0` itself, at most 18 of them.
fn decimal(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 18 && text.iter().all(u8::is_ascii_digit) && (text.len() == 1 || text[0] != b'0');
    plain.then(|| text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}
