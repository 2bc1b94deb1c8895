use proptest::prelude::*;

use super::choose::{Candidate, Scale, best};
use super::*;
use crate::prompt_cache::WritePrices;

/// Anthropic's five minutes.
const PRICES: WritePrices = WritePrices { write: 1_250, read: 100 };
const TERMS: MarkTerms = MarkTerms { ttl: Span::from_secs(300), min_size: 1_000, most: 4, lookback: 20, capacity: 1_000 };

fn at(seconds: i64) -> Time {
    Time::from_millis(seconds * 1_000)
}

/// A system prompt, and turns after it: `(digest, size)`.
fn prompt(parts: &[(u64, u64)]) -> Vec<Boundary> {
    let count = parts.len();
    let mut size = 0;
    let one = |(place, (digest, length)): (usize, &(u64, u64))| {
        size += length;
        Boundary {
            digest: *digest,
            size,
            blocks: u32::try_from(place).unwrap() + 1,
            part: if place == 0 { Part::System } else { Part::Messages },
            to_end: u32::try_from(count - 1 - place).unwrap(),
            markable: true,
        }
    };
    parts.iter().enumerate().map(one).collect()
}

fn ask(marks: &mut PromptMarks, now: Time, boundaries: &[Boundary]) -> Marking {
    marks.decide(&MarkAsk { now, boundaries, prices: Some(PRICES), may: true })
}

/// Asks, and the provider does as it is told.
fn call(marks: &mut PromptMarks, now: Time, boundaries: &[Boundary]) -> Marking {
    let marking = ask(marks, now, boundaries);
    let marked: Vec<u64> = marking.marks.iter().map(|mark| boundaries[*mark].digest).collect();
    marks.began(now, &marked);
    marks.ended(&marked, Kept::Used);
    marking
}

#[test]
fn a_system_prompt_is_written_once_it_was_seen_again_and_read_from_then_on() {
    let mut marks = PromptMarks::new(TERMS);
    let one = |question: u64| prompt(&[(1, 5_000), (question, 200)]);
    assert_eq!(call(&mut marks, at(0), &one(10)), Marking::none(MarkReason::FewReads), "nothing is known");
    let second = call(&mut marks, at(60), &one(11));
    assert_eq!((second.marks, second.read, second.written), (vec![0], 0, 5_000));
    let third = call(&mut marks, at(120), &one(12));
    assert_eq!((third.marks, third.read, third.written), (vec![0], 5_000, 0), "the questions never come again");
    // After a longer silence than it is kept for, it is written once more: it came again before.
    let late = call(&mut marks, at(1_000), &one(13));
    assert_eq!((late.marks, late.read, late.written), (vec![0], 0, 5_000));
}

#[test]
fn a_conversation_reads_what_it_has_written_and_writes_what_is_new() {
    let mut marks = PromptMarks::new(TERMS);
    // Others have shown that conversations go on.
    for user in 0..40u64 {
        for turns in 1..6u64 {
            let parts: Vec<(u64, u64)> = (0..=turns).map(|turn| (1_000 * user + turn, 1_500)).collect();
            call(&mut marks, at(i64::try_from(user * 100 + turns * 20).unwrap()), &prompt(&parts));
        }
    }
    let turns = |count: u64| prompt(&(0..count).map(|turn| (900_000 + turn, 1_500)).collect::<Vec<_>>());
    let first = call(&mut marks, at(5_000), &turns(3));
    assert_eq!((first.marks.last(), first.written), (Some(&2), 4_500));
    let second = call(&mut marks, at(5_060), &turns(5));
    assert_eq!((second.read, second.written), (4_500, 3_000), "{second:?}");
    let third = call(&mut marks, at(5_120), &turns(7));
    assert_eq!((third.read, third.written), (7_500, 3_000), "{third:?}");
}

#[test]
fn prompts_that_never_come_again_are_never_marked() {
    let mut marks = PromptMarks::new(TERMS);
    for call in 0..500u64 {
        let marking = ask(&mut marks, at(i64::try_from(call).unwrap()), &prompt(&[(2 * call, 4_000), (2 * call + 1, 4_000)]));
        assert_eq!(marking, Marking::none(MarkReason::FewReads));
    }
}

#[test]
fn what_comes_too_seldom_to_be_kept_is_not_marked() {
    let mut marks = PromptMarks::new(TERMS);
    for call in 0..50 {
        assert_eq!(ask(&mut marks, at(call * 301), &prompt(&[(1, 5_000)])).why, MarkReason::FewReads, "{call}");
    }
}

#[test]
fn what_is_being_written_is_not_written_a_second_time() {
    let mut marks = PromptMarks::new(TERMS);
    let same = prompt(&[(1, 5_000)]);
    ask(&mut marks, at(0), &same);
    assert_eq!(ask(&mut marks, at(1), &same).why, MarkReason::Marked);
    assert_eq!(ask(&mut marks, at(2), &same).why, MarkReason::FewReads, "its answer has not begun");
    marks.began(at(3), &[1]);
    let read = ask(&mut marks, at(4), &same);
    assert_eq!((read.why, read.read, read.written), (MarkReason::Marked, 5_000, 0));
    // A provider that kept nothing is not believed to have it.
    marks.ended(&[1], Kept::Ignored);
    assert_eq!(ask(&mut marks, at(5), &same).read, 0);
    // A write of which nothing was heard is not waited for for ever.
    assert_eq!(ask(&mut marks, at(6), &same).why, MarkReason::FewReads);
    assert_eq!(ask(&mut marks, at(66), &same).why, MarkReason::Marked);
    // A call that failed has written nothing, and what was there remains.
    marks.ended(&[1], Kept::Failed);
    marks.began(at(70), &[1]);
    marks.ended(&[1], Kept::Failed);
    assert_eq!(ask(&mut marks, at(71), &same).read, 5_000);
}

#[test]
fn each_reason_not_to_mark_is_told() {
    let mut marks = PromptMarks::new(TERMS);
    let boundaries = prompt(&[(1, 5_000)]);
    let asked = MarkAsk { now: at(0), boundaries: &boundaries, prices: Some(PRICES), may: true };
    assert_eq!(marks.decide(&MarkAsk { may: false, ..asked }).why, MarkReason::SwitchedOff);
    assert_eq!(marks.decide(&MarkAsk { prices: None, ..asked }).why, MarkReason::NoPrice);
    assert_eq!(marks.decide(&MarkAsk { boundaries: &prompt(&[(2, 999)]), ..asked }).why, MarkReason::Short);
    let fixed = [Boundary { markable: false, ..boundaries[0] }];
    assert_eq!(marks.decide(&MarkAsk { boundaries: &fixed, ..asked }).why, MarkReason::Short);
    // Reads that cost as much as input pay for nothing.
    let dear = Some(WritePrices { write: 1_000, read: 1_000 });
    assert_eq!(marks.decide(&MarkAsk { prices: dear, ..asked }).why, MarkReason::FewReads);
    // All of it was learned from.
    assert_eq!(marks.decide(&asked).why, MarkReason::Marked);
}

/// What a set of marks is worth, by the definition.
fn worth(scale: &Scale<'_>, candidates: &[Candidate], marks: &[usize]) -> f64 {
    let size = |place: usize| scale.boundaries[place].size as f64;
    let warm = candidates.iter().rev().find(|c| c.warm).map(|c| c.place);
    let there = warm.map_or(0.0, size);
    let (mut sum, mut before) = (0.0, 0.0);
    for mark in marks {
        let reads = candidates.iter().find(|c| c.place == *mark).unwrap().reads;
        sum += (size(*mark) - before) * reads * 900.0 - (size(*mark) - f64::max(before, there)).max(0.0) * 250.0;
        before = size(*mark);
    }
    sum + warm.filter(|warm| scale.finds(marks, *warm)).map_or(0.0, |_| there * 900.0)
}

proptest! {
    /// Against all sets of marks.
    #[test]
    fn no_other_set_of_marks_is_worth_more(
        sizes in proptest::collection::vec(1..3_000u64, 1..9), reads in proptest::collection::vec(0.0..3.0f64, 9),
        warm in proptest::option::of(0..9usize), most in 2..5usize, lookback in 1..9u32,
    ) {
        let boundaries = prompt(&sizes.iter().enumerate().map(|(i, size)| (i as u64, *size)).collect::<Vec<_>>());
        let mut expected: Vec<f64> = reads[..sizes.len()].to_vec();
        expected.sort_by(|a, b| b.total_cmp(a));
        let candidates: Vec<Candidate> = expected.iter().enumerate()
            .map(|(place, reads)| Candidate { place, reads: *reads, warm: warm == Some(place) }).collect();
        let scale = Scale { boundaries: &boundaries, prices: PRICES, terms: MarkTerms { most, lookback, ..TERMS } };
        let (marks, told) = best(&scale, &candidates);
        prop_assert!(marks.len() <= most && marks.windows(2).all(|pair| pair[0] < pair[1]));
        let found = worth(&scale, &candidates, &marks);
        prop_assert!(found >= told - 1e-6, "worth {found}, told {told}");
        for set in 0u32..1 << sizes.len() {
            let other: Vec<usize> = (0..sizes.len()).filter(|place| set >> place & 1 == 1).collect();
            if other.len() <= most {
                let other_worth = worth(&scale, &candidates, &other);
                // One mark is set aside for what is there; the last bit that another place for it would bring is not looked for.
                let slack = if warm.is_some() { 0.15 * other_worth.abs() } else { 1e-6 };
                prop_assert!(other_worth <= found + slack, "{other:?} is worth {other_worth}, {marks:?} {found}");
            }
        }
    }

    #[test]
    fn memory_is_bounded_and_marks_are_always_allowed(
        calls in proptest::collection::vec((0..400i64, proptest::collection::vec((0..60u64, 1..4_000u64), 1..8)), 1..120), capacity in 4..40usize,
    ) {
        let terms = MarkTerms { capacity, ..TERMS };
        let (mut marks, mut now) = (PromptMarks::new(terms), 0);
        for (wait, parts) in calls {
            now += wait;
            let boundaries = prompt(&parts);
            let marking = call(&mut marks, at(now), &boundaries);
            prop_assert!(marks.remembered() <= capacity);
            prop_assert_eq!(marking.why == MarkReason::Marked, !marking.marks.is_empty());
            prop_assert!(marking.marks.len() <= 4 && marking.marks.iter().all(|mark| boundaries[*mark].size >= 1_000));
        }
    }
}
