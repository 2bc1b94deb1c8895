use std::collections::BTreeMap;

use farthing_types::{Meter, MeterSource, Money, Rate, Time, Usage};
use proptest::prelude::*;

use super::*;

fn rate(usd: &str) -> Rate {
    usd.parse().unwrap()
}

fn usd(text: &str) -> Option<Money> {
    Some(text.parse().unwrap())
}

fn book(spec: PriceSpec) -> PriceBook {
    PriceBook::new(&BTreeMap::from([("p".into(), spec)]), &BTreeMap::new()).unwrap()
}

const NONE: Usage =
    Usage { input: None, cached_input: None, cache_write: None, cache_write_1h: None, output: None, reasoning: None, units: None };

const NOW: Time = Time::from_millis(1_800_000_000_000);
static NOTHING: Amounts = Amounts::none();

trait Told {
    /// The price alone, after nothing else in the month.
    fn told(&self, call: &Billable<'_>) -> Option<Money>;
}
impl Told for PriceBook {
    fn told(&self, call: &Billable<'_>) -> Option<Money> {
        self.price(call, &Volumes::default()).ok().map(|priced| priced.cost)
    }
}

fn call(usage: &Usage) -> Billable<'_> {
    let at = NOW;
    Billable {
        route: "r",
        provider: "p",
        target: Some("m"),
        at,
        usage,
        amounts: &NOTHING,
        service: None,
        unbilled: false,
        status: Some(200),
        bytes: Some(0),
    }
}

fn per_call() -> PriceSpec {
    PriceSpec { per_call: Some(rate("0.005")), ..PriceSpec::default() }
}

fn per_token() -> PriceSpec {
    let rates = TokenRates { input: Some(rate("0.0000025")), output: Some(rate("0.00001")), ..TokenRates::default() };
    let cached = TokenRates { cached_input: Some(rate("0.00000125")), ..rates.clone() };
    PriceSpec {
        targets: BTreeMap::from([("m".into(), rates.clone()), ("m-pro".into(), cached), ("exp*".into(), rates)]),
        ..PriceSpec::default()
    }
}

#[test]
fn what_is_not_known_has_no_price() {
    let call = call(&NONE);
    assert_eq!(PriceBook::default().told(&call), None);
    // A spec without any rate says nothing, not even about errors.
    let empty = book(PriceSpec { effective: Some("2026-11-01".into()), ..PriceSpec::default() });
    assert_eq!(empty.told(&call), None);
    assert_eq!(empty.told(&Billable { status: Some(500), ..call }), None);
    // Metered by the token, but the answer reports no usage, names no target, or one without rates.
    let tokens = book(per_token());
    let usage = Usage { input: Some(10), output: Some(5), ..NONE };
    assert_eq!(tokens.told(&call), None);
    assert_eq!(tokens.told(&Billable { target: None, usage: &usage, ..call }), None);
    assert_eq!(tokens.told(&Billable { target: Some("other"), usage: &usage, ..call }), None);
    assert_eq!(tokens.told(&Billable { usage: &usage, ..call }), usd("0.000075"));
    let sized = book(PriceSpec { per_kb: Some(rate("0.001")), ..PriceSpec::default() });
    assert_eq!(sized.told(&Billable { bytes: None, ..call }), None);
}

#[test]
fn statuses_are_billed_as_the_spec_says() {
    let (plain, call) = (book(per_call()), call(&NONE));
    for (status, cost) in
        [(Some(200), "0.005"), (Some(204), "0.005"), (Some(304), "0.005"), (Some(404), "0"), (Some(500), "0"), (None, "0")]
    {
        assert_eq!(plain.told(&Billable { status, ..call }), usd(cost), "{status:?}");
    }
    // A tunnel is one call; what else is charged of it cannot be read.
    assert_eq!(plain.told(&Billable { status: Some(101), ..call }), usd("0.005"));
    for spec in [per_token(), PriceSpec { per_kb: Some(rate("0.001")), ..per_call() }] {
        assert_eq!(book(spec).told(&Billable { status: Some(101), ..call }), None);
    }
    let strict = book(PriceSpec { errors_billed: true, not_modified: Some(rate("0.001")), ..per_call() });
    for (status, cost) in [(Some(304), "0.001"), (Some(301), "0.005"), (Some(404), "0.005"), (Some(503), "0.005"), (None, "0.005")] {
        assert_eq!(strict.told(&Billable { status, ..call }), usd(cost), "{status:?}");
    }
    let free = book(PriceSpec { free: true, ..PriceSpec::default() });
    assert_eq!(free.told(&Billable { status: None, ..call }), Some(Money::ZERO));
}

#[test]
fn a_kilobyte_is_charged_by_the_byte_and_all_meters_add_up() {
    let spec = PriceSpec { per_kb: Some(rate("0.001")), per_unit: Some(rate("0.01")), ..per_call() };
    let usage = Usage { units: Some(3), ..NONE };
    let sum = book(spec).told(&Billable { bytes: Some(1536), ..call(&usage) });
    assert_eq!(sum, usd("0.0365")); // 0.005 + 1.5 x 0.001 + 3 x 0.01
}

#[test]
fn targets_are_found_exactly_then_by_the_longest_name() {
    let book = book(per_token());
    let usage = Usage { cached_input: Some(1_000), ..NONE };
    for (target, cost) in [
        ("m", "0.0025"),
        ("m-2024-08-06", "0.0025"),
        ("m-pro", "0.00125"),
        ("m-pro-latest", "0.00125"),
        ("exp", "0.0025"),
        ("experimental-7", "0.0025"),
    ] {
        assert_eq!(book.told(&Billable { target: Some(target), ..call(&usage) }), usd(cost), "{target}");
    }
    for target in ["m-mini", "m-pro-max", "mm", ""] {
        assert_eq!(book.told(&Billable { target: Some(target), ..call(&usage) }), None, "{target}");
    }
}

#[test]
fn what_is_asked_after_costs_no_tokens_and_what_is_flat() {
    let usage = Usage { input: Some(1_000_000), output: Some(200_000), ..NONE };
    let call = Billable { unbilled: true, ..call(&usage) };
    assert_eq!(book(per_token()).told(&call), usd("0"));
    assert_eq!(book(per_token()).told(&Billable { target: None, ..call }), usd("0"));
    let both = PriceSpec { per_call: Some(rate("0.005")), ..per_token() };
    assert_eq!(book(both).told(&call), usd("0.005"));
}

#[test]
fn a_bucket_without_any_rate_leaves_the_call_unpriced() {
    let embeddings = TokenRates { input: Some(rate("0.00000002")), ..TokenRates::default() };
    let book = book(PriceSpec { targets: BTreeMap::from([("m".into(), embeddings)]), ..PriceSpec::default() });
    let usage = Usage { input: Some(8), output: Some(0), ..NONE };
    assert_eq!(book.told(&call(&usage)), usd("0.00000016"));
    assert_eq!(book.told(&call(&Usage { output: Some(1), ..usage })), None);
    // Writing to the prompt cache without a rate of its own is input.
    assert_eq!(book.told(&call(&Usage { cache_write: Some(2), ..usage })), usd("0.0000002"));
}

#[test]
fn what_stands_beside_the_tier_is_unpriced_until_the_prices_know_it() {
    let spec = per_token();
    let usage = Usage { input: Some(100), output: Some(10), ..NONE };
    let ask = Ask { route: "r", provider: "p", target: Some("m"), body_bytes: 100, max_output: Some(10), ..Ask::default() };
    for service in ["fast", "us", "geo", "image", "batch+us", "grounded"] {
        let call = Billable { service: Some(service), ..call(&usage) };
        assert_eq!(book(spec.clone()).price(&call, &Volumes::default()), Err(Unpriced::UnknownService), "{service}");
        assert_eq!(book(spec.clone()).bound(&Ask { service: Some(service), ..ask }), None, "{service}");
        let known = PriceSpec { service: BTreeMap::from([(service.to_owned(), "6".parse().unwrap())]), ..spec.clone() };
        assert_eq!(book(known.clone()).told(&call), usd("0.0021"));
        assert_eq!(book(known).bound(&Ask { service: Some(service), ..ask }), usd("0.0021"));
    }
}

#[test]
fn rates_of_other_circumstances_alone_leave_the_usual_call_unpriced() {
    let own = || TokenRates { input: Some(rate("0.01")), output: Some(rate("0.02")), ..TokenRates::default() };
    let long = farthing_types::LongContext { over: 100, rates: own() };
    let usage = Usage { input: Some(8), output: Some(1), ..NONE };
    for rates in [
        TokenRates { service: BTreeMap::from([("batch".to_owned(), own())]), ..TokenRates::default() },
        TokenRates { long: Some(Box::new(long)), ..TokenRates::default() },
    ] {
        let book = book(PriceSpec { targets: BTreeMap::from([("m".into(), rates.clone())]), ..PriceSpec::default() });
        assert_eq!(book.told(&call(&usage)), None, "nor nothing");
        let (service, input) = if rates.long.is_some() { (None, 101) } else { (Some("batch"), 8) };
        let priced = usd(if rates.long.is_some() { "1.03" } else { "0.1" });
        assert_eq!(book.told(&Billable { service, ..call(&Usage { input: Some(input), ..usage }) }), priced);
        let ask = Ask { route: "r", provider: "p", target: Some("m"), body_bytes: 8, max_output: Some(1), ..Ask::default() };
        assert_eq!(book.bound(&ask), None, "what a usual call costs is not known");
    }
}

#[test]
fn the_route_s_own_price_beats_the_provider_s() {
    let (provider, route) = (per_call(), PriceSpec { per_call: Some(rate("0.001")), ..PriceSpec::default() });
    let book = PriceBook::new(&BTreeMap::from([("p".into(), provider)]), &BTreeMap::from([("local".into(), route)])).unwrap();
    assert_eq!(book.told(&Billable { route: "local", ..call(&NONE) }), usd("0.001"));
    assert_eq!(book.told(&call(&NONE)), usd("0.005"));
    assert_eq!((book.flat("local", "p", NOW), book.flat("r", "p", NOW), book.flat("r", "x", NOW)), (usd("0.001"), usd("0.005"), None));
    assert_eq!(super::tests::book(per_token()).flat("r", "p", NOW), None);
}

#[test]
fn the_digest_changes_with_the_prices_alone() {
    let digest = |spec: PriceSpec| book(spec).digest();
    assert_eq!(digest(per_call()), digest(per_call()));
    assert_ne!(digest(per_call()), digest(PriceSpec { per_call: Some(rate("0.0050000001")), ..PriceSpec::default() }));
    assert_eq!(digest(per_call()).len(), 16);
    let on_route = PriceBook::new(&BTreeMap::new(), &BTreeMap::from([("p".into(), per_call())])).unwrap();
    assert_ne!(on_route.digest(), digest(per_call()));
}

#[test]
fn nonsense_is_refused_with_its_place() {
    let error = |spec: PriceSpec| PriceBook::new(&BTreeMap::from([("p".into(), spec)]), &BTreeMap::new()).unwrap_err().to_string();
    let negative = TokenRates { output: Some(rate("-1")), ..TokenRates::default() };
    for (spec, part) in [
        (PriceSpec { per_kb: Some(rate("-0.1")), ..PriceSpec::default() }, "`per_kb = \"-0.1\"` is negative"),
        (PriceSpec { targets: BTreeMap::from([("m".into(), negative)]), ..PriceSpec::default() }, "`targets.\"m\".output = \"-1\"`"),
        (PriceSpec { targets: BTreeMap::from([(" *".into(), TokenRates::default())]), ..PriceSpec::default() }, "nameless"),
        (
            PriceSpec { targets: BTreeMap::from([("m".into(), TokenRates::default())]), ..PriceSpec::default() },
            "neither a rate nor a meter",
        ),
        (PriceSpec { free: true, ..per_call() }, "`free = true`"),
        (PriceSpec { effective: Some("1 May 2026".into()), ..per_call() }, "write YYYY-MM-DD"),
        (PriceSpec { effective: Some("2026-13-01".into()), ..per_call() }, "write YYYY-MM-DD"),
    ] {
        let error = error(spec);
        assert!(error.starts_with("prices of provider `p`: ") && error.contains(part), "{error}");
    }
}

fn searches(free: u64) -> Meter {
    Meter { free, ..Meter::new("searches", MeterSource::Call, rate("0.01")) }
}

#[test]
fn a_volume_is_counted_before_any_rate_depends_on_it() {
    let spec = |free| PriceSpec { meters: vec![searches(free)], ..PriceSpec::default() };
    let (mut volumes, call) = (Volumes::default(), call(&NONE));
    for _ in 0..3 {
        let priced = book(spec(0)).price(&call, &volumes).unwrap();
        priced.volumes.into_iter().for_each(|(key, amount)| volumes.add(key, amount));
    }
    // Loaded within the month: three of the four free ones are used.
    let free = book(spec(4));
    assert_eq!(free.price(&call, &volumes).unwrap().cost, Money::ZERO);
    free.price(&call, &volumes).unwrap().volumes.into_iter().for_each(|(key, amount)| volumes.add(key, amount));
    assert_eq!(free.price(&call, &volumes).unwrap().cost, "0.01".parse().unwrap());
}

#[test]
fn meters_of_one_name_are_one_meter() {
    let targets = |a: Meter, b: Meter| {
        let of = |meter| TokenRates { meters: vec![meter], ..TokenRates::default() };
        PriceSpec { targets: BTreeMap::from([("a".into(), of(a)), ("b".into(), of(b))]), ..PriceSpec::default() }
    };
    let told = |spec: PriceSpec| PriceBook::new(&BTreeMap::from([("p".into(), spec)]), &BTreeMap::new()).map_err(|error| error.to_string());
    assert!(told(targets(searches(5), searches(5))).is_ok(), "one free quota for both");
    let dearer = Meter { rate: rate("0.02"), ..searches(0) };
    assert!(told(targets(searches(0), dearer.clone())).is_ok(), "no volume matters");
    let error = told(targets(searches(5), dearer.clone())).unwrap_err();
    assert!(error.contains("targets.\"b\".meters.searches") && error.contains("that of `a`"), "{error}");
    let error = told(PriceSpec { meters: vec![dearer], ..targets(searches(0), searches(0)) }).unwrap_err();
    assert!(error.contains("twice under one name"), "{error}");
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let count = || proptest::option::of(0u64..10_000_000);
    (count(), count(), count(), count(), count()).prop_map(|(input, cached_input, cache_write, output, reasoning)| Usage {
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        ..NONE
    })
}

fn any_rates() -> impl Strategy<Value = TokenRates> {
    let rate = || (0i64..100_000_000_000).prop_map(|nanos| Some(Rate::per_million(nanos)));
    (rate(), rate(), rate(), rate(), rate()).prop_map(|(input, cached_input, cache_write, output, reasoning)| TokenRates {
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        ..TokenRates::default()
    })
}

proptest! {
    /// The rounded price is never further than half a nano-dollar from the exact sum.
    #[test]
    fn rounded_once(usage in any_usage(), rates in any_rates(), flat in 0i64..i64::MAX / 1_000_000, kb in 0i64..1_000_000_000_000, bytes in 0u64..1 << 40) {
        let spec = PriceSpec {
            per_call: Some(Rate::per_million(flat)),
            per_kb: Some(Rate::per_million(kb)),
            targets: BTreeMap::from([("m".into(), rates.clone())]),
            ..PriceSpec::default()
        };
        let price = book(spec).told(&Billable { bytes: Some(bytes), ..call(&usage) });
        let counts = [usage.input, usage.cached_input, usage.cache_write, usage.output, usage.reasoning];
        if counts.iter().all(Option::is_none) {
            prop_assert_eq!(price, None);
        } else {
            let each = [rates.input, rates.cached_input, rates.cache_write, rates.output, rates.reasoning];
            let product = |(count, rate): (&Option<u64>, &Option<Rate>)| i128::from(count.unwrap_or(0)) * i128::from(rate.unwrap().nanos_per_million());
            let millionths: i128 = counts.iter().zip(&each).map(product).sum::<i128>() + i128::from(flat);
            let exact = millionths * 1024 + i128::from(kb) * i128::from(bytes);
            let off = i128::from(price.unwrap().nanos()) * 1_024_000_000 - exact;
            prop_assert!(off.abs() * 2 <= 1_024_000_000, "{}", off);
        }
    }

    /// Extremes saturate, they do not wrap or panic.
    #[test]
    fn extremes_saturate(units in prop_oneof![Just(u64::MAX), any::<u64>()], nanos in prop_oneof![Just(i64::MAX), 0i64..i64::MAX]) {
        let spec = PriceSpec { per_unit: Some(Rate::per_million(nanos)), per_kb: Some(Rate::per_million(nanos)), per_call: Some(Rate::per_million(nanos)), ..PriceSpec::default() };
        let usage = Usage { units: Some(units), ..NONE };
        let price = book(spec).told(&Billable { bytes: Some(units), ..call(&usage) }).unwrap();
        prop_assert!(price >= Money::ZERO);
        if nanos > 1_000_000_000 && units > 1 << 60 {
            prop_assert_eq!(price.nanos(), i64::MAX);
        }
    }

    /// More of anything never costs less.
    #[test]
    fn monotone(usage in any_usage(), rates in any_rates(), more in 0u64..1_000_000) {
        let book = book(PriceSpec { targets: BTreeMap::from([("m".into(), rates)]), ..PriceSpec::default() });
        let bigger = Usage { output: Some(usage.output.unwrap_or(0) + more), ..usage };
        if let Some(price) = book.told(&call(&usage)) {
            prop_assert!(book.told(&call(&bigger)).unwrap() >= price);
        }
    }
}
