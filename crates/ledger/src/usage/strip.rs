//! Takes out of a stream the one event that the client did not ask for.

/// Longest event that is held back to be looked at; a longer one passes as it is.
const MAX_EVENT: usize = 16 << 10;

/// Removes events of an OpenAI stream that tell usage and no choice; all other bytes pass as they are, event by event.
#[derive(Debug, Default)]
pub struct Strip {
    event: Vec<u8>,
    /// The event is too long to be held: it passes up to its end.
    passing: bool,
    /// The line has no byte yet.
    at_line_start: bool,
    after_cr: bool,
    /// The event before was taken out.
    took_out: bool,
    /// Events taken out.
    removed: u64,
}

impl Strip {
    /// A filter at the start of a stream.
    pub fn new() -> Self {
        Self { at_line_start: true, ..Self::default() }
    }

    /// Events taken out so far.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// Takes the next bytes; answers those that may go on.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.event.len());
        for &byte in bytes {
            // CR LF ends one line, not two: its LF still belongs to the event before.
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                match (self.event.is_empty() && !self.passing, self.took_out) {
                    (false, _) => self.keep(byte, &mut out),
                    (true, false) => out.push(byte),
                    (true, true) => {}
                }
                continue;
            }
            let ends_line = matches!(byte, b'\n' | b'\r');
            let ends_event = ends_line && self.at_line_start;
            self.keep(byte, &mut out);
            (self.at_line_start, self.after_cr) = (ends_line, byte == b'\r');
            if ends_event {
                self.end_of_event(&mut out);
            }
        }
        out
    }

    /// What is still held at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.end_of_event(&mut out);
        out
    }

    fn keep(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.passing {
            out.push(byte);
        } else {
            self.event.push(byte);
            if self.event.len() > MAX_EVENT {
                self.passing = true;
                out.append(&mut self.event);
            }
        }
    }

    fn end_of_event(&mut self, out: &mut Vec<u8>) {
        self.passing = false;
        self.took_out = is_usage(&self.event);
        if self.took_out {
            self.event.clear();
            self.removed += 1;
        } else {
            out.append(&mut self.event);
        }
    }
}

/// Whether an event tells usage and no choice.
fn is_usage(event: &[u8]) -> bool {
    if memchr::memmem::find(event, b"\"usage\"").is_none() {
        return false;
    }
    let mut data = Vec::new();
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(rest) = line.strip_prefix(b"data:") {
            data.extend_from_slice(rest);
        }
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&data) else { return false };
    let no_choice = value.get("choices").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty);
    no_choice && value.get("usage").is_some_and(serde_json::Value::is_object)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn strip(text: &str, chunk: usize) -> (String, u64) {
        let mut strip = Strip::new();
        let mut out = Vec::new();
        text.as_bytes().chunks(chunk).for_each(|chunk| out.extend(strip.push(chunk)));
        out.extend(strip.finish());
        (String::from_utf8(out).unwrap(), strip.removed())
    }

    #[test]
    fn the_usage_event_alone_is_taken_out() {
        for end in ["\n", "\r\n", "\r"] {
            let text = |parts: &[&str]| parts.concat().replace('\n', end);
            for chunk in [1, 2, 3, 7, 4096] {
                let (out, removed) = strip(&text(&[FIRST, USAGE, DONE]), chunk);
                assert_eq!((out, removed), (text(&[FIRST, DONE]), 1), "{end:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn whatever_else_comes_passes_as_it_is() {
        let long = format!("data: {{\"choices\":[],\"usage\":{{}},\"x\":\"{}\"}}\n\n", "y".repeat(MAX_EVENT));
        for text in [
            "",
            ": comment\n\n",
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3}}\n\n",
            "data: {\"usage\":{\"input_tokens\":3}}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}",
            "\n\n\r\n\r\r",
            long.as_str(),
        ] {
            for chunk in [1, 5, 4096] {
                assert_eq!(strip(text, chunk), (text.to_owned(), 0), "{text:.60} in chunks of {chunk}");
            }
        }
    }

    proptest! {
        #[test]
        fn other_bytes_are_never_changed(parts in proptest::collection::vec(prop_oneof!["[a-z:\"]{0,6}", Just("\n".to_owned()), Just("\r".to_owned()), Just("\r\n".to_owned()), Just(FIRST.to_owned())], 0..30), chunk in 1usize..9) {
            let text = parts.concat();
            prop_assert_eq!(strip(&text, chunk), (text, 0));
        }
    }
}
