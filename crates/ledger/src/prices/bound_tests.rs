use std::collections::BTreeMap;

use farthing_types::{Meter, MeterSource, Money, PriceSpec, Rate, Tier, Time, TokenRates, Usage};
use proptest::prelude::*;

use super::*;
use crate::usage::RequestFacts;

fn book(spec: PriceSpec) -> PriceBook {
    PriceBook::new(&BTreeMap::from([("p".into(), spec)]), &BTreeMap::new()).unwrap()
}

fn rate(usd: &str) -> Rate {
    usd.parse().unwrap()
}

fn usd(text: &str) -> Option<Money> {
    Some(text.parse().unwrap())
}

const ASK: Ask<'static> = Ask {
    route: "r",
    provider: "p",
    target: Some("m"),
    body_bytes: 100,
    max_output: None,
    choices: 1,
    attempts: 3,
    at: Time::ZERO,
    media: false,
    service: None,
    unbilled: false,
};

fn tokens(rates: TokenRates) -> PriceSpec {
    PriceSpec { targets: BTreeMap::from([("m".into(), rates)]), ..PriceSpec::default() }
}

#[test]
fn flat_prices_are_their_own_bound() {
    let flat = PriceSpec { per_call: Some(rate("0.002")), ..PriceSpec::default() };
    assert_eq!(book(flat.clone()).bound(&ASK), usd("0.002"));
    assert_eq!(book(PriceSpec { errors_billed: true, ..flat.clone() }).bound(&ASK), usd("0.006"));
    assert_eq!(book(PriceSpec { not_modified: Some(rate("0.003")), ..flat.clone() }).bound(&ASK), usd("0.003"));
    assert_eq!(book(PriceSpec { free: true, ..PriceSpec::default() }).bound(&ASK), usd("0"));
    assert_eq!(PriceBook::default().bound(&ASK), None);
    for unbounded in [PriceSpec { per_kb: Some(rate("0.1")), ..flat.clone() }, PriceSpec { per_unit: Some(rate("0.1")), ..flat }] {
        assert_eq!(book(unbounded).bound(&ASK), None);
    }
}

#[test]
fn tokens_are_bounded_by_bytes_and_by_what_is_asked_for() {
    let rates = TokenRates { input: Some(rate("0.01")), output: Some(rate("0.1")), ..TokenRates::default() };
    let plain = book(tokens(rates.clone()));
    assert_eq!(plain.bound(&ASK), None, "nothing bounds the output");
    assert_eq!(plain.bound(&Ask { max_output: Some(7), choices: 2, ..ASK }), usd("2.4")); // 100 x 0.01 + 14 x 0.1
    assert_eq!(plain.bound(&Ask { max_output: Some(7), media: true, ..ASK }), None);
    assert_eq!(plain.bound(&Ask { target: None, ..ASK }), None);
    let dear = |service| plain.bound(&Ask { max_output: Some(1), service: Some(service), ..ASK });
    assert_eq!((dear("fast"), dear("priority")), (None, None), "of what is not known");
    assert_eq!(plain.bound(&Ask { target: None, unbilled: true, media: true, ..ASK }), usd("0"));
    assert_eq!(plain.bound(&Ask { target: Some("x"), max_output: Some(1), ..ASK }), None);
    let known = book(tokens(TokenRates { max_output: Some(10), ..rates.clone() }));
    assert_eq!((known.bound(&ASK), known.bound(&Ask { max_output: Some(1), ..ASK })), (usd("2"), usd("1.1")));
    let embeddings = book(tokens(TokenRates { output: None, ..rates }));
    assert_eq!(embeddings.bound(&ASK), usd("1"));
}

#[test]
fn meters_are_bounded_by_their_own_word_alone() {
    let meter = |source, at_most| Meter { at_most, ..Meter::new("x", source, rate("0.5")) };
    let spec = |meter| PriceSpec { meters: vec![meter], ..PriceSpec::default() };
    assert_eq!(book(spec(meter(MeterSource::Pointer("/x".into()), None))).bound(&ASK), None);
    assert_eq!(book(spec(meter(MeterSource::Header("x".into()), Some(4)))).bound(&ASK), usd("2"));
    let tiers = vec![Tier { up_to: 10, rate: rate("0.7") }];
    let tiered = Meter { tiers, free: 5, ..meter(MeterSource::Call, None) };
    assert_eq!(book(spec(tiered)).bound(&ASK), usd("0.7"), "the dearest tier");
}

fn any_rates() -> impl Strategy<Value = TokenRates> {
    let rate = || proptest::option::of((0i64..100_000_000_000).prop_map(Rate::per_million));
    (rate(), rate(), rate(), rate(), rate(), rate()).prop_map(|(input, cached_input, cache_write, cache_write_1h, output, reasoning)| {
        let (input, output) = (input.or(Some(Rate::default())), output.or(Some(Rate::default())));
        TokenRates { input, cached_input, cache_write, cache_write_1h, output, reasoning, ..TokenRates::default() }
    })
}

proptest! {
    /// No call costs more than its bound, whatever its tokens are counted as, whatever tier serves it.
    #[test]
    fn no_call_costs_more(
        (rates, long, own) in (any_rates(), any_rates(), any_rates()), over in 0u64..200, factor in 1u32..40,
        body in "[a-z {}\"]{0,200}", split in proptest::array::uniform4(0u64..60), out in 0u64..50, thought in 0u64..50,
        service in prop_oneof![Just(None), Just(Some("own")), Just(Some("factor"))],
    ) {
        let long = farthing_types::LongContext { over, rates: long };
        let rates = TokenRates { long: Some(Box::new(long)), service: BTreeMap::from([("own".to_owned(), own)]), ..rates };
        let factor = format!("{}.{}", factor / 10, factor % 10).parse().unwrap();
        let book = book(PriceSpec { service: BTreeMap::from([("factor".to_owned(), factor)]), ..tokens(rates) });
        let [a, b, c, d] = split;
        let total = a + b + c + d;
        prop_assume!(total <= body.len() as u64);
        let usage = Usage { input: Some(a), cached_input: Some(b), cache_write: Some(c), cache_write_1h: Some(d), output: Some(out), reasoning: Some(thought), units: None };
        let call = Billable { route: "r", provider: "p", target: Some("m"), at: Time::ZERO, usage: &usage, amounts: &Amounts::default(), service, unbilled: false, status: Some(200), bytes: None };
        let ask = Ask { body_bytes: body.len() as u64, max_output: Some(out + thought), ..ASK };
        let cost = book.price(&call, &Volumes::default()).unwrap().cost;
        prop_assert!(cost <= book.bound(&ask).unwrap());
    }
}

#[test]
fn an_ask_is_made_of_a_request() {
    let facts = RequestFacts::read(br#"{"model":"m","max_tokens":5,"n":2}"#);
    let ask = Ask::of(("r", "p"), &facts, 100, (3, Time::ZERO));
    assert_eq!(ask, Ask { max_output: Some(5), choices: 2, ..ASK });
}
