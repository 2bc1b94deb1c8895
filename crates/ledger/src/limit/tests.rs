//! G1: the book against simulated time: no window has too much, nothing of the rate is wasted, nobody starves.

use std::collections::BTreeMap;

use farthing_types::{LimitScope, LimitSpec, LimitWhy, OnLimit, Priority, RateSpec, Span, Time};
use proptest::prelude::*;

use super::*;

fn rate(count: u64, burst: u64) -> RateSpec {
    RateSpec { count, period: Span::from_secs(1), burst }
}

fn provider(requests: RateSpec) -> LimitSpec {
    LimitSpec { name: "p".into(), scope: LimitScope::Provider, requests: Some(requests), ..LimitSpec::default() }
}

fn ms(millis: i64) -> Time {
    Time::from_millis(millis)
}

fn ask(tenant: &str, priority: Priority, now: Time) -> Ask<'_> {
    Ask {
        who: Who { tenant, route: "r", provider: "p", ..Who::default() },
        stage: Stage::Attempt,
        priority,
        mood: Mood::Usual,
        cost: Cost { tokens: 0 },
        bytes: 0,
        deadline: now + Span::from_secs(3_600),
        now,
    }
}

fn passes(verdict: Verdict) -> Pass {
    match verdict {
        Verdict::Passed(pass) => pass,
        other => panic!("{other:?}"),
    }
}

fn queued(verdict: Verdict) -> WaiterId {
    match verdict {
        Verdict::Queued(id) => id,
        other => panic!("{other:?}"),
    }
}

fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Pumps whenever something is due, until then; who went when.
fn run(book: &mut Book, until: Time) -> Vec<(Time, WaiterId)> {
    let mut went = Vec::new();
    while let Some(next) = book.next().filter(|next| *next <= until) {
        for woken in book.pump(next) {
            if let Ok(pass) = woken.result {
                went.push((next, woken.id));
                book.end(&pass);
                book.settle(&pass, None, next);
            }
        }
    }
    went
}

#[test]
fn high_passes_medium_waits_low_is_refused() {
    let mut book = Book::new([provider(rate(10, 1))]);
    let _ = passes(book.ask(&ask("a", Priority::Low, ms(0))));
    let refusal = refused(book.ask(&ask("a", Priority::Low, ms(0))));
    assert_eq!((refusal.why, refusal.retry_after, &*refusal.limit, &*refusal.unit), (LimitWhy::Exceeded, Span::from_millis(100), "p", "p"));
    let waiter = queued(book.ask(&ask("a", Priority::Medium, ms(0))));
    assert!(book.pump(ms(0)).is_empty());
    let over = passes(book.ask(&ask("a", Priority::High, ms(50))));
    assert_eq!(run(&mut book, ms(1_000)), [(ms(200), waiter)], "what passed over is owed");
    let stats = book.views(9, ms(1_000))[0].stats.clone();
    assert_eq!((stats.admitted, stats.passed_over, stats.waited, stats.waited_for), (3, 1, 1, Span::from_millis(200)));
    assert_eq!(stats.refused, [1, 0, 0, 0]);
    book.end(&over);
}

#[test]
fn who_cannot_have_its_turn_in_time_is_refused_at_once_and_told_when() {
    let mut book = Book::new([provider(rate(1, 1))]);
    let _ = passes(book.ask(&ask("a", Priority::Medium, ms(0))));
    let soon = |now| Ask { deadline: now + Span::from_millis(1_500), ..ask("a", Priority::Medium, now) };
    queued(book.ask(&soon(ms(0))));
    let refusal = refused(book.ask(&soon(ms(0))));
    assert_eq!((refusal.why, refusal.retry_after), (LimitWhy::Deadline, Span::from_secs(2)));
    let other = book.ask(&Ask { deadline: ms(2_500), ..ask("b", Priority::Medium, ms(0)) });
    assert!(matches!(other, Verdict::Queued(_)), "another tenant is not behind all of them");
    let asked = Ask { mood: Mood::AtOnce, ..ask("c", Priority::Medium, ms(0)) };
    assert!(matches!(book.ask(&asked), Verdict::Blocked(_)));
    let _ = book.pump(ms(0));
    assert_eq!(run(&mut book, ms(9_000)).len(), 2);
}

#[test]
fn a_waiter_that_gives_up_leaves_nothing_behind() {
    let mut book = Book::new([provider(rate(1, 1))]);
    let _ = passes(book.ask(&ask("a", Priority::Medium, ms(0))));
    let ids: Vec<_> = (0..3).map(|_| queued(book.ask(&ask("a", Priority::Medium, ms(0))))).collect();
    let _ = book.pump(ms(0));
    assert!(book.give_up(ids[0]));
    let _ = book.pump(ms(10));
    assert_eq!(run(&mut book, ms(5_000)), [(ms(1_000), ids[1]), (ms(2_000), ids[2])]);
    assert!(book.expire(ids[1], ms(5_000)).is_none() && !book.give_up(ids[1]), "its wait is over");
    assert_eq!(book.views(0, ms(5_000))[0].stats.refused, [0; 4]);
    assert_eq!((book.next(), book.views(1, ms(5_000))[0].waiting), (None, 0));
}

#[test]
fn calls_at_a_time_are_counted_until_they_end() {
    let spec = LimitSpec { concurrency: Some(2), ..provider(rate(1, 1)) };
    let mut book = Book::new([LimitSpec { requests: None, ..spec }]);
    let first = passes(book.ask(&ask("a", Priority::Medium, ms(0))));
    let second = passes(book.ask(&ask("a", Priority::Medium, ms(0))));
    let waiter = queued(book.ask(&ask("a", Priority::Medium, ms(0))));
    assert!(book.pump(ms(0)).is_empty());
    assert_eq!(book.next(), None, "only an end makes room");
    book.end(&first);
    let woken = book.pump(ms(70));
    assert_eq!((woken.len(), woken[0].id, woken[0].waited), (1, waiter, Span::from_millis(70)));
    refused(book.ask(&ask("a", Priority::Low, ms(70))));
    book.undo(&second, ms(80));
    let _ = passes(book.ask(&ask("a", Priority::Low, ms(80))));
}

#[test]
fn tokens_are_reserved_at_the_most_and_settled() {
    let spec = LimitSpec { requests: None, tokens: Some(rate(100, 1_000)), ..provider(rate(1, 1)) };
    let mut book = Book::new([spec]);
    let tokens = |tokens, now| Ask { cost: Cost { tokens }, ..ask("a", Priority::Low, now) };
    let pass = passes(book.ask(&tokens(900, ms(0))));
    assert_eq!(refused(book.ask(&tokens(200, ms(0)))).retry_after, Span::from_secs(1));
    book.settle(&pass, Some(300), ms(0));
    let rest = passes(book.ask(&tokens(700, ms(0))));
    book.settle(&rest, Some(800), ms(0));
    assert_eq!(refused(book.ask(&tokens(50, ms(0)))).retry_after, Span::from_millis(1_500), "it used more than was reserved");
    assert_eq!(book.views(1, ms(0))[0].stats.overruns, 1);
    let whole = passes(book.ask(&tokens(5_000, ms(11_000))));
    book.undo(&whole, ms(11_000));
    let _ = passes(book.ask(&tokens(5_000, ms(11_000))));
    refused(book.ask(&tokens(1, ms(11_000))));
}

#[test]
fn a_provider_that_wants_to_be_left_alone_is() {
    let mut book =
        Book::new([provider(rate(10, 10)), LimitSpec { name: "c".into(), requests: None, concurrency: Some(9), ..provider(rate(1, 1)) }]);
    book.hold("p", ms(3_000), ms(0));
    let ids: Vec<_> = (0..3).map(|_| queued(book.ask(&ask("a", Priority::Medium, ms(0))))).collect();
    let _ = book.pump(ms(0));
    assert_eq!(run(&mut book, ms(9_000)), [(ms(3_000), ids[0]), (ms(3_100), ids[1]), (ms(3_200), ids[2])]);
    let other = Ask { who: Who { provider: "q", ..Who::default() }, ..ask("a", Priority::Low, ms(0)) };
    book.hold("p", ms(20_000), ms(9_000));
    let _ = passes(book.ask(&other));
}

#[test]
fn when_too_many_wait_who_matters_less_gives_way_then_who_has_the_most_places() {
    let wait = LimitSpec { on_limit: [OnLimit::Wait; 3], ..provider(rate(1, 1)) };
    let mut book = Book::new([wait]);
    let _ = passes(book.ask(&ask("a", Priority::Medium, ms(0))));
    let far = |tenant, priority| Ask { deadline: Time::from_nanos(i64::MAX), ..ask(tenant, priority, ms(0)) };
    let low = queued(book.ask(&far("a", Priority::Low)));
    let mut last = low;
    for _ in 1..MAX_WAITING {
        last = queued(book.ask(&far("flood", Priority::Medium)));
    }
    assert_eq!(refused(book.ask(&far("b", Priority::Low))).why, LimitWhy::QueueFull);
    queued(book.ask(&far("b", Priority::Medium)));
    let woken = book.pump(ms(0));
    assert_eq!((woken[0].id, woken[0].result.as_ref().unwrap_err().why), (low, LimitWhy::Displaced));
    queued(book.ask(&far("c", Priority::Medium)));
    assert_eq!(book.pump(ms(0))[0].id, last);
    assert_eq!(refused(book.ask(&far("flood", Priority::Medium))).why, LimitWhy::QueueFull);
    let big = Ask { bytes: MAX_BYTES, ..far("d", Priority::Low) };
    assert_eq!(refused(book.ask(&big)).why, LimitWhy::QueueFull);
}

#[test]
fn each_has_its_own_counter_unless_shared_and_idle_ones_are_forgotten() {
    let per_tenant = LimitSpec { name: "t".into(), requests: Some(rate(1, 1)), ..LimitSpec::default() };
    let all =
        LimitSpec { name: "all".into(), scope: LimitScope::Route, shared: true, requests: Some(rate(100, 5_000)), ..LimitSpec::default() };
    let named = LimitSpec {
        name: "n".into(),
        scope: LimitScope::Team,
        names: vec!["x".into()],
        requests: Some(rate(1, 1)),
        ..LimitSpec::default()
    };
    let mut book = Book::new([per_tenant, all, named]);
    let call = |tenant, team, now| Ask {
        who: Who { team, ..ask(tenant, Priority::Low, now).who },
        stage: Stage::Call,
        ..ask(tenant, Priority::Low, now)
    };
    let names: Vec<String> = (0..3_000).map(|n| format!("t{n}")).collect();
    for name in &names {
        let pass = passes(book.ask(&call(name, None, ms(0))));
        book.end(&pass);
        book.settle(&pass, None, ms(0));
    }
    let again = book.ask(&call("t7", None, ms(1)));
    assert_eq!(&*refused(again).unit, "t7");
    assert_eq!(book.views(2, ms(1)).iter().map(|view| view.counters).collect::<Vec<_>>(), [3_000, 1, 0]);
    let _ = passes(book.ask(&call("u1", Some("x"), ms(40_000))));
    assert_eq!(&*refused(book.ask(&call("u2", Some("x"), ms(40_000)))).limit, "n");
    let more: Vec<String> = (0..5_000).map(|n| format!("v{n}")).collect();
    for name in &more {
        let _ = book.ask(&call(name, Some("y"), ms(50_000)));
    }
    assert!(book.views(0, ms(50_000))[0].counters < 6_000, "those of the first second are forgotten");
}

#[test]
fn a_call_takes_of_all_its_limits_or_waits_before_the_first_without_room() {
    let second = LimitSpec { name: "minute".into(), ..provider(RateSpec { count: 60, period: Span::from_secs(60), burst: 3 }) };
    let mut book = Book::new([provider(rate(10, 1)), second]);
    let ids: Vec<_> = (0..8).map(|_| book.ask(&ask("a", Priority::Medium, ms(0)))).collect();
    assert!(matches!(ids[0], Verdict::Passed(_)));
    let _ = book.pump(ms(0));
    let went: Vec<i64> = run(&mut book, ms(20_000)).iter().map(|(at, _)| at.millis()).collect();
    assert_eq!(went, [100, 200, 1_000, 2_000, 3_000, 4_000, 5_000]);
}

/// A load on one limit: when each call comes, whose it is, how it matters, how long it waits, its tokens.
fn load() -> impl Strategy<Value = Vec<(i64, u8, u8, i64, u64)>> {
    proptest::collection::vec((0..400i64, 0..5u8, 0..3u8, 1..20_000i64, 1..400u64), 1..250)
}

const TENANTS: [&str; 5] = ["a", "b", "c", "d", "e"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever comes and whoever gives up: no window has more than rate x window + burst, nobody goes after its deadline, all are told, and
    /// what is left at the end is nothing.
    #[test]
    fn no_window_has_too_much_and_nobody_is_forgotten(
        load in load(),
        (requests, burst, tokens) in (1..40u64, 1..30u64, 200..4_000u64),
        gives_up in proptest::collection::vec(any::<bool>(), 250),
    ) {
        let bursts = (rate(requests, burst), rate(tokens, tokens));
        let spec = LimitSpec { tokens: Some(bursts.1), on_limit: [OnLimit::Wait, OnLimit::Wait, OnLimit::Refuse], ..provider(bursts.0) };
        let mut book = Book::new([spec]);
        let mut waiting = BTreeMap::new();
        let mut went: Vec<(Time, u64)> = Vec::new();
        let mut now = ms(0);
        let mut told = 0;
        let settle = |book: &mut Book, woken: Vec<Woken>, at: Time, waiting: &mut BTreeMap<WaiterId, (Time, u64)>, went: &mut Vec<(Time, u64)>| {
            let count = woken.len();
            for woken in woken {
                let (deadline, tokens) = waiting.remove(&woken.id).expect("told once");
                if let Ok(pass) = woken.result {
                    assert!(at <= deadline);
                    went.push((at, tokens));
                    book.end(&pass);
                    book.settle(&pass, None, at);
                }
            }
            count
        };
        for (n, &(pause, tenant, priority, patience, tokens)) in load.iter().enumerate() {
            let tokens = tokens.min(bursts.1.burst);
            let then = now + Span::from_millis(pause as u64);
            while let Some(next) = book.next().filter(|next| *next <= then) {
                let woken = book.pump(next);
                told += settle(&mut book, woken, next, &mut waiting, &mut went);
            }
            now = then;
            let deadline = now + Span::from_millis(patience as u64);
            let priority = Priority::ALL[usize::from(priority)];
            let asked = Ask { cost: Cost { tokens }, deadline, ..ask(TENANTS[usize::from(tenant)], priority, now) };
            match book.ask(&asked) {
                Verdict::Passed(pass) => {
                    went.push((now, tokens));
                    book.end(&pass);
                    book.settle(&pass, None, now);
                    told += 1;
                }
                Verdict::Queued(id) => drop(waiting.insert(id, (deadline, tokens))),
                Verdict::Refused(_) => told += 1,
                Verdict::Blocked(_) => unreachable!(),
            }
            let woken = book.pump(now);
            told += settle(&mut book, woken, now, &mut waiting, &mut went);
            if gives_up[n] && let Some((&id, _)) = waiting.iter().next() {
                prop_assert!(book.give_up(id));
                waiting.remove(&id);
                told += 1;
                let woken = book.pump(now);
                told += settle(&mut book, woken, now, &mut waiting, &mut went);
            }
        }
        while let Some(next) = book.next() {
            let woken = book.pump(next);
            told += settle(&mut book, woken, next, &mut waiting, &mut went);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?}");
        prop_assert_eq!(told, load.len());
        for from in 0..went.len() {
            let (mut calls, mut used) = (0, 0);
            for &(at, tokens) in &went[from..] {
                (calls, used) = (calls + 1, used + tokens);
                let window = at.since(went[from].0).as_nanos();
                prop_assert!(calls * 1_000_000_000 <= window * u128::from(requests) + u128::from(burst) * 1_000_000_000);
                prop_assert!(u128::from(used) * 1_000_000_000 <= window * u128::from(bursts.1.count) + u128::from(bursts.1.burst) * 1_000_000_000);
            }
        }
    }

    /// While somebody waits all the time, all of the rate is used; and tenants with waiters all the time have the same share, however many
    /// calls one of them sends.
    #[test]
    fn all_of_the_rate_is_used_and_shared(
        (count, burst) in (1..100u64, 1..100u64),
        flood in 1..60u64,
    ) {
        let mut book = Book::new([provider(rate(count, burst))]);
        let mut tenants: BTreeMap<WaiterId, &str> = BTreeMap::new();
        let mut served: BTreeMap<&str, u64> = BTreeMap::new();
        let far = |tenant, now| Ask { deadline: Time::from_nanos(i64::MAX), ..ask(tenant, Priority::Medium, now) };
        let enough = count * 60 + burst;
        for tenant in ["flood", "b", "c"] {
            let calls = (if tenant == "flood" { enough * flood / 10 } else { 0 }).max(enough).min(1_500);
            for _ in 0..calls {
                match book.ask(&far(tenant, ms(0))) {
                    Verdict::Queued(id) => drop(tenants.insert(id, tenant)),
                    _ => *served.entry("burst").or_default() += 1,
                }
            }
        }
        let _ = book.pump(ms(0));
        let until = ms(if count > 40 { 10_000 } else { 30_000 });
        for (_, id) in run(&mut book, until) {
            *served.entry(tenants[&id]).or_default() += 1;
        }
        let all: u64 = served.values().sum();
        prop_assert_eq!(all, until.millis() as u64 / 1_000 * count + burst);
        let share = |name| served.get(name).copied().unwrap_or_default();
        prop_assert!(share("flood").abs_diff(share("b")) <= 1 && share("b").abs_diff(share("c")) <= 1, "{served:?}");
    }
}

#[test]
fn a_tenant_is_forgotten_where_nothing_would_be_given_anew() {
    let spec = |name: &str, scope| LimitSpec { name: name.into(), scope, requests: Some(rate(1, 2)), ..LimitSpec::default() };
    let mut book = Book::new([spec("t", LimitScope::Tenant), spec("r", LimitScope::Route)]);
    let at = |tenant, now| Ask {
        stage: Stage::Call,
        who: Who { tenant, route: "a", provider: "p", ..Who::default() },
        ..ask(tenant, Priority::Low, now)
    };
    for tenant in ["a", "b"] {
        let pass = passes(book.ask(&at(tenant, ms(0))));
        book.end(&pass);
        book.settle(&pass, None, ms(0));
    }
    let units = |book: &mut Book, now| {
        let of = |view: LimitView| view.busiest.into_iter().map(move |unit| format!("{} {}", view.spec.name, unit.unit));
        let mut units: Vec<String> = book.views(9, now).into_iter().flat_map(of).collect();
        units.sort();
        units
    };
    assert_eq!(book.forget_tenant("a", ms(500)), 1);
    assert_eq!(units(&mut book, ms(500)), ["r a", "t a", "t b"], "some of its rate is used");
    assert_eq!(book.forget_tenant("a", ms(60_000)), 0);
    assert_eq!(units(&mut book, ms(60_000)), ["r a", "t b"], "a route of that name is no tenant");
}

#[test]
fn a_restart_gives_nothing_a_second_time() {
    let specs =
        || [provider(rate(10, 50)), LimitSpec { name: "t".into(), tokens: Some(rate(5, 500)), requests: None, ..LimitSpec::default() }];
    let mut book = Book::new(specs());
    let ask = |now| ask("a", Priority::Low, now);
    let takes = |book: &mut Book, now| {
        std::iter::repeat_with(|| book.ask(&ask(now))).take_while(|verdict| matches!(verdict, Verdict::Passed(_))).count()
    };
    assert_eq!(takes(&mut book, ms(1_000)), 50);
    let _ = passes(book.ask(&Ask { stage: Stage::Call, cost: Cost { tokens: 400 }, ..ask(ms(1_000)) }));
    book.hold("p", ms(2_000), ms(1_000));
    let saved = book.saved(ms(1_500));
    let json = serde_json::to_string(&saved).unwrap();

    let mut later = Book::new(specs());
    later.restore(serde_json::from_str::<Vec<SavedCounter>>(&json).unwrap(), Span::from_millis(200), ms(0));
    assert_eq!(takes(&mut later, ms(0)), 0, "the provider wants to be left alone for 300 ms yet");
    let tokens = later.views(1, ms(0))[1].busiest[0].tokens.unwrap().0;
    assert_eq!(tokens, 100 + 5 * 7 / 10, "100 were left, and some came since");
    assert!(takes(&mut later, ms(300)) <= 1 && takes(&mut later, ms(1_300)) <= 11);

    let mut other = Book::new([provider(rate(10, 50))]);
    other.restore(saved, Span::from_secs(3_600), ms(0));
    assert_eq!(takes(&mut other, ms(0)), 50, "an hour later all is there again; a limit that is gone is left out");
}
