//! `litellm`: rows of LiteLLM's table `LiteLLM_SpendLogs` as JSON lines, as its `/spend/logs` answers or a database exports them.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::format::{Format, Sink, each_line};
use super::json_lines::{cell, object};
use super::mapping::Mapping;
use super::record::{Record, What, dollars, url};
use super::skipped::Reason;
use super::time::TimeFormat;
use crate::error::TrainError;

/// The format.
pub struct LiteLlm;

impl Format for LiteLlm {
    fn name(&self) -> &'static str {
        "litellm"
    }
    fn about(&self) -> &'static str {
        "LiteLLM's spend log, one JSON object per line: startTime, model, spend, tokens, cache_key, api_base ..."
    }
    fn read(&self, _: &Mapping, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
        each_line(path, sink, |line| {
            let value = object(line)?;
            let made: Result<Record<'static>, Reason> = row(&value);
            made.map(Some)
        })
    }
}

/// Paths of the OpenAI dialect by the call types of LiteLLM; the asynchronous ones begin with an `a`.
const PATHS: &[(&str, &str)] = &[
    ("completion", "/v1/chat/completions"),
    ("text_completion", "/v1/completions"),
    ("embedding", "/v1/embeddings"),
    ("moderation", "/v1/moderations"),
    ("image_generation", "/v1/images/generations"),
    ("transcription", "/v1/audio/transcriptions"),
    ("speech", "/v1/audio/speech"),
    ("rerank", "/v1/rerank"),
    ("responses", "/v1/responses"),
];

fn row(value: &Value) -> Result<Record<'static>, Reason> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    // `cache_hit` is a text in the table: "True", "False", "None" or empty.
    if text("cache_hit").is_some_and(|t| t.eq_ignore_ascii_case("true")) || value.get("cache_hit") == Some(&Value::Bool(true)) {
        return Err(Reason::Cached);
    }
    let at_ns = time(value, "startTime").ok_or(Reason::Time)?;
    let spend = value.get("spend").and_then(cell).map(|c| match c {
        super::cells::Cell::Text(t) => dollars(&t),
        super::cells::Cell::Int(n) => dollars(&n.to_string()),
        super::cells::Cell::Float(x) => dollars(&x.to_string()),
        super::cells::Cell::Bool(_) => None,
    });
    let count = |name: &str| value.get(name).and_then(Value::as_i64).filter(|n| *n >= 0);
    let cached = value.pointer("/metadata/usage_object/prompt_tokens_details/cached_tokens").and_then(Value::as_i64).filter(|n| *n > 0);
    let own = |t: &str| Cow::Owned(t.to_owned());
    Ok(Record {
        at_ns,
        method: Cow::Borrowed("POST"),
        what: What::Endpoint {
            endpoint: endpoint(text("call_type").unwrap_or("completion")),
            key: key(value),
            provider: provider(value).map(own),
        },
        status: Some(if failed(value) { 500 } else { 200 }),
        latency_us: time(value, "endTime").map(|end| (end - at_ns).max(0) / 1_000),
        cost: spend.map(|s| s.ok_or(Reason::Number)).transpose()?,
        // LiteLLM keeps a digest of the key; here it is salted once more.
        client: text("api_key").or_else(|| text("user")).map(own),
        tokens: [count("prompt_tokens").map(|all| (all - cached.unwrap_or(0)).max(0)), cached, count("completion_tokens")],
        model: text("model").map(own),
        ..Record::default()
    })
}

fn time(value: &Value, name: &str) -> Option<i64> {
    match value.get(name)? {
        Value::String(text) => TimeFormat::Auto.text(text),
        Value::Number(n) => TimeFormat::Auto.text(&n.to_string()),
        _ => None,
    }
}

fn endpoint(call_type: &str) -> Cow<'static, str> {
    let plain = call_type.strip_prefix('a').filter(|rest| PATHS.iter().any(|(name, _)| name == rest)).unwrap_or(call_type);
    PATHS.iter().find(|(name, _)| *name == plain).map_or_else(|| Cow::Owned(format!("/{plain}")), |(_, path)| Cow::Borrowed(*path))
}

/// What tells answers apart: LiteLLM's own cache key, else the messages where they were stored; else nothing does.
fn key(value: &Value) -> Option<Cow<'static, str>> {
    let model = value.get("model").and_then(Value::as_str).unwrap_or_default();
    let cache_key = value.get("cache_key").and_then(Value::as_str).filter(|k| !k.is_empty() && !k.eq_ignore_ascii_case("cache off"));
    if let Some(key) = cache_key {
        return Some(Cow::Owned(format!("k{key}")));
    }
    let stored = |v: &&Value| match v {
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => !matches!(text.trim(), "" | "{}" | "[]"),
        _ => false,
    };
    let asked = value.get("messages").filter(stored).or_else(|| value.get("proxy_server_request").filter(stored))?;
    Some(Cow::Owned(format!("m{model}\n{asked}")))
}

fn provider(value: &Value) -> Option<&str> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    text("api_base").and_then(|base| url(base)?.0).or_else(|| text("custom_llm_provider"))
}

fn failed(value: &Value) -> bool {
    let status = value.get("status").or_else(|| value.pointer("/metadata/status")).and_then(Value::as_str);
    status.is_some_and(|s| s.eq_ignore_ascii_case("failure"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Record<'static>, Reason> {
        row(&object(line.as_bytes())?)
    }

    const LINE: &str = r#"{"request_id":"chatcmpl-1","call_type":"acompletion","api_key":"88dc28d0f030","spend":1.725e-05,"total_tokens":31,
        "prompt_tokens":20,"completion_tokens":11,"startTime":"2024-05-01T12:51:30.250Z","endTime":"2024-05-01T12:51:31.500Z","model":"gpt-4o",
        "api_base":"https://api.openai.com/v1/","user":"","metadata":{},"cache_hit":"False","cache_key":"Cache OFF","request_tags":[],"end_user":""}"#;

    #[test]
    fn a_row_of_the_spend_log() {
        let record = read(LINE).unwrap();
        assert_eq!((record.at_ns, record.latency_us), (1_714_567_890_250_000_000, Some(1_250_000)));
        assert_eq!(record.cost.map(farthing_types::Money::nanos), Some(17_250));
        assert_eq!(record.tokens, [Some(20), None, Some(11)]);
        let What::Endpoint { endpoint, key, provider } = record.what else { panic!() };
        assert_eq!((&*endpoint, key, provider.as_deref()), ("/v1/chat/completions", None, Some("api.openai.com")));
    }

    #[test]
    fn repeats_are_known_by_cache_key_or_stored_messages() {
        let key = |line: &str| match read(line).unwrap().what {
            What::Endpoint { key, .. } => key,
            What::Url { .. } => panic!(),
        };
        assert!(key(&LINE.replace("Cache OFF", "abc123")).is_some_and(|k| k == "kabc123"));
        let asked = LINE.replace("\"user\":\"\"", "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]");
        assert!(key(&asked).is_some_and(|k| k.starts_with("mgpt-4o")));
        assert_eq!(key(&LINE.replace("\"user\":\"\"", "\"messages\":\"{}\"")), None);
    }

    #[test]
    fn cache_hits_failures_and_bad_rows() {
        assert_eq!(read(&LINE.replace("\"False\"", "\"True\"")), Err(Reason::Cached));
        assert_eq!(read(&LINE.replace("\"metadata\":{}", "\"status\":\"failure\"")).unwrap().status, Some(500));
        assert_eq!(read(&LINE.replace("1.725e-05", "\"much\"")), Err(Reason::Number));
        assert_eq!(read(&LINE.replace("startTime", "began")), Err(Reason::Time));
        assert_eq!(&*endpoint("aembedding"), "/v1/embeddings");
        assert_eq!(&*endpoint("aretrieve_batch"), "/aretrieve_batch");
    }
}
