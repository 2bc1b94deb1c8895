use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::sync::Arc;

use farthing_contract::log::{ALL, CallRow, Decision, OutcomeRow, Request, Row, Table, Value};
use farthing_types::{RealClock, Span, Time};
use sha2::{Digest, Sha256};

use super::*;
use crate::log::{LogConfig, LogHandle, LogWriter};
use crate::read;

/// The first hour with rows, since 1970.
const HOUR: i64 = 497_222;
const CANARY: &str = "canary-7f3a9";

/// Rows of two tenants on one route each and one shared, in four hours: two calls of each, what was decided and what became of it.
fn fill(log: &LogHandle) {
    for hour in 0..4_i64 {
        for (tenant, number) in [("acme", 1_u64), (CANARY, 2)] {
            for n in 0..2_u64 {
                let id = (hour.unsigned_abs() * 10 + number) * 10 + n;
                let ts_ns = (HOUR + hour) * HOUR_NS + n.cast_signed();
                // The second call of each is for a key that both use.
                let (key_hash, route): (_, Arc<str>) = if n == 0 { (number, "own".into()) } else { (9, "shared".into()) };
                let tags = Some(format!("team={tenant}").into());
                log.write(Request {
                    ts_ns,
                    request_id: id,
                    weight: 1,
                    tenant: tenant.into(),
                    tags,
                    route: route.clone(),
                    key_hash,
                    ..Request::default()
                });
                let call =
                    CallRow { ts_ns, call_id: 1_000 + id, tenant: tenant.into(), route: route.clone(), key_hash, ..CallRow::default() };
                log.write(CallRow { cost_nanousd: Some(5), decision_id: Some(2_000 + id), ..call });
                let decision =
                    Decision { ts_ns, decision_id: 2_000 + id, kind: "ttl", key_hash, route: route.clone(), ..Decision::default() };
                log.write(Decision { call_id: Some(1_000 + id), features: vec![0.5, 1.5], ..decision });
                log.write(OutcomeRow { ts_ns, decision_id: 2_000 + id, route, key_hash, ..OutcomeRow::default() });
            }
        }
    }
}

fn log(dir: &Path) {
    let config = LogConfig { journal_reserve: 1_000, ..LogConfig::default() };
    let writer = LogWriter::open(dir, config, Arc::new(RealClock::default())).unwrap();
    fill(&writer.handle());
    writer.close();
}

/// Rows of each table, as `column=value` of the columns asked for.
fn rows(dir: &Path, table: &'static Table, columns: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    read::rows(dir, table, columns, &mut |cells| {
        found.push(cells.iter().map(read::text).collect::<Vec<_>>().join(" "));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

fn counts(dir: &Path) -> Vec<u64> {
    read::summary(dir).iter().map(|table| table.rows).collect()
}

fn order(dir: &Path, out: &Path, selection: Selection) -> Order {
    Order { dir: dir.to_owned(), out: out.to_owned(), selection, format: Format::Parquet }
}

/// Whether any file below a folder contains a text, by its bytes or by its decoded rows.
fn anywhere(dir: &Path, text: &str) -> bool {
    let mut found = false;
    for table in ALL {
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        read::rows(dir, table, &names, &mut |cells| {
            found |= cells.iter().any(|cell| matches!(cell, Value::Text(cell) if cell.contains(text)));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                found |= fs::read(path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes());
            }
        }
    }
    found
}

#[test]
fn what_is_there_is_told_by_hour() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let damaged = dir.path().join("calls").join(farthing_contract::log::partition(HOUR + 1)).join("part-x.parquet");
    fs::write(&damaged, b"PAR1 but not for long").unwrap();
    let held = holdings(dir.path());
    assert_eq!(held.partitions.len(), 16);
    let calls: Vec<_> = held.partitions.iter().filter(|holding| holding.table == "calls").collect();
    assert_eq!(
        calls.iter().map(|holding| (holding.files, holding.rows, holding.unreadable.len())).collect::<Vec<_>>(),
        [(1, 4, 0), (1, 4, 1), (1, 4, 0), (1, 4, 0)]
    );
    assert!(calls[1].unreadable[0].contains("part-x.parquet"));
    assert_eq!((calls[0].first_ns, calls[0].last_ns), (Some(HOUR * HOUR_NS), Some(HOUR * HOUR_NS + 1)));
    assert!(calls[0].versions.contains(&farthing_contract::log::SCHEMA_VERSION) && calls[0].bytes > 500);
    assert_eq!(held.journal, JournalHolding::default());
}

#[test]
fn rows_in_the_journal_are_counted_and_not_exported() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(dir.path(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
    fill(&writer.handle());
    // The journal has them when a query sees them.
    writer.handle().unwritten(Span::from_secs(60)).unwrap();
    let manifest = export(&order(dir.path(), &dir.path().join("out"), Selection::default())).unwrap();
    assert_eq!((manifest.in_journal.segments, manifest.in_journal.rows, manifest.files.len()), (1, 64, 0));
    writer.close();
}

#[test]
fn an_export_is_a_verified_log_of_its_own() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log(dir.path());
    let manifest = export(&order(dir.path(), out.path(), Selection::default())).unwrap();
    assert_eq!(counts(out.path()), [16, 16, 16, 16]);
    assert_eq!(manifest.rows, ALL.iter().map(|table| (table.name, 16)).collect::<BTreeMap<_, _>>());
    assert_eq!((manifest.files.len(), manifest.skipped.len()), (16, 0));
    for file in &manifest.files {
        let bytes = fs::read(out.path().join(&file.path)).unwrap();
        assert_eq!((hex::encode(Sha256::digest(&bytes)), bytes.len() as u64, 4), (file.sha256.clone(), file.bytes, file.rows));
    }
    for table in ALL {
        let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
        assert_eq!(rows(out.path(), table, &names), rows(dir.path(), table, &names));
    }
    let written: serde_json::Value = serde_json::from_slice(&fs::read(out.path().join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&written["schema_version"], &written["rows"]["calls"]), (&farthing_contract::log::SCHEMA_VERSION.into(), &16.into()));
    assert!(matches!(export(&order(dir.path(), out.path(), Selection::default())), Err(ArchiveError::NotEmpty(_))));
}

#[test]
fn an_export_holds_what_was_asked_for_and_names_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let take = |selection: Selection| {
        let out = tempfile::tempdir().unwrap();
        let manifest = export(&order(dir.path(), out.path(), selection)).unwrap();
        (out, manifest)
    };
    let (out, _) = take(Selection { tenant: Some("acme".into()), ..Selection::default() });
    assert_eq!(counts(out.path()), [8, 8, 8, 8], "decisions and outcomes go with their calls");
    assert!(!anywhere(out.path(), CANARY));
    let (out, _) = take(Selection { route: Some("shared".into()), ..Selection::default() });
    assert_eq!(counts(out.path()), [8, 8, 8, 8]);
    let since_ns = Some((HOUR + 1) * HOUR_NS + 1);
    let (out, _) = take(Selection { since_ns, until_ns: Some((HOUR + 3) * HOUR_NS), ..Selection::default() });
    assert_eq!(counts(out.path()), [6, 6, 6, 6], "from within an hour up to the begin of another");
    let file = read::files(dir.path(), CallRow::TABLE).remove(0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    let (out, manifest) = take(Selection::default());
    assert_eq!((counts(out.path()), manifest.skipped.len()), (vec![16, 12, 16, 16], 1));
    assert!(manifest.skipped[0].contains(file.file_name().unwrap().to_str().unwrap()));
}

#[test]
fn lines_of_text_have_every_column() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let selection = Selection { tenant: Some(CANARY.into()), until_ns: Some((HOUR + 1) * HOUR_NS), ..Selection::default() };
    let [csv, jsonl] = [Format::Csv, Format::Jsonl].map(|format| {
        let out = tempfile::tempdir().unwrap();
        let manifest = export(&Order { format, ..order(dir.path(), out.path(), selection.clone()) }).unwrap();
        assert_eq!((manifest.files.len(), manifest.files[0].rows), (4, 2));
        fs::read_to_string(out.path().join(&manifest.files[2].path)).unwrap()
    });
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!((lines.len(), lines[0].split(',').count()), (3, Decision::TABLE.columns.len()));
    assert!(
        lines[1].starts_with(&format!("{},00000000000007e4,ttl,0000000000000020,", HOUR * HOUR_NS)) || lines[1].contains(",ttl,"),
        "{csv}"
    );
    assert!(lines[1].contains(",\"[0.5, 1.5]\",") && lines[1].contains(",,"), "{csv}");
    let first: serde_json::Value = serde_json::from_str(jsonl.lines().next().unwrap()).unwrap();
    assert_eq!(first.as_object().unwrap().len(), Decision::TABLE.columns.len());
    assert_eq!((&first["kind"], &first["features"][1], &first["draw"]), (&"ttl".into(), &1.5.into(), &serde_json::Value::Null));
    assert_eq!(first["decision_id"].as_str().unwrap().len(), 16);
}

#[test]
fn the_bill_goes_to_finops_tools_by_day_and_what_has_no_price_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(dir.path(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
    let log = writer.handle();
    // The last hour of a year, and the next.
    let new_year = farthing_types::day_number(2027, 1, 1) * 24 * HOUR_NS;
    let call = |ts_ns, cost_nanousd| CallRow {
        ts_ns,
        cost_nanousd,
        provider: "openai".into(),
        route: "chat".into(),
        tenant: "acme, \"inc\"".into(),
        team: Some("search".into()),
        tags: Some("feature=map,team=x".into()),
        target: Some("gpt".into()),
        price_book: Some("b1".into()),
        tokens_input: Some(7),
        tokens_output: Some(2),
        sent: true,
        ..CallRow::default()
    };
    // What was not sent, as at an open breaker, is no charge.
    log.write(CallRow { sent: false, ..call(new_year, Some(0)) });
    for (ts_ns, cost) in [(new_year - 1, Some(1_500_000_000)), (new_year - 2, Some(1)), (new_year, Some(3)), (new_year + 1, None)] {
        log.write(call(ts_ns, cost));
    }
    log.write(CallRow { tags: None, team: None, tokens_input: None, tokens_output: None, target: None, ..call(new_year, Some(0)) });
    writer.close();
    let out = tempfile::tempdir().unwrap();
    let manifest = export(&Order { format: Format::Focus, ..order(dir.path(), out.path(), Selection::default()) }).unwrap();
    assert_eq!((manifest.unpriced_calls, manifest.files.len(), manifest.files[0].rows), (Some(1), 1, 3));
    assert_eq!((manifest.files[0].first_ns, manifest.files[0].last_ns), (Some(new_year - 2), Some(new_year)));
    let text = fs::read_to_string(out.path().join("focus.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> = records(&text);
    let of = |row: usize, names: &[&str]| names.iter().map(|name| rows[row][*name].clone()).collect::<Vec<_>>();
    let money = ["BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ConsumedQuantity", "x_TokensInput", "x_TokensReasoning"];
    assert_eq!(of(0, &money), ["1.500000001", "1.500000001", "1.500000001", "1.500000001", "2", "14", ""]);
    let times = ["BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"];
    assert_eq!(of(0, &times), ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"]);
    assert_eq!(of(1, &times), ["2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z", "2027-01-01T00:00:00Z", "2027-01-02T00:00:00Z"]);
    let names = ["ProviderName", "SubAccountId", "SkuId", "SkuPriceId", "ServiceCategory", "Tags"];
    assert_eq!(of(1, &names)[..5], ["openai", "acme, \"inc\"", "chat", "b1/chat", "Other"]);
    assert_eq!(of(0, &names)[4..], ["AI and Machine Learning", r#"{"farthing:team":"search","feature":"map","team":"x"}"#]);
    assert_eq!(rows.len(), 3);
}

#[test]
fn a_call_that_was_made_for_several_is_charged_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(dir.path(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
    for call_id in 1..=3 {
        let row = CallRow { ts_ns: 1, provider: "p".into(), sent: true, call_id, batch_id: Some(1), ..CallRow::default() };
        writer.handle().write(CallRow { cost_nanousd: Some(2), ..row });
    }
    writer.close();
    let out = tempfile::tempdir().unwrap();
    export(&Order { format: Format::Focus, ..order(dir.path(), out.path(), Selection::default()) }).unwrap();
    let rows = records(&fs::read_to_string(out.path().join("focus.csv")).unwrap());
    let told = ["ConsumedQuantity", "PricingQuantity", "BilledCost"].map(|name| rows[0][name].clone());
    assert_eq!((rows.len(), told), (1, ["1", "1", "0.000000006"].map(str::to_owned)));
}

/// Rows of a text of comma-separated values, by the names in its first line.
fn records(text: &str) -> Vec<BTreeMap<String, String>> {
    let cells = |line: &str| -> Vec<String> {
        let (mut cells, mut quoted) = (vec![String::new()], false);
        let mut letters = line.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '"' if quoted && letters.peek() == Some(&'"') => cells.last_mut().unwrap().push(letters.next().unwrap()),
                '"' => quoted = !quoted,
                ',' if !quoted => cells.push(String::new()),
                letter => cells.last_mut().unwrap().push(letter),
            }
        }
        cells
    };
    let mut lines = text.lines();
    let names = cells(lines.next().unwrap());
    lines.map(|line| names.iter().cloned().zip(cells(line)).collect()).collect()
}

fn age(hours: i64) -> Time {
    Time::from_nanos((HOUR + hours) * HOUR_NS)
}

fn hours(hours: u64) -> Span {
    Span::from_secs(hours * 3_600)
}

#[test]
fn rows_go_when_their_hour_is_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let retention = Retention { tables: vec![("requests", hours(2)), ("decisions", hours(3))], tenants: Vec::new() };
    // Two hours after the end of the first.
    let dry = prune(dir.path(), &retention, age(3), true).unwrap();
    assert_eq!((dry.rows, dry.files_removed, counts(dir.path())), (4, 1, vec![16; 4]));
    let done = prune(dir.path(), &retention, age(3), false).unwrap();
    assert_eq!((done.rows, done.partitions, done.bytes), (4, 1, dry.bytes));
    assert_eq!(counts(dir.path()), [12, 16, 16, 16]);
    assert!(!dir.path().join("requests").join(farthing_contract::log::partition(HOUR)).exists());
    let done = prune(dir.path(), &retention, age(5), false).unwrap();
    assert_eq!((done.rows, counts(dir.path())), (8 + 8, vec![4, 16, 8, 16]));
    assert_eq!(prune(dir.path(), &retention, age(5), false).unwrap(), Pruned::default());
    prune(dir.path(), &retention, age(500), false).unwrap();
    assert_eq!(counts(dir.path()), [0, 16, 0, 16]);
    assert!(fs::read_dir(dir.path().join("requests")).unwrap().next().is_none(), "empty dates go, too");
}

#[test]
fn a_tenant_may_go_earlier_or_stay_longer_and_the_others_are_as_before() {
    for (own, left) in [(hours(1), [(8, 2), (8, 0)]), (hours(50), [(8, 8), (0, 8)])] {
        let dir = tempfile::tempdir().unwrap();
        log(dir.path());
        let retention = Retention { tables: vec![("calls", hours(10))], tenants: vec![(CANARY.to_owned(), "calls", own)] };
        let of = |tenant: &str| {
            let found = rows(dir.path(), CallRow::TABLE, &["tenant", "cost_nanousd", "call_id"]);
            found.into_iter().filter(|row| row.starts_with(tenant)).collect::<Vec<_>>()
        };
        let others = of("acme");
        prune(dir.path(), &retention, age(4), false).unwrap();
        assert_eq!((of("acme"), of(CANARY).len()), (others, left[0].1));
        let again = prune(dir.path(), &retention, age(4), false).unwrap();
        assert_eq!((again.files_rewritten, again.rows), (0, 0));
        prune(dir.path(), &retention, age(30), false).unwrap();
        assert_eq!((of("acme").len(), of(CANARY).len()), (0, left[1].1));
    }
}

#[test]
fn a_partition_is_not_looked_through_again_until_something_changed() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let retention = Retention { tables: Vec::new(), tenants: vec![(CANARY.to_owned(), "calls", hours(1))] };
    assert_eq!(prune(dir.path(), &retention, age(9), false).unwrap().rows, 8);
    // A file that is no Parquet would be named, were it read.
    let folder = dir.path().join("calls").join(farthing_contract::log::partition(HOUR));
    let file = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| read::is_part(path)).unwrap();
    fs::write(&file, b"no Parquet").unwrap();
    assert!(prune(dir.path(), &retention, age(9), false).unwrap().skipped.is_empty());
    fs::write(folder.join("part-late.parquet"), b"no Parquet either").unwrap();
    assert_eq!(prune(dir.path(), &retention, age(9), false).unwrap().skipped.len(), 2);
}

#[test]
fn nothing_of_a_forgotten_tenant_is_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    assert!(anywhere(dir.path(), CANARY));
    fs::write(dir.path().join("journal/seg-x.fj.damaged"), format!("..{CANARY}..")).unwrap();
    let others =
        |table| rows(dir.path(), table, &["key_hash", "ts_ns"]).into_iter().filter(|row| !row.contains("0002 ")).collect::<Vec<_>>();
    let before = others(Decision::TABLE);
    let forgotten = forget(dir.path(), CANARY).unwrap();
    assert_eq!(forgotten.rows.values().copied().collect::<Vec<_>>(), [8, 8, 8, 8]);
    assert_eq!((forgotten.segments_left, forgotten.skipped.len()), (0, 0));
    assert_eq!(forgotten.keys.into_iter().collect::<Vec<_>>(), [2], "the key that both used is not its own");
    assert!(!anywhere(dir.path(), CANARY));
    assert_eq!(counts(dir.path()), [8, 8, 8, 8]);
    assert_eq!(others(Decision::TABLE).len(), before.len() - 4, "of the shared key its own decisions alone");
    let again = forget(dir.path(), CANARY).unwrap();
    assert!(again.rows.values().all(|rows| *rows == 0) && again.files == 0);
}

#[test]
fn what_a_living_process_holds_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(dir.path(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
    fill(&writer.handle());
    writer.handle().unwritten(Span::from_secs(60)).unwrap();
    assert!(is_written(dir.path()), "from its first turn on");
    assert_eq!(forget(dir.path(), CANARY).unwrap().segments_left, 1);
    assert_eq!(forget(dir.path(), "nobody").unwrap().segments_left, 0);
    writer.handle().flush(Span::from_secs(60)).unwrap();
    assert_eq!(forget(dir.path(), CANARY).unwrap().segments_left, 0);
    assert!(!anywhere(dir.path(), CANARY));
    writer.close();
    assert!(!is_written(dir.path()));
}

#[test]
fn only_one_process_removes_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let held = remover(dir.path()).unwrap();
    assert!(matches!(forget(dir.path(), CANARY), Err(ArchiveError::Busy(_))));
    let retention = Retention { tables: vec![("calls", hours(1))], tenants: Vec::new() };
    assert!(matches!(prune(dir.path(), &retention, age(9), false), Err(ArchiveError::Busy(_))));
    assert!(prune(dir.path(), &retention, age(9), true).is_ok(), "a look needs no lock");
    drop(held);
    assert!(forget(dir.path(), CANARY).is_ok());
}

/// Files of the schema version before have fewer columns, and keep it when they are written anew.
#[test]
fn older_files_keep_their_version() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let file = read::files(dir.path(), Request::TABLE).remove(0);
    let old: Vec<_> = Request::TABLE.columns.iter().enumerate().filter(|(_, column)| column.since == 1).map(|(place, _)| place).collect();
    let mut batches = Vec::new();
    batches::visit(&file, Request::TABLE, None, &mut |batch| {
        batches.push(batch.project(&old).unwrap());
        Ok(())
    })
    .unwrap();
    let pair = |key: &str, value: &str| parquet::file::metadata::KeyValue::new(key.to_owned(), value.to_owned());
    let pairs = vec![pair(farthing_contract::log::VERSION_KEY, "1"), pair(farthing_contract::log::TABLE_KEY, "requests")];
    let (target, schema) = (fs::File::create(&file).unwrap(), batches[0].schema());
    let mut writer = parquet::arrow::ArrowWriter::try_new(target, schema, Some(crate::log::properties(pairs))).unwrap();
    writer.write(&batches[0]).unwrap();
    writer.close().unwrap();
    let mut goes = |batch: &arrow::record_batch::RecordBatch| (0..batch.num_rows()).map(|row| Some(row == 0)).collect();
    let kept = retain::retain(&file, Request::TABLE, &["ts_ns"], &mut goes).unwrap();
    assert_eq!(kept, retain::Retained { kept: 3, removed: 1 });
    assert_eq!((read::version(&file).unwrap(), counts(dir.path())[0]), (Some(1), 15));
    // Beside the others it is exported under today's columns.
    let out = tempfile::tempdir().unwrap();
    export(&order(dir.path(), out.path(), Selection::default())).unwrap();
    assert_eq!(rows(out.path(), Request::TABLE, &["tenant", "stat_seq"]), rows(dir.path(), Request::TABLE, &["tenant", "stat_seq"]));
}
