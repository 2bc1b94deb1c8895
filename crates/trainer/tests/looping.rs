//! The loop (SPEC M7) over a log that grows: when it trains, what stops it, what a kill leaves, and that it never names a champion.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends here when it fails")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{START_S, call, request, world};
use farthing_contract::bundle::disk::{append_history, change_aliases, history_path, note_frozen, read_aliases, read_history, versions};
use farthing_contract::bundle::frozen::Frost;
use farthing_contract::bundle::{Action, Alias, Bundle, Event, Kind};
use farthing_contract::log::{CallRow, Request};
use farthing_replay::Process;
use farthing_trainer::autopilot::{KEPT_FILE, Lock, Looper, Outcome, Recipe, Told};
use farthing_trainer::evaluate::stream;
use farthing_trainer::learn::Unwatched;
use farthing_trainer::write::write_file;
use farthing_types::{Span, Time};

const HOUR: Span = Span::from_secs(3_600);

/// The log that a pass-through proxy would have written of a world, in the proxy's layout.
fn write_log(dir: &Path, hours: u32, keys: u32) {
    let trace = world(f64::from(hours), (keys, 0.12), Process::Never).generate(5).unwrap();
    let log = stream::pass_through(&trace, trace.events.len());
    let mut of_hours: BTreeMap<i64, (Vec<Request>, Vec<CallRow>)> = BTreeMap::new();
    let hour = |ns: i64| ns.div_euclid(3_600_000_000_000);
    for (id, read) in log.reads.iter().enumerate() {
        let row = Request { ts_ns: read.at_ns, route: log.routes[read.route as usize].as_str().into(), ..request(0, id as u64, read.key) };
        of_hours.entry(hour(read.at_ns)).or_default().0.push(row);
    }
    for (id, fetch) in log.fetches.iter().enumerate() {
        let row = CallRow {
            ts_ns: fetch.at_ns,
            route: log.routes[fetch.route as usize].as_str().into(),
            ..call(0, id as u64, fetch.key, fetch.hash)
        };
        of_hours.entry(hour(fetch.at_ns)).or_default().1.push(row);
    }
    for (hour, (requests, calls)) in of_hours {
        let place = |table: &str| {
            let folder = dir.join(table).join(farthing_contract::log::partition(hour));
            std::fs::create_dir_all(&folder).unwrap();
            folder.join("part-local-1-000000.parquet")
        };
        write_file(&place("requests"), &requests).unwrap();
        write_file(&place("calls"), &calls).unwrap();
    }
}

/// A store beside a log.
struct Store {
    dir: tempfile::TempDir,
    recipe: PathBuf,
}

impl Store {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("loop.toml");
        let (logs, models) = (dir.path().join("logs"), dir.path().join("models"));
        std::fs::write(&recipe, format!("logs = {logs:?}\nmodels = {models:?}\n{more}")).unwrap();
        Self { dir, recipe }
    }
    fn root(&self) -> PathBuf {
        self.dir.path().join("models")
    }
    /// One look, so long after the log's beginning, by a loop that was just started.
    fn look(&self, after: Span) -> Told {
        let mut looper = Looper::open(Recipe::read(&self.recipe).unwrap()).unwrap();
        looper.turn(Time::from_nanos(START_S * 1_000_000_000) + after, &Unwatched).remove(0)
    }
    fn challenger(&self) -> Option<u32> {
        let aliases = read_aliases(&self.root()).unwrap();
        assert!(aliases.get(Kind::Ttl, Alias::Champion).is_none(), "a loop names no champion");
        aliases.get(Kind::Ttl, Alias::Challenger).map(|named| named.current.version)
    }
    /// What a proxy does to a challenger.
    fn end(&self, action: Action) {
        change_aliases(&self.root(), |aliases| {
            let from = aliases.get(Kind::Ttl, Alias::Challenger).map(|named| named.current.clone());
            aliases.clear(Kind::Ttl, Alias::Challenger);
            append_history(&history_path(&self.root()), &event(action, Alias::Challenger, (0, from)))
        })
        .unwrap();
    }
    fn versions(&self) -> Vec<u32> {
        versions(&self.root(), Kind::Ttl).unwrap()
    }
    fn program(&self, args: &[&str]) -> Output {
        let recipe = self.recipe.to_str().unwrap();
        Command::new(env!("CARGO_BIN_EXE_farthing-train")).args([&["loop", "--once", "--recipe", recipe], args].concat()).output().unwrap()
    }
}

fn event(action: Action, alias: Alias, (after_s, from): (i64, Option<farthing_contract::bundle::Target>)) -> Event {
    let (by, reason) = ("a proxy".to_owned(), "a test".to_owned());
    Event { at_ns: (START_S + after_s) * 1_000_000_000, kind: Kind::Ttl, alias, action, from, to: None, by, reason, forced: false }
}

#[test]
fn it_trains_when_there_is_enough_that_is_new_and_waits_for_what_it_has_named() {
    let store = Store::new("every = \"6h\"\nleast = \"24h\"\n");
    assert_eq!(store.look(HOUR).outcome, Outcome::Failed, "there is no log");
    write_log(&store.dir.path().join("logs"), 50, 40);
    let told = store.look(23 * HOUR);
    assert!(told.outcome == Outcome::TooLittle && told.text.contains("22 h of closed log, 24 h"), "{told:?}");
    // The hour in progress, and one within its grace, are left alone.
    let told = store.look(24 * HOUR + Span::from_secs(590));
    assert_eq!(told.outcome, Outcome::TooLittle, "{told:?}");
    assert!(store.versions().is_empty() && !store.root().join("history.jsonl").exists());

    let told = store.look(30 * HOUR + Span::from_secs(600));
    assert!(told.outcome == Outcome::Challenger && told.version == Some(1), "{told:?}");
    assert!(store.challenger() == Some(1) && told.text.contains("30 h of log since 2026-01-01 00:00 UTC"), "{told:?}");
    let (manifest, ..) = Bundle::read_manifest(&store.root(), Kind::Ttl, 1).unwrap();
    assert!(manifest.training.to_ns < (START_S + 30 * 3_600) * 1_000_000_000 && manifest.gate.unwrap().passed);
    let history = read_history(&history_path(&store.root())).unwrap();
    assert!(history.events().len() == 1 && history.events()[0].by == "loop", "{history:?}");
    let told = store.look(37 * HOUR);
    assert!(told.outcome == Outcome::Waits && told.text.contains("ttl/1 is challenger"), "{told:?}");

    // Taken back without blame: the same log is not learned from again.
    store.end(Action::Clear);
    let told = store.look(35 * HOUR);
    assert!(told.outcome == Outcome::NothingNew && told.text.contains("h of closed log are new, 6 h are waited for"), "{told:?}");
    // A kill between publishing and naming: the state is that of before, the version is there.
    std::fs::remove_file(store.root().join(KEPT_FILE)).unwrap();
    std::fs::create_dir(store.root().join("ttl/.tmp-1-0")).unwrap();
    std::fs::write(store.root().join("ttl/.tmp-1-0/model.onnx"), b"half").unwrap();
    let told = store.look(30 * HOUR + Span::from_secs(700));
    assert!(told.outcome == Outcome::Challenger && told.text.contains("made of the same log before"), "{told:?}");
    assert_eq!((store.versions(), store.challenger()), (vec![1], Some(1)));
    // Rejected: neither is it named again, nor made again of the same log.
    store.end(Action::Reject);
    std::fs::remove_file(store.root().join(KEPT_FILE)).unwrap();
    let told = store.look(30 * HOUR + Span::from_secs(800));
    assert!(told.outcome == Outcome::NothingNew && told.text.contains("rejected by a proxy (a test)"), "{told:?}");
    assert_eq!((store.versions(), store.challenger()), (vec![1], None));

    // Frozen by any proxy on the store nothing is done, whatever is new.
    let frost = |on: bool| on.then(|| Frost { since_ns: START_S * 1_000_000_000, reason: "a launch".to_owned() });
    note_frozen(&store.root(), "host-1", frost(true)).unwrap();
    let told = store.look(44 * HOUR);
    assert!(told.outcome == Outcome::Frozen && told.text.contains("host-1 since 2026-01-01 00:00 UTC (a launch)"), "{told:?}");
    note_frozen(&store.root(), "host-1", frost(false)).unwrap();
    std::fs::write(store.root().join("frozen.json"), b"{").unwrap();
    assert_eq!(store.look(44 * HOUR).outcome, Outcome::Frozen, "an order that cannot be read is an order");
    std::fs::remove_file(store.root().join("frozen.json")).unwrap();
    assert_eq!((store.versions(), store.challenger()), (vec![1], None));

    let told = store.look(44 * HOUR);
    assert!(told.outcome == Outcome::Challenger && told.version == Some(2), "{told:?}");
    // A drift told since: the challenger is from before, an hour of new log is enough.
    let drift = event(Action::Drift, Alias::Champion, (44 * 3_600 + 60, None));
    append_history(&history_path(&store.root()), &drift).unwrap();
    let told = store.look(44 * HOUR + Span::from_secs(300));
    assert!(told.outcome == Outcome::NothingNew && told.text.contains("0 h of closed log are new, 1 h"), "{told:?}");
    let told = store.look(45 * HOUR + Span::from_secs(600));
    assert!(told.outcome == Outcome::Challenger && told.version == Some(3), "{told:?}");
    // Answered: the next waits as usual.
    assert_eq!(store.look(46 * HOUR).outcome, Outcome::Waits);
    assert_eq!((store.versions(), store.challenger()), (vec![1, 2, 3], Some(3)));
}

#[test]
fn what_the_gate_refuses_is_not_learned_again_and_the_program_says_so() {
    let store = Store::new("least = \"2h\"\nevery = \"1h\"\n");
    // Two routes of eight keys on one day: less than the thirty blocks that the gate asks for.
    write_log(&store.dir.path().join("logs"), 4, 8);
    let said = |output: &Output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let refused = store.program(&["--at", "2026-01-01T03:30:00Z", "--json"]);
    assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
    let line: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(line["outcome"] == "refused" && line["kind"] == "ttl" && line["text"].as_str().unwrap().contains("nothing was published"));
    assert!(store.versions().is_empty() && store.challenger().is_none());
    let again = store.program(&["--at", "2026-01-01T03:40:00Z"]);
    assert!(again.status.success() && said(&again).contains("0 h of closed log are new"), "{}", said(&again));

    let held = Lock::take(&store.root()).unwrap();
    let second = store.program(&["--at", "2026-01-01T03:50:00Z"]);
    assert!(second.status.code() == Some(1) && said(&second).contains("another loop works on this store (process "), "{}", said(&second));
    drop(held);
    std::fs::write(store.root().join(KEPT_FILE), b"{\"kinds\": ").unwrap();
    let damaged = store.program(&[]);
    assert!(damaged.status.code() == Some(1) && said(&damaged).contains("remove the file to begin anew"), "{}", said(&damaged));
    std::fs::write(&store.recipe, "logs = \"logs\"\nevry = \"1h\"\n").unwrap();
    let wrong = store.program(&[]);
    assert!(wrong.status.code() == Some(2) && said(&wrong).contains("evry"), "{}", said(&wrong));
}
