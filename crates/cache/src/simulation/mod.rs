//! Purges of a fleet over random schedules, in virtual time: instances that pause, start anew, are cut off and whose clocks differ; messages that are
//! lost, late and repeated; a server of the bus that is emptied, or fails over to a replica that lags; answers under way, and written to a shared L2 long
//! after they came.
//!
//! What runs is what serves: memory and flights ([`Cache`]), what was heard ([`Hearing`]), the listener's steps ([`BusListener`]). The server is its model,
//! which a test holds to a real one (`crates/fleet/tests/bus.rs`). Whatever happens: a request that comes more than a second after a purge was told is not
//! answered with what was asked for before the purge was ordered, by no instance, from nowhere.
//!
//! A schedule follows from its seed. Every failing seed is printed; `FARTHING_SEED=n cargo test -p farthing-cache --lib simulation` repeats one.

mod counts;
mod instance;
mod world;

use world::{Size, World};

/// What is left out, to see that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// What L2 has is not judged by its mark.
    Fence,
    /// What was purged while it was under way is written to L2 all the same, with the mark of when it came.
    Refusal,
    /// Who hears nothing goes on as ever.
    Doubt,
    /// What does not follow on what was heard is taken as if it did.
    Gap,
    /// One's own purge holds against L2 only when it has its number.
    Expectation,
    /// What was heard counts as known before it has been carried out.
    Order,
    /// Of what somebody else has told of an event, the number is not taken over.
    Number,
    /// Who asks for news does not say what it has told itself.
    Own,
}

impl Without {
    const ALL: [Self; 8] = [Self::Fence, Self::Refusal, Self::Doubt, Self::Gap, Self::Expectation, Self::Order, Self::Number, Self::Own];
}

/// What schedules showed.
#[derive(Debug, Default)]
struct Seen {
    failing: Vec<(u64, String)>,
    counts: counts::Counts,
}

fn run(seeds: std::ops::Range<u64>, size: Size, without: Without) -> Seen {
    let mut seen = Seen::default();
    for seed in seeds {
        match World::new(seed, size, without).run() {
            Ok(counts) => seen.counts.add(counts),
            Err(why) => seen.failing.push((seed, why)),
        }
    }
    seen
}

fn hold(seeds: std::ops::Range<u64>, size: Size) {
    let one = std::env::var("FARTHING_SEED").ok().and_then(|seed| seed.parse().ok());
    let (seeds, enough) = one.map_or((seeds, true), |seed: u64| (seed..seed + 1, false));
    let schedules = seeds.end - seeds.start;
    // In two parts at a time: what a machine has.
    let middle = seeds.start + schedules / 2;
    let (mut seen, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(middle..seeds.end, size, Without::Nothing));
        (run(seeds.start..middle, size, Without::Nothing), other.join().unwrap())
    });
    seen.counts.add(other.counts);
    seen.failing.extend(other.failing);
    for (seed, why) in &seen.failing {
        eprintln!("FARTHING_SEED={seed}: {why}");
    }
    eprintln!("{schedules} schedules of {size:?}: {:?}", seen.counts);
    assert!(seen.failing.is_empty(), "{} schedules fail", seen.failing.len());
    if enough {
        seen.counts.assert_that_all_happens(schedules);
    }
}

#[test]
fn nothing_older_than_a_purge_is_answered_a_second_after_it_was_told() {
    hold(0..300, Size::Few);
}

#[test]
#[ignore = "a million schedules: make simulate"]
fn a_million_schedules() {
    hold(0..1_000_000, Size::Few);
}

#[test]
fn a_hundred_instances_are_as_few() {
    hold(0..2, Size::Hundred);
}

#[test]
#[ignore = "minutes: make simulate"]
fn a_hundred_instances_in_two_thousand_schedules() {
    hold(0..2_000, Size::Hundred);
}

#[test]
fn what_is_left_out_is_noticed() {
    for without in Without::ALL {
        let first = (0..3_000).find(|seed| World::new(*seed, Size::Few, without).run().is_err());
        eprintln!("without {without:?}: {first:?}");
        assert!(first.is_some(), "{without:?}");
    }
}
