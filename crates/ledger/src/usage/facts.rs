//! What a request asks for, as far as its price depends on it.

use std::sync::{Arc, LazyLock};

use aho_corasick::AhoCorasick;

use super::scan::{Path, Scan, Take};
use super::service::{Extras, Geo, Speed, USUAL};
use super::tap::{MAX_TARGET, text_of};

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The `model` of the JSON body, or of the path.
    pub target: Option<Arc<str>>,
    /// Whether the body asks for a stream (`"stream": true`), or the path does.
    pub stream: bool,
    /// What it says of usage in the stream (`stream_options.include_usage`).
    pub include_usage: Option<bool>,
    /// Most output tokens of one choice: the largest of `max_completion_tokens`, `max_output_tokens`, `max_tokens` and
    /// `generationConfig.maxOutputTokens`; none where one of them is no plain number.
    pub max_output: Option<u64>,
    /// How many answers it asks for at once: `n`, `best_of` or `generationConfig.candidateCount`, times the prompts where it has a list of them.
    pub choices: Option<u32>,
    /// Its work is done after its answer has come (`"background": true`).
    pub background: bool,
    /// What stands for the service tier that it asks for, where that costs more than the usual one.
    pub service: Option<Arc<str>>,
    /// Its input is not bounded by its bytes: it refers to images, audio, files, stored text or the provider's tools, or is too long to
    /// be read.
    pub media: bool,
}

/// Parts of a request whose tokens its own bytes do not bound. Within a JSON text a quote is escaped, so none of these occurs there.
const BEYOND: [&[u8]; 34] = [
    b"\"image_url\"",
    b"\"input_image\"",
    b"\"input_audio\"",
    b"\"input_file\"",
    b"\"file_id\"",
    b"\"file\"",
    b"\"image\"",
    b"\"document\"",
    b"\"audio\"",
    b"\"video\"",
    b"\"previous_response_id\"",
    b"\"conversation\"",
    b"\"container\"",
    b"\"mcp",
    b"\"web_search",
    b"\"web_fetch",
    b"\"file_search",
    b"\"code_interpreter",
    b"\"code_execution",
    b"\"computer",
    b"\"inlineData\"",
    b"\"inline_data\"",
    b"\"fileData\"",
    b"\"file_data\"",
    b"\"cachedContent\"",
    b"\"cached_content\"",
    b"\"google",
    b"\"urlContext\"",
    b"\"url_context\"",
    b"\"codeExecution\"",
    b"\"fileSearch\"",
    b"\"image_generation",
    // A conversation that is made shorter first, and another model that is asked.
    b"\"compact_2",
    b"\"advisor_2",
];

static ANY_BEYOND: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(BEYOND).ok());

static REQUEST: LazyLock<Arc<[Path]>> = LazyLock::new(|| {
    [
        Path::keys(&["model"], Take::Text),
        Path::keys(&["stream"], Take::Text),
        Path::keys(&["stream_options", "include_usage"], Take::Text),
        Path::keys(&["max_tokens"], Take::Text),
        Path::keys(&["max_completion_tokens"], Take::Text),
        Path::keys(&["max_output_tokens"], Take::Text),
        Path::keys(&["n"], Take::Text),
        Path::keys(&["best_of"], Take::Text),
        Path::keys(&["prompt"], Take::Amount),
        // A stored prompt is an object, and none of our bytes.
        Path::keys(&["prompt", "id"], Take::Text),
        Path::keys(&["generationConfig", "maxOutputTokens"], Take::Text),
        Path::keys(&["generationConfig", "candidateCount"], Take::Text),
        Path::keys(&["generation_config", "max_output_tokens"], Take::Text),
        Path::keys(&["generation_config", "candidate_count"], Take::Text),
        Path::keys(&["background"], Take::Text),
        Path::keys(&["speed"], Take::Text),
        Path::keys(&["inference_geo"], Take::Text),
        Path::keys(&["service_tier"], Take::Text),
        Path::keys(&["serviceTier"], Take::Text),
    ]
    .into()
});

impl RequestFacts {
    /// Bytes of a request body that are read at most.
    pub const LIMIT: usize = 1 << 20;

    /// Reads a JSON object. The body may be cut short and is read up to [`Self::LIMIT`]: what does not appear by then counts as
    /// absent, as in a body that is no JSON object.
    pub fn read(body: &[u8]) -> Self {
        let mut facts = Self { media: body.len() > Self::LIMIT || beyond(body), ..Self::default() };
        let (mut n, mut prompts) = (None, 1u32);
        // Which of several bounds a provider reads nobody knows: the largest holds for all, and one that is no plain number for none.
        let (mut most, mut odd) = (None, false);
        let (mut extras, mut tier) = (Extras::NONE, None);
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
        let small = |text: &[u8]| number(text).and_then(|n| u32::try_from(n).ok());
        Scan::new(REQUEST.clone()).push(body.get(..Self::LIMIT).unwrap_or(body), &mut |path, text| match path {
            0 => facts.target = text_of(text),
            1 => facts.stream = text == b"true",
            2 => facts.include_usage = Some(text == b"true"),
            3..=7 | 10..=13 if text == b"null" => {}
            3..=5 | 10 | 12 => match number(text) {
                Some(tokens) => most = most.max(Some(tokens)),
                None => odd = true,
            },
            6 | 7 | 11 | 13 => match small(text) {
                Some(choices) => n = n.max(Some(choices)),
                None => facts.media = true,
            },
            8 => prompts = small(text).unwrap_or(1),
            14 => facts.background = text == b"true",
            15 => Speed::read(text).into_iter().for_each(|extra| extras.add(extra)),
            16 => Geo::read(text).into_iter().for_each(|extra| extras.add(extra)),
            17 | 18 => tier = text_of(text).map(|tier| tier.to_ascii_lowercase().into()).filter(is_dear).or_else(|| tier.take()),
            _ => facts.media = true,
        });
        facts.service = extras.joined(tier);
        facts.max_output = most.filter(|_| !odd);
        facts.choices = n.or((prompts > 1).then_some(1)).map(|n| n.max(1).saturating_mul(prompts.max(1)));
        facts
    }
}

impl RequestFacts {
    /// These facts with what the path tells: Gemini names target and way of answering there (`/models/NAME:streamGenerateContent`).
    #[must_use]
    pub fn named_by(mut self, path: &str) -> Self {
        let named = path
            .rsplit_once("/models/")
            .and_then(|(_, last)| last.split_once(':'))
            .filter(|(name, _)| !name.contains('/') && name.len() <= MAX_TARGET);
        if let Some((name, method)) = named {
            self.target = Some(name.into());
            self.stream = method.starts_with("stream");
        }
        self
    }
}

/// Whether a service tier may cost more than the usual one. What is called `flex` is sold for less, by whoever has it.
fn is_dear(tier: &Arc<str>) -> bool {
    !USUAL.contains(&&**tier) && **tier != *"flex"
}

fn beyond(body: &[u8]) -> bool {
    // What could not be looked for may be there.
    ANY_BEYOND.as_ref().is_none_or(|any| any.is_match(body)) || is_veiled(body)
}

/// Whether letters are written as escapes: no encoder does that, and names that are written so are not found.
fn is_veiled(body: &[u8]) -> bool {
    memchr::memmem::find_iter(body, b"\\u00").any(|at| {
        let before = body.get(..at).unwrap_or_default().iter().rev().take_while(|byte| **byte == b'\\').count();
        let code = body.get(at + 4..at + 6).and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        before % 2 == 0 && code.is_some_and(|code| code.is_ascii_alphanumeric() || code == b'_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(body: &str) -> RequestFacts {
        RequestFacts::read(body.as_bytes())
    }

    #[test]
    fn a_request_names_its_target() {
        let full =
            facts("{\"messages\":[{\"content\":\"\\\"model\\\": \\\"no\\\"\",\"model\":\"no\"}],\"model\":\"gpt-4o\",\"stream\":true}");
        assert_eq!(full, RequestFacts { target: Some("gpt-4o".into()), stream: true, ..RequestFacts::default() });
        let spaced = facts("{\"stream\": true , \"model\": \"a\\u0062\" }");
        assert_eq!(spaced, RequestFacts { target: Some("ab".into()), stream: true, media: true, ..RequestFacts::default() });
        assert_eq!(facts("{\"stream\":false,\"model\":7}"), RequestFacts::default());
        assert_eq!(facts("{\"model\":\"m\",\"input\":\"cut of"), RequestFacts { target: Some("m".into()), ..RequestFacts::default() });
        assert_eq!(facts("model=m&stream=true"), RequestFacts::default());
        let late = format!("{{\"input\":\"{}\",\"model\":\"m\"}}", "y".repeat(RequestFacts::LIMIT));
        assert_eq!(facts(&late), RequestFacts { media: true, ..RequestFacts::default() });
    }

    #[test]
    fn a_request_bounds_its_output() {
        for (body, max_output, choices) in [
            (r#"{"max_tokens":100}"#, Some(100), None),
            (r#"{"max_tokens":100,"max_completion_tokens":50,"n":3}"#, Some(100), Some(3)),
            (r#"{"max_output_tokens":7}"#, Some(7), None),
            (r#"{"max_tokens":null,"n":0}"#, None, Some(1)),
            (r#"{"prompt":["a","b"],"n":2,"best_of":4,"max_tokens":5}"#, Some(5), Some(8)),
            (r#"{"prompt":["a","b"]}"#, None, Some(2)),
            (r#"{"prompt":"9","metadata":{"max_tokens":5}}"#, None, None),
        ] {
            let facts = facts(body);
            assert_eq!((facts.max_output, facts.choices, facts.media), (max_output, choices, false), "{body}");
        }
    }

    #[test]
    fn a_request_cannot_hide_what_it_asks_for() {
        for body in
            [r#"{"max_tokens":1,"max\u005ftokens":16000}"#, r#"{"tools":[{"type":"web\u005fsearch"}]}"#, r#"{"n":"4"}"#, r#"{"n":4.0}"#]
        {
            assert!(facts(body).media, "{body}");
        }
        assert_eq!(facts(r#"{"max_completion_tokens":1,"max_tokens":16000}"#).max_output, Some(16_000));
        assert_eq!(facts(r#"{"max_completion_tokens":1,"max_tokens":"16000"}"#).max_output, None);
        assert!(!facts(r#"{"input":"caf\u00e9 \u003cb\u003e and \\u0041"}"#).media);
    }

    #[test]
    fn what_its_bytes_do_not_bound_is_seen() {
        for body in [
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"https://x"}}]}]}"#,
            r#"{"input":[{"type":"input_file","file_id":"f"}]}"#,
            r#"{"previous_response_id":"r"}"#,
            r#"{"tools":[{"type":"web_search_preview"}]}"#,
            r#"{"prompt":{"id":"p"}}"#,
            r#"{"tools":[{"type":"image_generation"}]}"#,
            r#"{"context_management":{"edits":[{"type":"compact_20260112"}]}}"#,
        ] {
            assert!(facts(body).media, "{body}");
        }
        assert!(!facts(r#"{"messages":[{"content":"say \"image\" and \"file\""}]}"#).media);
    }

    #[test]
    fn gemini_names_its_target_in_the_path() {
        let body = r#"{"contents":[],"generationConfig":{"maxOutputTokens":70,"candidateCount":3}}"#;
        let plain = facts(body).named_by("/v1beta/models/gemini-2.5-flash:generateContent");
        assert_eq!(
            (plain.target.as_deref(), plain.stream, plain.max_output, plain.choices),
            (Some("gemini-2.5-flash"), false, Some(70), Some(3))
        );
        let vertex = facts("{}").named_by("/v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent");
        assert_eq!((vertex.target.as_deref(), vertex.stream, vertex.media), (Some("g"), true, false));
        for path in ["/v1beta/models", "/v1beta/models/g", "/v1beta/files/f:upload", "/models/a/b:c"] {
            assert_eq!(facts("{}").named_by(path), RequestFacts::default(), "{path}");
        }
        for body in [r#"{"tools":[{"googleSearch":{}}]}"#, r#"{"tools":[{"google_search":{}}]}"#, r#"{"cachedContent":"c"}"#] {
            assert!(facts(body).media, "{body}");
        }
    }

    #[test]
    fn what_costs_more_than_usual_is_asked_for_by_name() {
        for (body, service) in [
            (r#"{"speed":"fast","inference_geo":"us"}"#, Some("fast+us")),
            (r#"{"speed":"fast","speed":"standard"}"#, Some("fast")),
            (r#"{"speed":"standard","inference_geo":"global","service_tier":"auto"}"#, None),
            (r#"{"speed":null,"inference_geo":"mars"}"#, Some("geo")),
            (r#"{"service_tier":"priority"}"#, Some("priority")),
            (r#"{"service_tier":"flex"}"#, None),
        ] {
            assert_eq!(facts(body).service.as_deref(), service, "{body}");
        }
    }

    #[test]
    fn work_may_be_done_after_the_answer() {
        assert!(facts(r#"{"model":"m","background":true}"#).background);
        for body in [r#"{"background":null}"#, r#"{"background":"transparent"}"#, r#"{"metadata":{"background":true}}"#] {
            assert!(!facts(body).background, "{body}");
        }
    }

    #[test]
    fn usage_in_streams_may_be_asked_for() {
        assert_eq!(facts(r#"{"stream_options":{"include_usage":true}}"#).include_usage, Some(true));
        assert_eq!(facts(r#"{"stream_options":{"include_usage":false}}"#).include_usage, Some(false));
        assert_eq!(facts(r#"{"stream_options":null,"x":{"include_usage":true}}"#).include_usage, None);
    }
}
