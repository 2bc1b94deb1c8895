//! G3: what a member does with its shares, message by message; what can happen between them is in `simulation`.

use farthing_types::{LimitScope, LimitSpec, Priority, RateSpec, Span, Time};

use super::member::{Kept, Member, Terms};
use super::wire::Reply;
use super::{Here, Server};
use crate::limit::bucket::WHOLE;
use crate::limit::{Ask, Book, Cost, Mood, Pass, Stage, Standing, Verdict, Who};

const ALONE: Span = Span::from_secs(60);

/// An instance whose clock is the server's, which is nobody's in the proxy.
struct Instance {
    book: Book,
    member: Member,
}

fn terms(id: &str, start: i64) -> Terms {
    Terms { id: id.into(), life: format!("{id}{start}").into(), start, alone: ALONE, most: WHOLE, first: 0 }
}

fn ms(millis: i64) -> Time {
    Time::from_millis(millis)
}

fn rate(count: u64, burst: u64) -> LimitSpec {
    let requests = Some(RateSpec { count, period: Span::from_secs(1), burst });
    LimitSpec { name: "l".into(), scope: LimitScope::Tenant, requests, ..LimitSpec::default() }
}

impl Instance {
    fn new(terms: Terms, spec: LimitSpec, kept: Option<Kept>, now: i64) -> Self {
        let mut book = Book::new([spec]);
        let member = Member::new(&mut book, terms, kept, (ms(now), ms(now)));
        Self { book, member }
    }

    /// One message and its answer, at once; whether there is more to tell.
    fn tell(&mut self, server: &mut Server, now: i64) -> bool {
        let asked = self.member.next(&mut self.book, ms(now));
        let reply = server.take(Here { run: "r", now }, &asked.message);
        self.member.answered(&mut self.book, &asked, (&reply, ms(now)))
    }

    fn share(&self) -> u32 {
        self.book.standing().rate
    }

    fn ask(&mut self, tenant: &str, now: i64) -> Option<Pass> {
        let ask = Ask {
            who: Who { tenant, ..Who::default() },
            stage: Stage::Call,
            priority: Priority::Low,
            mood: Mood::Usual,
            cost: Cost { tokens: 0 },
            bytes: 0,
            deadline: ms(now),
            now: ms(now),
        };
        match self.book.ask(&ask) {
            Verdict::Passed(pass) => Some(pass),
            _ => None,
        }
    }

    /// Calls that go at once.
    fn burst(&mut self, tenant: &str, now: i64) -> usize {
        std::iter::from_fn(|| self.ask(tenant, now)).take(1_000).count()
    }
}

/// Beats of all until then, four a second.
fn beat(server: &mut Server, instances: &mut [&mut Instance], span: std::ops::Range<i64>) {
    for now in span.step_by(250) {
        for instance in &mut *instances {
            let mut rounds = 0;
            while instance.tell(server, now) && rounds < 3 {
                rounds += 1;
            }
        }
    }
}

#[test]
fn a_new_fleet_begins_with_full_buckets_and_who_joins_later_with_empty_ones() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    assert_eq!(a.burst("t", 0), 0, "it has nothing yet");
    beat(&mut server, &mut [&mut a], 0..3_000);
    assert_eq!(a.share(), 0, "others may be there");
    beat(&mut server, &mut [&mut a], 3_000..3_600);
    assert_eq!((a.share(), a.burst("u", 3_600), a.burst("t", 3_600)), (WHOLE, 38, 38), "whoever has asked before");
    let mut b = Instance::new(terms("b", 2), rate(10, 40), None, 30_000);
    beat(&mut server, &mut [&mut a, &mut b], 30_000..34_000);
    assert_eq!((a.share(), b.share()), (WHOLE / 2, WHOLE / 2));
    assert_eq!(a.burst("v", 34_000), 19);
    assert!(b.burst("v", 34_000) <= 20 / 2, "it has its share for two seconds at most");
    assert_eq!(b.burst("w", 60_000), 19, "what could have been gathered since then");
    let mut c = Instance::new(terms("c", 3), rate(10, 40), None, 60_000);
    beat(&mut server, &mut [&mut a, &mut b, &mut c], 60_000..64_000);
    assert_eq!((a.burst("x", 64_000), a.burst("y", 64_000)), (12, 12));
    drop(c);
    beat(&mut server, &mut [&mut a, &mut b], 64_000..129_500);
    assert_eq!(a.share(), WHOLE / 2, "a third and half of the other's");
    assert!((12..=17).contains(&a.burst("z", 129_500)), "what grows is not filled");
}

#[test]
fn shares_end_with_their_time_and_those_of_the_dead_are_given_to_others_then() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    let mut b = Instance::new(terms("b", 1), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut a, &mut b], 0..6_000);
    assert_eq!((a.share(), b.share()), (WHOLE / 2, WHOLE / 2));
    beat(&mut server, &mut [&mut a], 6_000..65_000);
    assert_eq!(a.share(), WHOLE / 2, "the other may use its own");
    assert_eq!(b.burst("t", 65_000), 19);
    assert_eq!(b.burst("u", 66_000), 0, "a minute after it was heard");
    assert_eq!(b.share(), 0);
    beat(&mut server, &mut [&mut a], 65_000..72_000);
    assert_eq!(a.share(), WHOLE);
    beat(&mut server, &mut [&mut a, &mut b], 72_000..76_000);
    assert_eq!((a.share(), b.share()), (WHOLE / 2, WHOLE / 2), "it comes back as a new one");
}

#[test]
fn who_begins_anew_goes_on_with_what_it_had_also_without_redis() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut a], 0..6_000);
    assert_eq!(a.burst("t", 6_000), 38);
    let (kept, saved) = (a.member.kept(&a.book, (ms(6_000), ms(6_000))), a.book.saved(ms(6_000)));
    let begin = |now: i64| {
        let mut again = Instance::new(terms("a", now), rate(10, 40), Some(kept.clone()), now);
        again.book.restore(saved.clone(), Span::from_millis(u64::try_from(now - 6_000).unwrap()), ms(now));
        again
    };
    let mut alone = begin(7_000);
    assert_eq!(alone.burst("u", 7_000), 0, "what the life before has lent is not back");
    let asked = alone.member.next(&mut alone.book, ms(9_600));
    alone.member.failed("away", ms(9_600));
    assert_eq!(asked.message.parts, [i64::from(WHOLE); 2]);
    assert_eq!((alone.burst("u", 9_600), alone.burst("t", 9_600)), (38, 36), "as much as has come back since");
    let mut heard = begin(7_000);
    heard.tell(&mut server, 7_000);
    assert_eq!((heard.share(), heard.burst("t", 7_000)), (WHOLE, 10), "nothing was lent");
    assert_eq!(begin(70_000).share(), 0, "its time is over");
}

#[test]
fn one_that_ends_in_order_leaves_its_share_to_the_others_after_a_minute() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    let mut b = Instance::new(terms("b", 1), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut a, &mut b], 0..6_000);
    b.member.close();
    b.tell(&mut server, 6_000);
    assert_eq!(b.burst("t", 6_000), 0);
    let kept = b.member.kept(&b.book, (ms(6_000), ms(6_000)));
    beat(&mut server, &mut [&mut a], 6_250..60_000);
    assert_eq!(a.share(), WHOLE / 2);
    let mut again = Instance::new(terms("b", 2), rate(10, 40), Some(kept.clone()), 60_000);
    beat(&mut server, &mut [&mut a, &mut again], 60_000..64_000);
    assert_eq!((a.share(), again.share(), again.burst("t", 64_000)), (WHOLE / 2, WHOLE / 2, 19));
    again.member.close();
    again.tell(&mut server, 64_000);
    beat(&mut server, &mut [&mut a], 64_250..126_000);
    assert_eq!(a.share(), WHOLE);
}

#[test]
fn of_two_by_one_name_the_older_has_nothing() {
    let mut server = Server::default();
    let mut old = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut old], 0..6_000);
    let mut new = Instance::new(terms("a", 2), rate(10, 40), None, 6_000);
    beat(&mut server, &mut [&mut old, &mut new], 6_000..9_000);
    assert_eq!((old.share(), new.share()), (0, WHOLE));
    assert!(old.member.state().refused.is_some_and(|why| why.contains("name")) && new.member.state().refused.is_none());
}

#[test]
fn how_many_there_are_bounds_what_one_has_alone() {
    let quarter = |id: &str, now| Terms { most: WHOLE / 4, first: WHOLE / 4, ..terms(id, now) };
    let mut server = Server::default();
    let mut a = Instance::new(quarter("a", 1), rate(10, 40), None, 0);
    assert_eq!(a.share(), WHOLE / 4, "before it has heard anything");
    assert!(a.burst("t", 0) <= 1 && a.burst("t", 8_000) == 9, "its buckets are empty then");
    beat(&mut server, &mut [&mut a], 0..10_000);
    assert_eq!(a.share(), WHOLE / 4, "and when it is alone");
}

#[test]
fn calls_at_a_time_are_told_lower_when_no_more_are_under_way() {
    let calls = || LimitSpec { name: "c".into(), scope: LimitScope::Tenant, concurrency: Some(10), ..LimitSpec::default() };
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), calls(), None, 0);
    beat(&mut server, &mut [&mut a], 0..4_000);
    let mut passes: Vec<Pass> = std::iter::from_fn(|| a.ask("t", 4_000)).collect();
    assert_eq!(passes.len(), 10);
    let mut b = Instance::new(terms("b", 1), calls(), None, 4_000);
    beat(&mut server, &mut [&mut a, &mut b], 4_000..12_000);
    assert_eq!((b.share(), b.book.standing().slots), (WHOLE / 2, 0), "all are under way elsewhere");
    let end = |instance: &mut Instance, pass: Pass| {
        instance.book.end(&pass);
        instance.book.settle(&pass, None, ms(12_000));
    };
    for pass in passes.drain(5..) {
        end(&mut a, pass);
        assert!(a.ask("t", 12_000).is_none(), "those that end make room for the other");
    }
    beat(&mut server, &mut [&mut a, &mut b], 12_000..15_000);
    assert_eq!(std::iter::from_fn(|| b.ask("t", 15_000)).count(), 5);
    assert_eq!((Standing::calls(WHOLE / 4, 3), Standing::calls(0, 3), Standing::calls(WHOLE, 3)), (1, 0, 3));
}

#[test]
fn a_call_that_uses_more_than_an_instance_holds_goes_when_it_is_full_and_is_paid_back() {
    let tokens = Some(RateSpec { count: 100, period: Span::from_secs(1), burst: 400 });
    let spec = LimitSpec { name: "t".into(), scope: LimitScope::Tenant, tokens, ..LimitSpec::default() };
    let mut a = Instance::new(Terms { first: WHOLE / 4, ..terms("a", 1) }, spec, None, 0);
    let mut ask = |now: i64| {
        let call = Ask {
            who: Who { tenant: "t", ..Who::default() },
            stage: Stage::Call,
            priority: Priority::Low,
            mood: Mood::Usual,
            cost: Cost { tokens: 300 },
            bytes: 0,
            deadline: ms(now),
            now: ms(now),
        };
        matches!(a.book.ask(&call), Verdict::Passed(_))
    };
    // 95 is its part of the burst, 25 a second its part of the rate.
    assert_eq!([0, 3_700, 3_900].map(&mut ask), [false, false, true]);
    assert_eq!([14_000, 15_700, 15_900].map(&mut ask), [false, false, true], "300 later, not 95");
}

#[test]
fn what_others_need_is_lent_and_comes_back() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(1_000, 100), None, 0);
    let mut b = Instance::new(terms("b", 1), rate(1_000, 100), None, 0);
    beat(&mut server, &mut [&mut a, &mut b], 0..4_000);
    let mut went = 0;
    for now in 4_000..8_000 {
        went += usize::from(a.ask("t", now).is_some());
        if now % 250 == 0 {
            beat(&mut server, &mut [&mut a, &mut b], now..now + 1);
        }
    }
    assert!(went > 3_700, "{went} of 4,000 in four seconds, of which 2,000 are its own");
    assert_eq!(a.book.shares_view(ms(8_000)).unwrap().moved, [1, 0]);
    assert_eq!(b.book.shares_view(ms(8_000)).unwrap().moved, [0, 1]);
    // Nobody asks there now, and it is cut off: it has its own again, and the other one has no more of it.
    assert_eq!((a.burst("t", 12_000), b.burst("t", 12_000)), (47, 47));
    let rate = |instance: &mut Instance| instance.book.views(1, ms(12_000))[0].busiest[0].share;
    assert_eq!((rate(&mut a), rate(&mut b)), (WHOLE / 2, WHOLE / 2));
}

#[test]
fn who_does_not_come_back_after_a_loss_is_waited_for_a_minute_and_then_counted() {
    let mut server = Server::default();
    let long = |id: &str| Terms { alone: Span::from_secs(3_600), ..terms(id, 1) };
    let mut a = Instance::new(long("a"), rate(10, 40), None, 0);
    let mut b = Instance::new(long("b"), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut a, &mut b], 0..6_000);
    server.flush();
    let mut c = Instance::new(long("c"), rate(10, 40), None, 6_000);
    beat(&mut server, &mut [&mut a, &mut c], 6_000..60_000);
    assert_eq!((a.share(), c.share(), a.member.state().whole), (WHOLE / 4, 0, false), "it leaves room, which nobody has yet");
    beat(&mut server, &mut [&mut a, &mut c], 60_000..70_000);
    assert_eq!((a.share(), c.share(), b.share()), (WHOLE / 4, WHOLE / 4, WHOLE / 2));
    beat(&mut server, &mut [&mut a, &mut b, &mut c], 70_000..76_000);
    assert_eq!([&a, &b, &c].map(Instance::share), [WHOLE / 3; 3]);
}

#[test]
fn nothing_of_an_older_message_or_generation_counts() {
    let mut server = Server::default();
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    beat(&mut server, &mut [&mut a], 0..4_000);
    let late = a.member.next(&mut a.book, ms(4_000));
    a.tell(&mut server, 4_010);
    assert_eq!(server.take(Here { run: "r", now: 4_020 }, &late.message), Reply::Stale);
    server.flush();
    assert!(matches!(server.take(Here { run: "r", now: 4_030 }, &late.message), Reply::Lost(_, 2)));
    beat(&mut server, &mut [&mut a], 4_250..4_300);
    assert_eq!((a.share(), a.member.state().losses), (WHOLE, 1), "it goes on with what it had");
}

/// The proxy shares limits first, and reads what it had then: what is asked in between, if anything, is counted by the same counters.
#[test]
fn counters_that_open_before_the_member_begins_are_lent_as_others_are() {
    let mut server = Server::default();
    let mut book = Book::new([rate(1_000, 100)]);
    book.enter_fleet();
    let ask = Ask {
        who: Who { tenant: "t", ..Who::default() },
        stage: Stage::Call,
        priority: Priority::Low,
        mood: Mood::Usual,
        cost: Cost { tokens: 0 },
        bytes: 0,
        deadline: ms(0),
        now: ms(0),
    };
    assert!(matches!(book.ask(&ask), Verdict::Refused(_)), "it has nothing yet");
    let member = Member::new(&mut book, terms("b", 1), None, (ms(0), ms(0)));
    let mut b = Instance { book, member };
    let mut a = Instance::new(terms("a", 1), rate(1_000, 100), None, 0);
    beat(&mut server, &mut [&mut a, &mut b], 0..4_000);
    for now in 4_000..6_000 {
        let _passed = a.ask("t", now);
        if now % 250 == 0 {
            beat(&mut server, &mut [&mut a, &mut b], now..now + 1);
        }
    }
    let rate = |instance: &mut Instance| instance.book.views(1, ms(6_000))[0].busiest[0].share;
    let (of_a, of_b) = (rate(&mut a), rate(&mut b));
    assert!(of_a > WHOLE / 2 && of_a + of_b <= WHOLE, "{of_a} {of_b}");
}

#[test]
fn without_redis_no_more_is_noted_than_there_are_counters() {
    let mut a = Instance::new(terms("a", 1), rate(10, 40), None, 0);
    for n in 0..5_000 {
        assert!(a.ask(&format!("t{n}"), n).is_none(), "it has never heard anything");
    }
    let noted = a.book.fleet.as_ref().map(|side| side.short.len());
    assert!(noted.is_some_and(|noted| noted <= 1_024), "{noted:?}");
}
