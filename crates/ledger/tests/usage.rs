//! J1: usage of every shape that is known, by files as providers write them: plain, streamed, cut, compressed, contradictory. Buckets are disjoint
//! and sum to the provider's own total.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use farthing_ledger::usage::Stopped;
use farthing_ledger::{Amount, Reads, UsageReading, UsageTap};
use farthing_types::Usage;
use http::HeaderMap;
use serde::Deserialize;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Expected {
    target: Option<String>,
    service: Option<String>,
    input: Option<u64>,
    cached_input: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    /// Of all buckets together: the provider's own total, where it does not contradict itself.
    total: u64,
    /// Checked where it is told.
    text_bytes: Option<u64>,
    contradictory: bool,
}

impl Expected {
    fn usage(&self) -> Option<Usage> {
        let Self { input, cached_input, cache_write, cache_write_1h, output, reasoning, .. } = *self;
        let usage = Usage { input, cached_input, cache_write, cache_write_1h, output, reasoning, units: None };
        (usage != Usage::default()).then_some(usage)
    }
}

fn golden() -> BTreeMap<String, (Vec<u8>, Expected)> {
    let expected: BTreeMap<String, Expected> = serde_json::from_slice(&std::fs::read(format!("{FOLDER}/expected.json")).unwrap()).unwrap();
    let there: BTreeSet<String> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "expected.json")
        .collect();
    assert_eq!(there, expected.keys().cloned().collect(), "each file has its line in expected.json and the other way round");
    expected.into_iter().map(|(name, expected)| (name.clone(), (std::fs::read(format!("{FOLDER}/{name}")).unwrap(), expected))).collect()
}

fn headers(name: &str, encoding: &str) -> HeaderMap {
    let media = if name.ends_with(".sse") { "text/event-stream; charset=utf-8" } else { "application/json" };
    let pairs = [("content-type", media), ("content-encoding", encoding)];
    pairs.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn read(name: &str, encoding: &str, body: &[u8], chunk: usize) -> UsageReading {
    let mut tap = UsageTap::for_answer(&headers(name, encoding), None).unwrap();
    body.chunks(chunk).for_each(|chunk| tap.push(chunk));
    tap.reading()
}

fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(body).unwrap();
            out.finish().unwrap()
        }
        "deflate" => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(body).unwrap();
            out.finish().unwrap()
        }
        "zstd" => zstd::encode_all(body, 3).unwrap(),
        // An uncompressed meta-block is brotli, too: a header of 16 bits for windows of 16 bits and up to 65,536 bytes, the bytes, an end.
        "br" => brotli(body),
        _ => body.to_vec(),
    }
}

/// Brotli's stored form (RFC 7932): bit by bit, least significant first.
fn brotli(body: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    let mut put = |out: &mut Vec<u8>, value: u32, width: u32| {
        bits |= value << count;
        count += width;
        while count >= 8 {
            out.push((bits & 0xff) as u8);
            (bits, count) = (bits >> 8, count - 8);
        }
    };
    put(&mut out, 0, 1); // a window of 16 bits
    for piece in body.chunks(1 << 16) {
        put(&mut out, 0, 1); // not the last
        put(&mut out, 0, 2); // four nibbles of length
        put(&mut out, u32::try_from(piece.len() - 1).unwrap(), 16);
        put(&mut out, 1, 1); // stored
        put(&mut out, 0, 3); // 21 bits so far: to the next byte
        assert!(body.len() <= 1 << 16, "one piece is aligned as the first one is");
        out.extend_from_slice(piece);
    }
    put(&mut out, 3, 8); // the last, and empty
    out
}

#[test]
fn every_shape_is_read_in_chunks_of_any_size_and_under_any_encoding() {
    for (name, (body, expected)) in golden() {
        for encoding in ["", "identity", "gzip", "deflate", "br", "zstd"] {
            let body = compressed(encoding, &body);
            for chunk in [1, 7, 4096] {
                let reading = read(&name, encoding, &body, chunk);
                assert_eq!(reading.usage, expected.usage(), "{name} {encoding} in chunks of {chunk}");
                assert_eq!(reading.target.as_deref(), expected.target.as_deref(), "{name}");
                assert_eq!(reading.service.as_deref(), expected.service.as_deref(), "{name}");
                assert_eq!((reading.contradictory, reading.stopped), (expected.contradictory, None), "{name} {encoding}");
                assert!(expected.text_bytes.is_none_or(|bytes| bytes == reading.text_bytes), "{name}: {} bytes", reading.text_bytes);
            }
        }
        let Usage { input, cached_input, cache_write, cache_write_1h, output, reasoning, .. } = expected.usage().unwrap_or_default();
        let sum: u64 = [input, cached_input, cache_write, cache_write_1h, output, reasoning].into_iter().flatten().sum();
        assert_eq!(sum, expected.total, "{name}");
    }
}

#[test]
fn a_bomb_ends_the_reading_and_what_was_read_before_counts() {
    let mut bomb = br#"{"model":"m","usage":{"prompt_tokens":3},"x":""#.to_vec();
    bomb.resize(8 << 20, b'0');
    for encoding in ["gzip", "deflate", "zstd"] {
        let reading = read("bomb.json", encoding, &compressed(encoding, &bomb), 64 << 10);
        assert_eq!((reading.stopped, reading.usage.and_then(|usage| usage.input)), (Some(Stopped::Ratio), Some(3)), "{encoding}");
    }
}

#[test]
fn what_is_not_what_it_says_is_not_read() {
    let (body, _) = &golden()["openai-chat.json"];
    for encoding in ["gzip", "deflate", "br", "zstd"] {
        let reading = read("x.json", encoding, body, 100);
        assert_eq!((reading.stopped, reading.usage), (Some(Stopped::Corrupt), None), "{encoding}");
    }
    for encoding in ["compress", "gzip, br"] {
        assert_eq!(read("x.json", encoding, body, 100).stopped, Some(Stopped::Encoding), "{encoding}");
    }
    // Half of it tells what it told.
    let half = compressed("gzip", br#"{"model":"m","usage":{"prompt_tokens":3},"x":"yyyyyyyyyyyyyy"}"#);
    assert_eq!(read("x.json", "gzip", &half[..half.len() - 9], 5).usage.and_then(|usage| usage.input), Some(3));
}

#[test]
fn meters_find_their_amounts_wherever_they_stand() {
    let names = |all: &[&str]| all.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let reads = Arc::new(Reads::new(names(&["/usage/credits", "/data", "/0"]), names(&["x-credits"])));
    let tap = |name: &str, text: &str| {
        let mut tap = UsageTap::for_answer(&headers(name, ""), Some(&reads)).unwrap();
        text.as_bytes().chunks(3).for_each(|chunk| tap.push(chunk));
        tap.reading()
    };
    let plain = tap("x.json", r#"{"data":[{"b64":"x"},{"b64":"y"}],"usage":{"credits":"2.5","prompt_tokens":7}}"#);
    assert_eq!((plain.amounts.get("/usage/credits"), plain.amounts.get("/data")), (Amount::parse(b"2.5"), Some(Amount::units(2))));
    assert_eq!((plain.usage.unwrap().input, plain.amounts.get("/0")), (Some(7), None));
    let streamed = tap("x.sse", "data: {\"usage\":{\"credits\":1}}\n\ndata: {\"usage\":{\"credits\":4}}\n\ndata: {\"usage\":null}\n\n");
    assert_eq!(streamed.amounts.get("/usage/credits"), Some(Amount::units(4)), "the last event that has it");
    let head = HeaderMap::from_iter([("x-credits".parse().unwrap(), "3.25".parse().unwrap())]);
    assert_eq!(reads.of_headers(&head).get("x-credits"), Amount::parse(b"3.25"));
}
