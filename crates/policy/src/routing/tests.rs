use farthing_types::Time;
use proptest::prelude::*;

use super::*;

const NOBODY: Candidate = Candidate { place: 0, price: None, latency: None, errors: 0.0, quality: 1.0 };

fn candidate(place: usize, nanos: i64, millis: u64) -> Candidate {
    Candidate { place, price: Some(Money::from_nanos(nanos)), latency: Some(Span::from_millis(millis)), ..NOBODY }
}

fn place(candidates: &[Candidate], priority: Priority) -> usize {
    choose(candidates, Weights::of(priority), 0.0, (0.0, 0.0)).unwrap().place
}

#[test]
fn the_weights_are_those_of_h1() {
    for (priority, all) in
        [(Priority::High, [0.1, 0.4, 0.3, 0.2]), (Priority::Medium, [0.3, 0.3, 0.2, 0.2]), (Priority::Low, [0.6, 0.1, 0.2, 0.1])]
    {
        let weights = Weights::of(priority);
        assert_eq!([weights.cost, weights.latency, weights.quality, weights.reliability], all);
        assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn what_matters_goes_to_the_fast_and_what_does_not_to_the_cheap() {
    let both = [candidate(0, 4_000, 50), candidate(1, 1_000, 200)];
    assert_eq!((place(&both, Priority::High), place(&both, Priority::Low)), (0, 1));
}

#[test]
fn an_answer_of_who_fails_often_is_dear() {
    let failing = Candidate { errors: 0.9, ..candidate(0, 1_000, 100) };
    assert_eq!(place(&[failing, candidate(1, 3_000, 100)], Priority::Low), 1);
    assert_eq!(place(&[Candidate { errors: 0.1, ..failing }, candidate(1, 3_000, 100)], Priority::Low), 0);
}

#[test]
fn free_quota_is_the_best_price_and_an_unknown_one_the_worst() {
    let unknown = Candidate { price: None, ..candidate(0, 0, 100) };
    assert_eq!(place(&[unknown, candidate(1, 1_000_000, 100)], Priority::Low), 1);
    assert_eq!(place(&[candidate(0, 1, 100), candidate(1, 0, 100)], Priority::Low), 1);
}

#[test]
fn below_the_floor_is_for_want_of_anything_else() {
    let poor = Candidate { quality: 0.4, ..candidate(0, 1, 1) };
    let choose = |candidates: &[Candidate]| choose(candidates, Weights::of(Priority::Low), 0.5, (0.0, 0.0)).unwrap();
    assert_eq!((choose(&[poor, candidate(1, 1_000, 900)]).place, choose(&[poor, candidate(1, 1_000, 900)]).by), (1, RoutedBy::Only));
    assert_eq!((choose(&[poor]).place, choose(&[poor]).by), (0, RoutedBy::BelowFloor));
}

#[test]
fn a_measurement_fades() {
    let at = |seconds: i64| Time::from_millis(seconds * 1_000);
    let mut measures = Measures::default();
    assert_eq!(measures.read(at(0)), Measured { calls: 0.0, latency: None, errors: 0.0, completeness: 1.0 });
    for _ in 0..6 {
        measures.note(Noted { took: Some(Span::from_millis(300)), failed: true, complete: Some(0.5) }, at(0));
    }
    let now = measures.read(at(0));
    assert!((now.errors - 0.6).abs() < 1e-9 && (now.completeness - 0.7).abs() < 1e-9, "{now:?}");
    assert!((now.latency.unwrap().as_secs_f64() - 0.3).abs() < 1e-6);
    let later = measures.read(at(600));
    assert!(later.errors < 0.01 && later.completeness > 0.99 && later.latency.is_none(), "{later:?}");
    // A clock that goes back changes nothing.
    assert_eq!(measures.read(at(-5)), now);
}

fn any() -> impl Strategy<Value = Candidate> {
    let price = proptest::option::of((0..i64::MAX).prop_map(Money::from_nanos));
    let latency = proptest::option::of((0..u64::MAX).prop_map(Span::from_nanos));
    (price, latency, -1.0..2.0f64, -1.0..2.0f64).prop_map(|(price, latency, errors, quality)| Candidate {
        place: 0,
        price,
        latency,
        errors,
        quality,
    })
}

fn some() -> impl Strategy<Value = Vec<Candidate>> {
    proptest::collection::vec(any(), 1..8).prop_map(|mut all| {
        all.iter_mut().enumerate().for_each(|(place, candidate)| candidate.place = place);
        all
    })
}

proptest! {
    #[test]
    fn scores_are_shares_and_dominance_wins(all in some(), weights in prop::array::uniform4(0.0..5.0f64), floor in 0.0..1.0f64, draws in (0.0..1.0f64, 0.0..1.0f64)) {
        let [cost, latency, quality, reliability] = weights;
        let weights = Weights { cost, latency, quality, reliability };
        for score in scores(&all, weights) {
            prop_assert!((0.0..=1.0 + 1e-9).contains(&score), "{score}");
        }
        let chosen = choose(&all, weights, floor, draws).unwrap();
        prop_assert!(chosen.place < all.len());
        let met = all.iter().any(|candidate| candidate.quality >= floor);
        prop_assert_eq!(chosen.by == RoutedBy::BelowFloor, !met);
        prop_assert!(!met || all[chosen.place].quality >= floor);
    }

    /// Of two, whoever is at least as good in everything and cheaper never loses.
    #[test]
    fn of_two_the_dominated_never_wins(one in any(), draws in (0.0..1.0f64, 0.0..1.0f64), priority in prop::sample::select(Priority::ALL.to_vec())) {
        let price = one.price.map_or(5, |price| price.nanos() / 2);
        let better = Candidate { place: 0, price: Some(Money::from_nanos(price)), latency: one.latency.map(|span| span / 2), errors: one.errors.min(0.0), quality: 1.0 };
        let worse = Candidate { place: 1, ..one };
        prop_assert_eq!(choose(&[worse, better], Weights::of(priority), 0.0, draws).unwrap().place, 0);
    }

    /// The worst of three is never chosen: it is drawn beside a better one.
    #[test]
    fn the_worst_is_never_chosen(draws in (0.0..1.0f64, 0.0..1.0f64)) {
        let all = [candidate(0, 100, 10), candidate(1, 900, 900), candidate(2, 200, 20)];
        prop_assert_ne!(choose(&all, Weights::of(Priority::Medium), 0.0, draws).unwrap().place, 1);
    }
}
