use std::sync::Arc;

use farthing_config::{Config, Provider};
use farthing_models::{Alias, Store, StoreOptions};
use farthing_policy::watch::audit::interval;
use farthing_proxy::Inside;
use farthing_types::{Clock, Money, Rate, Span};
use farthing_upstream::{Origin, UpstreamSpec};

use crate::world::{HOUR, PRICE, Wire, World, bundle};

fn audited(share: f64) -> impl FnOnce(&mut Config) {
    move |config| {
        config.audit.share = share;
        config.audit.per_day = PRICE.times(1_000);
    }
}

fn provider(config: &mut Config, change: impl FnOnce(&mut Provider)) {
    let mut provider = (*config.providers[0]).clone();
    change(&mut provider);
    config.providers[0] = Arc::new(provider);
}

/// So many hours under a champion that leaves all to the live statistics.
async fn hours(many: u32, change: impl FnOnce(&mut Config)) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let champion = bundle(dir.path(), 1.0);
    let mut world = World::new(dir.path(), 21, |config| {
        config.models.drift_acts = false;
        change(config);
    });
    world.promote(champion, Alias::Champion);
    world.pass(many * HOUR).await;
    (world, dir)
}

fn calls(world: &World, purpose: &str) -> (u64, Money) {
    world.inside.totals().routes["docs"].calls.get(purpose).map_or((0, Money::ZERO), |tally| (tally.count, tally.usd))
}

#[tokio::test(start_paused = true)]
async fn the_stale_share_is_found_is_paid_under_its_own_line_and_has_an_interval() {
    let (world, _dir) = hours(24, audited(0.1)).await;
    let audit = world.inside.audits()[0].audit;
    let (checked, stale) = audit.total;
    let hits = world.inside.totals().routes["docs"].outcomes["hit"].count;
    let truth = world.stale as f64 / hits as f64;
    let (low, high) = interval(audit.total);
    println!("{stale} of {checked} audited, {low:.3} to {high:.3}; in truth {truth:.3} of {hits} hits");
    assert!(low <= truth && truth <= high, "{low} {truth} {high}");
    assert!((checked as f64 / hits as f64 - 0.1).abs() < 0.03, "{checked} of {hits}");
    assert_eq!(calls(&world, "audit"), (checked, PRICE.times(i64::try_from(checked).unwrap())));
    let all: Money = world.inside.totals().routes["docs"].calls.values().map(|tally| tally.usd).sum();
    assert_eq!(all, world.inside.totals().routes["docs"].bill_usd, "it is in the bill");
    assert!((audit.scale - 1.0).abs() < f64::EPSILON, "the budget is kept");
}

#[tokio::test(start_paused = true)]
async fn the_days_money_ends_it_and_terms_forbid_it() {
    let (mut world, _dir) = hours(24, |config| (config.audit.share, config.audit.per_day) = (0.5, PRICE.times(20))).await;
    // A day has passed that began within another.
    assert!(calls(&world, "audit").0 <= 40 && calls(&world, "audit").0 >= 20, "{:?}", calls(&world, "audit"));
    world.pass(6 * HOUR).await;
    assert!(calls(&world, "audit").0 >= 40, "the next one has its own");
    for forbid in [
        |config: &mut Config| provider(config, |provider| provider.terms.prefetch = false),
        |config: &mut Config| config.audit.share = 0.0,
        |config: &mut Config| provider(config, |provider| provider.prices = None),
    ] {
        let (world, _dir) = hours(3, |config| {
            audited(0.5)(config);
            forbid(config);
        })
        .await;
        assert_eq!((calls(&world, "audit").0, world.inside.audits().len()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn conditions_are_asked_where_they_are_cheaper() {
    let free = |config: &mut Config| {
        audited(0.5)(config);
        provider(config, |provider| provider.prices.as_mut().unwrap().not_modified = Some(Rate::per_unit(Money::ZERO)));
    };
    for (cheaper, change) in [(true, &free as &dyn Fn(&mut Config)), (false, &|config: &mut Config| audited(0.5)(config))] {
        let (world, _dir) = hours(8, change).await;
        let (checked, paid) = calls(&world, "audit");
        let changed = world.inside.audits()[0].audit.total.1;
        let wanted = if cheaper { changed } else { checked };
        assert_eq!(paid, PRICE.times(i64::try_from(wanted).unwrap()), "{cheaper}: {changed} of {checked} changed");
    }
}

/// TTLs that are ten times too long for the budget are cut, also those of answers that are stored already, and stay so over a restart.
#[tokio::test(start_paused = true)]
async fn a_route_beyond_its_budget_is_tightened_at_once() {
    let slack = |config: &mut Config| {
        audited(0.3)(config);
        let mut route = (*config.routes[0]).clone();
        (route.price_stale, route.stale_budget, route.ttl) = (None, 0.05, farthing_config::TtlBy::Rule);
        route.base_ttl = Span::from_secs(3_600);
        config.routes[0] = Arc::new(route);
    };
    let (mut world, _dir) = hours(24, slack).await;
    let audit = world.inside.audits()[0].audit;
    assert!(audit.scale <= 0.25, "{audit:?}");
    let before = (world.stale, world.reads);
    world.pass(12 * HOUR).await;
    let share = (world.stale - before.0) as f64 / (world.reads - before.1) as f64;
    println!("stale {share:.3} at a scale of {}", world.inside.audits()[0].audit.scale);
    assert!(share <= 0.08, "{share}");

    world.inside.keep_audits();
    let scale = world.inside.audits()[0].audit.scale;
    let client = |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(world.documents.clone(), world.clock.clone())) };
    let store = Store::open(world.config.models.dir.clone(), StoreOptions::default());
    let again = Inside::new(&world.config, world.clock.clone(), store, &client).unwrap();
    assert!((again.audits()[0].audit.scale - scale).abs() < 1e-12);
    assert!(world.clock.now() > crate::world::START);
}
