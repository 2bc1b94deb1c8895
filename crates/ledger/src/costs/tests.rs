use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Request, Row};
use farthing_types::{Money, RealClock, Time};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;
use tempfile::TempDir;

use super::*;
use crate::{LogConfig, LogHandle, LogWriter};

const HOUR: i64 = 3_600_000_000_000;
/// 2026-11-20 00:00 UTC.
const START: i64 = 1_795_132_800_000_000_000;

fn log() -> (TempDir, LogWriter) {
    let dir = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(dir.path(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
    (dir, writer)
}

fn window() -> Window {
    Window { from: Time::from_nanos(START), to: Time::from_nanos(START + 48 * HOUR) }
}

fn ask(dir: &TempDir, query: &CostQuery) -> CostReport {
    let report = CostStore::new(dir.path(), None, Limits::default()).answer(query, &|| false).unwrap();
    assert_eq!(report.unreadable, Vec::<String>::new());
    report
}

fn asked(by: &str, filter: &str) -> CostQuery {
    let times = format!("{},{}", utc(window().from), utc(window().to));
    CostQuery::parse(Asked { window: Some(&times), by: Some(by), filter: Some(filter), ..Asked::default() }, Time::ZERO).unwrap()
}

fn request(hour: i64, route: &str, outcome: &'static str, (base, cost): (Option<i64>, Option<i64>)) -> Request {
    Request {
        ts_ns: START + hour * HOUR,
        weight: 1,
        tenant: "acme".into(),
        route: route.into(),
        outcome,
        status: 200,
        base_nanousd: base,
        cost_nanousd: cost,
        saved_by: matches!(outcome, "hit").then_some("l1"),
        ..Request::default()
    }
}

fn call(hour: i64, route: &str, purpose: &'static str, cost: Option<i64>) -> CallRow {
    CallRow {
        ts_ns: START + hour * HOUR,
        tenant: "acme".into(),
        route: route.into(),
        provider: "maps".into(),
        purpose,
        sent: true,
        status: Some(200),
        cost_nanousd: cost,
        ..CallRow::default()
    }
}

fn names(group: &CostGroup) -> String {
    group.names.iter().map(|name| name.as_deref().unwrap_or("-")).collect::<Vec<_>>().join("/")
}

fn sample(log: &LogHandle) {
    log.write(Request {
        weight: 3,
        tags: Some("city=Ulm,x=y".into()),
        team: Some("maps".into()),
        ..request(1, "geo", "hit", (Some(5), Some(0)))
    });
    log.write(request(2, "geo", "lead", (Some(5), Some(5))));
    log.write(request(3, "wx", "lead", (None, None)));
    log.write(request(4, "wx", "failed", (Some(0), Some(0))));
    log.write(request(49, "geo", "lead", (Some(1_000), Some(1_000)))); // after the window
    log.write(call(2, "geo", "user", Some(5)));
    log.write(call(3, "wx", "user", None));
    log.write(call(5, "geo", "refresh", Some(7)));
    log.write(call(6, "geo", "prefetch", Some(4)));
    log.write(CallRow { sent: false, ..call(6, "geo", "user", Some(0)) });
    log.write(call(-1, "geo", "user", Some(1_000))); // before it
}

#[test]
fn money_by_route_with_what_has_no_price_beside_it() {
    let (dir, writer) = log();
    sample(&writer.handle());
    writer.close();
    let report = ask(&dir, &asked("route", ""));
    let told: Vec<_> = report
        .groups
        .iter()
        .map(|group| {
            let (requests, calls) = (group.sums.requests.unwrap(), group.sums.calls.unwrap());
            (
                names(group),
                (requests.requests, requests.hits, requests.base, requests.saved, requests.unpriced),
                (calls.calls, calls.bill, calls.unpriced),
            )
        })
        .collect();
    assert_eq!(told, [("geo".to_owned(), (4, 3, 20, 15, 0), (3, 16, 0)), ("wx".to_owned(), (2, 0, 0, 0, 1), (1, 0, 1))]);
    let calls = report.total.calls.unwrap();
    assert_eq!((calls.bill, calls.background, calls.prefetch, report.prefetch_waste()), (16, 11, 4, Some(4)));
    assert_eq!((report.rows, report.total.requests.unwrap().failed), (9, 1));
}

#[test]
fn names_that_one_table_knows_and_the_other_does_not() {
    let (dir, writer) = log();
    sample(&writer.handle());
    writer.close();
    let by = |by: &str, filter: &str| {
        let report = ask(&dir, &asked(by, filter));
        let told = report.groups.iter().map(|g| (names(g), g.sums.requests.map(|r| r.requests), g.sums.calls.map(|c| c.bill)));
        told.collect::<Vec<_>>()
    };
    let row = |name: &str, requests: Option<i128>, bill: Option<i128>| (name.to_owned(), requests, bill);
    assert_eq!(
        by("purpose", ""),
        [row("refresh", Some(0), Some(7)), row("user", Some(0), Some(5)), row("prefetch", Some(0), Some(4)), row("-", Some(6), Some(0))]
    );
    assert_eq!(by("purpose", "purpose:prefetch"), [row("prefetch", None, Some(4))], "requests do not know it: no zero");
    assert_eq!(by("outcome", "outcome:hit,outcome:failed"), [row("hit", Some(3), None), row("failed", Some(1), None)]);
    assert_eq!(by("tag:city,team", "team:maps"), [row("Ulm/maps", Some(3), Some(0))]);
    assert_eq!(by("status", "provider:maps"), [row("2xx", Some(0), Some(16))], "requests of before the provider was logged have none");
    assert_eq!(by("", "team:"), [row("", Some(3), Some(16))], "the empty value stands for none");
}

#[test]
fn the_dearest_groups_and_a_series_of_each() {
    let (dir, writer) = log();
    let log = writer.handle();
    for n in 0..30_i64 {
        log.write(call(n, &format!("r{n}"), "user", Some(n)));
        log.write(call(0, &format!("r{n}"), "user", Some(100)));
    }
    writer.close();
    let query = CostQuery { top: 2, step: Some(24 * HOUR), ..asked("route", "") };
    let report = ask(&dir, &query);
    assert_eq!(
        report.groups.iter().map(|g| (names(g), g.others)).collect::<Vec<_>>(),
        [("r29".to_owned(), false), ("r28".to_owned(), false), ("-".to_owned(), true)]
    );
    let bills = |points: &[Point]| points.iter().map(|p| (p.at.nanos() - START, p.sums.calls.unwrap().bill)).collect::<Vec<_>>();
    assert_eq!(bills(&report.groups[0].series), [(0, 100), (24 * HOUR, 29)]);
    assert_eq!(report.groups_in_all, 30);
    let all: i128 = (0..30).sum::<i128>() + 3_000;
    assert_eq!((report.total.calls.unwrap().bill, report.groups.iter().map(|g| g.sums.calls.unwrap().bill).sum::<i128>()), (all, all));
    assert_eq!(bills(&report.series).iter().map(|(_, bill)| bill).sum::<i128>(), all);
}

#[test]
fn what_a_strategy_was_worth() {
    let (dir, writer) = log();
    let log = writer.handle();
    log.write(Request { weight: 4, ..request(1, "geo", "hit", (Some(10), Some(0))) });
    log.write(Request { saved_by: Some("stale"), ..request(1, "geo", "stale", (Some(10), Some(0))) });
    log.write(Request { saved_by: Some("revalidated"), ..request(1, "geo", "lead", (Some(10), Some(1))) });
    log.write(Request { saved_by: Some("dedupe"), ..request(1, "geo", "follow", (None, Some(0))) });
    for (purpose, cost) in [("user", Some(1)), ("refresh", Some(4)), ("audit", Some(3)), ("audit", None)] {
        log.write(call(1, "geo", purpose, cost));
    }
    writer.close();
    let told: Vec<_> = ask(&dir, &asked("", ""))
        .strategies
        .iter()
        .map(|s| (s.name.to_string(), s.saved, s.calls_avoided, s.bill, s.net(), s.unpriced))
        .collect();
    let row = |name: &str, saved, avoided, bill, net, unpriced| (name.to_owned(), saved, avoided, bill, net, unpriced);
    assert_eq!(
        told,
        [
            row("l1", 40, 4, 0, 40, 0),
            row("revalidated", 9, 0, 0, 9, 0),
            row("stale", 10, 1, 4, 6, 0),
            row("dedupe", 0, 1, 0, 0, 1),
            row("audit", 0, 0, 3, -3, 1)
        ]
    );
}

#[test]
fn rows_in_no_file_yet_count_once_and_damaged_files_are_named() {
    let (dir, writer) = log();
    let log = writer.handle();
    log.write(call(1, "geo", "user", Some(5)));
    let wait = farthing_types::Span::from_secs(30);
    let recent: Arc<dyn RecentRows> = Arc::new(OpenLog::new(log.clone(), wait));
    let store = CostStore::new(dir.path(), Some(recent), Limits::default());
    let query = asked("", "");
    let bill = || store.answer(&query, &|| false).unwrap().total.calls.unwrap().bill;
    assert_eq!((bill(), crate::read::files(dir.path(), farthing_contract::log::ALL[1]).len()), (5, 0), "in memory alone");
    log.flush(wait).unwrap();
    assert_eq!(bill(), 5, "in a file alone");
    log.write(call(1, "geo", "user", Some(7)));
    assert_eq!(bill(), 12, "one in a file, one in memory");
    // A batch beside the files that one snapshot names.
    struct Snapshot(Recent);
    impl RecentRows for Snapshot {
        fn recent(&self) -> Result<Recent, String> {
            Ok(self.0.clone())
        }
    }
    let files = crate::read::files(dir.path(), farthing_contract::log::ALL[1]);
    let mut reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&files[0]).unwrap())
        .unwrap()
        .build()
        .unwrap();
    let plain = reader.next().unwrap().unwrap();
    let columns: Vec<_> = plain
        .schema()
        .fields()
        .iter()
        .zip(plain.columns())
        .map(|(field, column)| {
            let column = match field.data_type() {
                arrow::datatypes::DataType::Utf8 => {
                    let text = column.as_any().downcast_ref::<arrow::array::StringArray>().unwrap();
                    Arc::new(text.iter().collect::<arrow::array::DictionaryArray<arrow::datatypes::Int32Type>>()) as arrow::array::ArrayRef
                }
                _ => column.clone(),
            };
            (field.name().clone(), column, true)
        })
        .collect();
    let batch = arrow::record_batch::RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let none: Reads = Arc::new(|_| false);
    log.flush(wait).unwrap();
    for (reads, bill) in [(None, 17), (Some(none), 5)] {
        let recent = Recent { batches: vec![("calls", batch.clone())], reads };
        let store = CostStore::new(dir.path(), Some(Arc::new(Snapshot(recent))), Limits::default());
        assert_eq!(store.answer(&query, &|| false).unwrap().total.calls.unwrap().bill, bill);
    }
    writer.close();
    std::fs::write(files[0].with_file_name("part-x.parquet"), b"no parquet").unwrap();
    let report = CostStore::new(dir.path(), None, Limits::default()).answer(&query, &|| false).unwrap();
    assert_eq!((report.total.calls.unwrap().bill, report.unreadable.len()), (12, 1));
    assert!(report.unreadable[0].contains("part-x.parquet"), "{:?}", report.unreadable);
}

#[test]
fn too_many_groups_and_too_late_are_said() {
    let (dir, writer) = log();
    let log = writer.handle();
    (0..2_000).for_each(|n| log.write(call(1, &format!("r{n}"), "user", Some(n))));
    writer.close();
    let small = CostStore::new(dir.path(), None, Limits { bytes: 10_000, threads: 2 });
    let error = small.answer(&asked("route", ""), &|| false).unwrap_err().to_string();
    assert!(error.contains("groups: ask for fewer names"), "{error}");
    assert!(small.answer(&asked("provider", ""), &|| false).is_ok());
    assert!(matches!(small.answer(&asked("", ""), &|| true), Err(CostError::Late)));
}

#[test]
fn hours_outside_the_window_are_not_opened() {
    let (dir, writer) = log();
    let log = writer.handle();
    (-5..5).for_each(|hour| log.write(call(hour, "geo", "user", Some(1))));
    writer.close();
    let report = ask(&dir, &CostQuery::of(Window { from: Time::from_nanos(START), to: Time::from_nanos(START + 2 * HOUR) }));
    assert_eq!((report.files, report.total.calls.unwrap().bill), (2, 2));
}

/// Three calls that were made together, as three rows.
fn together(log: &LogHandle) {
    for call_id in 1..=3 {
        log.write(CallRow { call_id, batch_id: Some(1), ..call(1, "geo", "user", Some(2)) });
    }
}

#[test]
fn a_call_that_was_made_for_several_is_one() {
    let (dir, writer) = log();
    together(&writer.handle());
    let recent = Arc::new(OpenLog::new(writer.handle(), farthing_types::Span::from_secs(30)));
    let store = CostStore::new(dir.path(), Some(recent), Limits::default());
    let calls = store.answer(&asked("", ""), &|| false).unwrap().total.calls.unwrap();
    assert_eq!((calls.calls, calls.bill), (1, 6), "of rows in no file yet");
    writer.close();
    let calls = ask(&dir, &asked("", "")).total.calls.unwrap();
    assert_eq!((calls.calls, calls.bill, calls.unpriced), (1, 6, 0));
}

#[test]
fn files_of_before_there_were_batches_have_a_call_in_each_row() {
    let (dir, writer) = log();
    (0..3).for_each(|_| writer.handle().write(call(1, "geo", "user", Some(2))));
    writer.close();
    let file = crate::read::files(dir.path(), CallRow::TABLE).remove(0);
    let builder = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&file).unwrap()).unwrap();
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    let columns = CallRow::TABLE.columns.iter().enumerate();
    let old: Vec<usize> = columns.filter(|(_, column)| column.since < 4).map(|(place, _)| place).collect();
    let batch = batch.project(&old).unwrap();
    let pair = |key: &str, value: &str| parquet::file::metadata::KeyValue::new(key.to_owned(), value.to_owned());
    let pairs = vec![pair(farthing_contract::log::VERSION_KEY, "3"), pair(farthing_contract::log::TABLE_KEY, "calls")];
    let target = std::fs::File::create(&file).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(target, batch.schema(), Some(crate::log::properties(pairs))).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let calls = ask(&dir, &asked("", "")).total.calls.unwrap();
    assert_eq!((calls.calls, calls.bill), (3, 6));
}

#[test]
fn sums_beyond_money_saturate() {
    assert_eq!(money(5), Money::from_nanos(5));
    assert_eq!((money(i128::MAX), money(i128::MIN)), (Money::from_nanos(i64::MAX), Money::from_nanos(i64::MIN)));
}

#[derive(Clone, Debug)]
struct Drawn {
    hour: i64,
    route: u8,
    team: Option<u8>,
    weight: i64,
    outcome: usize,
    money: (Option<i64>, Option<i64>),
    is_call: bool,
}

fn drawn() -> impl proptest::strategy::Strategy<Value = Drawn> {
    let amount = || proptest::option::weighted(0.9, -5..i64::MAX / 4_096);
    (-3i64..52, 0u8..4, proptest::option::of(0u8..3), 1i64..2_000, 0usize..5, (amount(), amount()), any::<bool>())
        .prop_map(|(hour, route, team, weight, outcome, money, is_call)| Drawn { hour, route, team, weight, outcome, money, is_call })
}

const OUTCOMES: [&str; 5] = ["hit", "lead", "stale", "failed", "follow"];

fn write(log: &LogHandle, row: &Drawn) {
    let (route, team) = (format!("r{}", row.route), row.team.map(|team| Arc::<str>::from(format!("t{team}"))));
    if row.is_call {
        log.write(CallRow { team, ..call(row.hour, &route, ["user", "refresh"][row.outcome % 2], row.money.0) });
    } else {
        log.write(Request { team, weight: row.weight, ..request(row.hour, &route, OUTCOMES[row.outcome], row.money) });
    }
}

/// The same by one row after the other.
fn fold(rows: &[Drawn], step: i64) -> BTreeMap<(String, i64), CostSums> {
    let mut groups: BTreeMap<(String, i64), CostSums> = BTreeMap::new();
    for row in rows.iter().filter(|row| (0..48).contains(&row.hour)) {
        let name = format!("{}/r{}", row.team.map_or("-".to_owned(), |team| format!("t{team}")), row.route);
        let sums = groups.entry((name, (START + row.hour * HOUR).div_euclid(step))).or_insert(CostSums::none((true, true)));
        let wide = |money: Option<i64>| i128::from(money.unwrap_or(0));
        if row.is_call {
            let calls = sums.calls.as_mut().unwrap();
            calls.calls += 1;
            calls.bill += wide(row.money.0);
            calls.background += if row.outcome % 2 == 1 { wide(row.money.0) } else { 0 };
            calls.unpriced += i128::from(row.money.0.is_none());
            continue;
        }
        let (requests, weight) = (sums.requests.as_mut().unwrap(), i128::from(row.weight));
        let unpriced = row.money.0.is_none() || row.money.1.is_none();
        requests.requests += weight;
        requests.hits += if [0, 2, 4].contains(&row.outcome) { weight } else { 0 };
        requests.failed += if row.outcome == 3 { weight } else { 0 };
        requests.base += weight * wide(row.money.0);
        requests.cost += weight * wide(row.money.1);
        requests.saved += if row.outcome == 0 && !unpriced { weight * (wide(row.money.0) - wide(row.money.1)) } else { 0 };
        requests.unpriced += if unpriced { weight } else { 0 };
    }
    groups
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn sums_are_those_of_a_naive_fold_to_the_nano_dollar(rows in prop::collection::vec(drawn(), 0..300)) {
        let (dir, writer) = log();
        let log = writer.handle();
        for (index, row) in rows.iter().enumerate() {
            write(&log, row);
            if index % 97 == 96 {
                log.flush(farthing_types::Span::from_secs(30)).unwrap();
            }
        }
        writer.close();
        let step = 6 * HOUR;
        let report = ask(&dir, &CostQuery { step: Some(step), ..asked("team,route", "") });
        let naive = fold(&rows, step);
        let mut told = BTreeMap::new();
        let mut sum = CostSums::none((true, true));
        for group in &report.groups {
            sum += group.sums;
            for point in &group.series {
                told.insert((names(group), point.at.nanos().div_euclid(step)), point.sums);
            }
        }
        prop_assert_eq!(told, naive);
        prop_assert_eq!(sum, report.total);
    }
}

#[test]
fn a_cheaper_call_is_none_that_was_avoided() {
    let (dir, writer) = log();
    for cause in ["route", "prompt_cache", "defer", "batch", "revalidated"] {
        writer.handle().write(Request { saved_by: Some(cause), ..request(1, "geo", "lead", (Some(10), Some(1))) });
    }
    writer.close();
    let report = ask(&dir, &asked("", ""));
    assert!(report.strategies.len() == 5 && report.strategies.iter().all(|s| s.calls_avoided == 0), "{:?}", report.strategies);
}
