//! `import` from files of every format to the log that the trainer reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use farthing_trainer::TrainError;
use farthing_trainer::import::format::by_name;
use farthing_trainer::import::mapping::Mapping;
use farthing_trainer::import::skipped::Reason;
use farthing_trainer::import::{Import, Report, import};
use farthing_trainer::learn::Unwatched;
use farthing_trainer::read::{find, read_log, read_observed};
use farthing_types::Money;

fn run(format: &str, inputs: &[PathBuf], mapping: &Mapping, out: &Path) -> Result<Report, TrainError> {
    let format = by_name(format).unwrap();
    let price = Some(Money::from_nanos(2_000_000));
    import(&Import { format, inputs, mapping, out, salt: [3; 16], price, private: false }, &Unwatched)
}

fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn line(second: u32, target: &str, bytes: u32) -> String {
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!(
        "10.0.0.1 - - [10/Oct/2024:{hour:02}:{minute:02}:{second:02} +0000] \"GET {target} HTTP/1.1\" 200 {bytes} \"-\" \"curl\" 0.125\n"
    )
}

/// Three hours of requests for forty things, some with a secret in the query.
fn access_log() -> String {
    (0..3_000).map(|n| line(n * 3, &format!("/v1/geo/{}?lang=en&api_key=TOPSECRET{n}", n % 40), 100 + n % 40)).collect()
}

fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = find(&dir.to_string_lossy()).unwrap();
    files.into_iter().map(|p| (p.strip_prefix(dir).unwrap().to_path_buf(), fs::read(&p).unwrap())).collect()
}

#[test]
fn an_access_log_becomes_a_log_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("log");
    let report = run("combined", &[file(dir.path(), "access.log", access_log().as_bytes())], &Mapping::default(), &out).unwrap();
    assert_eq!((report.requests, report.skipped.faulty(), report.cost_nanousd), (3_000, 0, 3_000 * 2_000_000));
    assert_eq!(report.routes.keys().collect::<Vec<_>>(), ["v1-geo"]);
    assert!(report.routes["v1-geo"].endpoints.contains("/v1/geo/{id}"));
    let log = read_log(&*out.to_string_lossy()).unwrap();
    assert_eq!((log.reads.len(), log.fetches.len(), log.routes.as_slice()), (3_000, 0, ["v1-geo".to_owned()].as_slice()));
    let keys: std::collections::BTreeSet<u64> = log.reads.iter().map(|r| r.key).collect();
    assert_eq!(keys.len(), 40, "the secret is not part of the key");
    for (path, bytes) in bytes_of(&out) {
        assert!(path.starts_with("requests/date=2024-10-10") || path.starts_with("calls/date=2024-10-10"), "{path:?}");
        for secret in [b"TOPSECRET".as_slice(), b"10.0.0.1", b"lang=en"] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret), "{path:?} holds {}", String::from_utf8_lossy(secret));
        }
    }
}

#[test]
fn the_same_file_gives_the_same_bytes_plain_or_packed_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let text = access_log();
    let plain = file(dir.path(), "a.log", text.as_bytes());
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    for out in [&one, &two, &one] {
        run("combined", std::slice::from_ref(&plain), &Mapping::default(), out).unwrap();
    }
    assert_eq!(bytes_of(&one), bytes_of(&two), "importing again replaces");
    let three = dir.path().join("three");
    run("combined", &[file(dir.path(), "a.log.gz", &packed(&text))], &Mapping::default(), &three).unwrap();
    assert_eq!(bytes_of(&one), bytes_of(&three));
}

/// Lines of a log whose things are asked for every ten seconds.
fn lines(from: u32, to: u32) -> String {
    (from..to).map(|n| line(n * 10, &format!("/v1/geo/{n}"), 100)).collect()
}

fn asks(out: &Path) -> usize {
    let log = read_observed(&out.to_string_lossy(), 1_000_000).unwrap();
    assert_eq!(log.asks.len(), log.asks.iter().filter(|a| a.called).count());
    log.asks.len()
}

fn packed(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_log_that_grew_or_was_rotated_replaces_what_it_gave() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("log");
    let give = |inputs: &[PathBuf]| run("combined", inputs, &Mapping::default(), &out).unwrap();
    let log = file(dir.path(), "access.log", lines(0, 100).as_bytes());
    give(std::slice::from_ref(&log));
    assert_eq!(asks(&out), 100);
    // Grown, the last line half written.
    fs::write(&log, lines(0, 200) + "10.0.0.1 - - [10/Oct/2024:0").unwrap();
    give(std::slice::from_ref(&log));
    assert_eq!(asks(&out), 200);
    // Grown further and rotated: packed under another name, with its first successor, and once more as it was then.
    let first = file(dir.path(), "access.log.1.gz", &packed(&lines(0, 250)));
    fs::write(&log, lines(250, 300)).unwrap();
    assert_eq!(give(&[log.clone(), first.clone()]).requests, 300);
    let state = bytes_of(&out);
    give(&[log.clone(), first.clone()]);
    assert_eq!((asks(&out), bytes_of(&out) == state), (300, true));
    // Each for itself, too.
    fs::write(&log, lines(250, 310)).unwrap();
    give(std::slice::from_ref(&log));
    give(std::slice::from_ref(&first));
    assert_eq!(asks(&out), 310);
    // A copy of how it was once has nothing that the log lacks.
    let report = give(&[file(dir.path(), "old.log", lines(0, 120).as_bytes())]);
    assert_eq!((asks(&out), report.requests, report.failure(0.05)), (310, 0, None));
    assert_eq!(report.skipped.0[&Reason::Twice].lines, 120);
    // What gives nothing, as under a wrong mapping, takes nothing away.
    let wrong = run("json-lines", std::slice::from_ref(&first), &Mapping::default(), &out).unwrap();
    assert_eq!((asks(&out), wrong.requests), (310, 0));
}

#[test]
fn copies_in_one_command_count_once_and_others_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = file(dir.path(), "a.log", lines(0, 200).as_bytes());
    for (name, text, all, twice) in [
        ("copy.log", lines(0, 200).into_bytes(), 200, 200),
        ("earlier.log", lines(0, 120).into_bytes(), 200, 120),
        ("later.log.gz", packed(&lines(0, 230)), 230, 200),
        // Another instance, whose first request was the same.
        ("instance.log", (lines(0, 1) + &lines(500, 599)).into_bytes(), 300, 0),
    ] {
        let other = file(dir.path(), name, &text);
        for (n, inputs) in [[log.clone(), other.clone()], [other, log.clone()]].iter().enumerate() {
            let out = dir.path().join(format!("{name}-{n}"));
            let report = run("combined", inputs, &Mapping::default(), &out).unwrap();
            let skipped = report.skipped.0.get(&Reason::Twice).map_or(0, |s| s.lines);
            assert_eq!((asks(&out), report.requests, skipped), (all, all as u64, twice), "{name} {n}");
            assert_eq!((report.skipped.faulty(), report.failure(0.0)), (0, None));
        }
    }
    let mut frame = polars::prelude::DataFrame::new(
        3,
        vec![
            polars::prelude::Column::new("ts_ms".into(), [1i64, 2, 3]),
            polars::prelude::Column::new("endpoint".into(), ["/a", "/a", "/b"]),
        ],
    )
    .unwrap();
    let tables = ["t.parquet", "copy.parquet"].map(|name| dir.path().join(name));
    tables.iter().for_each(|path| common::write(path, &mut frame, &[]));
    let out = dir.path().join("tables");
    assert_eq!((run("columns", &tables, &Mapping::default(), &out).unwrap().requests, asks(&out)), (3, 3));
}

/// Rows that are held back until templates are known are told of under their own file.
#[test]
fn a_bad_line_is_told_of_under_the_name_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let odd = file(dir.path(), "odd.jsonl", b"{\"time\":1714567890,\"method\":\"G T\",\"url\":\"/a\"}\n");
    let good = file(dir.path(), "good.jsonl", b"{\"time\":1714567891,\"url\":\"/a\"}\n");
    let report = run("json-lines", &[odd, good], &Mapping::default(), &dir.path().join("log")).unwrap();
    let told = &report.skipped.0[&Reason::Request].first[0];
    assert!(told.0.ends_with("odd.jsonl") && told.1 == 1, "{told:?}");
}

#[test]
fn bad_files_leave_a_report_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let garbage: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long = [vec![b'x'; 1_000_000], line(1, "/a", 1).into_bytes()].concat();
    let cases: [(&str, Vec<u8>, u64); 7] = [
        ("empty", Vec::new(), 0),
        ("one", line(1, "/a", 1).into_bytes(), 1),
        ("no-end", line(1, "/a", 1).trim_end().as_bytes().to_vec(), 1),
        ("crlf", format!("\u{feff}{}\r\n{}", line(1, "/a", 1).trim_end(), line(2, "/a", 1)).into_bytes(), 2),
        ("order", [line(500, "/a", 1), line(1, "/a", 1), line(300, "/a", 1)].concat().into_bytes(), 3),
        ("garbage", garbage, 0),
        ("long", long, 0),
    ];
    for (name, bytes, requests) in cases {
        let out = dir.path().join(name);
        let report = run("combined", &[file(dir.path(), &format!("{name}.log"), &bytes)], &Mapping::default(), &out).unwrap();
        assert_eq!(report.requests, requests, "{name}: {}", report.text());
        assert_eq!(report.failure(0.05).is_some(), requests == 0, "{name}");
        assert_eq!(out.exists(), requests > 0, "{name}: nothing imported, nothing written");
        for format in ["json-lines", "litellm", "columns"] {
            let tried = run(format, &[file(dir.path(), &format!("{name}.log"), &bytes)], &Mapping::default(), &dir.path().join("x"));
            assert!(tried.is_err() || tried.is_ok_and(|r| r.requests == 0), "{name} as {format}");
        }
    }
    let half = [line(1, "/a", 1), "what?\n".to_owned()].concat();
    let report = run("combined", &[file(dir.path(), "half.log", half.as_bytes())], &Mapping::default(), &dir.path().join("half")).unwrap();
    assert!(report.failure(0.05).is_some_and(|f| f.contains("50.00 %")) && report.failure(0.5).is_none());
}

#[test]
fn digests_and_etags_become_something_to_learn_from() {
    let dir = tempfile::tempdir().unwrap();
    let mapping = Mapping::parse("time = \"/t\"\ntime_format = \"epoch_ms\"\nurl = \"/u\"\netag = \"/e\"\ncost = \"/c\"\n").unwrap();
    let rows: String = (0..1_000u64)
        .map(|n| format!("{{\"t\":{},\"u\":\"/x/{}\",\"e\":\"v{}\",\"c\":0.25}}\n", 1_000 * (n + 1), n % 5, n / 100))
        .collect();
    let out = dir.path().join("log");
    let report = run("json-lines", &[file(dir.path(), "a.jsonl", rows.as_bytes())], &mapping, &out).unwrap();
    assert_eq!((report.requests, report.cost_nanousd), (1_000, 250_000_000_000));
    let log = read_log(&*out.to_string_lossy()).unwrap();
    assert_eq!(log.fetches.len(), 1_000);
    let mut hashes: Vec<u64> = log.fetches.iter().map(|f| f.hash).collect();
    hashes.dedup();
    assert_eq!(hashes.len(), 10);
    assert!(log.fetches.iter().all(|f| f.cost_nanousd == Some(250_000_000)));
}

#[test]
fn spend_logs_keep_tokens_and_money() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: u64, hit: &str| {
        format!(
            "{{\"request_id\":\"r{n}\",\"call_type\":\"acompletion\",\"api_key\":\"hash\",\"spend\":0.0015,\"prompt_tokens\":100,\"completion_tokens\":7,\
             \"startTime\":\"2024-05-01T12:{:02}:30\",\"endTime\":\"2024-05-01T12:{:02}:31\",\"model\":\"gpt-4o\",\"cache_hit\":\"{hit}\",\"cache_key\":\"k{}\"}}\n",
            n % 60,
            n % 60,
            n % 3
        )
    };
    let text: String = (0..30).map(|n| row(n, if n % 10 == 0 { "True" } else { "" })).collect();
    let out = dir.path().join("log");
    let report = run("litellm", &[file(dir.path(), "spend.jsonl", text.as_bytes())], &Mapping::default(), &out).unwrap();
    assert_eq!((report.requests, report.skipped.faulty(), report.cost_nanousd), (27, 0, 27 * 1_500_000));
    let log = read_observed(&out.to_string_lossy(), 1_000).unwrap();
    let keys: std::collections::BTreeSet<u64> = log.asks.iter().map(|r| r.key).collect();
    assert_eq!(keys.len(), 3);
    assert_eq!(report.failure(0.0), None, "cache hits are no faults");
}

#[test]
fn columns_come_from_csv_and_parquet_alike() {
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "ts_ms,key,endpoint,is_write,bytes,cost_usd\n".to_owned();
    for n in 0..500u64 {
        csv.push_str(&format!("{},{},/a/{{id}},{},{},{}\n", n * 1_000, n % 7, n % 50 == 0, 10, if n % 50 == 0 { "" } else { "0.001" }));
    }
    let path = file(dir.path(), "t.csv", csv.as_bytes());
    let report = run("columns", std::slice::from_ref(&path), &Mapping::default(), &dir.path().join("csv")).unwrap();
    assert_eq!((report.requests, report.changes, report.skipped.faulty()), (490, 10, 0));
    use polars::prelude::{Column, DataFrame, NamedFrom, Series};
    let column = |name: &str, values: Vec<i64>| Column::from(Series::new(name.into(), values));
    let writes: Vec<bool> = (0..500).map(|n| n % 50 == 0).collect();
    let costs: Vec<Option<f64>> = (0..500).map(|n| (n % 50 != 0).then_some(0.001)).collect();
    let columns = vec![
        column("ts_ms", (0..500).map(|n| n * 1_000).collect()),
        column("key", (0..500).map(|n| n % 7).collect()),
        Column::from(Series::new("endpoint".into(), vec!["/a/{id}"; 500])),
        Column::from(Series::new("is_write".into(), writes)),
        column("bytes", vec![10; 500]),
        Column::from(Series::new("cost_usd".into(), costs)),
    ];
    let parquet = dir.path().join("t.parquet");
    common::write(&parquet, &mut DataFrame::new(500, columns).unwrap(), &[]);
    let same = run("columns", &[parquet], &Mapping::default(), &dir.path().join("parquet")).unwrap();
    assert_eq!((same.requests, same.changes, same.cost_nanousd), (report.requests, report.changes, report.cost_nanousd));
    let facts = |dir: &Path| {
        let log = read_log(&*dir.to_string_lossy()).unwrap();
        log.fetches.iter().map(|f| (f.at_ns, f.key, f.hash, f.cost_nanousd)).collect::<Vec<_>>()
    };
    assert_eq!(facts(&dir.path().join("csv")), facts(&dir.path().join("parquet")));
    assert!(!facts(&dir.path().join("csv")).is_empty(), "keys with changes have known contents");
    let wrong =
        run("columns", &[path], &Mapping::parse("time = \"when\"\nendpoint = \"endpoint\"\n").unwrap(), &dir.path().join("w")).unwrap_err();
    let text = wrong.to_string();
    assert!(text.contains("t.csv") && text.contains("`when`") && text.contains("ts_ms") && text.contains("--mapping"), "{text}");
}

#[test]
fn many_hours_and_disorder_stay_bounded_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut csv = "ts_ms,key,endpoint\n".to_owned();
    for n in 0..80_000u64 {
        // 20 hours, jumping back and forth.
        csv.push_str(&format!("{},{},/a\n", (n * 7_919 % 20) * 3_600_000 + n + 1, n % 1_000));
    }
    let out = dir.path().join("log");
    let report = run("columns", &[file(dir.path(), "t.csv", csv.as_bytes())], &Mapping::default(), &out).unwrap();
    let log = read_log(&*out.to_string_lossy()).unwrap();
    assert_eq!((report.requests, log.reads.len()), (80_000, 80_000));
    assert!(report.files >= 40 && report.files <= 250, "{}", report.files);
    assert!(
        fs::read_dir(out.join("requests/date=1970-01-01/hour=03")).unwrap().all(|f| f
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".parquet"))
    );
}
