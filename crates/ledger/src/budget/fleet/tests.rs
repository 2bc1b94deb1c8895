//! Members and the place of the counters, step by step; what many of them do at once is in the simulation.

use farthing_types::{BudgetScope, BudgetSpec, BudgetWindow, Enforce, Money, Priority, Time};

use super::member::{Asked, Member};
use super::wire::Reply;
use super::{Here, Server};
use crate::budget::store::Record;
use crate::budget::{Ask, Book, Charge, Hold, Raise, Verdict, Who, Why, Written};

const BEGIN: i64 = 1_764_201_600_000;

fn usd(text: &str) -> Money {
    text.parse().unwrap()
}

fn spec(limit: &str) -> BudgetSpec {
    BudgetSpec { name: "b".into(), limit: usd(limit), ..BudgetSpec::default() }
}

struct One {
    book: Book,
    member: Member,
    disk: Vec<Record>,
}

impl One {
    fn new(name: &str, spec: BudgetSpec, disk: Vec<Record>) -> Self {
        let mut book = Book::new([spec]).unwrap();
        book.enter_fleet(name);
        book.restore(disk, Time::from_millis(BEGIN));
        book.begin_fleet();
        let disk = book.records(Written::Whole, Time::from_millis(BEGIN));
        Self { book, member: Member::new(name.into(), format!("{name}{}", disk.len()).into()), disk }
    }

    fn ask(&mut self, bound: &str, priority: Priority, now: i64) -> Verdict {
        let who = Who { tenant: "t", route: "r", ..Who::default() };
        self.book.hold(&Ask { who, priority, bound: Some(usd(bound)), now: Time::from_millis(now) })
    }

    fn view(&mut self) -> crate::budget::CounterView {
        self.book.views(Time::from_millis(BEGIN)).remove(0)
    }
}

/// The place in one run, at one time.
struct Place {
    server: Server,
    run: &'static str,
    now: i64,
}

impl Place {
    fn new() -> Self {
        Self { server: Server::default(), run: "r", now: BEGIN }
    }

    /// Has a member tell what it has to tell; the last answer.
    fn tell(&mut self, one: &mut One) -> Option<Reply> {
        let (now, mut beat, mut last) = (Time::from_millis(self.now), true, None);
        for n in 0..20 {
            let Some(asked) = one.member.next(&mut one.book, beat, (&format!("c{n}"), now)) else { break };
            let here = Here { run: self.run, now: self.now };
            let reply = match &asked {
                Asked::Report(report) => self.server.report(here, report),
                Asked::Exchange(exchange) => self.server.exchange(here, exchange),
            };
            let orders = one.member.answered(&mut one.book, &asked, (&reply, now));
            one.disk.extend(orders.grants.iter().map(Record::grant).chain(orders.records));
            one.book.granted(&orders.grants);
            one.member.noted();
            last = Some(reply);
            if !orders.again && !one.book.asks_fleet() {
                break;
            }
            beat = orders.again;
        }
        last
    }

    /// All tell, often enough for the place to be whole.
    fn settle(&mut self, all: &mut [One]) {
        for _ in 0..4 {
            self.now += 1_500;
            all.iter_mut().for_each(|one| drop(self.tell(one)));
        }
    }

    /// Sets money aside, asking for it where that is needed.
    fn hold(&mut self, one: &mut One, bound: &str, priority: Priority) -> Result<Hold, Why> {
        for _ in 0..6 {
            match one.ask(bound, priority, self.now) {
                Verdict::Held(hold, _) => return Ok(hold),
                Verdict::Blocked(blocked) => return Err(blocked.why),
                Verdict::Needs(..) => drop(self.tell(one)),
            }
            self.now += 300;
        }
        Err(Why::Fault)
    }
}

fn two(limit: &str) -> (Place, Vec<One>) {
    let (mut place, mut all) =
        (Place::new(), ["a", "b"].map(|name| One::new(name, spec(limit), Vec::new())).into_iter().collect::<Vec<_>>());
    place.settle(&mut all);
    (place, all)
}

fn spent(text: &str) -> Charge {
    Charge { spent: usd(text), uncertain: Money::ZERO }
}

#[test]
fn two_spend_one_limit_and_each_sees_what_the_other_did() {
    let (mut place, mut all) = two("1");
    let first = place.hold(&mut all[0], "0.6", Priority::Medium).unwrap();
    assert_eq!(place.hold(&mut all[1], "0.6", Priority::Medium).unwrap_err(), Why::Exceeded);
    all[0].book.settle(&first, spent("0.2"), Time::from_millis(place.now));
    // What the call did not cost is given back, as the other one lacks it.
    place.settle(&mut all);
    let second = place.hold(&mut all[1], "0.6", Priority::Medium).unwrap();
    all[1].book.settle(&second, spent("0.6"), Time::from_millis(place.now));
    place.settle(&mut all);
    let view = all[0].view();
    assert_eq!((view.spent, view.used()), (usd("0.2"), usd("0.8")));
    assert_eq!(view.fleet.unwrap().holders.len(), 2);
}

/// O3: a reload lowers the limit to what is nearly spent. What was granted under the old one is not spent beyond the new one, by whoever has reloaded.
#[test]
fn a_limit_that_falls_holds_back_what_was_granted_before() {
    for told_between in [false, true] {
        let (mut place, mut all) = two("100");
        for one in &mut all {
            let hold = place.hold(one, "0.01", Priority::Medium).unwrap();
            one.book.settle(&hold, spent("0.01"), Time::from_millis(place.now));
        }
        place.settle(&mut all);
        assert!(all.iter_mut().all(|one| one.view().granted > usd("0.05")), "each holds more than what is left");
        for one in &mut all {
            one.book.amend(&[spec("0.05")], Time::from_millis(place.now)).unwrap();
            if told_between {
                place.tell(one);
            }
        }
        let mut held = Vec::new();
        for _ in 0..10 {
            held.extend(all.iter_mut().filter_map(|one| place.hold(one, "0.01", Priority::Medium).ok()));
        }
        // A third fits, but for what each was granted beyond its calls.
        assert!((2..=3).contains(&held.len()), "0.02 of 0.05 were spent, told between: {told_between}: {}", held.len());
        // And back: there is room again, for both, up to the new limit.
        for one in &mut all {
            one.book.amend(&[spec("0.10")], Time::from_millis(place.now)).unwrap();
        }
        for _ in 0..10 {
            held.extend(all.iter_mut().filter_map(|one| place.hold(one, "0.01", Priority::Medium).ok()));
        }
        assert!((6..=8).contains(&held.len()), "told between: {told_between}: {}", held.len());
    }
}

/// The same where an order for more was under way when the limit fell: its end brings the greater grant, which is not spent either.
#[test]
fn a_grant_that_comes_after_the_limit_has_fallen_is_not_spent_beyond_it() {
    let (mut place, mut all) = two("100");
    let (a, now) = (&mut all[0], Time::from_millis(place.now));
    let Verdict::Needs(..) = a.ask("0.01", Priority::Medium, place.now) else { panic!("nothing is granted yet") };
    let asked = a.member.next(&mut a.book, false, ("c", now)).unwrap();
    let Asked::Exchange(exchange) = &asked else { panic!("{asked:?}") };
    let reply = place.server.exchange(Here { run: place.run, now: place.now }, exchange);
    let hold = place.hold(&mut all[1], "0.04", Priority::Medium).unwrap();
    all[1].book.settle(&hold, spent("0.04"), now);
    place.tell(&mut all[1]);
    for one in &mut all {
        one.book.amend(&[spec("0.05")], now).unwrap();
    }
    let a = &mut all[0];
    let orders = a.member.answered(&mut a.book, &asked, (&reply, now));
    a.book.granted(&orders.grants);
    assert!(a.view().granted > usd("0.05"));
    place.tell(a);
    let held = (0..5).filter(|_| place.hold(a, "0.01", Priority::Medium).is_ok()).count();
    assert_eq!(held, 1);
}

#[test]
fn high_priority_passes_a_used_up_day_of_the_fleet() {
    let day = BudgetSpec { window: BudgetWindow::Day, enforce: Enforce::HighPasses, ..spec("1") };
    let (mut place, mut all) = (Place::new(), ["a", "b"].map(|name| One::new(name, day.clone(), Vec::new())));
    place.settle(&mut all);
    let [a, b] = &mut all;
    let first = place.hold(a, "1", Priority::Medium).unwrap();
    a.book.settle(&first, spent("1"), Time::from_millis(place.now));
    place.tell(a);
    assert_eq!(place.hold(b, "0.5", Priority::Medium).unwrap_err(), Why::Exceeded);
    let passed = place.hold(b, "0.5", Priority::High).unwrap();
    b.book.settle(&passed, spent("0.5"), Time::from_millis(place.now));
    place.settle(&mut all);
    assert_eq!(all[0].view().used(), usd("1.5"), "it is counted");
}

#[test]
fn a_soft_budget_asks_for_nothing_and_is_told() {
    let soft = BudgetSpec { enforce: Enforce::Soft, ..spec("1") };
    let (mut place, mut all) = (Place::new(), ["a", "b"].map(|name| One::new(name, soft.clone(), Vec::new())));
    let Verdict::Held(hold, _) = all[0].ask("5", Priority::Low, BEGIN) else { panic!("held back") };
    all[0].book.settle(&hold, spent("5"), Time::from_millis(BEGIN));
    place.settle(&mut all);
    let Verdict::Held(..) = all[1].ask("1", Priority::Low, BEGIN) else { panic!("held back") };
    place.settle(&mut all);
    assert_eq!(all[1].view().used(), usd("5"));
}

#[test]
fn a_loss_is_made_good_by_what_ledgers_say_and_nobody_is_left_out() {
    let (mut place, mut all) = two("1");
    for one in &mut all {
        let hold = place.hold(one, "0.4", Priority::Medium).unwrap();
        one.book.settle(&hold, spent("0.4"), Time::from_millis(place.now));
        one.disk.extend(one.book.records(Written::Change, Time::from_millis(place.now)));
    }
    place.server.flush();
    // One of them is gone: nothing is granted.
    place.settle(&mut all[..1]);
    assert_eq!(place.hold(&mut all[0], "0.1", Priority::Medium).unwrap_err(), Why::Fault);
    assert!(all[0].book.trouble().unwrap().contains("what they spent: b"), "{:?}", all[0].book.trouble());
    // It comes back, with its ledger.
    let disk = std::mem::take(&mut all[1].disk);
    all[1] = One::new("b", spec("1"), disk);
    place.settle(&mut all);
    assert_eq!(place.hold(&mut all[0], "0.3", Priority::Medium).unwrap_err(), Why::Exceeded);
    assert!(place.hold(&mut all[0], "0.1", Priority::Medium).is_ok());
}

#[test]
fn a_copy_of_a_ledger_and_an_old_one_get_nothing() {
    let (mut place, mut all) = two("1");
    let old = all[0].disk.clone();
    let mut twin = One::new("a", spec("1"), old.clone());
    twin.member = Member::new("a".into(), "another".into());
    let mut again = One::new("a", spec("1"), old.clone());
    // Both have begun once more: the first counts.
    assert!(matches!(place.tell(&mut again), Some(Reply::Fine(_))));
    place.tell(&mut twin);
    assert!(twin.book.trouble().unwrap().contains("a copy"), "{:?}", twin.book.trouble());
    // The ledger of before the last start, begun twice since.
    let newer = again.disk.clone();
    let mut newest = One::new("a", spec("1"), newer);
    assert!(matches!(place.tell(&mut newest), Some(Reply::Fine(_))));
    let mut older = One::new("a", spec("1"), old);
    place.tell(&mut older);
    assert!(older.book.trouble().unwrap().contains("is older"), "{:?}", older.book.trouble());
    assert_eq!(place.hold(&mut older, "0.1", Priority::Medium).unwrap_err(), Why::Fault);
    place.settle(&mut all[1..]);
}

#[test]
fn budgets_of_one_name_that_count_other_calls_are_others() {
    let of_team = BudgetSpec { scope: BudgetScope { team: Some("x".into()), ..BudgetScope::default() }, ..spec("1") };
    let raised = BudgetSpec { warn_at: 0.5, ..spec("2") };
    assert_ne!(super::rows::digest(&spec("1")), super::rows::digest(&of_team));
    assert_eq!(super::rows::digest(&spec("1")), super::rows::digest(&raised), "its limit may change");
}

#[test]
fn a_raise_reaches_all_and_two_alike_are_two() {
    let (mut place, mut all) = two("1");
    let now = Time::from_millis(place.now);
    let raise = Raise { by: usd("1"), until: Time::from_millis(BEGIN + 9_000_000), note: "launch".to_owned() };
    for _ in 0..2 {
        let record = all[0].book.raise(("b", None), raise.clone(), now).unwrap();
        all[0].disk.push(record);
    }
    let told = all[0].book.fleet_raises(now);
    assert_eq!(told.len(), 2);
    assert_eq!(all[1].book.adopt_raises(told.iter().map(String::as_str), now).len(), 2);
    assert!(all[1].book.adopt_raises(told.iter().map(String::as_str), now).is_empty(), "once");
    assert!(
        all[1]
            .book
            .adopt_raises(["{}", "x", r#"{"is":"raise","b":"other","u":"","raise":{"by":1,"until":1,"note":""}}"#].into_iter(), now)
            .is_empty()
    );
    assert!(place.hold(&mut all[1], "2.9", Priority::Medium).is_ok());
}

#[test]
fn amounts_are_rounded_to_the_safe_side() {
    assert_eq!((super::up(Money::from_nanos(1)), super::up(Money::from_nanos(1_000)), super::down(Money::from_nanos(1_999))), (1, 1, 1));
    assert_eq!((super::up(Money::ZERO), super::down(Money::from_nanos(-5))), (0, 0));
}
