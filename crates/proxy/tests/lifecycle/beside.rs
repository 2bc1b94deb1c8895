use std::sync::Arc;

use farthing_config::{Config, ExperimentConfig, VariantConfig};
use farthing_experiment::Order;
use farthing_models::Alias;
use farthing_policy::watch::Stage;
use farthing_types::{Money, Overrides, Span};

use crate::world::{HOUR, KEYS, World, settled};

fn experiment(overrides: Overrides) -> ExperimentConfig {
    let variant = |name: &str, overrides| VariantConfig { name: name.into(), share: 0.5, overrides };
    ExperimentConfig {
        name: "e".into(),
        hypothesis: "one is better".into(),
        variants: vec![variant("as-it-is", Overrides::default()), variant("other", overrides)],
        window: Span::from_secs(3_600),
        slice: 1.0,
        ramp: vec![1.0],
        start: "draft",
        ..ExperimentConfig::default()
    }
}

fn beside(overrides: Overrides) -> impl FnOnce(&mut Config) {
    move |config| {
        (config.models.canary_share, config.models.shadow_labels, config.models.autopilot) = (0.5, 50, true);
        config.experiments = vec![experiment(overrides)];
    }
}

fn order(world: &World, order: &Order) {
    world.inside.order_experiment("e", order, "a test").unwrap();
}

async fn until_it_acts(world: &mut World) {
    for _ in 0..48 {
        world.pass(HOUR / 4).await;
        if world.candidate().unwrap().acts {
            return;
        }
    }
    panic!("{:?}", world.candidate());
}

/// Keys whose answers a challenger has chosen the TTL of.
async fn of_challenger(world: &mut World) -> usize {
    let mut found = 0;
    for key in 0..KEYS {
        world.read(key).await;
        found += usize::from(world.read(key).await.contains("table:2"));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_canary_waits_for_an_experiment_on_ttls_says_so_and_goes_on_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let ttl = Overrides { ttl: Some("fixed:60".into()), ..Overrides::default() };
    let (mut world, candidate) = settled(dir.path(), 7, 1.2, beside(ttl)).await;
    order(&world, &Order::Start);
    world.promote(candidate, Alias::Challenger);
    world.pass(12 * HOUR).await;
    world.inside.control();
    let view = world.candidate().unwrap();
    assert_eq!((view.report.fills, view.report.stage, view.acts), (0, Stage::Shadow, false), "it is not asked");
    let left = view.left.unwrap();
    let said: Vec<_> = view.waits.iter().map(|(route, experiment)| (&**route, &**experiment)).collect();
    assert_eq!(said, [("docs", "e")]);
    world.pass(12 * HOUR).await;
    world.inside.control();
    assert_eq!(world.candidate().unwrap().left, Some(left), "its time does not pass");

    order(&world, &Order::Stop);
    until_it_acts(&mut world).await;
    world.pass(HOUR).await;
    assert!(world.candidate().unwrap().waits.is_empty() && of_challenger(&mut world).await > 0);
}

/// Who begins last waits or makes wait; none sees the other's keys as its own.
#[tokio::test(start_paused = true)]
async fn an_experiment_that_begins_beside_a_canary_makes_it_wait_and_nothing_of_it_counts_for_the_canary() {
    let dir = tempfile::tempdir().unwrap();
    let ttl = Overrides { base_ttl_ms: Some(20_000), ..Overrides::default() };
    let (mut world, candidate) = settled(dir.path(), 7, 1.2, beside(ttl)).await;
    world.promote(candidate, Alias::Challenger);
    until_it_acts(&mut world).await;
    world.pass(30 * HOUR).await;
    world.inside.control();
    let before = world.candidate().unwrap();
    assert!(before.report.money.units.iter().all(|units| *units > 0), "{before:?}");
    order(&world, &Order::Start);
    world.pass(30 * HOUR).await;
    world.inside.control();
    let after = world.candidate().unwrap();
    assert_eq!((after.report.money.units, after.waits.len()), (before.report.money.units, 1), "what experiments decide is not its own");
    assert_eq!(of_challenger(&mut world).await, 0);
    order(&world, &Order::Stop);
    world.pass(30 * HOUR).await;
    world.inside.control();
    let resumed = world.candidate().unwrap();
    assert!(resumed.report.money.units > after.report.money.units && resumed.waits.is_empty(), "{resumed:?}");
}

#[tokio::test(start_paused = true)]
async fn beside_an_experiment_that_leaves_copies_alone_a_canary_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, candidate) = settled(dir.path(), 7, 1.2, |config| {
        Arc::make_mut(&mut config.routes[0]).price_wait = Money::from_nanos(1);
        beside(Overrides { prefetch: Some(false), ..Overrides::default() })(config);
    })
    .await;
    order(&world, &Order::Start);
    world.promote(candidate, Alias::Challenger);
    until_it_acts(&mut world).await;
    world.pass(30 * HOUR).await;
    world.inside.control();
    let view = world.candidate().unwrap();
    assert!(view.waits.is_empty() && view.report.money.units.iter().all(|units| *units > 0), "{view:?}");
    let deciding = of_challenger(&mut world).await;
    assert!((1..KEYS as usize).contains(&deciding), "{deciding}");
    let report = world.inside.experiment("e").unwrap().report;
    assert!(report.variants.iter().all(|variant| variant.unit_windows > 0), "and so does the experiment: {report:?}");
}
