//! Refresh-ahead where a wait has a worth: hot keys are renewed before they expire, others are not.

use farthing_types::{Money, Span};

use crate::world::{Far, World, config, each};

struct Seen {
    waits: u64,
    calls: usize,
    refreshes: u64,
}

/// Reads of one key at these times, where a call takes two seconds.
async fn read(dir: &std::path::Path, price_wait: i64, reads: impl Iterator<Item = u64>) -> Seen {
    let mut config = config(dir, &["list"]);
    each(&mut config, |route| route.price_wait = Money::from_nanos(price_wait));
    let far = Far::new();
    *far.takes.lock() = Span::from_secs(2);
    let world = World::new(config, far);
    let start = crate::world::START;
    for ms in reads {
        world.clock.set(start + Span::from_millis(ms));
        world.get("/r/list/1", &[]).await;
    }
    let totals = world.inside.totals().total;
    let count = |tally: Option<&farthing_ledger::aggregate::Tally>| tally.map_or(0, |tally| tally.count);
    Seen { waits: count(totals.outcomes.get("lead")), calls: world.far.calls(), refreshes: count(totals.calls.get("refresh")) }
}

#[tokio::test(start_paused = true)]
async fn a_hot_key_is_renewed_before_it_expires_for_hardly_more_calls() {
    let dir = tempfile::tempdir().unwrap();
    let reads = || (0..2_400).map(|n| n * 500);
    let without = read(&dir.path().join("without"), 0, reads()).await;
    let with = read(&dir.path().join("with"), 1_000_000, reads()).await;
    assert_eq!((without.waits, without.refreshes), (20, 0));
    assert!(with.waits <= 8 && with.refreshes >= 12, "{} waits, {} refreshes", with.waits, with.refreshes);
    assert!(with.calls <= 22, "{} calls", with.calls);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_hardly_read_is_not() {
    let dir = tempfile::tempdir().unwrap();
    // Read again just before it expires, and then not for a long time.
    let reads = (0..60).flat_map(|n| [n * 600_000, n * 600_000 + 59_500]);
    let seen = read(dir.path(), 1_000_000, reads).await;
    assert_eq!((seen.refreshes, seen.calls), (0, 60));
}
