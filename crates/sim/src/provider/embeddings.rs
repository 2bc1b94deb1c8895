//! An OpenAI-shaped endpoint for embeddings: one text or a list of them, as numbers or as base64, with usage.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use farthing_types::{Money, Rate};
use serde_json::{Value, json};

use super::chat::ChatPrices;

/// A parsed request.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingsRequest {
    model: String,
    inputs: Vec<String>,
    base64: bool,
}

impl EmbeddingsRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// What is missing, for the 400 answer.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(body).map_err(|e| format!("not JSON: {e}"))?;
        let text = |input: &Value| input.as_str().map(str::to_owned).ok_or("input must be a text or a list of texts");
        let inputs = match &json["input"] {
            Value::Array(all) => all.iter().map(text).collect::<Result<Vec<_>, _>>()?,
            one => vec![text(one)?],
        };
        let model = json["model"].as_str().ok_or("model must be a string")?.to_owned();
        Ok(Self { model, inputs, base64: json["encoding_format"] == "base64" })
    }

    /// Tokens: one a word.
    fn tokens(&self) -> u64 {
        self.inputs.iter().map(|input| input.split_whitespace().count() as u64).sum()
    }

    /// What the call costs.
    pub fn price(&self, prices: &ChatPrices) -> Money {
        Rate::round(prices.input.exact(self.tokens()))
    }

    /// How many inputs it has.
    pub fn inputs(&self) -> u64 {
        self.inputs.len() as u64
    }

    /// The answer.
    pub fn plain(&self) -> Bytes {
        let one = |(index, input): (usize, &String)| {
            let vector = vector(input);
            let embedding = if self.base64 { Value::from(base64(&vector)) } else { json!(vector) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        };
        let data: Vec<Value> = self.inputs.iter().enumerate().map(one).collect();
        let tokens = self.tokens();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Bytes::from(json!({"object": "list", "data": data, "model": self.model, "usage": usage}).to_string())
    }
}

/// A vector that names its text: its length, and the sum of its bytes.
fn vector(input: &str) -> [f32; 2] {
    [input.len() as f32, input.bytes().map(f32::from).sum()]
}

/// As little-endian floats in base64.
fn base64(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<u8>>())
}
