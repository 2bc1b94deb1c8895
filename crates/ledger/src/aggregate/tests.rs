use std::sync::Arc;

use farthing_types::{By, Money, Outcome, Purpose, RouteName, SlaOutcome, Span, UncachedReason};

use super::*;
use crate::cost::{CostRecord, Paid, Served};

fn money(usd: &str) -> Money {
    usd.parse().unwrap()
}

fn settled<'a>(route: &'a RouteName, tenant: &'a Tenant, outcome: Outcome, full: Option<Money>) -> RequestSettled<'a> {
    RequestSettled {
        route,
        tenant,
        outcome,
        uncached: (outcome == Outcome::Lead).then_some(UncachedReason::Cold),
        cost: CostRecord::settle(outcome.into(), Paid { full, attempts: full }),
        latency: Some(Span::from_millis(20)),
        overhead: Some(Span::from_micros(9)),
        sla: (outcome == Outcome::Lead).then_some(SlaOutcome::Met),
    }
}

#[test]
fn a_bill_is_what_was_paid_for_whatever_reason() {
    let (aggregates, route, tenant): (_, RouteName, Tenant) = (Aggregates::default(), "geo".into(), "acme".into());
    let price = Some(money("0.002"));
    for outcome in [Outcome::Lead, Outcome::Hit, Outcome::Hit, Outcome::Follow, Outcome::Stale] {
        aggregates.request(&settled(&route, &tenant, outcome, price));
    }
    for purpose in [Purpose::User, Purpose::Refresh] {
        aggregates.call(&CallSettled { route: &route, tenant: &tenant, purpose, attempts: 1, cost: price, unkept: None });
    }
    let snapshot = aggregates.snapshot();
    let geo = &snapshot.routes["geo"];
    assert_eq!((geo.requests, geo.base_usd, geo.bill_usd), (5, money("0.01"), money("0.004")));
    assert_eq!((geo.hit_ratio(), geo.saving_share()), (Some(0.8), Some(0.6)));
    assert_eq!(geo.saved["l1"], Tally { count: 2, usd: money("0.004"), unpriced: 0 });
    assert_eq!((geo.saved["dedupe"].usd, geo.saved["stale"].usd), (money("0.002"), money("0.002")));
    assert_eq!(geo.uncached["cold"], Tally { count: 1, usd: money("0.002"), unpriced: 0 });
    assert_eq!((geo.calls["refresh"].usd, geo.attempts, geo.unpriced), (money("0.002"), 2, 0));
    assert_eq!(geo.overhead.quantile(0.99), Some(Span::from_nanos(9_216)));
    assert_eq!((&snapshot.total, snapshot.tenants["acme"].bill.usd), (geo, money("0.004")));
}

#[test]
fn unpriced_is_counted_and_never_zero_by_accident() {
    let (aggregates, route, tenant): (_, RouteName, Tenant) = (Aggregates::default(), "r".into(), "t".into());
    aggregates.request(&settled(&route, &tenant, Outcome::Lead, None));
    aggregates.request(&settled(&route, &tenant, Outcome::Hit, None));
    aggregates.call(&CallSettled {
        route: &route,
        tenant: &tenant,
        purpose: Purpose::User,
        attempts: 2,
        cost: None,
        unkept: Some(UncachedReason::SoftError),
    });
    let total = aggregates.snapshot().total;
    assert_eq!((total.unpriced, total.base_usd, total.saving_share()), (3, Money::ZERO, None));
    assert_eq!(total.saved["l1"], Tally { count: 1, usd: Money::ZERO, unpriced: 1 });
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let aggregates = Aggregates::new(2, 1);
    for name in ["a", "b", "c", "d", "a"] {
        let (route, tenant): (RouteName, Tenant) = (name.into(), name.into());
        aggregates.request(&settled(&route, &tenant, Outcome::Hit, Some(money("1"))));
    }
    let snapshot = aggregates.snapshot();
    assert_eq!(snapshot.routes.keys().map(AsRef::as_ref).collect::<Vec<_>>(), [OTHER, "a", "b"]);
    assert_eq!((snapshot.routes["a"].requests, snapshot.routes[OTHER].requests), (2, 2));
    assert_eq!((snapshot.tenants["a"].base.count, snapshot.tenants[OTHER].base.count), (2, 3));
    assert_eq!((snapshot.total.requests, snapshot.total.base_usd), (5, money("5")));
}

#[test]
fn deciders_and_verdicts() {
    let (aggregates, route): (_, RouteName) = (Aggregates::default(), "r".into());
    for by in [By::Model(3), By::Model(4), By::Rule("static"), By::Fallback("no-library")] {
        aggregates.decision(&route, &by);
    }
    aggregates.verdicts(&route, 200, 1);
    let total = aggregates.snapshot().total;
    assert_eq!((total.decisions["model"], total.by_model_share()), (2, Some(0.5)));
    assert_eq!((total.checked, total.stale), (200, 1));
}

#[test]
fn nothing_is_lost_between_threads() {
    let aggregates = Arc::new(Aggregates::default());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let aggregates = &aggregates;
            scope.spawn(move || {
                let (route, tenant): (RouteName, Tenant) = (format!("r{}", worker % 2).into(), "t".into());
                for _ in 0..500 {
                    aggregates.request(&settled(&route, &tenant, Outcome::Lead, Some(money("0.001"))));
                }
            });
        }
    });
    let snapshot = aggregates.snapshot();
    assert_eq!((snapshot.routes["r0"].requests, snapshot.routes["r1"].requests), (1_000, 1_000));
    assert_eq!((snapshot.total.base_usd, snapshot.total.latency.count), (money("2"), 2_000));
}

#[test]
fn a_snapshot_is_json_with_money_as_text() {
    let (aggregates, route, tenant): (_, RouteName, Tenant) = (Aggregates::default(), "r".into(), "t".into());
    aggregates.request(&settled(&route, &tenant, Outcome::Lead, Some(money("0.001"))));
    let json = serde_json::to_value(aggregates.snapshot()).unwrap();
    assert_eq!(json["routes"]["r"]["outcomes"]["lead"]["usd"], "0.001");
    assert_eq!(json["total"]["requests"], 1);
}

#[test]
fn who_pays_and_who_is_credited() {
    let (full, third) = (Some(money("0.003")), Some(money("0.001")));
    let record = |served, attempts| CostRecord::settle(served, Paid { full, attempts });
    let hit = record(Served::Hit, None);
    assert_eq!((hit.base, hit.cost, hit.saved, hit.by.unwrap().as_str()), (full, Some(Money::ZERO), full, "l1"));
    let lead = record(Served::Lead, full);
    assert_eq!((lead.base, lead.cost, lead.saved, lead.by), (full, full, Some(Money::ZERO), None));
    let confirmed = record(Served::Revalidated, third);
    assert_eq!((confirmed.cost, confirmed.saved, confirmed.by.unwrap().as_str()), (third, Some(money("0.002")), "revalidated"));
    // Revalidation that costs as much as a full answer saves nothing and claims nothing.
    assert_eq!(record(Served::Revalidated, full).by, None);
    // A retry that was charged is a loss, and shown as one.
    let retried = record(Served::Lead, Some(money("0.006")));
    assert_eq!(retried.saved, Some(money("-0.003")));
    assert_eq!(record(Served::Follower, None).by.unwrap().as_str(), "dedupe");
    assert_eq!(record(Served::Refused, None).saved, Some(Money::ZERO));
    assert_eq!(record(Served::Failed, third), CostRecord { base: third, cost: third, saved: Some(Money::ZERO), by: None });
    let unpriced = CostRecord::settle(Served::Hit, Paid::default());
    assert_eq!((unpriced.base, unpriced.cost, unpriced.saved), (None, Some(Money::ZERO), None));
}
