//! Acceptance 8.

use farthing_models::{Alias, Kind, Order};
use farthing_tests::skip::skip;
use farthing_types::Clock;

use crate::world::{BUDGET, DAY, HOUR, Shape, Sums, World, trainer};

const FULL: Shape = Shape { seed: 8, keys: 60, days: 21, jump: 8, times: 30.0, read: 300.0, change: 43_200.0 };

/// Lives through some hours, the trainer looking every six.
async fn live(world: &mut World, until_day: u64) {
    while world.day() < until_day as f64 - 1e-6 {
        let before = world.sums();
        world.pass(6 * HOUR).await;
        world.train();
        let (sums, candidate) = (world.sums().since(before), world.inside.candidates().into_iter().next());
        println!(
            "day {:.2}: {} calls of {} reads, {:.2} % stale, champion {:?}, {:?}",
            world.day(),
            sums.calls,
            sums.reads,
            100.0 * sums.stale_share(),
            world.champion(),
            candidate.map(|view| (
                view.version,
                view.report.stage,
                view.report.share,
                view.report.money.units,
                view.report.money.ratio,
                view.report.money.within
            ))
        );
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "twenty days of 35,000 reads, twice"]
async fn thirty_times_the_changes_and_nobody_touches_anything() {
    let Some(trainer) = trainer() else { return skip("the autopilot's twenty days: no farthing-train (make trainer)") };
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), &trainer, &FULL, |config| config.models.canary_share = 0.2);
    live(&mut world, 11).await;
    let at_11 = world.sums();
    live(&mut world, 14).await;
    let ours = world.sums().since(at_11);
    world.history().iter().for_each(|line| println!("{line}"));

    // The same world; on day 11 an operator puts a model in force that was made of the days since the jump.
    let fresh_dir = tempfile::tempdir().unwrap();
    let mut fresh = World::new(fresh_dir.path(), &trainer, &FULL, |config| config.models.canary_share = 0.2);
    live(&mut fresh, 11).await;
    let fresh_sums = put_fresh_in_force(&mut fresh).await;
    report("autopilot", ours);
    report("fresh", fresh_sums);
    assert!(ours.calls <= 1.05 * fresh_sums.calls, "{ours:?} {fresh_sums:?}");
    assert!(ours.stale_share() <= BUDGET, "{ours:?}");
}

fn report(name: &str, sums: Sums) {
    println!("{name}: {} calls of {} reads, {:.3} % stale", sums.calls, sums.reads, 100.0 * sums.stale_share());
}

async fn put_fresh_in_force(world: &mut World) -> Sums {
    world.inside.flush_log().unwrap();
    let before = world.sums();
    let logs = (8..11).map(|day| {
        let (year, month, day) = farthing_types::civil(crate::world::START.nanos().div_euclid(86_400_000_000_000) + day);
        format!("date={year:04}-{month:02}-{day:02}")
    });
    let only: Vec<_> = logs.collect();
    let copy = world.copy_logs(&only);
    let said =
        world.trainer(&["fit", "ttl", "--force", "--logs", &copy, "--out", "models", "--stale-budget", &BUDGET.to_string(), "--json"]);
    let version: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let version = u32::try_from(version["published"]["version"].as_u64().expect(&said)).unwrap();
    let order = Order { force: true, ..Order::new(world.clock.now(), "operator", "fresh") };
    world.inside.models().promote(Kind::Ttl, version, Alias::Champion, order).unwrap();
    world.pass(3 * DAY).await;
    world.sums().since(before)
}
