//! People ask because something changed: then the requests for a copy tell that it has.

use farthing_models::Alias;
use farthing_types::{Clock, Span};
use rand::Rng;

use crate::world::{KEYS, START, World, bundle};

/// Readers that a change draws, the mean of their delays, and seconds between two other reads of a key.
const DRAWN: u64 = 3;
const DELAY: f64 = 180.0;
const OTHERS: f64 = 1_200.0;
const DAY: Span = Span::from_secs(86_400);

/// Moments of reads of two days, in order; of each change `drawn` more than of itself.
fn reads(world: &mut World, drawn: u64) -> Vec<(f64, u64)> {
    let end = 2.0 * DAY.as_secs_f64();
    let mut all = Vec::new();
    for key in 0..KEYS {
        let mut exponential = |mean: f64| -(1.0 - world.rng.random::<f64>()).ln() * mean;
        let others = std::iter::successors(Some(exponential(OTHERS)), |at| Some(at + exponential(OTHERS))).take_while(|at| *at < end);
        all.extend(others.map(|at| (at, key)));
        for change in world.documents.changes(key).filter(|at| *at < end) {
            all.extend((0..drawn).map(|_| (change + exponential(DELAY), key)));
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// What came of the second of two days: answers from the cache, calls because of a doubt, and those of them that found a change.
async fn played(drawn: u64) -> (u64, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let champion = bundle(dir.path(), 1.0);
    let mut world = World::new(dir.path(), 5, |_| ());
    world.promote(champion, Alias::Champion);
    world.patient = true;
    let (mut hits, mut doubted, mut found) = (0, 0, 0);
    let mut seen = [0; KEYS as usize];
    for (at, key) in reads(&mut world, drawn) {
        let at = START + Span::from_secs_f64(at);
        world.clock.advance(at.since(world.clock.now()));
        let status = world.read(key).await;
        let version = world.documents.version(key, world.clock.now());
        if at.since(START) > DAY {
            hits += u64::from(status.contains("; hit"));
            doubted += u64::from(status.contains("doubted"));
            found += u64::from(status.contains("doubted") && seen[key as usize] != version);
        }
        if !status.contains("; hit") {
            seen[key as usize] = version;
        }
    }
    (hits, doubted, found)
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_called_for_again_when_its_requests_say_that_it_has_changed() {
    let (hits, doubted, found) = played(DRAWN).await;
    assert!(doubted > 50 && hits > doubted, "{hits} {doubted} {found}");
    // What a call costs is half of what a stale answer does.
    assert!(found * 2 > doubted, "{hits} {doubted} {found}");
    let (hits, doubted, _) = played(0).await;
    assert!(doubted == 0 && hits > 50, "{hits} {doubted}");
}
