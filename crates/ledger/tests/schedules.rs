//! J2: twelve price schedules agree to the nano-dollar with a table that `tests/python/price_table.py` computes in exact fractions and shares
//! nothing with this code; and whatever the schedule, parts sum to the whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farthing_ledger::{Amount, Amounts, Billable, PriceBook, PriceSpec, TokenRates, Volumes};
use farthing_types::{Currency, Meter, MeterSource, Money, Rate, Tier, Time, Usage};
use proptest::prelude::*;
use serde::Deserialize;

const TABLE: &str = include_str!("data/prices.jsonl");

/// One call of the table, and what it costs; `None` is unpriced.
#[derive(Deserialize)]
struct Row {
    schedule: String,
    at: i64,
    #[serde(default)]
    usage: BTreeMap<String, u64>,
    #[serde(default)]
    amounts: BTreeMap<String, String>,
    target: Option<String>,
    service: Option<String>,
    #[serde(default = "ok")]
    status: Option<u16>,
    bytes: Option<u64>,
    nanos: Option<i64>,
}

fn ok() -> Option<u16> {
    Some(200)
}

fn rate(usd: &str) -> Rate {
    usd.parse().unwrap()
}

/// Dollars a million.
fn million(usd: &str) -> Option<Rate> {
    Some(Rate::per_million(usd.parse::<Money>().unwrap().nanos()))
}

fn pointer(name: &str, place: &str, usd: &str) -> Meter {
    Meter::new(name, MeterSource::Pointer(place.to_owned()), rate(usd))
}

fn metered(meters: impl IntoIterator<Item = Meter>) -> PriceSpec {
    PriceSpec { meters: meters.into_iter().collect(), ..PriceSpec::default() }
}

fn targets(targets: impl IntoIterator<Item = (&'static str, TokenRates)>) -> PriceSpec {
    PriceSpec { targets: targets.into_iter().map(|(name, rates)| (name.to_owned(), rates)).collect(), ..PriceSpec::default() }
}

fn schedules() -> BTreeMap<&'static str, PriceSpec> {
    BTreeMap::from([
        ("llm", targets([("thinker", thinker())])),
        ("batch", PriceSpec { service: [("batch".to_owned(), "0.5".parse().unwrap())].into(), ..targets([("small", small())]) }),
        ("geocoding", metered([geocoding()])),
        (
            "weather",
            PriceSpec { per_call: Some(rate("0.0015")), not_modified: Some(rate("0.0001")), errors_billed: true, ..PriceSpec::default() },
        ),
        (
            "credits",
            metered([
                Meter::new("credits", MeterSource::Header("x-credits".to_owned()), rate("0.00007")),
                Meter { discount: true, required: false, ..pointer("rebate", "/account/rebate", "-0.00001") },
            ]),
        ),
        ("tiles", PriceSpec { per_kb: Some(rate("0.0003")), per_call: Some(rate("0.00002")), ..PriceSpec::default() }),
        ("points", metered([Meter { unit_size: 1000, round_up: true, free: 10, ..pointer("points", "/extensions/cost/actual", "0.05") }])),
        ("images", targets([("large", images("0.04")), ("small", images("0.011"))])),
        ("audio", metered([Meter { round_up: true, ..pointer("seconds", "/duration", "0.0001") }])),
        (
            "minimum",
            PriceSpec { minimum: Some(rate("0.0005")), ..metered([Meter { unit_size: 300, ..pointer("units", "/units", "0.0001") }]) },
        ),
        ("currency", currency()),
        ("midnight", midnight()),
    ])
}

fn thinker() -> TokenRates {
    TokenRates {
        input: million("2.5"),
        cached_input: million("1.25"),
        output: million("10"),
        reasoning: million("12"),
        ..TokenRates::default()
    }
}

fn small() -> TokenRates {
    TokenRates {
        input: million("0.15"),
        cache_write: million("0.1875"),
        cache_write_1h: million("0.3"),
        output: million("0.6"),
        ..TokenRates::default()
    }
}

fn geocoding() -> Meter {
    let tiers = vec![Tier { up_to: 60, rate: rate("0.005") }, Tier { up_to: 100, rate: rate("0.004") }];
    Meter { free: 25, tiers, ..Meter::new("lookups", MeterSource::Call, rate("0.00333")) }
}

fn images(usd: &str) -> TokenRates {
    TokenRates { meters: vec![pointer("images", "/data", usd)], ..TokenRates::default() }
}

fn currency() -> PriceSpec {
    let euro = Currency { code: "EUR".to_owned(), usd: "1.0823".parse().unwrap(), day: "2026-11-01".to_owned() };
    let units = Meter { rate: million("0.7").unwrap(), ..pointer("units", "/units", "0") };
    PriceSpec { per_call: Some(rate("0.0019")), currency: Some(euro), ..metered([units]) }
}

fn midnight() -> PriceSpec {
    let version =
        |effective: &str, usd: &str| PriceSpec { per_call: Some(rate(usd)), effective: Some(effective.to_owned()), ..PriceSpec::default() };
    let later = vec![version("2026-12-01T12:00:00+02:00", "0.0025"), version("2026-12-01", "0.003")];
    PriceSpec { versions: later, ..version("2026-11-01", "0.002") }
}

fn book() -> PriceBook {
    let specs = schedules().into_iter().map(|(name, spec)| (name.into(), spec)).collect();
    PriceBook::new(&specs, &BTreeMap::new()).unwrap()
}

fn usage(counts: &BTreeMap<String, u64>) -> Usage {
    let of = |name: &str| counts.get(name).copied();
    Usage {
        input: of("input"),
        cached_input: of("cached_input"),
        cache_write: of("cache_write"),
        cache_write_1h: of("cache_write_1h"),
        output: of("output"),
        reasoning: of("reasoning"),
        units: None,
    }
}

fn amounts(told: &BTreeMap<String, String>) -> Amounts {
    let mut amounts = Amounts::default();
    told.iter().for_each(|(place, text)| amounts.set(&Arc::from(place.as_str()), Amount::parse(text.as_bytes()).unwrap()));
    amounts
}

#[test]
fn twelve_schedules_agree_with_the_table_to_the_nano_dollar() {
    let (book, mut volumes, mut seen) = (book(), Volumes::default(), BTreeSet::new());
    let mut rows = 0;
    for (line, text) in TABLE.lines().enumerate() {
        let row: Row = serde_json::from_str(text).unwrap();
        let (usage, amounts) = (usage(&row.usage), amounts(&row.amounts));
        let call = Billable {
            route: "any",
            provider: &row.schedule,
            target: row.target.as_deref(),
            at: Time::from_nanos(row.at),
            usage: &usage,
            amounts: &amounts,
            service: row.service.as_deref(),
            unbilled: false,
            status: row.status,
            bytes: row.bytes.or(Some(0)),
        };
        let priced = book.price(&call, &volumes);
        if let Ok(priced) = &priced {
            priced.enter(&mut volumes);
        }
        let cost = priced.ok().map(|priced| priced.cost.nanos());
        assert_eq!(cost, row.nanos, "line {}: {text}", line + 1);
        seen.insert(row.schedule);
        rows += 1;
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert!(rows > 700, "{rows} rows");
}

#[test]
fn the_table_is_what_the_script_computes() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let script = std::process::Command::new("python3")
        .args(["tests/python/price_table.py", "crates/ledger/tests/data/prices.jsonl", "--check"])
        .current_dir(root)
        .output();
    match script {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr)),
        // Where there is no Python, the committed table stands by itself.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

fn monthly() -> PriceBook {
    let meter = Meter {
        free: 7,
        tiers: vec![Tier { up_to: 20, rate: rate("0.000000003") }, Tier { up_to: 50, rate: rate("0.000000002") }],
        ..pointer("units", "/units", "0.000000001")
    };
    PriceBook::new(&BTreeMap::from([("p".into(), metered([meter]))]), &BTreeMap::new()).unwrap()
}

fn price(book: &PriceBook, units: u64, volumes: &mut Volumes) -> Money {
    let mut amounts = Amounts::default();
    amounts.set(&"/units".into(), Amount::units(units));
    let call = Billable {
        route: "r",
        provider: "p",
        target: None,
        at: Time::ZERO,
        usage: &Usage::default(),
        amounts: &amounts,
        service: None,
        unbilled: false,
        status: Some(200),
        bytes: None,
    };
    let priced = book.price(&call, volumes).unwrap();
    priced.enter(volumes);
    priced.cost
}

proptest! {
    /// A month's bill does not depend on how its volume is cut into calls, and each call costs what it adds.
    #[test]
    fn parts_sum_to_the_whole(parts in proptest::collection::vec(0u64..30, 0..20)) {
        let book = monthly();
        let mut volumes = Volumes::default();
        let sum: Money = parts.iter().map(|units| price(&book, *units, &mut volumes)).sum();
        let mut whole = Volumes::default();
        prop_assert_eq!(sum, price(&book, parts.iter().sum(), &mut whole));
        prop_assert!(whole == volumes || parts.is_empty());
    }

    /// More volume never lowers what a call of the same size costs below the cheapest rate, nor raises it above the dearest.
    #[test]
    fn a_call_stays_between_the_rates(before in 0u64..100, units in 0u64..40) {
        let book = monthly();
        let mut volumes = Volumes::default();
        price(&book, before, &mut volumes);
        let cost = price(&book, units, &mut volumes).nanos();
        let units = i64::try_from(units).unwrap();
        prop_assert!(cost <= 3 * units);
        if before >= 7 {
            prop_assert!(cost >= units);
        }
    }
}
