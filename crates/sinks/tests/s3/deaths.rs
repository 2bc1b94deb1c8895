//! Either side dies, and the way between is bad: afterwards each row is there once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;
use farthing_sinks::LogId;
use tokio_util::sync::CancellationToken;

/// Each call is there once, in objects of its own.
fn assert_calls(store: &Store, dir: &Path, calls: u64) {
    assert_equal(store, dir);
    let place = CallRow::TABLE.columns.iter().position(|column| column.name == "call_id").unwrap();
    let mut ids: Vec<u64> = store.rows(CallRow::TABLE).iter().map(|row| u64::from_str_radix(&row[place], 16).unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=calls).collect::<Vec<_>>());
}

/// The acceptance: under load requests fail, are done without an answer and come late, and at last the store dies and comes back without anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_and_dies_under_load_loses_and_doubles_no_row() {
    let Some(mut store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let writer = suite::open(dir.path(), Span::from_millis(100));
    let load = CancellationToken::new();
    let writing = suite::calls_until(writer.handle(), load.clone());
    let deadline = Span::from_secs(1);
    let spec = SinkSpec { deadline, ..spec(&between.endpoint()) };
    let (driver, stop) = (driver(sink_with(&between.endpoint(), deadline), spec, dir.path()), CancellationToken::new());
    let state = driver.state();
    let shipping = tokio::spawn(driver.run(stop.clone(), stop.clone()));
    let ends = CancellationToken::new();
    let fates =
        [Fate::Say(StatusCode::INTERNAL_SERVER_ERROR, "<Error><Code>InternalError</Code></Error>"), Fate::Lose, Fate::Wait(ends.clone())];
    let reaches = async |files: u64| {
        while state.stats().files + state.stats().repeated < files {
            tokio::time::sleep(Span::from_millis(5)).await;
        }
    };
    for fate in fates {
        let stats = state.stats();
        reaches(stats.files + stats.repeated + 4).await;
        let noticed = state.stats().faults.values().sum::<u64>();
        between.decide(move |_| fate.clone());
        while state.stats().faults.values().sum::<u64>() == noticed {
            tokio::time::sleep(Span::from_millis(5)).await;
        }
        between.decide(|_| Fate::Pass);
    }
    ends.cancel();
    reaches(state.stats().files + state.stats().repeated + 4).await;
    store.kill();
    let noticed = state.stats().faults.values().sum::<u64>();
    while state.stats().faults.values().sum::<u64>() == noticed {
        tokio::time::sleep(Span::from_millis(5)).await;
    }
    store.restart();
    load.cancel();
    let calls = writing.await.unwrap();
    writer.close();
    let files = suite::files(dir.path()).len();
    while state.stats().waiting > 0 || store.names().len() < files {
        tokio::time::sleep(Span::from_millis(20)).await;
    }
    stop.cancel();
    shipping.await.unwrap();
    println!("{calls} calls in {files} files; {:?}", state.stats());
    assert!(state.stats().faults.values().sum::<u64>() >= 4, "{:?}", state.stats());
    assert_eq!(store.names().len(), files);
    assert_calls(&store, dir.path(), calls);
}

/// Not a test by itself: ships a folder, a line for each round, until killed.
#[tokio::test(flavor = "multi_thread")]
async fn child_ships_until_killed() {
    let Some(dir) = std::env::var_os("FARTHING_TEST_LOG") else { return };
    let endpoint = std::env::var("FARTHING_TEST_ENDPOINT").unwrap();
    let mut driver = driver(sink(&endpoint), spec(&endpoint), Path::new(&dir));
    let state = driver.state();
    loop {
        // The name of the test stands on the line before.
        println!("\nbegins");
        driver.round().await.unwrap();
        println!("shipped {}", state.stats().waiting);
        tokio::time::sleep(Span::from_millis(20)).await;
    }
}

fn child(endpoint: &str, dir: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let args = ["--exact", "deaths::child_ships_until_killed", "--nocapture", "--test-threads=1"];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(args).env("FARTHING_TEST_LOG", dir).env("FARTHING_TEST_ENDPOINT", endpoint);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    (child, lines)
}

/// Killed before the store has a file, after it has it and before that is known, and at moments that come as they come.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_while_it_ships_loses_and_doubles_no_row() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let calls = suite::log_of_calls(dir.path(), (24, 100));
    let hold = |puts: u32, fate: Fate| {
        let (asked, comes) = tokio::sync::mpsc::unbounded_channel();
        let mut seen_puts = 0;
        between.decide(move |seen| {
            seen_puts += u32::from(seen.method == Method::PUT);
            if seen_puts <= puts {
                return Fate::Pass;
            }
            asked.send(()).unwrap();
            fate.clone()
        });
        comes
    };
    let never = CancellationToken::new();
    for (round, (puts, fate)) in
        [(0, Fate::Wait(never.clone())), (3, Fate::Wait(never.clone())), (3, Fate::Lose), (5, Fate::Lose)].into_iter().enumerate()
    {
        let mut comes = hold(puts, fate);
        let (mut child, mut lines) = child(&between.endpoint(), dir.path());
        assert!(lines.any(|line| line == "begins"), "{round}");
        comes.recv().await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
    between.decide(|_| Fate::Pass);
    let (mut last, mut lines) = child(&between.endpoint(), dir.path());
    assert!(lines.any(|line| line == "shipped 0"));
    last.kill().unwrap();
    last.wait().unwrap();
    // What was held up comes now, from a process that is dead.
    let before = between.done().len();
    never.cancel();
    while between.done().len() < before + 2 {
        tokio::time::sleep(Span::from_millis(5)).await;
    }
    assert!(between.done()[before..].iter().all(|(_, status)| *status == 412), "{:?}", &between.done()[before..]);
    assert_calls(&store, dir.path(), calls);
    let id = LogId::of(dir.path()).unwrap();
    assert!(store.names().into_keys().all(|name| name.contains(id.as_str())));
    assert_eq!(store.names().len(), 24);
}
