//! An OpenAI-shaped endpoint: chat completions, plain and streamed, with usage; enough for client libraries to work.

use bytes::Bytes;
use farthing_types::{Money, Rate};
use serde_json::{Value, json};

/// Prices of the simulated chat target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatPrices {
    /// Dollars per input token.
    pub input: Rate,
    /// Dollars per output token.
    pub output: Rate,
}

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    model: String,
    prompt: String,
    pub(crate) stream: bool,
    include_usage: bool,
}

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// What is missing, for the 400 answer.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
        let messages = json["messages"].as_array().ok_or("messages must be a list")?;
        let model = json["model"].as_str().ok_or("model must be a string")?.to_owned();
        let prompt = messages.iter().map(|m| m["content"].as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ");
        Ok(Self {
            model,
            prompt,
            stream: json["stream"].as_bool().unwrap_or(false),
            include_usage: json["stream_options"]["include_usage"].as_bool().unwrap_or(false),
        })
    }

    /// The words of the answer: a function of the prompt, as a target at temperature 0 would be.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = vec!["You".into(), "said:".into()];
        words.extend(self.prompt.split_whitespace().rev().take(12).map(str::to_owned));
        words
    }

    /// (input, output) tokens: one a word.
    pub fn tokens(&self) -> (u64, u64) {
        (self.prompt.split_whitespace().count() as u64, self.words().len() as u64)
    }

    /// What the call costs: summed exactly, rounded once.
    pub fn price(&self, prices: &ChatPrices) -> Money {
        let (input, output) = self.tokens();
        Rate::round(prices.input.exact(input) + prices.output.exact(output))
    }

    fn usage(&self) -> Value {
        let (input, output) = self.tokens();
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
    }

    /// The plain answer of call number `serial`.
    pub fn plain(&self, serial: u64) -> Bytes {
        let answer = json!({
            "id": format!("chatcmpl-{serial}"), "object": "chat.completion", "created": 1_767_225_600, "model": self.model,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": self.words().join(" ")}, "finish_reason": "stop"}],
            "usage": self.usage(),
        });
        Bytes::from(answer.to_string())
    }

    /// The events of the streamed answer, one chunk each.
    pub fn events(&self, serial: u64) -> Vec<Bytes> {
        let chunk = |choices: Value, usage: Value| {
            let event = json!({
                "id": format!("chatcmpl-{serial}"), "object": "chat.completion.chunk", "created": 1_767_225_600, "model": self.model,
                "choices": choices, "usage": usage,
            });
            Bytes::from(format!("data: {event}\n\n"))
        };
        let mut events: Vec<Bytes> = Vec::new();
        for (index, word) in self.words().iter().enumerate() {
            let text = if index == 0 { word.clone() } else { format!(" {word}") };
            let delta = if index == 0 { json!({"role": "assistant", "content": text}) } else { json!({"content": text}) };
            events.push(chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]), Value::Null));
        }
        events.push(chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), Value::Null));
        if self.include_usage {
            events.push(chunk(json!([]), self.usage()));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(extra: &str) -> ChatRequest {
        ChatRequest::parse(
            format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"good old day\"}}]{extra}}}").as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn plain_and_streamed_answers_say_the_same() {
        let plain: Value = serde_json::from_slice(&request("").plain(1)).unwrap();
        assert_eq!(plain["choices"][0]["message"]["content"], "You said: day old good");
        assert_eq!(plain["usage"]["total_tokens"], 8);
        let streamed: String = request(",\"stream\":true")
            .events(1)
            .iter()
            .filter_map(|e| serde_json::from_slice::<Value>(e.strip_prefix(b"data: ")?).ok())
            .filter_map(|e| e["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(streamed, "You said: day old good");
    }

    #[test]
    fn usage_is_streamed_only_when_asked_for() {
        let has = |r: &ChatRequest| r.events(1).iter().any(|e| e.windows(12).any(|w| w == b"prompt_token"));
        assert!(!has(&request(",\"stream\":true")));
        assert!(has(&request(",\"stream\":true,\"stream_options\":{\"include_usage\":true}")));
    }

    #[test]
    fn bad_requests_say_what_is_missing() {
        assert!(ChatRequest::parse(b"{").unwrap_err().contains("not JSON"));
        assert!(ChatRequest::parse(b"{}").unwrap_err().contains("messages"));
    }

    #[test]
    fn the_price_is_rounded_once() {
        let prices = ChatPrices { input: "0.0000000005".parse().unwrap(), output: "0.0000000001".parse().unwrap() };
        assert_eq!(request("").price(&prices).nanos(), 2); // 3 x 0.5 + 5 x 0.1 nano-dollars
    }
}
