use farthing_types::Usage;
use http::HeaderMap;
use proptest::prelude::*;

use super::*;

/// File, target, buckets (input, cached, cache write, output, reasoning), and the provider's own total.
type Golden = (&'static str, &'static str, [Option<u64>; 5], u64);

/// The totals: OpenAI's `total_tokens`; for Anthropic all four counts together, which it documents as disjoint.
const GOLDEN: &[Golden] = &[
    (include_str!("../../tests/golden/openai-chat.json"), "gpt-4o-2024-08-06", [Some(86), Some(1920), None, Some(172), Some(128)], 2306),
    (include_str!("../../tests/golden/openai-chat.sse"), "gpt-4o-mini-2024-07-18", [Some(17), Some(0), None, Some(9), Some(0)], 26),
    (
        include_str!("../../tests/golden/openai-responses.json"),
        "o4-mini-2025-04-16",
        [Some(17), Some(64), None, Some(203), Some(832)],
        1116,
    ),
    (include_str!("../../tests/golden/openai-responses.sse"), "gpt-5-2025-08-07", [Some(37), Some(0), None, Some(11), Some(0)], 48),
    (include_str!("../../tests/golden/openai-embeddings.json"), "text-embedding-3-small", [Some(8), None, None, None, None], 8),
    (
        include_str!("../../tests/golden/anthropic-message.json"),
        "claude-sonnet-4-20250514",
        [Some(21), Some(4096), Some(188_086), Some(393), None],
        192_596,
    ),
    (
        include_str!("../../tests/golden/anthropic-message.sse"),
        "claude-opus-4-20250514",
        [Some(25), Some(1200), Some(0), Some(15), None],
        1240,
    ),
    (
        include_str!("../../tests/golden/openai-cache-write.json"),
        "gpt-5.6-2026-09-01",
        [Some(1_000), Some(0), Some(9_000), Some(10), Some(0)],
        10_010,
    ),
    (include_str!("../../tests/golden/reasoning-beside.json"), "thinker-1", [Some(28), Some(2), None, Some(8), Some(500)], 538),
];

#[test]
fn what_costs_more_than_its_tokens_is_said() {
    let service =
        |usage: &str| UsageTap::read_json(format!("{{\"service_tier\":\"default\",\"usage\":{usage}}}").as_bytes()).service.unwrap();
    let spoke = service(r#"{"prompt_tokens":9,"completion_tokens":5,"completion_tokens_details":{"audio_tokens":4}}"#);
    let searched = service(r#"{"input_tokens":9,"output_tokens":5,"server_tool_use":{"web_search_requests":2}}"#);
    let plain = service(r#"{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"audio_tokens":0}}"#);
    assert_eq!([&*spoke, &*searched, &*plain], ["audio", "grounded", "default"]);
}

fn told(body: &str) -> Option<String> {
    let service = read(body.as_bytes(), tap(body), 7).service;
    service.map(|service| service.to_string())
}

#[test]
fn a_mode_a_place_and_a_shortened_conversation_are_told() {
    let usage = |more: &str| format!(r#"{{"usage":{{"input_tokens":100,"output_tokens":20,"service_tier":"standard",{more}}}}}"#);
    for (more, service) in [
        (r#""speed":"fast""#, "fast"),
        (r#""inference_geo":"us""#, "us"),
        (r#""speed":"fast","inference_geo":"us""#, "fast+us"),
        (r#""inference_geo":"eu""#, "geo"),
        (r#""speed":"standard","inference_geo":"global""#, "standard"),
        (r#""speed":null,"inference_geo":"not_available","iterations":null"#, "standard"),
        (r#""iterations":[{"type":"message","input_tokens":100,"output_tokens":20}]"#, "standard"),
        (r#""iterations":[{"type":"advisor_message","model":"other","input_tokens":9,"output_tokens":2}]"#, "mixed"),
    ] {
        assert_eq!(told(&usage(more)).as_deref(), Some(service), "{more}");
    }
    let batch = r#"{"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"batch","inference_geo":"us"}}"#;
    assert_eq!(told(batch).as_deref(), Some("batch+us"));
}

/// The documented example: 23,000 tokens at the top, and 180,000 that the top leaves out.
#[test]
fn what_a_conversation_was_made_shorter_with_is_billed() {
    let compaction =
        r#"{"type":"compaction","input_tokens":180000,"output_tokens":3500,"cache_read_input_tokens":7,"cache_creation_input_tokens":0}"#;
    let body = format!(
        r#"{{"usage":{{"input_tokens":23000,"output_tokens":1000,"iterations":[{compaction},{{"type":"message","input_tokens":23000,"output_tokens":1000}}]}}}}"#
    );
    let reading = UsageTap::read_json(body.as_bytes());
    let usage = reading.usage.unwrap();
    assert_eq!((usage.input, usage.cached_input, usage.cache_write, usage.output), (Some(203_000), Some(7), Some(0), Some(4_500)));
    assert_eq!((reading.contradictory, reading.service), (false, None));
    let begun = r#"data: {"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1,"speed":"fast"}}}"#;
    let stream = format!(
        "{begun}\n\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":5,\"iterations\":[{compaction},{{\"type\":\"message\"}}]}}}}\n\n"
    );
    let reading = read(stream.as_bytes(), UsageTap::events(), 9);
    let usage = reading.usage.unwrap();
    assert_eq!((usage.input, usage.output, reading.service.as_deref()), (Some(180_010), Some(3_505), Some("fast")));
}

#[test]
fn images_are_told_from_text() {
    let usage = |details: &str| format!(r#"{{"usage":{{"input_tokens":50,"output_tokens":4160,{details}}}}}"#);
    for (details, service) in [
        (r#""output_tokens_details":{"image_tokens":4160}"#, Some("image")),
        (
            r#""output_tokens_details":{"image_tokens":4160},"input_tokens_details":{"image_tokens":40,"text_tokens":10}"#,
            Some("image+image-input"),
        ),
        (r#""input_tokens_details":{"image_tokens":40}"#, Some("image-input")),
        (r#""output_tokens_details":{"image_tokens":0}"#, None),
    ] {
        assert_eq!(told(&usage(details)).as_deref(), service, "{details}");
    }
    let candidates = r#"{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1290,"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}}"#;
    assert_eq!(told(candidates).as_deref(), Some("image"));
}

#[test]
fn tools_that_are_charged_by_the_use_are_seen() {
    let usage = r#""usage":{"input_tokens":9,"output_tokens":5}"#;
    for (kind, service) in [
        ("web_search_call", Some("grounded")),
        ("file_search_call", Some("tools")),
        ("code_interpreter_call", Some("tools")),
        ("image_generation_call", Some("tools")),
        ("function_call", None),
        ("message", None),
    ] {
        let output = format!(r#"[{{"type":"reasoning"}},{{"type":"{kind}","status":"completed"}}]"#);
        assert_eq!(told(&format!(r#"{{"output":{output},{usage}}}"#)).as_deref(), service, "{kind}");
        let done = format!("data: {{\"type\":\"response.completed\",\"response\":{{\"output\":{output},{usage}}}}}\n\n");
        assert_eq!(read(done.as_bytes(), UsageTap::events(), 5).service.as_deref(), service, "{kind} in a stream");
        let item = format!("data: {{\"type\":\"response.output_item.done\",\"item\":{{\"type\":\"{kind}\"}}}}\n\n");
        assert_eq!(read(item.as_bytes(), UsageTap::events(), 5).service.as_deref(), service, "{kind} before a stream breaks off");
    }
    let cited = format!(
        r#"{{"choices":[{{"message":{{"content":"It is.","annotations":[{{"type":"url_citation","url_citation":{{}}}}]}}}}],{usage}}}"#
    );
    assert_eq!(told(&cited).as_deref(), Some("grounded"));
}

#[test]
fn what_a_meter_counts_is_not_told_as_a_tier() {
    let headers: HeaderMap = [("content-type".parse().unwrap(), "application/json".parse().unwrap())].into_iter().collect();
    let body = r#"{"usage":{"input_tokens":50,"output_tokens":9,"output_tokens_details":{"image_tokens":9},"input_tokens_details":{"image_tokens":40}}}"#;
    let service = |pointer: &str| {
        let reads = Arc::new(crate::prices::Reads::new(vec![pointer.into()], Vec::new()));
        let mut tap = UsageTap::for_answer(&headers, Some(&reads)).unwrap();
        tap.push(body.as_bytes());
        tap.reading().service
    };
    assert_eq!(service("/usage/output_tokens_details/image_tokens").as_deref(), Some("image-input"));
    assert_eq!(service("/usage/input_tokens_details/image_tokens").as_deref(), Some("image"));
}

fn tap(body: &str) -> UsageTap {
    if body.starts_with('{') { UsageTap::json() } else { UsageTap::events() }
}

fn read(body: &[u8], mut tap: UsageTap, chunk: usize) -> UsageReading {
    body.chunks(chunk).for_each(|chunk| tap.push(chunk));
    tap.reading()
}

fn sum(usage: &Usage) -> u64 {
    [usage.input, usage.cached_input, usage.cache_write, usage.cache_write_1h, usage.output, usage.reasoning].into_iter().flatten().sum()
}

#[test]
fn golden_answers_in_chunks_of_any_size() {
    for (body, target, [input, cached_input, cache_write, output, reasoning], total) in GOLDEN {
        let usage = Usage {
            input: *input,
            cached_input: *cached_input,
            cache_write: *cache_write,
            cache_write_1h: None,
            output: *output,
            reasoning: *reasoning,
            units: None,
        };
        for chunk in [1, 2, 3, 7, 64, usize::MAX >> 1] {
            let reading = read(body.as_bytes(), tap(body), chunk);
            assert_eq!(reading.usage, Some(usage), "{target} in chunks of {chunk}");
            assert_eq!(reading.target.as_deref(), Some(*target));
        }
        assert_eq!(sum(&usage), *total, "{target}");
    }
}

#[test]
fn events_may_end_their_lines_in_three_ways() {
    let (body, target, ..) = GOLDEN[1];
    for end in ["\n", "\r\n", "\r"] {
        let body = body.replace('\n', end);
        for chunk in [1, 5, 4096] {
            let reading = read(body.as_bytes(), UsageTap::events(), chunk);
            assert_eq!((reading.target.as_deref(), reading.usage.unwrap().output), (Some(target), Some(9)), "{end:?}");
        }
    }
}

#[test]
fn data_of_one_event_may_span_lines() {
    let body = b"data:{\"model\": \"m\",\ndata: \"usage\":\ndata: {\"prompt_tokens\": 3}}\n\n";
    assert_eq!(read(body, UsageTap::events(), 9).usage.unwrap().input, Some(3));
}

#[test]
fn what_a_broken_stream_said_before_counts() {
    let (body, ..) = GOLDEN[6];
    let cut = &body.as_bytes()[..body.find("message_delta").unwrap()];
    let usage = read(cut, UsageTap::events(), 11).usage.unwrap();
    assert_eq!((usage.input, usage.cached_input, usage.output), (Some(25), Some(1200), Some(1)));
}

#[test]
fn nothing_is_made_up() {
    for body in [
        "",
        "null",
        "[{\"usage\":{\"prompt_tokens\":1}}]",
        "{\"model\":\"\",\"usage\":null}",
        "{\"usage\":{}}",
        "{\"usage\":{\"prompt_tokens\":-1}}",
        "{\"usage\":{\"prompt_tokens\":\"many\"}}",
        "{\"choices\":[{\"usage\":{\"prompt_tokens\":1}}]}",
        "{\"a\":{\"b\":{\"usage\":{\"prompt_tokens\":1}}}}",
        "{\"usage\":{\"prompt_tokens\":1}",
    ] {
        let reading = UsageTap::read_json(body.as_bytes());
        let cut_after_usage = body.ends_with("1}");
        assert_eq!(reading.usage.is_some(), cut_after_usage, "{body}");
        assert_eq!(reading.target, None, "{body}");
    }
}

#[test]
fn a_part_larger_than_its_whole_is_not_believed() {
    let body = b"{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":6}}}";
    let usage = UsageTap::read_json(body).usage.unwrap();
    assert_eq!((usage.input, usage.cached_input), (Some(5), None));
}

#[test]
fn openai_counts_what_it_writes_to_its_cache_as_part_of_the_input() {
    let read = |details: &str| {
        let body =
            format!(r#"{{"usage":{{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"prompt_tokens_details":{details}}}}}"#);
        let reading = UsageTap::read_json(body.as_bytes());
        let usage = reading.usage.unwrap();
        (usage.input, usage.cached_input, usage.cache_write, sum(&usage), reading.contradictory)
    };
    assert_eq!(read(r#"{"cached_tokens":30,"cache_write_tokens":60}"#), (Some(10), Some(30), Some(60), 105, false));
    assert_eq!(read(r#"{"cached_tokens":30,"cache_write_tokens":null}"#), (Some(70), Some(30), None, 105, false));
    let beyond = read(r#"{"cached_tokens":50,"cache_write_tokens":60}"#);
    assert_eq!(beyond, (Some(50), Some(50), None, 105, true), "together more than the whole");
}

#[test]
fn values_beyond_the_bound_are_skipped_and_the_rest_is_read() {
    let body = format!("{{\"model\":\"{}\",\"usage\":{{\"prompt_tokens\":4}}}}", "x".repeat(100_000));
    let reading = read(body.as_bytes(), UsageTap::json(), 1000);
    assert_eq!((reading.target, reading.usage.unwrap().input), (None, Some(4)));
}

#[test]
fn only_readable_answers_are_tapped() {
    let headers = |pairs: &[(&'static str, &'static str)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    };
    let tapped = |pairs: &[(&'static str, &'static str)]| UsageTap::for_answer(&headers(pairs), None).is_some();
    assert!(tapped(&[("content-type", "application/json")]));
    assert!(tapped(&[("content-type", "Application/JSON; charset=utf-8"), ("content-encoding", "identity")]));
    assert!(tapped(&[("content-type", "text/event-stream;charset=utf-8")]));
    assert!(tapped(&[("content-type", "application/vnd.api+json")]));
    assert!(tapped(&[("content-type", "application/json"), ("content-encoding", "gzip")]));
    assert!(!tapped(&[("content-type", "text/html")]));
    assert!(!tapped(&[]));
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let text = "[a-z\"\\\\{}\\[\\]:,\n\u{e9} ]{0,8}";
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text.prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let key = prop_oneof![
            text.boxed(),
            Just("usage".to_owned()).boxed(),
            Just("model".to_owned()).boxed(),
            Just("message".to_owned()).boxed()
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::vec((key, inner), 0..4).prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever else an answer holds, its usage and target are found where a parser of the whole body finds them.
    #[test]
    fn agrees_with_a_whole_parse(mut body in any_json(), input in 0u64..1000, pretty in any::<bool>(), chunk in 1usize..40) {
        if let Some(object) = body.as_object_mut() {
            for nested in ["response", "message"] {
                object.remove(nested);
            }
            object.insert("usage".to_owned(), serde_json::json!({"prompt_tokens": input, "x": {"y": [1, "}"]}}));
        }
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        let reading = read(text.as_bytes(), UsageTap::json(), chunk);
        prop_assert_eq!(reading.usage.and_then(|usage| usage.input), body.is_object().then_some(input));
        let model = body.get("model").and_then(|model| model.as_str()).filter(|model| !model.is_empty());
        prop_assert_eq!(reading.target.as_deref(), model);
    }

    #[test]
    fn buckets_sum_to_the_total(prompt in 0u64..1_000_000, completion in 0u64..1_000_000, cached in 0u64..1_100_000, reasoning in 0u64..1_100_000) {
        let body = serde_json::json!({"usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": reasoning}}});
        let usage = UsageTap::read_json(body.to_string().as_bytes()).usage.unwrap();
        prop_assert_eq!(sum(&usage), prompt + completion);
    }

    #[test]
    fn any_bytes_are_survived(chunks in proptest::collection::vec(proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'{'), Just(b'}'), Just(b'\n')], 0..40), 0..10)) {
        for mut tap in [UsageTap::json(), UsageTap::events()] {
            chunks.iter().for_each(|chunk| tap.push(chunk));
            let _ = tap.reading();
        }
    }
}

#[test]
fn a_list_that_is_no_answer_of_an_llm_is_not_read_on() {
    let body = format!("[{{\"model\":\"car\"}},{}{{\"usageMetadata\":{{\"promptTokenCount\":4}}}}]", "{\"x\":1},".repeat(1000));
    for chunk in [1, 8, body.len()] {
        let reading = read(body.as_bytes(), UsageTap::json(), chunk);
        assert_eq!((reading.target, chunk == body.len() || reading.usage.is_none()), (None, true));
    }
}

#[test]
fn the_head_names_geminis_service_tier() {
    let headers = |tier: &'static str| {
        HeaderMap::from_iter(
            [("content-type", "application/json"), ("x-gemini-service-tier", tier)].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())),
        )
    };
    let service = |tier: &'static str, body: &str| {
        let mut tap = UsageTap::for_answer(&headers(tier), None).unwrap();
        tap.push(body.as_bytes());
        tap.reading().service
    };
    assert_eq!(service("PRIORITY", "{}").as_deref(), Some("priority"));
    assert_eq!(service("standard", r#"{"service_tier":"flex"}"#).as_deref(), Some("flex"), "the body says more than the head");
}
