//! Segments of paths: which are words of the API, and which are values.

/// Extensions of files that are served as they lie: their names are values.
const FILES: &[&str] = &[
    "avif", "bmp", "css", "eot", "gif", "gz", "htm", "html", "ico", "jpeg", "jpg", "js", "map", "mp3", "mp4", "mpg", "otf", "pdf", "png",
    "svg", "tar", "ttf", "txt", "wav", "webm", "webp", "woff", "woff2", "xbm", "zip",
];
/// A segment longer than this is no word.
const MAX_WORD: usize = 40;

/// The placeholder of a segment that is a value by its looks; `None` for what may be a word of the API.
pub fn placeholder(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    let all = |test: fn(&u8) -> bool| bytes.iter().all(test);
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    if bytes.first() == Some(&b'{') || bytes.first() == Some(&b'*') || bytes.first() == Some(&b':') {
        return None;
    }
    if segment.contains('@') || segment.contains("%40") {
        return Some("{email}");
    }
    if is_date(bytes) {
        return Some("{date}");
    }
    if digits > 0 && all(|b| b.is_ascii_digit()) {
        return Some("{id}");
    }
    if digits > 0 && all(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'-' | b'+')) {
        return Some("{number}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if bytes.len() >= 16 && digits > 0 && all(u8::is_ascii_hexdigit) {
        return Some("{hash}");
    }
    if !all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'!' | b'$' | b'(' | b')' | b',' | b';' | b'='))
    {
        return Some("{text}");
    }
    if bytes.len() > MAX_WORD || (digits >= 3 && bytes.len() >= 8 && !is_version(bytes)) {
        return Some("{id}");
    }
    None
}

/// `2024-05-01`, `20240501`, `2024-05`.
fn is_date(bytes: &[u8]) -> bool {
    let century = bytes.starts_with(b"19") || bytes.starts_with(b"20");
    let digits = |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    let dashes = |at: &[usize]| at.iter().all(|at| bytes.get(*at) == Some(&b'-'));
    let month = |at: usize| bytes.get(at..at + 2).is_some_and(|m| (b"01".as_slice()..=b"12".as_slice()).contains(&m));
    century
        && match bytes.len() {
            7 => digits(0..4) && dashes(&[4]) && digits(5..7) && month(5),
            8 => digits(0..8) && month(4),
            10 => digits(0..4) && dashes(&[4, 7]) && digits(5..7) && digits(8..10) && month(5),
            _ => false,
        }
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { *b == b'-' } else { b.is_ascii_hexdigit() })
}

/// `v1`, `v2beta3`, `2.0`: words although they have digits.
fn is_version(bytes: &[u8]) -> bool {
    bytes.len() <= 10 && bytes.first() == Some(&b'v') && bytes.get(1).is_some_and(u8::is_ascii_digit)
}

/// The extension of a segment, where it looks like one.
pub fn extension(segment: &str) -> Option<&str> {
    let (name, extension) = segment.rsplit_once('.')?;
    let plain = (2..=5).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_alphanumeric())
        && extension.bytes().any(|b| b.is_ascii_alphabetic());
    (plain && !name.is_empty()).then_some(extension)
}

/// Whether a segment names a file that is served as it lies.
pub fn is_file(segment: &str) -> bool {
    extension(segment).is_some_and(|e| FILES.iter().any(|f| f.eq_ignore_ascii_case(e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_words() {
        for (segment, expected) in [
            ("users", None),
            ("v1", None),
            ("v1beta1", None),
            ("user_timeline.json", None),
            ("sts-71", None),
            ("{id}", None),
            ("*.gif", None),
            ("42", Some("{id}")),
            ("cus_NffrFeUfNV2Hib123", Some("{id}")),
            ("order-12345", Some("{id}")),
            ("2024-05-01", Some("{date}")),
            ("20240501", Some("{date}")),
            ("20249901", Some("{id}")),
            ("51.5,-0.12", Some("{number}")),
            ("3f2504e0-4f89-41d3-9a0c-0305e82c3301", Some("{uuid}")),
            ("d41d8cd98f00b204e9800998ecf8427e", Some("{hash}")),
            ("a%20b", Some("{text}")),
            ("m\u{fc}nchen", Some("{text}")),
            ("joe@example.com", Some("{email}")),
            ("a-very-long-slug-of-an-article-that-nobody-will-ever-read-again", Some("{id}")),
        ] {
            assert_eq!(placeholder(segment), expected, "{segment}");
        }
    }

    #[test]
    fn files_are_known_by_their_extension() {
        assert!(is_file("logo.GIF") && is_file("index.html") && !is_file("data.json") && !is_file("gif") && !is_file(".gif"));
        assert_eq!((extension("a.json"), extension("2.0"), extension("a.")), (Some("json"), None, None));
    }
}
