//! Acceptance 8: change rates jump thirtyfold on two thirds of the keys at day 8, and nobody touches anything.

use farthing_models::{Alias, Kind, Order};
use farthing_tests::skip::skip;
use farthing_types::Clock;

use crate::program::trainer;
use crate::world::{BUDGET, DAY, HOUR, Shape, Sums, World};

const FULL: Shape = Shape { seed: 8, keys: 60, days: 21, jump: 8, times: 30.0, read: 300.0, change: 43_200.0 };
/// How long is compared, from day 11 on.
const COMPARED: u32 = 3;

/// Lives until a day, the trainer looking every six hours.
async fn live(world: &mut World, until_day: u64) {
    while world.day() < until_day as f64 - 1e-6 {
        let before = world.sums();
        world.pass(6 * HOUR).await;
        world.train();
        let (sums, candidate) = (world.sums().since(before), world.inside.candidates().into_iter().next());
        println!(
            "day {:.2}: {:.0} calls of {} reads, {:.2} % stale, champion {:?}, {:?}",
            world.day(),
            sums.calls,
            sums.reads,
            100.0 * sums.stale_share(),
            world.champion(),
            candidate.map(|view| (view.version, view.report.stage, view.report.share, view.report.money))
        );
    }
}

fn report(name: &str, sums: Sums) {
    println!("{name}: {:.0} calls of {} reads, {:.3} % stale", sums.calls, sums.reads, 100.0 * sums.stale_share());
}

#[tokio::test(start_paused = true)]
#[ignore = "twenty days of 17,000 reads; make simulate"]
async fn thirty_times_the_changes_and_nobody_touches_anything() {
    let Some(trainer) = trainer() else { return skip("the autopilot's twenty days: no farthing-train (make trainer)") };
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), &trainer, &FULL, |config| config.models.canary_share = 0.2);
    live(&mut world, 11).await;
    assert!(world.history().iter().any(|line| line.contains("by autopilot")), "{:#?}", world.history());

    // From here on two worlds with the same past, both restarted: nobody touches the one; in the other a model is in force that has learned from the days since the jump alone.
    let fresh_dir = tempfile::tempdir().unwrap();
    let (mut ours, mut fresh) = world.fork(fresh_dir.path()).await;
    let version = fresh.fit_days(8..11);
    let order = Order { force: true, ..Order::new(fresh.clock.now(), "operator", "fresh") };
    fresh.inside.models().promote(Kind::Ttl, version, Alias::Champion, order).unwrap();
    let of_fresh = fresh.sums();
    fresh.pass(DAY * COMPARED).await;
    let (of_fresh, of_ours) = (fresh.sums().since(of_fresh), ours.sums());
    live(&mut ours, u64::from(11 + COMPARED)).await;
    let of_ours = ours.sums().since(of_ours);
    report("autopilot, days 11 to 14", of_ours);
    report("freshly trained, the same", of_fresh);
    live(&mut ours, 20).await;
    ours.history().iter().for_each(|line| println!("{line}"));
    // By read: the reads of the two are drawn alike, and are not quite as many.
    let each = |sums: Sums| sums.calls / sums.reads;
    assert!(each(of_ours) <= 1.05 * each(of_fresh), "{of_ours:?} {of_fresh:?}");
    assert!(of_ours.stale_share() <= BUDGET, "{of_ours:?}");
}

const SHORT: Shape = Shape { seed: 3, keys: 50, days: 6, jump: 9, times: 30.0, read: 360.0, change: 43_200.0 };

#[tokio::test(start_paused = true)]
async fn what_the_log_teaches_is_in_force_within_days_and_under_a_freeze_nothing_changes() {
    let Some(trainer) = trainer() else { return skip("the autopilot's first days: no farthing-train (make trainer)") };
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new(dir.path(), &trainer, &SHORT, |config| config.models.canary_share = 0.5);
    (world.least, world.every) = ("1d", "6h");
    world.pass(DAY + HOUR).await;
    let first = world.sums();
    // Frozen: nothing is trained, nothing begins.
    assert!(world.inside.freeze(true, "a launch").unwrap());
    let said = world.train();
    assert!(said.contains("frozen: ") && said.contains("a launch") && !dir.path().join("models/ttl").exists(), "{said}");
    assert!(world.inside.freeze(false, "it is over").unwrap());
    while world.champion().is_none() && world.day() < 5.0 {
        world.train();
        world.pass(6 * HOUR).await;
    }
    let history = world.history();
    let promoted = |line: &String| line.contains("promote champion -> 1 by autopilot: not more than 5 % dearer: cost -");
    assert!(world.champion() == Some(1) && history.iter().any(promoted), "{history:#?} {:#?}", world.inside.candidates());
    let before = world.sums();
    world.pass(6 * HOUR).await;
    let after = world.sums().since(before);
    report("under the rule", first);
    report("six hours under the champion", after);
    println!("{history:#?}");
    assert!(after.calls / after.reads < 0.5 * first.calls / first.reads && after.stale_share() <= 1.5 * BUDGET, "{first:?} {after:?}");
}
