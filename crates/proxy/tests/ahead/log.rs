//! What the log tells: a replay of it decides the same, and features can be computed again bit by bit.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use farthing_contract::features::{Associations, Capacity, PREFETCH_SPEC, Visit, prefetch_features, session_of, thing_of};
use farthing_contract::log::{Decision, OutcomeRow, Request, Row, Table, Value};
use farthing_ledger::read;
use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, PrefetchSource};
use farthing_replay::prefetch::{Engine, SessionRoute, Sessions, Setup, Visited};
use farthing_types::{Span, Time};

use crate::world::{Far, PRICE, TTL, World, config, sessions};
use crate::{ROUTES, STRUCTURED};

const HORIZON: Span = Span::from_secs(30);

/// Rows of a table: the wanted columns as text, lists of floats apart.
fn rows(dir: &Path, table: &'static Table, columns: &[&str]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let text = |value: &Value<'_>| match value {
        Value::Null => String::new(),
        Value::Text(text) => (*text).to_owned(),
        Value::I64(n) => n.to_string(),
        Value::I32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        Value::F64(n) => n.to_string(),
        Value::F32(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::F32List(list) => list.iter().map(|f| f.to_bits().to_string()).collect::<Vec<_>>().join(","),
    };
    read::rows(dir, table, columns, &mut |values| {
        rows.push(values.iter().map(text).collect());
        ControlFlow::Continue(())
    })
    .unwrap();
    rows
}

/// Requests as the log has them, by time.
fn logged(dir: &Path) -> Vec<(u64, Visit)> {
    let columns = ["ts_ns", "request_id", "tenant", "tags", "route", "key_hash", "outcome"];
    let mut visits: Vec<(u64, Visit)> = rows(dir, Request::TABLE, &columns)
        .iter()
        .map(|row| {
            let visit = Visit {
                at: Time::from_nanos(row[0].parse().unwrap()),
                session: session_of(&row[2], None, None, Some(&row[3])),
                thing: thing_of(0, row[5].parse().unwrap()),
                route: ROUTES.iter().position(|route| *route == row[4]).unwrap() as u16,
                params: 0,
                missed: row[6] != "hit",
            };
            (row[1].parse().unwrap(), visit)
        })
        .collect();
    visits.sort_by_key(|(_, visit)| visit.at);
    visits
}

async fn played(dir: &Path, change: impl Fn(&mut farthing_config::Config)) -> (crate::world::Sum, Vec<u64>) {
    let mut config = config(dir, &ROUTES);
    config.log.enabled = true;
    change(&mut config);
    let world = World::new(config, Far::new());
    world.play(&ROUTES, &sessions(STRUCTURED, 3_600.0, 2)).await;
    let sum = world.total();
    let started = world.inside.prefetch().iter().map(|books| books.started).collect();
    world.inside.close().await;
    (sum, started)
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_the_log_fetches_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (live, started) = played(dir.path(), |_| {}).await;
    let params = PrefetchParams { source: PrefetchSource::Rule, latency: PRICE, ..PrefetchParams::default() };
    let route = |name: &&str| SessionRoute { name: (*name).to_owned(), price: PRICE, ttl: TTL, params, provider: 0 };
    let visits = logged(&dir.path().join("log")).into_iter().map(|(_, visit)| {
        let Visit { at, session, thing, route, params, .. } = visit;
        Visited { at, session, thing, route, params }
    });
    let sessions = Sessions { routes: ROUTES.iter().map(route).collect(), visits: visits.collect() };
    let mut engine = Engine::new(&sessions, Setup::new(Levels::default(), HORIZON));
    engine.run(&sessions.visits);
    let replayed: Vec<u64> = engine.books().iter().map(|books| books.prefetches).collect();
    assert!(live.started > 100, "{live:?}");
    let total = engine.total();
    assert_eq!((live.candidates, started, live.used), (total.candidates, replayed, total.useful));
}

#[tokio::test(start_paused = true)]
async fn logged_features_can_be_computed_again_and_outcomes_are_those_of_the_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (live, _) = played(dir.path(), |config| config.prefetch.explore = 0.2).await;
    let log = dir.path().join("log");
    let columns =
        ["request_id", "key_hash", "route", "features", "decision_id", "action", "pmf", "draw", "by", "spec_hash", "kind", "eligible_mask"];
    let decisions: Vec<_> = rows(&log, Decision::TABLE, &columns).into_iter().filter(|row| row[10] == "prefetch").collect();
    let mut by_request: HashMap<u64, Vec<&Vec<String>>> = HashMap::new();
    decisions.iter().for_each(|row| by_request.entry(row[0].parse().unwrap()).or_default().push(row));
    let mut seen = Associations::new(Capacity::default(), HORIZON);
    let (mut found, mut checked) = (Vec::new(), 0);
    let visits = logged(&log);
    for (request, visit) in &visits {
        seen.on_visit(visit);
        seen.candidates(visit, &mut found);
        for row in by_request.remove(request).unwrap_or_default() {
            let thing = thing_of(0, row[1].parse().unwrap());
            let candidate = found.iter().find(|candidate| candidate.thing == thing).unwrap();
            let features = prefetch_features(&seen, visit, candidate, TTL);
            assert_eq!(row[3], features.map(|f| f.to_bits().to_string()).join(","), "{row:?}");
            checked += 1;
        }
    }
    assert!(checked > 500 && by_request.is_empty(), "{checked}");
    let fetched = decisions.iter().filter(|row| row[5] == "1").count() as u64;
    assert_eq!(fetched, live.started);
    assert!(decisions.iter().all(|row| row[8] == "fallback:no-model" && row[9] == PREFETCH_SPEC.hash()));
    // Near the threshold some decisions are drawn, with both actions, and what was done had the probability that is written down.
    let drawn: Vec<_> = decisions.iter().filter(|row| !row[7].is_empty() && row[11] == "3").collect();
    assert!(["0", "1"].iter().all(|action| drawn.iter().any(|row| row[5] == *action)), "{}", drawn.len());
    for row in &drawn {
        let pmf: Vec<f32> = row[6].split(',').map(|bits| f32::from_bits(bits.parse().unwrap())).collect();
        let action: usize = row[5].parse().unwrap();
        assert!((pmf[action] - 0.1).abs() < 1e-6 || (pmf[action] - 0.9).abs() < 1e-6, "{row:?}");
    }
    outcomes(&log, &decisions, &visits);
}

/// Each outcome is what the requests after the decision say.
fn outcomes(log: &Path, decisions: &[Vec<String>], visits: &[(u64, Visit)]) {
    let columns = ["decision_id", "closed_by", "opened_ns", "paid_nanousd", "key_hash"];
    let about: HashMap<&str, &Vec<String>> = decisions.iter().map(|row| (&*row[4], row)).collect();
    let mut told = 0;
    for row in rows(log, OutcomeRow::TABLE, &columns).iter().filter(|row| about.contains_key(&*row[0])) {
        let (opened, thing) = (Time::from_nanos(row[2].parse().unwrap()), thing_of(0, row[4].parse().unwrap()));
        let used = visits.iter().any(|(_, visit)| visit.thing == thing && visit.at > opened && visit.at <= opened + HORIZON);
        assert_eq!(row[1], if used { "used" } else { "unused" }, "{row:?}");
        let paid = if about[&*row[0]][5] == "1" { PRICE.nanos() } else { 0 };
        assert_eq!(row[3], paid.to_string());
        told += 1;
    }
    // What is not told yet was decided within the last horizon.
    assert!(told * 10 > decisions.len() * 9, "{told} of {}", decisions.len());
}
