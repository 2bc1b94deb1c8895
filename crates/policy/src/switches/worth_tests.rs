use farthing_types::{Draw, DrawKind, Money};
use proptest::prelude::*;

use super::Standing;
use super::worth::{REQUESTS, Worth, WorthTurn};

const PRICE: Money = Money::from_nanos(1_000_000);

/// Turns of a hundred requests of which a share are hits, each stale with a chance; the requests until the standing changes.
fn play(worth: &mut Worth, seed: u64, requests: u64, (hits, stale, own): (f64, f64, i64)) -> Option<(u64, Standing)> {
    for turn in 0..requests / 100 {
        let draw = |what: &str, n: u64| Draw::new(seed).uniform(DrawKind::Sample, what, u128::from(turn * 100 + n), 0);
        let hit: Vec<u64> = (0..100).filter(|n| draw("hit", *n) < hits).collect();
        let stale = hit.iter().filter(|n| draw("stale", **n) < stale).count() as u64;
        let saved = PRICE.times(hit.len() as i64);
        let own = Money::from_nanos(own * 100);
        let seen = WorthTurn { requests: 100, saved, largest: PRICE, stale, stale_price: PRICE.times(10), own, ..WorthTurn::default() };
        if let Some(standing) = worth.take(&seen) {
            return Some(((turn + 1) * 100, standing));
        }
    }
    None
}

#[test]
fn a_cache_that_loses_is_off_after_a_thousand_requests_or_more_and_on_again_when_it_gains() {
    for seed in 0..20 {
        // One hit in a hundred, of a dear price, against own costs of two hundredths of it.
        for (what, hits, stale, own) in
            [("own cost", 0.01, 0.0, 20_000), ("stale answers", 0.3, 0.2, 0), ("no hit at all", 0.0, 0.0, 5_000)]
        {
            let mut worth = Worth::default();
            let off = play(&mut worth, seed, 200_000, (hits, stale, own));
            assert!(matches!(off, Some((REQUESTS.., Standing::Off))), "{what}, {seed}: {off:?} {}", worth.evidence());
            assert_eq!(play(&mut worth, seed + 100, 50_000, (hits, stale, own)), None, "{what}: the slice shows no gain");
            let on = play(&mut worth, seed + 200, 20_000, (0.5, 0.01, 1_000));
            assert!(matches!(on, Some((_, Standing::On))), "{what}, {seed}: {on:?}");
        }
    }
}

#[test]
fn twenty_hits_in_a_hundred_are_twenty_hundredths_of_the_bill() {
    let mut worth = Worth::default();
    assert_eq!(play(&mut worth, 7, 1_000_000, (0.2, 0.005, 1_000)), None, "{}", worth.evidence());
    assert!(worth.judged().1 > Money::ZERO);
}

/// The bound for a cache that neither gains nor loses: within n thousand requests off with a probability of at most (n + 1) / 10,000.
#[test]
fn what_neither_gains_nor_loses_is_hardly_ever_switched_off() {
    let off = (0..400).filter(|seed| play(&mut Worth::default(), *seed, 20_000, (0.1, 0.0, 100_000)).is_some()).count();
    assert!(off <= 3, "{off} of 400; 400 x 21 / 10,000 = 0.84 expected at most");
}

#[test]
fn without_prices_nothing_is_decided() {
    let mut worth = Worth::default();
    for _ in 0..100 {
        assert_eq!(worth.take(&WorthTurn { requests: 1_000, own: PRICE, ..WorthTurn::default() }), None);
    }
}

proptest! {
    #[test]
    fn whatever_comes_nothing_leaves_the_numbers(
        turns in proptest::collection::vec((0..5_000u64, 0..2_000_000_000i64, 0..1_000_000i64, 0..50u64, 0..9_000_000i64, 0..9_000_000_000i64), 1..50)
    ) {
        let mut worth = Worth::default();
        for (requests, saved, largest, stale, stale_price, own) in turns {
            let money = Money::from_nanos;
            worth.take(&WorthTurn {
                requests, stale, saved: money(saved), largest: money(largest), stale_price: money(stale_price), own: money(own), renewed: money(saved / 7),
            });
            prop_assert!(worth.evidence().is_finite() && worth.evidence() >= 0.0);
        }
    }
}
