use super::*;

/// Values that are tried, and where it ends, when `cost` is told without error.
fn path(mut search: Search, cost: impl Fn(f64) -> f64) -> (Vec<f64>, f64) {
    let mut tried = Vec::new();
    while let Some(candidate) = search.candidate(Time::ZERO) {
        assert_eq!(candidate.against, search.value());
        tried.push(candidate.value);
        let (ours, theirs) = (cost(candidate.value), cost(candidate.against));
        let told = match ours / theirs - 1.0 {
            less if less < -0.02 => Outcome::Promoted,
            more if more > 0.02 => Outcome::Worse,
            _ => Outcome::Same,
        };
        search.learn(&candidate, told);
        assert!(tried.len() < 50, "{tried:?}");
    }
    assert!(search.settled().is_some() && (search.low..=search.high).contains(&search.value()));
    (tried, search.value())
}

#[test]
fn it_climbs_to_what_is_best_and_no_farther() {
    let best_at = |best: f64| move |value: f64| 1.0 + (value.max(0.5) / best).ln().powi(2);
    let from_20 = || Search::new(Knob::BatchWindow, 20.0, (5.0, 400.0));
    assert_eq!(path(from_20(), best_at(80.0)), (vec![40.0, 80.0, 160.0], 80.0));
    assert_eq!(path(from_20(), best_at(5.0)), (vec![40.0, 10.0, 5.0], 5.0), "the lower bound");
    assert_eq!(path(from_20(), best_at(1e6)).1, 400.0, "the upper bound");
    assert_eq!(path(from_20(), |_| 1.0), (vec![40.0, 10.0], 20.0), "where nothing helps it stays");
    let share = Search::new(Knob::PrefetchConfidence, 0.7, (0.35, 0.95));
    assert_eq!(path(share, |p| 1.0 + (p - 0.45).abs()), (vec![0.6, 0.5, 0.4], 0.5));
}

#[test]
fn a_time_may_become_nothing_and_come_back() {
    let refresh = |start| Search::new(Knob::RefreshAhead, start, (0.0, 32_000.0));
    assert_eq!(path(refresh(0.0), |value| 10.0 - (value / 8_000.0).min(1.0)), (vec![4_000.0, 8_000.0, 16_000.0], 8_000.0));
    let (tried, end) = path(refresh(2_000.0), |value| 1.0 + value);
    assert_eq!((end, tried.last()), (0.0, Some(&0.0)), "{tried:?}");
}

#[test]
fn nothing_but_better_moves_it_and_a_round_has_two_chances_to_err() {
    let verdicts = [
        (Verdict::Better, Some(Outcome::Promoted)),
        (Verdict::Worse, Some(Outcome::Worse)),
        (Verdict::NoWorthwhileDifference, Some(Outcome::Same)),
        (Verdict::KeepRunning { days: None }, None),
        (Verdict::NotValid { reason: String::new() }, None),
    ];
    for (verdict, wanted) in verdicts {
        assert_eq!(outcome(&verdict, false), wanted);
        let at_the_end = wanted.or(Some(Outcome::Untold));
        assert_eq!(outcome(&verdict, true), at_the_end);
    }
    let mut search = Search::new(Knob::BatchWindow, 20.0, (5.0, 400.0));
    let mut ended = 0;
    while let Some(candidate) = search.candidate(Time::ZERO) {
        search.learn(&candidate, [Outcome::Same, Outcome::Untold][ended]);
        ended += 1;
    }
    assert_eq!((ended, search.value()), (2, 20.0));
    assert!(f64::from(ended as u32) * Search::alpha() <= ROUND_ALPHA + 1e-12);
}

#[test]
fn it_is_looked_at_anew_after_a_while_and_begins_anew_with_other_bounds() {
    let at = |days: u64| Time::ZERO + Span::from_secs(days * 86_400);
    let month = Span::from_secs(30 * 86_400);
    let mut search = Search::new(Knob::BatchWindow, 20.0, (20.0, 40.0));
    let candidate = search.candidate(at(0)).unwrap();
    assert!(candidate.why.contains("above 20ms") && candidate.why.contains("bound 40ms"), "{}", candidate.why);
    search.learn(&candidate, Outcome::Promoted);
    assert_eq!((search.candidate(at(1)), search.settled(), search.value()), (None, Some(at(1)), 40.0));
    search.renew(at(30), month);
    assert!(search.settled().is_some());
    let kept = search.clone();
    search.renew(at(31), month);
    assert_eq!((search.candidate(at(31)).unwrap().value, search.rounds()), (20.0, 2));
    let again = |bounds| Search::new(Knob::BatchWindow, 20.0, bounds).or_kept(Some(kept.clone())).value();
    assert_eq!((again((20.0, 40.0)), again((20.0, 30.0))), (40.0, 20.0));
    assert_eq!(Search::new(Knob::BatchWindow, 25.0, (20.0, 40.0)).or_kept(Some(kept.clone())).value(), 25.0);
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<Search>(&text).unwrap(), kept);
}

#[test]
fn units_are_safe_for_what_is_moved() {
    assert_eq!(Knob::ALL.map(Knob::unit), [UnitKind::Block, UnitKind::Key, UnitKind::Group]);
    assert_eq!(Knob::ALL.map(|knob| knob.overrides(0.7).to_string()), ["batch_window=1ms", "refresh_ahead=1ms", "prefetch_confidence=0.7"]);
}
