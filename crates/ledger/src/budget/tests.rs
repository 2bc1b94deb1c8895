//! The book by its rules, through crashes, and the file that it is kept in.

use std::collections::BTreeMap;
use std::sync::mpsc;

use farthing_types::{BudgetScope, BudgetSpec, BudgetUnit, BudgetWindow, Enforce, OnExceeded, Span};
use proptest::prelude::*;

use super::*;

const NOW: Time = Time::from_millis(1_764_201_600_000);

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn spec(limit: &str) -> BudgetSpec {
    BudgetSpec { name: "b".into(), limit: usd(limit), ..BudgetSpec::default() }
}

fn book(spec: BudgetSpec) -> Book {
    Book::new([spec]).unwrap()
}

fn ask<'a>(tenant: &'a str, bound: Option<&str>) -> Ask<'a> {
    let who = Who { tenant, route: "chat", ..Who::default() };
    Ask { who, priority: Priority::Medium, bound: bound.map(usd), now: NOW }
}

/// Asks, with every grant made durable at once.
fn hold(book: &mut Book, ask: &Ask<'_>) -> Result<Hold, Blocked> {
    loop {
        match book.hold(ask) {
            Verdict::Held(hold, _) => return Ok(hold),
            Verdict::Needs(grants, _) => book.granted(&grants),
            Verdict::Blocked(blocked) => {
                book.note_blocked(&blocked.counter);
                return Err(blocked);
            }
        }
    }
}

fn spent(text: &str) -> Charge {
    Charge { spent: usd(text), uncertain: Money::ZERO }
}

fn view(book: &mut Book, unit: &str) -> CounterView {
    book.views(NOW).into_iter().find(|view| &*view.counter.unit == unit).unwrap()
}

#[test]
fn nothing_is_set_aside_before_it_is_granted_durably() {
    let mut book = book(spec("10"));
    let Verdict::Needs(grants, blocked) = book.hold(&ask("a", Some("1"))) else { panic!("nothing was granted") };
    assert_eq!((blocked.why, blocked.needed), (Why::Fault, Some(usd("1"))));
    assert_eq!(grants[0].total, usd("1.05"), "the call and a slice of the limit");
    assert!(matches!(book.hold(&ask("a", Some("1"))), Verdict::Needs(..)), "asked for, not yet durable");
    book.granted(&grants);
    let Verdict::Held(held, ahead) = book.hold(&ask("a", Some("1"))) else { panic!("held back") };
    assert_eq!((held.amount(), ahead), (usd("1"), vec![]));
    assert_eq!(book.settle(&held, spent("0.4"), NOW), []);
    let view = view(&mut book, "");
    assert_eq!((view.spent, view.reserved, view.granted), (usd("0.4"), Money::ZERO, usd("1.05")));
}

#[test]
fn a_slice_is_ordered_before_the_last_one_is_used_up() {
    let mut book = book(spec("10"));
    let first = hold(&mut book, &ask("a", Some("0.02"))).unwrap();
    book.settle(&first, spent("0.02"), NOW);
    let mut waited = 0;
    for _ in 0..400 {
        match book.hold(&ask("a", Some("0.02"))) {
            Verdict::Held(held, ahead) => {
                book.granted(&ahead);
                book.settle(&held, spent("0.02"), NOW);
            }
            Verdict::Needs(..) => waited += 1,
            Verdict::Blocked(_) => panic!("held back"),
        }
    }
    assert_eq!(waited, 0);
}

#[test]
fn the_limit_holds_to_the_nano_dollar_and_says_why() {
    let mut book = book(spec("1"));
    let most = hold(&mut book, &ask("a", Some("0.7"))).unwrap();
    let blocked = hold(&mut book, &ask("a", Some("0.300000001"))).unwrap_err();
    assert_eq!((blocked.why, blocked.action, blocked.reserved), (Why::Exceeded, OnExceeded::Reject, usd("0.7")));
    assert!(blocked.may_pass(), "the call under way may cost less");
    let rest = hold(&mut book, &ask("a", Some("0.3"))).unwrap();
    book.settle(&most, spent("0.7"), NOW);
    assert_eq!(book.settle(&rest, spent("0.25"), NOW).len(), 1, "near the limit, told once");
    let blocked = hold(&mut book, &ask("a", Some("0.1"))).unwrap_err();
    assert!(!blocked.may_pass());
    assert_eq!(blocked.used, usd("0.95"));
    assert_eq!(view(&mut book, "").blocked, 2);
}

#[test]
fn a_level_is_told_once_a_window() {
    let mut book = book(BudgetSpec { window: BudgetWindow::Day, ..spec("1") });
    let charge = |book: &mut Book, money: &str, now: Time| {
        let held = hold(book, &Ask { now, ..ask("a", Some(money)) }).unwrap();
        book.settle(&held, spent(money), now).into_iter().map(|reached| reached.used_up).collect::<Vec<_>>()
    };
    assert!(charge(&mut book, "0.8", NOW).is_empty());
    assert_eq!(charge(&mut book, "0.15", NOW), [false]);
    assert!(charge(&mut book, "0.01", NOW).is_empty());
    assert_eq!(charge(&mut book, "0.04", NOW), [true]);
    let next = NOW + Span::from_secs(86_400);
    assert_eq!(charge(&mut book, "0.9", next), [false], "a new day");
}

#[test]
fn what_is_set_aside_settles_in_its_own_window() {
    let mut book = book(BudgetSpec { window: BudgetWindow::Day, ..spec("1") });
    let old = hold(&mut book, &ask("a", Some("0.9"))).unwrap();
    let next = NOW + Span::from_secs(86_400);
    let new = hold(&mut book, &Ask { now: next, ..ask("a", Some("0.9")) }).unwrap();
    book.settle(&old, spent("0.9"), next);
    book.settle(&new, spent("0.1"), next);
    assert_eq!(book.views(next)[0].spent, usd("0.1"));
}

#[test]
fn each_unit_has_a_counter_and_every_budget_must_agree() {
    let each = BudgetSpec { per: Some(BudgetUnit::Tenant), ..spec("1") };
    let team = BudgetScope { team: Some("search".into()), ..BudgetScope::default() };
    let all = BudgetSpec { name: "all".into(), scope: team, ..spec("1.5") };
    let mut book = Book::new([each, all]).unwrap();
    let of_team = |tenant| Ask { who: Who { tenant, team: Some("search"), route: "chat", ..Who::default() }, ..ask(tenant, Some("0.9")) };
    assert_eq!(hold(&mut book, &of_team("a")).unwrap().parts.len(), 2);
    assert_eq!(&*hold(&mut book, &of_team("b")).unwrap_err().counter.budget, "all");
    assert_eq!(view(&mut book, "b").reserved, Money::ZERO, "set aside everywhere or nowhere");
    assert_eq!(hold(&mut book, &ask("b", Some("0.9"))).unwrap().parts.len(), 1, "not of the team");
    assert_eq!(book.forget("a"), 1);
}

#[test]
fn a_price_that_is_not_known_is_refused_unless_said_otherwise() {
    let blocked = hold(&mut book(spec("1")), &ask("a", None)).unwrap_err();
    assert_eq!(blocked.why, Why::Unpriced);
    assert!(hold(&mut book(BudgetSpec { unpriced_ok: true, ..spec("1") }), &ask("a", None)).is_ok());
    assert!(hold(&mut book(BudgetSpec { enforce: Enforce::Soft, ..spec("1") }), &ask("a", None)).is_ok());
}

#[test]
fn high_priority_passes_a_used_up_day_and_nothing_passes_a_hard_one() {
    for (enforce, priority, passes) in [
        (Enforce::HighPasses, Priority::High, true),
        (Enforce::HighPasses, Priority::Medium, false),
        (Enforce::Hard, Priority::High, false),
        (Enforce::Soft, Priority::Low, true),
    ] {
        let mut book = book(BudgetSpec { enforce, ..spec("1") });
        let first = hold(&mut book, &ask("a", Some("1"))).unwrap();
        book.settle(&first, spent("1"), NOW);
        let found = hold(&mut book, &Ask { priority, ..ask("a", Some("0.5")) });
        assert_eq!(found.is_ok(), passes, "{enforce} {priority}");
    }
}

#[test]
fn a_raise_lasts_until_its_end() {
    let mut book = book(spec("1"));
    let first = hold(&mut book, &ask("a", Some("1"))).unwrap();
    book.settle(&first, spent("1"), NOW);
    let until = NOW + Span::from_secs(60);
    let raise = Raise { by: usd("1"), until, note: "launch day".to_owned() };
    assert_eq!(book.raise(("x", None), raise.clone(), NOW).unwrap_err(), BookError::NoBudget("x".into(), "b".into()));
    assert!(book.raise(("b", Some("a")), raise.clone(), NOW).is_err() && book.raise(("b", None), raise.clone(), until).is_err());
    book.raise(("b", None), raise, NOW).unwrap();
    assert!(hold(&mut book, &ask("a", Some("0.5"))).is_ok());
    assert!(hold(&mut book, &Ask { now: until, ..ask("a", Some("0.1")) }).is_err());
}

#[test]
fn a_fault_holds_back_when_the_slice_is_used_up() {
    for (fault_ok, passes) in [(false, false), (true, true)] {
        let mut book = book(BudgetSpec { fault_ok, ..spec("10") });
        let first = hold(&mut book, &ask("a", Some("1"))).unwrap();
        book.settle(&first, spent("1"), NOW);
        book.set_fault(Some("disk full".to_owned()));
        assert!(hold(&mut book, &ask("a", Some("0.04"))).is_ok(), "granted already");
        assert_eq!(hold(&mut book, &ask("a", Some("0.04"))).map_err(|blocked| blocked.why).is_ok(), passes);
    }
}

#[test]
fn there_is_a_bound_of_counters_and_those_of_past_windows_go_first() {
    let mut book = book(BudgetSpec { per: Some(BudgetUnit::Tenant), window: BudgetWindow::Day, ..spec("1") });
    book.max_counters = 2;
    assert!(hold(&mut book, &ask("a", Some("0.1"))).is_ok());
    let second = hold(&mut book, &ask("b", Some("0.1"))).unwrap();
    assert_eq!(hold(&mut book, &ask("c", Some("0.1"))).unwrap_err().why, Why::TooManyUnits);
    book.settle(&second, Charge::default(), NOW);
    let next = NOW + Span::from_secs(86_400);
    assert!(hold(&mut book, &Ask { now: next, ..ask("c", Some("0.1")) }).is_ok());
}

#[test]
fn units_that_cost_nothing_leave_their_room_to_those_that_come() {
    let each = |name: &str| BudgetSpec { name: name.into(), per: Some(BudgetUnit::Tenant), unpriced_ok: true, ..spec("1") };
    let mut book = Book::new([each("b"), each("c")]).unwrap();
    book.max_counters = 10;
    let mut file = Vec::new();
    let paid = hold(&mut book, &ask("paid", Some("0.1"))).unwrap();
    book.settle(&paid, spent("0.1"), NOW);
    let unbounded = hold(&mut book, &ask("unbounded", None)).unwrap();
    let owed = book.owed(&ask("owed", None));
    let Verdict::Needs(grants, waits) = book.hold(&ask("gone", Some("0.1"))) else { panic!("nothing was asked for") };
    book.granted(&grants);
    drop((grants, waits));
    let refused = hold(&mut book, &ask("made up", Some("0.1"))).unwrap();
    book.settle(&refused, Charge::default(), NOW);
    drop(refused);
    assert_eq!(hold(&mut book, &ask("new", Some("0.1"))).unwrap_err().why, Why::TooManyUnits, "what was granted is not given back yet");
    file.extend(book.records(Written::Change, NOW));
    assert!(hold(&mut book, &ask("new", Some("0.1"))).is_err(), "looked through a moment ago");

    let later = NOW + Span::from_secs(1);
    let new = hold(&mut book, &Ask { now: later, ..ask("new", Some("0.1")) }).unwrap();
    assert_eq!(new.parts.len(), 2, "in both budgets");
    for (hold, cost) in [(&unbounded, "0.2"), (&owed, "0.3"), (&new, "0.1")] {
        book.settle(hold, spent(cost), later);
    }
    let told = |book: &mut Book| {
        let views = book.views(later).into_iter().filter(|view| &*view.counter.budget == "b");
        views.map(|view| (view.counter.unit.to_string(), view.used())).collect::<Vec<_>>()
    };
    let all = [("new", "0.1"), ("owed", "0.3"), ("paid", "0.1"), ("unbounded", "0.2")].map(|(unit, cost)| (unit.to_owned(), usd(cost)));
    assert_eq!(told(&mut book), all);

    file.extend(book.records(Written::Closed, later));
    let mut after = Book::new([each("b"), each("c")]).unwrap();
    after.max_counters = 4;
    after.restore(file, later);
    assert_eq!(told(&mut after), all, "what was spent is never forgotten for want of room");
}

#[test]
fn what_is_forgotten_while_a_call_is_under_way_settles_nowhere() {
    let mut book = book(BudgetSpec { per: Some(BudgetUnit::Tenant), ..spec("1") });
    let under_way = hold(&mut book, &ask("a", Some("0.9"))).unwrap();
    assert_eq!(book.forget("a"), 1);
    let new = hold(&mut book, &ask("a", Some("0.1"))).unwrap();
    book.settle(&under_way, spent("0.9"), NOW);
    let view = view(&mut book, "a");
    assert_eq!((view.reserved, view.spent), (usd("0.1"), Money::ZERO), "of the new counter alone");
    book.settle(&new, spent("0.1"), NOW);
}

#[test]
fn another_budgets_refusal_asks_for_nothing() {
    let mut book = Book::new([spec("10"), BudgetSpec { name: "small".into(), ..spec("1") }]).unwrap();
    assert_eq!(&*hold(&mut book, &ask("a", Some("5"))).unwrap_err().counter.budget, "small");
    let first = hold(&mut book, &ask("a", Some("0.1"))).unwrap();
    book.settle(&first, spent("0.1"), NOW);
    let mut after = Book::new([spec("10")]).unwrap();
    after.restore(book.records(Written::Whole, NOW), NOW);
    assert!(view(&mut after, "").lost <= usd("0.05"), "a slice at most, and no call that was never sent");
    assert!(matches!(book.hold_within_grants(&ask("a", Some("0.9"))), Verdict::Blocked(blocked) if blocked.why == Why::Fault));
}

#[test]
fn a_file_that_is_opened_late_comes_to_what_was_spent_meanwhile() {
    let mut before = book(spec("10"));
    let first = hold(&mut before, &ask("a", Some("2"))).unwrap();
    before.settle(&first, spent("2"), NOW);
    let mut book = book(BudgetSpec { fault_ok: true, ..spec("10") });
    book.set_fault(Some("no disk".to_owned()));
    let meanwhile = hold(&mut book, &ask("a", Some("3"))).unwrap();
    book.settle(&meanwhile, spent("3"), NOW);
    book.restore(before.records(Written::Closed, NOW), NOW);
    assert_eq!(view(&mut book, "").used(), usd("5"));
}

/// What a test does to a book.
#[derive(Clone, Debug)]
enum Step {
    /// Orders a call of at most so many nano-dollars.
    Order(i64),
    /// Ends the nth call under way; it costs this share of what was set aside, in percent.
    End(usize, i64),
    /// What was spent is written down.
    Note,
    /// The process dies; calls under way are billed in full by the provider.
    Crash,
    /// The process ends in order.
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1i64..40).prop_map(Step::Order),
        8 => (0usize..8, 0i64..=100).prop_map(|(n, share)| Step::End(n, share)),
        2 => Just(Step::Note),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

proptest! {
    /// Whatever happens, the provider bills no more than the limit. A crash loses no more than what was granted ahead, and nobody is held back
    /// while there is room beyond that.
    #[test]
    fn no_order_of_events_bills_more_than_the_limit(steps in proptest::collection::vec(step(), 1..400), limit in 100i64..2_000) {
        let spec = BudgetSpec { limit: Money::from_nanos(limit), ..spec("0") };
        let (mut book, mut disk) = (book(spec.clone()), Vec::new());
        let (mut under_way, mut billed): (Vec<Hold>, i64) = (Vec::new(), 0);
        let mut may_lose = 0;
        for step in steps {
            match step {
                Step::Order(most) => {
                    let ask = Ask { bound: Some(Money::from_nanos(most)), ..ask("a", None) };
                    let mut verdict = book.hold(&ask);
                    if let Verdict::Needs(grants, _) = verdict {
                        disk.extend(grants.iter().map(Record::grant));
                        book.granted(&grants);
                        verdict = book.hold(&ask);
                    }
                    match verdict {
                        Verdict::Held(hold, ahead) => {
                            disk.extend(ahead.iter().map(Record::grant));
                            book.granted(&ahead);
                            under_way.push(hold);
                        }
                        Verdict::Blocked(blocked) => {
                            let reserved: i64 = under_way.iter().map(|hold| hold.amount.nanos()).sum();
                            prop_assert!(billed + reserved + may_lose + most > limit, "held back too early: {blocked:?}");
                        }
                        Verdict::Needs(..) => prop_assert!(false, "durable, and still asked for"),
                    }
                }
                Step::End(n, share) if !under_way.is_empty() => {
                    let hold = under_way.swap_remove(n % under_way.len());
                    let cost = hold.amount.nanos() * share / 100;
                    book.settle(&hold, Charge { spent: Money::from_nanos(cost), uncertain: Money::ZERO }, NOW);
                    billed += cost;
                }
                Step::End(..) => {}
                Step::Note => {
                    disk.extend(book.records(Written::Change, NOW));
                    let view = view(&mut book, "");
                    let ahead = view.granted - view.used() - view.reserved;
                    prop_assert!(ahead.nanos() <= 2 * (limit / 200) , "{ahead} granted for nothing");
                }
                Step::Crash | Step::Close => {
                    let closing = matches!(step, Step::Close);
                    let dying = under_way.drain(..).map(|hold| (hold.amount, hold)).collect::<Vec<_>>();
                    for (amount, hold) in &dying {
                        billed += amount.nanos();
                        if closing {
                            book.settle(hold, Charge { spent: *amount, uncertain: Money::ZERO }, NOW);
                        }
                    }
                    if closing {
                        disk.extend(book.records(Written::Closed, NOW));
                    } else {
                        may_lose = view(&mut book, "").granted.nanos() - billed;
                    }
                    book = Book::new([spec.clone()]).unwrap();
                    book.restore(disk.drain(..), NOW);
                    disk.extend(book.records(Written::Whole, NOW));
                    let view = view(&mut book, "");
                    prop_assert!(view.used().nanos() >= billed, "{} of {billed} are remembered", view.used());
                    prop_assert!(view.used().nanos() <= billed + may_lose, "{} of {billed}", view.used());
                }
            }
            prop_assert!(billed <= limit);
            let view = view(&mut book, "");
            prop_assert!(view.used() + view.reserved <= view.granted && view.granted <= view.limit);
        }
    }
}

/// Orders, and waits until it is told.
fn write(store: &Store, grants: Vec<Grant>, records: Vec<Record>) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let done = Box::new(move |result: Result<(), &str>| tell.send(result.map_err(ToOwned::to_owned)).unwrap());
    store.order(Grants { grants, records, done });
    told.recv().unwrap()
}

fn grant(unit: &str, total: &str) -> Grant {
    let counter = Arc::new(CounterKey { budget: "b".into(), unit: unit.into() });
    Grant { counter, window: NOW, total: usd(total) }
}

#[test]
fn what_is_told_to_be_durable_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Store::open(dir.path()).unwrap();
    write(&opened.store, vec![grant("a", "1"), grant("b", "2")], vec![]).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse { .. })));
    drop(opened);
    let opened = Store::open(dir.path()).unwrap();
    assert_eq!((opened.records.len(), opened.torn), (2, 0));
    opened.store.rewrite(opened.records[1..].to_vec());
    write(&opened.store, vec![grant("c", "3")], vec![]).unwrap();
    drop(opened.store);
    let records = Store::open(dir.path()).unwrap().records;
    assert_eq!(records, [Record::grant(&grant("b", "2")), Record::grant(&grant("c", "3"))]);
}

#[test]
fn a_unit_is_forgotten_in_the_file_of_a_process_that_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let each = BudgetSpec { per: Some(BudgetUnit::Tenant), ..spec("1") };
    assert_eq!(forget_in(dir.path(), "a", std::slice::from_ref(&each)).unwrap(), 0);
    let opened = Store::open(dir.path()).unwrap();
    write(&opened.store, vec![grant("a", "1"), grant("b", "2"), grant("a", "3")], vec![]).unwrap();
    assert!(matches!(forget_in(dir.path(), "a", std::slice::from_ref(&each)), Err(StoreError::InUse { .. })));
    drop(opened);
    assert_eq!(forget_in(dir.path(), "a", std::slice::from_ref(&each)).unwrap(), 2);
    assert_eq!(Store::open(dir.path()).unwrap().records, [Record::grant(&grant("b", "2"))]);
    let of_teams = BudgetSpec { per: Some(BudgetUnit::Team), ..each };
    assert_eq!(forget_in(dir.path(), "b", &[of_teams]).unwrap(), 0, "a team of that name");
}

#[test]
fn a_torn_last_line_is_cut_off_and_other_damage_is_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("budgets");
    let opened = Store::open(dir.path()).unwrap();
    write(&opened.store, vec![grant("a", "1"), grant("b", "2")], vec![]).unwrap();
    drop(opened);
    let text = std::fs::read(&file).unwrap();
    let first = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut ends = BTreeMap::new();
    for cut in 0..text.len() {
        std::fs::write(&file, &text[..cut]).unwrap();
        let opened = Store::open(dir.path()).unwrap();
        ends.entry(opened.records.len()).or_insert(cut);
        assert_eq!(opened.torn as usize, if cut >= first { cut - first } else { cut });
        write(&opened.store, vec![grant("c", "3")], vec![]).unwrap();
        drop(opened);
        assert_eq!(Store::open(dir.path()).unwrap().records.last(), Some(&Record::grant(&grant("c", "3"))));
    }
    assert_eq!(ends, BTreeMap::from([(0, 0), (1, first)]));
    let mut damaged = text.clone();
    damaged[first / 2] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    let Err(error) = Store::open(dir.path()) else { panic!("damage went unseen") };
    assert!(error.to_string().contains("line 1") && error.to_string().contains("restore it"), "{error}");
}
