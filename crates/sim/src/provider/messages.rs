//! An Anthropic-shaped endpoint: messages, plain and streamed, with marks in prompts and usage; enough for client libraries to work.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use farthing_types::Span;
use serde_json::{Value, json};

use super::prompts::{MOST_MARKS, PromptBlock, PromptUsage};

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct MessagesRequest {
    model: String,
    blocks: Vec<PromptBlock>,
    words: Vec<String>,
    /// Whether the answer is streamed.
    pub stream: bool,
}

impl MessagesRequest {
    /// Reads a request body; texts have one token a word.
    ///
    /// # Errors
    /// What is wrong, for the 400 answer; marks must obey what is documented of them.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
        let model = json["model"].as_str().ok_or("model: Field required")?.to_owned();
        json["max_tokens"].as_u64().ok_or("max_tokens: Field required")?;
        let messages = json["messages"].as_array().filter(|list| !list.is_empty()).ok_or("messages: Field required")?;
        let mut blocks = Vec::new();
        for tool in json["tools"].as_array().into_iter().flatten() {
            blocks.push(block("tool", tool)?);
        }
        blocks.extend(content("system", &json["system"])?);
        for message in messages {
            let role = message["role"].as_str().ok_or("messages.role: Field required")?;
            blocks.extend(content(role, &message["content"])?);
        }
        let marks: Vec<Span> = blocks.iter().filter_map(|block| block.mark).collect();
        if marks.len() > MOST_MARKS {
            return Err(format!("A maximum of {MOST_MARKS} blocks with cache_control may be provided. Found {}.", marks.len()));
        }
        if marks.windows(2).any(|pair| pair[0] < pair[1]) {
            return Err("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block".to_owned());
        }
        let last = messages.last().map(|message| texts(&message["content"]).join(" ")).unwrap_or_default();
        let mut words: Vec<String> = vec!["You".into(), "said:".into()];
        words.extend(last.split_whitespace().rev().take(12).map(str::to_owned));
        Ok(Self { model, blocks, words, stream: json["stream"].as_bool().unwrap_or(false) })
    }

    /// Its blocks, in the order in which prefixes are kept.
    pub fn blocks(&self) -> &[PromptBlock] {
        &self.blocks
    }

    /// Stands for `who` asks, and the target: their prefixes are kept apart.
    pub fn owner(&self, who: &str) -> u64 {
        hash(&(who, &self.model))
    }

    /// Tokens of the answer: one a word.
    pub fn output(&self) -> u64 {
        self.words.len() as u64
    }

    fn usage(usage: &PromptUsage, output: u64) -> Value {
        json!({
            "input_tokens": usage.input, "cache_read_input_tokens": usage.read,
            "cache_creation_input_tokens": usage.write + usage.write_1h,
            "cache_creation": {"ephemeral_5m_input_tokens": usage.write, "ephemeral_1h_input_tokens": usage.write_1h},
            "output_tokens": output,
        })
    }

    fn message(&self, serial: u64, content: &Value, (usage, stop): (Value, Value)) -> Value {
        json!({
            "id": format!("msg_{serial}"), "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": usage,
        })
    }

    /// The plain answer of call number `serial`.
    pub fn plain(&self, serial: u64, usage: &PromptUsage) -> Bytes {
        let content = json!([{"type": "text", "text": self.words.join(" ")}]);
        Bytes::from(self.message(serial, &content, (Self::usage(usage, self.output()), json!("end_turn"))).to_string())
    }

    /// The events of the streamed answer.
    pub fn events(&self, serial: u64, usage: &PromptUsage) -> Vec<Bytes> {
        let event = |data: Value| Bytes::from(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()));
        let begun = self.message(serial, &json!([]), (Self::usage(usage, 1), Value::Null));
        let mut events = vec![
            event(json!({"type": "message_start", "message": begun})),
            event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
        ];
        for (index, word) in self.words.iter().enumerate() {
            let text = if index == 0 { word.clone() } else { format!(" {word}") };
            events.push(event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})));
        }
        events.push(event(json!({"type": "content_block_stop", "index": 0})));
        let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
        events.push(event(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": self.output()}})));
        events.push(event(json!({"type": "message_stop"})));
        events
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A text stands for a list with one block of it.
fn content(role: &str, content: &Value) -> Result<Vec<PromptBlock>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![block(role, &json!({"type": "text", "text": text}))?]),
        Value::Array(blocks) => blocks.iter().map(|one| block(role, one)).collect(),
        _ => Err("content: Input should be a valid list".to_owned()),
    }
}

fn block(role: &str, value: &Value) -> Result<PromptBlock, String> {
    let mark = match &value["cache_control"] {
        Value::Null => None,
        mark if mark["type"] != "ephemeral" => return Err("cache_control.type: Input should be 'ephemeral'".to_owned()),
        mark => match mark["ttl"].as_str() {
            None | Some("5m") => Some(Span::from_secs(300)),
            Some("1h") => Some(Span::from_secs(3_600)),
            Some(other) => return Err(format!("cache_control.ttl: Input should be '5m' or '1h', not '{other}'")),
        },
    };
    let empty = value["type"] == "text" && value["text"].as_str().is_none_or(|text| text.trim().is_empty());
    if mark.is_some() && (empty || value["type"] == "thinking") {
        return Err("cache_control cannot be set for empty text blocks or thinking".to_owned());
    }
    let mut plain = value.clone();
    if let Some(object) = plain.as_object_mut() {
        object.remove("cache_control");
    }
    let text = if value["type"] == "text" { value["text"].as_str().unwrap_or_default().to_owned() } else { plain.to_string() };
    Ok(PromptBlock { digest: hash(&(role, plain.to_string())), tokens: text.split_whitespace().count() as u64, mark })
}

fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &Value) -> Result<MessagesRequest, String> {
        MessagesRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn a_text_and_a_list_of_one_are_the_same_prompt_with_or_without_a_mark() {
        let of =
            |content: Value| parse(&json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]})).unwrap();
        let (plain, list) =
            (of(json!("one two")), of(json!([{"type": "text", "text": "one two", "cache_control": {"type": "ephemeral"}}])));
        assert_eq!(plain.blocks()[0].digest, list.blocks()[0].digest);
        assert_eq!((plain.blocks()[0].mark, list.blocks()[0].mark), (None, Some(Span::from_secs(300))));
        assert_eq!((plain.blocks()[0].tokens, plain.output()), (2, 4));
    }

    #[test]
    fn marks_that_are_not_allowed_are_refused() {
        let mark = json!({"type": "ephemeral"});
        let text = |text: &str, mark: &Value| json!({"type": "text", "text": text, "cache_control": mark});
        let of = |content: Vec<Value>| parse(&json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}));
        assert!(of(vec![text("a", &mark); 4]).is_ok());
        assert!(of(vec![text("a", &mark); 5]).unwrap_err().contains("maximum of 4"));
        assert!(of(vec![text(" ", &mark)]).unwrap_err().contains("empty"));
        let hour = json!({"type": "ephemeral", "ttl": "1h"});
        assert!(of(vec![text("a", &mark), text("b", &hour)]).unwrap_err().contains("must not come after"));
        assert!(of(vec![text("a", &hour), text("b", &mark)]).is_ok());
        assert!(parse(&json!({"model": "m", "messages": []})).unwrap_err().contains("max_tokens"));
    }
}
