//! Prompts of Anthropic's messages as text: where prefixes end, and where a mark is put. Nothing else of the text is touched.

use std::borrow::Cow;
use std::hash::Hasher;

use farthing_config::PromptTtl;
use farthing_policy::prompt_marks::{Boundary, Part};
use serde::Deserialize;
use serde_json::value::RawValue;
use siphasher::sip::SipHasher13;

/// The longest body that is read.
pub const LONGEST: usize = 4 << 20;
/// Bytes that an image counts for at most: its tokens hang on its edges, not on its bytes.
const IMAGE: usize = 6_000;
/// Most boundaries of a prompt that are weighed; of longer conversations the first turns and the last.
const MOST: usize = 64;
/// Of these, first ones.
const FIRST: usize = 4;
/// Kinds of content that take a mark.
const TAKE: [&str; 5] = ["text", "image", "document", "tool_use", "tool_result"];
/// The key of a mark.
pub const MARK: &[u8] = b"\"cache_control\"";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default)]
    tools: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow, default)]
    thinking: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// As it stands: long texts are not to be decoded.
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
}

/// Where a mark would be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    /// Nowhere.
    Nowhere,
    /// As the last member of the object whose brace closes here.
    Within(usize),
    /// A plain text from here to there becomes a list with one block of text.
    Around(usize, usize),
}

/// A prompt's boundaries, and where a mark for each would be put.
#[derive(Debug)]
pub struct Prompt {
    /// Where prefixes end, the shortest first.
    pub boundaries: Vec<Boundary>,
    spots: Vec<Spot>,
}

/// Reads a prompt; `seed` has taken who asks, and of what. `None` where it is not one as it is documented.
pub fn read(body: &[u8], seed: SipHasher13) -> Option<Prompt> {
    let parsed: Body<'_> = serde_json::from_slice(body).ok()?;
    let mut reader = Reader { start: body.as_ptr() as usize, hasher: seed, size: 0, blocks: 0, found: Vec::new() };
    if let Some(last) = parsed.tools.as_ref().and_then(|tools| tools.last()) {
        for tool in parsed.tools.iter().flatten() {
            reader.take(tool.get(), tool.get().len(), 1);
        }
        let spot = if last.get().starts_with('{') { reader.within(last)? } else { Spot::Nowhere };
        reader.ends(Part::Tools, spot);
    }
    if let Some(system) = parsed.system {
        let (spot, size, blocks) = reader.content(system)?;
        reader.take(system.get(), size, blocks);
        reader.ends(Part::System, spot);
    }
    for settings in [parsed.tool_choice, parsed.thinking].into_iter().flatten() {
        // They are no input, and what was kept of messages under others is not read.
        reader.hasher.write(settings.get().as_bytes());
    }
    for message in &parsed.messages {
        let (spot, size, blocks) = reader.content(message.content)?;
        reader.hasher.write(message.role.as_bytes());
        reader.take(message.content.get(), size, blocks);
        reader.ends(Part::Messages, spot);
    }
    Some(reader.finish())
}

struct Reader {
    /// Where the body begins in memory.
    start: usize,
    hasher: SipHasher13,
    size: u64,
    blocks: u32,
    found: Vec<(Boundary, Spot)>,
}

impl Reader {
    /// Adds text to the prefix.
    fn take(&mut self, text: &str, size: usize, blocks: u32) {
        self.hasher.write_usize(text.len());
        self.hasher.write(text.as_bytes());
        self.size += size as u64;
        self.blocks = self.blocks.saturating_add(blocks);
    }

    /// A prefix ends here.
    fn ends(&mut self, part: Part, spot: Spot) {
        let markable = spot != Spot::Nowhere;
        let boundary = Boundary { digest: self.hasher.finish(), size: self.size, blocks: self.blocks, part, to_end: 0, markable };
        self.found.push((boundary, spot));
    }

    /// Where a value stands in the body; the borrowed text lies within it.
    fn at(&self, value: &RawValue) -> Option<(usize, usize)> {
        let at = (value.get().as_ptr() as usize).checked_sub(self.start)?;
        Some((at, at + value.get().len()))
    }

    fn within(&self, object: &RawValue) -> Option<Spot> {
        self.at(object).map(|(_, end)| Spot::Within(end - 1))
    }

    /// Where content takes a mark, how much it counts for, and its blocks.
    fn content(&self, content: &RawValue) -> Option<(Spot, usize, u32)> {
        let text = content.get();
        if text.starts_with('"') {
            let (start, end) = self.at(content)?;
            let spot = if is_blank(text) { Spot::Nowhere } else { Spot::Around(start, end) };
            return Some((spot, text.len(), 1));
        }
        let blocks: Vec<Block<'_>> = serde_json::from_str(text).ok()?;
        let mut size = text.len();
        for image in blocks.iter().filter(|block| block.kind == "image") {
            size -= image.source.map_or(0, |source| source.get().len().saturating_sub(IMAGE));
        }
        let takes = |block: &&Block<'_>| {
            let blank = block.kind == "text" && block.text.is_none_or(|text| is_blank(text.get()));
            TAKE.contains(&&*block.kind) && !blank
        };
        let spot = match blocks.last().filter(takes) {
            // The last object closes before the list does.
            Some(_) => Spot::Within(self.at(content)?.0 + text.strip_suffix(']')?.trim_end().len() - 1),
            None => Spot::Nowhere,
        };
        Some((spot, size, u32::try_from(blocks.len()).unwrap_or(u32::MAX)))
    }

    fn finish(self) -> Prompt {
        let count = self.found.len();
        let kept = |(place, found): (usize, (Boundary, Spot))| {
            let to_end = u32::try_from(count - 1 - place).unwrap_or(u32::MAX);
            let near = place < FIRST || count - place <= MOST - FIRST;
            near.then_some((Boundary { to_end, ..found.0 }, found.1))
        };
        let (boundaries, spots) = self.found.into_iter().enumerate().filter_map(kept).unzip();
        Prompt { boundaries, spots }
    }
}

/// Whether a JSON text, in its quotes, says nothing but white space.
fn is_blank(text: &str) -> bool {
    // What is long says something at once.
    text.len() <= 256 && serde_json::from_str::<Cow<'_, str>>(text).is_ok_and(|plain| plain.trim().is_empty())
}

impl Prompt {
    /// The body with marks at these boundaries. All other bytes stay as they are, in their order.
    pub fn marked(&self, body: &[u8], marks: &[usize], ttl: PromptTtl) -> Option<Vec<u8>> {
        let mark = match ttl {
            PromptTtl::FiveMinutes => "\"cache_control\":{\"type\":\"ephemeral\"}",
            PromptTtl::Hour => "\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}",
        };
        let mut edits: Vec<(usize, String)> = Vec::with_capacity(2 * marks.len());
        for place in marks {
            match *self.spots.get(*place)? {
                Spot::Nowhere => return None,
                Spot::Within(brace) => edits.push((brace, format!(",{mark}"))),
                Spot::Around(start, end) => {
                    edits.push((start, "[{\"type\":\"text\",\"text\":".to_owned()));
                    edits.push((end, format!(",{mark}}}]")));
                }
            }
        }
        edits.sort_by_key(|(at, _)| *at);
        let mut out = Vec::with_capacity(body.len() + edits.iter().map(|(_, text)| text.len()).sum::<usize>());
        let mut done = 0;
        for (at, text) in edits {
            out.extend_from_slice(body.get(done..at)?);
            out.extend_from_slice(text.as_bytes());
            done = at;
        }
        out.extend_from_slice(body.get(done..)?);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn prompt(body: &str) -> Prompt {
        read(body.as_bytes(), SipHasher13::new()).unwrap()
    }

    fn all(body: &str) -> String {
        let prompt = prompt(body);
        let marks: Vec<usize> = (0..prompt.boundaries.len()).filter(|place| prompt.boundaries[*place].markable).collect();
        String::from_utf8(prompt.marked(body.as_bytes(), &marks, PromptTtl::FiveMinutes).unwrap()).unwrap()
    }

    const C: &str = "\"cache_control\":{\"type\":\"ephemeral\"}";

    #[test]
    fn marks_are_put_where_they_belong_and_every_other_byte_stays() {
        for (body, marked) in [
            (
                r#"{"model":"m", "messages": [ {"role":"user","content":"a \"b\" é"} ],"system":"s" }"#.to_owned(),
                format!(
                    r#"{{"model":"m", "messages": [ {{"role":"user","content":[{{"type":"text","text":"a \"b\" é",{C}}}]}} ],"system":[{{"type":"text","text":"s",{C}}}] }}"#
                ),
            ),
            (
                r#"{"tools":[{"name":"a"},{"name":"b" }],"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"text":"x","type":"text"}]}]}"#.to_owned(),
                format!(
                    r#"{{"tools":[{{"name":"a"}},{{"name":"b" ,{C}}}],"system":[{{"type":"text","text":"s",{C}}}],"messages":[{{"role":"user","content":[{{"text":"x","type":"text",{C}}}]}}]}}"#
                ),
            ),
        ] {
            assert_eq!(all(&body), marked);
        }
    }

    #[test]
    fn what_takes_no_mark_gets_none() {
        let body = json!({"system": "  ", "messages": [
            {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "thinking", "thinking": "t", "signature": "s"}]},
            {"role": "user", "content": ""},
            {"role": "user", "content": [{"type": "text", "text": ""}]},
            {"role": "user", "content": []},
        ]});
        assert!(prompt(&body.to_string()).boundaries.iter().all(|boundary| !boundary.markable));
        for other in
            ["", "[]", "{}", "{\"messages\":7}", "{\"messages\":[{\"role\":\"user\"}]}", "{\"messages\":[{\"role\":\"u\",\"content\":7}]}"]
        {
            assert!(read(other.as_bytes(), SipHasher13::new()).is_none(), "{other}");
        }
        // Said twice: nobody knows which of them holds.
        let twice = r#"{"system":"a","system":"b","messages":[]}"#;
        assert!(read(twice.as_bytes(), SipHasher13::new()).is_none());
    }

    #[test]
    fn prefixes_are_kept_in_the_order_of_the_provider_whatever_the_order_of_the_fields() {
        let one = prompt(r#"{"messages":[{"role":"user","content":"q"}],"system":"s","tools":[{"name":"t"}]}"#);
        let other = prompt(
            r#"{"tools":[{"name":"t"}],"system":"s","messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        );
        let digests = |prompt: &Prompt| prompt.boundaries.iter().map(|boundary| boundary.digest).collect::<Vec<_>>();
        assert_eq!(digests(&one), digests(&other)[..3]);
        let parts: Vec<Part> = one.boundaries.iter().map(|boundary| boundary.part).collect();
        assert_eq!(parts, [Part::Tools, Part::System, Part::Messages]);
        assert_eq!(other.boundaries.iter().map(|b| (b.blocks, b.to_end)).collect::<Vec<_>>(), [(1, 3), (2, 2), (3, 1), (4, 0)]);
        // Whoever speaks, and what is to be thought of, belongs to it.
        let others = [
            r#"{"messages":[{"role":"assistant","content":"q"}],"system":"s","tools":[{"name":"t"}]}"#,
            r#"{"messages":[{"role":"user","content":"q"}],"system":"s","tools":[{"name":"t"}],"thinking":{"type":"enabled"}}"#,
        ];
        for body in others {
            assert_eq!(digests(&prompt(body))[..2], digests(&one)[..2]);
            assert_ne!(digests(&prompt(body))[2], digests(&one)[2]);
        }
    }

    #[test]
    fn of_a_long_conversation_the_first_and_the_last_turns_are_weighed() {
        let turns: Vec<Value> = (0..500).map(|turn| json!({"role": "user", "content": format!("turn {turn}")})).collect();
        let found = prompt(&json!({"system": "s", "messages": turns}).to_string());
        assert_eq!(found.boundaries.len(), MOST);
        assert_eq!(found.boundaries.iter().map(|b| b.blocks).take(5).collect::<Vec<_>>(), [1, 2, 3, 4, 442]);
        assert_eq!(found.boundaries.last().map(|b| (b.blocks, b.to_end)), Some((501, 0)));
    }

    fn content() -> impl Strategy<Value = Value> {
        let text = "[ -~\u{e9}\u{4e2d}]{0,12}";
        prop_oneof![
            text.prop_map(Value::String),
            proptest::collection::vec(text.prop_map(|text| json!({"type": "text", "text": text})), 0..4).prop_map(Value::Array),
            Just(json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "x"}]}])),
            Just(json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}])),
        ]
    }

    /// What a marked prompt says without its marks, and with plain texts for lists of one.
    fn plain(value: &Value) -> Value {
        match value {
            Value::Array(list) => match list.as_slice() {
                [Value::Object(one)] if one.contains_key("cache_control") && one.get("type") == Some(&json!("text")) => one["text"].clone(),
                _ => Value::Array(list.iter().map(plain).collect()),
            },
            Value::Object(map) => {
                Value::Object(map.iter().filter(|(key, _)| *key != "cache_control").map(|(k, v)| (k.clone(), plain(v))).collect())
            }
            other => other.clone(),
        }
    }

    /// Lists of one text become that text.
    fn flat(value: &Value) -> Value {
        match value {
            Value::Array(list) => match list.as_slice() {
                [Value::Object(one)] if one.get("type") == Some(&json!("text")) => one["text"].clone(),
                _ => Value::Array(list.iter().map(flat).collect()),
            },
            Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), flat(v))).collect()),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn a_marked_prompt_says_the_same(
            system in proptest::option::of(content()), messages in proptest::collection::vec(content(), 0..5), tools in 0..3usize, set in any::<u32>(),
        ) {
            let messages: Vec<Value> = messages.into_iter().map(|content| json!({"role": "user", "content": content})).collect();
            let tools: Vec<Value> = (0..tools).map(|n| json!({"name": n.to_string(), "input_schema": {}})).collect();
            let mut body = json!({"model": "m", "max_tokens": 5, "messages": messages, "tools": tools});
            if let Some(system) = system {
                body["system"] = system;
            }
            let text = serde_json::to_string_pretty(&body).unwrap();
            let found = prompt(&text);
            let marks: Vec<usize> =
                (0..found.boundaries.len()).filter(|place| set >> place & 1 == 1 && found.boundaries[*place].markable).collect();
            let marked = found.marked(text.as_bytes(), &marks, PromptTtl::Hour).unwrap();
            let told: Value = serde_json::from_slice(&marked).unwrap();
            prop_assert_eq!(flat(&plain(&told)), flat(&body));
            let text = String::from_utf8(marked).unwrap();
            prop_assert_eq!(text.matches("\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}").count(), marks.len());
        }
    }
}
