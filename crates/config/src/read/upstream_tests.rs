//! How providers are called, and compression both ways.

use std::io;

use farthing_types::{Coding, Span};

use super::*;
use crate::{CompressRequests, HttpProtocol};

struct Nothing;

impl Surroundings for Nothing {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }
    fn file(&self, _path: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn read(top: &str, upstream: &str) -> Result<Config, ConfigError> {
    let text = format!("{top}\n[providers.geo]\nbase_url = \"http://h\"\n[providers.geo.upstream]\n{upstream}\n[routes.geo]\n");
    Config::parse(&text, "test.toml", &Flags::default(), &Nothing)
}

fn problem(top: &str, upstream: &str) -> String {
    let error = read(top, upstream).unwrap_err();
    let ConfigError::Problems(problems) = error else { panic!("{error}") };
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn what_is_written_is_read() {
    let config = read(
        "[data]\ncompress = [\"zstd\", \"gzip\"]\ncompress_min = \"2KiB\"",
        "try_timeout = \"2s\"\nprotocol = \"http2\"\nretry_share = 0.1\nretry_floor = 0\ncompress_requests = { min = \"1KiB\", encoding = \"zstd\" }",
    )
    .unwrap();
    assert_eq!((config.data.compress, config.data.compress_min), (vec![Coding::Zstd, Coding::Gzip], 2_048));
    let upstream = &config.providers[0].upstream;
    assert_eq!((upstream.try_timeout, upstream.protocol), (Some(Span::from_secs(2)), HttpProtocol::Http2));
    assert_eq!((upstream.retry_share, upstream.retry_floor), (0.1, 0));
    assert_eq!(upstream.compress_requests, Some(CompressRequests { min: 1_024, encoding: Coding::Zstd }));
    let plain = read("", "compress_requests = {}").unwrap();
    assert_eq!(plain.providers[0].upstream.compress_requests, Some(CompressRequests { min: 4_096, encoding: Coding::Gzip }));
}

#[test]
fn what_cannot_work_is_said_with_its_place_and_remedy() {
    let longer = problem("", "head_timeout = \"5s\"\ntry_timeout = \"6s\"");
    assert!(longer.contains("test.toml:6: providers.geo.upstream.try_timeout") && longer.contains("make it shorter"), "{longer}");
    let coding = problem("", "compress_requests = { encoding = \"deflate\" }");
    assert!(coding.contains("providers.geo.upstream.compress_requests.encoding") && coding.contains("\"gzip\""), "{coding}");
    let list = problem("[data]\ncompress = \"gzip\"", "");
    assert!(list.contains("test.toml:2: data.compress") && list.contains("write a list"), "{list}");
    let unknown = problem("", "compress_requests = { level = 9 }");
    assert!(unknown.contains("compress_requests.level"), "{unknown}");
}
