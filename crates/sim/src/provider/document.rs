//! Documents as the simulated providers write them and as the driver reads them back.

use bytes::Bytes;

/// What is needed to write one document.
#[derive(Clone, Copy, Debug)]
pub struct Document<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The document's number.
    pub key: u32,
    /// Its version.
    pub version: u64,
    /// A value that differs from answer to answer and is part of the content (nondeterministic routes).
    pub sample: Option<u64>,
    /// A value that differs from answer to answer and says nothing about change (`/generated_at`).
    pub generated_at: Option<i64>,
    /// Length of the text in it.
    pub bytes: usize,
}

impl Document<'_> {
    /// The JSON body.
    pub fn render(&self) -> Bytes {
        use std::fmt::Write;
        let mut out = String::with_capacity(self.bytes + 128);
        // Writing to a string cannot fail.
        let _ = write!(out, "{{\"id\":{},\"version\":{},\"route\":\"{}\"", self.key, self.version, self.route);
        if let Some(sample) = self.sample {
            let _ = write!(out, ",\"sample\":{sample}");
        }
        if let Some(at) = self.generated_at {
            let _ = write!(out, ",\"generated_at\":{at}");
        }
        out.push_str(",\"text\":\"");
        const TEXT: &str = "the price of an answer is paid once and the answer is read many times ";
        let mut left = self.bytes;
        while left > 0 {
            let part = left.min(TEXT.len());
            out.push_str(&TEXT[..part]);
            left -= part;
        }
        out.push_str("\"}");
        Bytes::from(out)
    }
}

/// The version in a rendered document; `None` when `body` is none.
pub fn version_of(body: &[u8]) -> Option<u64> {
    number_after(body, b"\"version\":")
}

/// The document's number; `None` when `body` is no document.
pub fn key_of(body: &[u8]) -> Option<u32> {
    number_after(body, b"\"id\":").and_then(|n| u32::try_from(n).ok())
}

fn number_after(body: &[u8], label: &[u8]) -> Option<u64> {
    let start = body.windows(label.len()).position(|w| w == label)? + label.len();
    let digits = body[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&body[start..start + digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json_and_reads_back() {
        let doc = Document { route: "geo", key: 42, version: 17, sample: Some(5), generated_at: Some(-3), bytes: 200 };
        let body = doc.render();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((json["version"].as_u64(), json["sample"].as_u64(), json["generated_at"].as_i64()), (Some(17), Some(5), Some(-3)));
        assert_eq!(json["text"].as_str().unwrap().len(), 200);
        assert_eq!((version_of(&body), key_of(&body)), (Some(17), Some(42)));
        assert_eq!(version_of(b"{\"error\":1}"), None);
        assert_eq!(version_of(b"\"version\":"), None);
    }
}
