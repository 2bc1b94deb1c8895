//! `fit prefetch`: what is learned from sessions, and what is refused.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test ends here when it fails")]

use farthing_policy::prefetch::PrefetchParams;
use farthing_replay::prefetch::{SessionWorld, WorldShape};
use farthing_trainer::TrainError;
use farthing_trainer::learn::Unwatched;
use farthing_trainer::prefetch::{Options, fit};
use farthing_trainer::read::{SessionLog, read_session_log, read_session_trace};
use farthing_types::Money;

fn log(shape: WorldShape) -> SessionLog {
    let world = SessionWorld {
        seed: 0,
        start_s: 1_767_225_600,
        duration_s: 1_800.0,
        sessions_per_s: 0.06,
        requests: 12.0,
        think_s: 2.0,
        price: Money::from_nanos(1_000_000),
        ttl_s: 60.0,
        shape,
    };
    SessionLog { sessions: world.generate(3, PrefetchParams::default()).unwrap(), digest: "d".repeat(64), files: 1, anonymous: 0 }
}

#[test]
fn a_fit_tells_probabilities_better_than_the_rule_and_twice_the_same() {
    let log = log(WorldShape::Structured { lists: 40, details: 6, opened: 0.7 });
    let one = fit(&log, Options::default(), &Unwatched).unwrap();
    let judged = one.report.judged.as_ref().unwrap();
    println!("{}", one.report.text());
    assert!(judged.log_loss < judged.log_loss_rule && judged.calibration < 0.06, "{judged:?}");
    assert!(one.learned.model.trees.len() <= 50 && one.learned.model.depth() <= 15, "{}", one.learned.model.depth());
    let two = fit(&log, Options::default(), &Unwatched).unwrap();
    assert_eq!(one.learned.model.to_bytes(), two.learned.model.to_bytes());
}

#[test]
fn logs_that_teach_nothing_say_why() {
    let why = |log: &SessionLog| match fit(log, Options::default(), &Unwatched) {
        Err(TrainError::TooLittle(why)) => why,
        other => unreachable!("{:?}", other.map(|f| f.report.text())),
    };
    assert!(why(&SessionLog::default()).contains("no request"));
    let mut anonymous = log(WorldShape::Random { keys: 50 });
    anonymous.sessions.visits.iter_mut().for_each(|v| v.session = 0);
    anonymous.anonymous = anonymous.sessions.visits.len();
    assert!(why(&anonymous).contains("who asked"));
    let mut one = log(WorldShape::Random { keys: 50 });
    one.sessions.visits.truncate(1);
    assert!(!why(&one).is_empty());
    assert!(read_session_log("/nowhere/*.parquet").is_err() && read_session_trace("/nowhere.parquet".as_ref()).is_err());
}
