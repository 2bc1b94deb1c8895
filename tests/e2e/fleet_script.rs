//! G3: what Redis runs for shared budgets does what its model does, by which the protocol is simulated: the same messages, drawn at random, have the same answers.

use std::sync::Arc;
use std::time::Duration;

use farthing_fleet::{Fault, Handle, RedisConfig, Script};
use farthing_ledger::budget::fleet::{Asked, Exchange, Here, Known, Line, Reply, Report, Server as Model, script};
use farthing_ledger::watch::Random;
use tokio_util::task::TaskTracker;

use crate::l2::servers::{Cluster, Server};

const FOREVER: i64 = 8_640_000_000_000_000;

/// Long after the test.
const LATE: i64 = 4_000_000_000_000;

struct Draws {
    random: Random,
    seqs: [i64; 4],
    /// As Redis and the model name the present generation and the one before.
    generations: Vec<(Arc<str>, Arc<str>)>,
}

impl Draws {
    fn below(&mut self, end: usize) -> i64 {
        i64::try_from(self.random.below(end)).unwrap()
    }

    fn line(&mut self) -> Line {
        let field = self.below(3);
        // One that has long ended, one that never does, one that begins late.
        let (start, end) = [(0, 90_000_000), (0, FOREVER), (LATE, LATE + 90_000_000)][usize::try_from(field).unwrap()];
        let claim = self.below(400);
        let need = claim + self.below(200);
        let want = need + self.below(200);
        let must = if self.below(8) == 0 { claim + self.below(900) } else { claim };
        // Beyond what 32 bits hold: amounts are exact all the same.
        let unit = if field == 1 { 1_000_000_000_001 } else { 1 };
        Line {
            field: format!("c:{end}:{start}:d:b\0u:{field} x").into(),
            start,
            end,
            limit: 1_000 * unit,
            claim: claim * unit,
            need: need * unit,
            want: want * unit,
            must: must * unit,
            used: claim / 2 * unit,
            seen: claim * unit,
        }
    }

    /// A message as it goes to Redis and to the model.
    fn message(&mut self, now: i64) -> [Asked; 2] {
        let who = self.random.below(4);
        let id: Arc<str> = format!("m{who}").into();
        let life: Arc<str> = if self.below(25) == 0 { "b" } else { "a" }.into();
        // Some come late or twice.
        let seq = match self.below(40) {
            0..5 => self.seqs[who] - self.below(2),
            5 => self.seqs[who] + (1 << 31),
            _ => self.seqs[who] + 1 + self.below(3),
        };
        self.seqs[who] = self.seqs[who].max(seq);
        let lines: Vec<Line> = (0..self.below(4)).map(|_| self.line()).collect();
        let age = usize::from(self.below(12) == 0);
        let generation = self.generations.iter().rev().nth(age).cloned();
        let known = |n: i64| Known { id: format!("m{n}").into(), name: "n".into(), until: now + 1_000_000 };
        let reports = self.below(3) == 0;
        if let Some((redis, model)) = generation.clone().filter(|_| !reports) {
            let (ack, closing, sweep) = (self.below(5), self.below(20) == 0, (self.below(4) == 0).then_some(0));
            let exchange = Exchange { id, life, seq, generation: redis, ack, closing, sweep, lines };
            return [Asked::Exchange(exchange.clone()), Asked::Exchange(Exchange { generation: model, ..exchange })];
        }
        let known = (0..self.below(3)).map(known).collect();
        let report = Report {
            id,
            name: "n-1".into(),
            life,
            seq,
            candidate: "x".into(),
            generation: None,
            heard: ("-".into(), 0),
            sure: self.below(2) > 0,
            known,
            lines,
            last: self.below(4) > 0,
        };
        // Some know of a later generation than the present one.
        let ahead = self.below(60) == 0;
        let named = self.generations.last().filter(|_| !ahead).cloned().unwrap_or_else(|| ("-".into(), "-".into()));
        let epoch = if ahead { 1_000 + self.seqs[0] } else { self.below(2) };
        let of =
            |generation: Option<Arc<str>>, heard: Arc<str>| Asked::Report(Report { generation, heard: (heard, epoch), ..report.clone() });
        let (redis, model) = generation.filter(|_| self.below(3) > 0).unzip();
        [of(redis, named.0), of(model, named.1)]
    }
}

async fn ask(handle: &Handle, key: &[u8], asked: &Asked) -> Reply {
    let script = if matches!(asked, Asked::Report(_)) { script::REPORT } else { script::EXCHANGE };
    told(handle, script, (key, &script::arguments(asked)), script::reply).await
}

/// What a script answers, by `reply`.
pub async fn told<R>(
    handle: &Handle,
    script: &'static str,
    (key, words): (&[u8], &[String]),
    reply: impl FnOnce(&[&str]) -> Option<R>,
) -> R {
    let script = Script::new(script);
    let args: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let answer = loop {
        match handle.script(&script, &[key], &args, Duration::from_secs(5)).await {
            Ok(answer) => break answer,
            // After a restart: nothing of it has run.
            Err(Fault::Unavailable | Fault::Broken) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(fault) => panic!("{fault}: {words:?}"),
        }
    };
    answer.texts().and_then(|texts| reply(&texts)).unwrap_or_else(|| panic!("{answer:?}"))
}

/// Compares so many messages; `lose` loses Redis' data, and says which run it is in then.
async fn compare(handle: &Handle, messages: usize, mut lose: impl FnMut(&mut Random, &mut Model) -> Option<String>) {
    let (mut model, mut run) = (Model::default(), "r".to_owned());
    let mut draws = Draws { random: Random::new(5), seqs: [10; 4], generations: Vec::new() };
    let (mut now, mut fine, mut granted) = (1_764_201_600_000, 0, 0);
    for n in 0..messages {
        let [to_redis, to_model] = draws.message(now);
        let found = ask(handle, b"{t}counters", &to_redis).await;
        if let Reply::Fine(told) = &found {
            now = told.now;
        }
        let here = Here { run: &run, now };
        let expected = match &to_model {
            Asked::Report(report) => model.report(here, report),
            Asked::Exchange(exchange) => model.exchange(here, exchange),
        };
        match (found, expected) {
            (Reply::Fine(mut found), Reply::Fine(mut expected)) => {
                let names = (found.generation.clone(), expected.generation.clone());
                if draws.generations.last() != Some(&names) {
                    draws.generations.push(names);
                }
                (found.generation, found.swept) = ("".into(), 0);
                (expected.generation, expected.swept) = ("".into(), 0);
                assert_eq!(found, expected, "message {n}: {to_redis:?}");
                fine += 1;
                granted += usize::from(found.lines.iter().any(|line| !line.withheld && line.holders.len() > 1));
            }
            (found, expected) => assert_eq!(found, expected, "message {n}: {to_redis:?}"),
        }
        if draws.random.below(150) == 0
            && let Some(another) = lose(&mut draws.random, &mut model)
        {
            run = another;
        }
    }
    assert!(fine * 3 > messages && granted * 40 > messages, "{fine} answered, {granted} granted of {messages}");
}

/// A handle that a busy machine's server has time to answer.
pub fn patient(config: RedisConfig) -> Handle {
    Handle::start(&RedisConfig { connect_timeout: Duration::from_secs(5), ..config }, &TaskTracker::new()).unwrap()
}

#[tokio::test]
async fn redis_does_what_the_model_does() {
    let Some(mut server) = Server::start(&[]) else { return };
    let handle = patient(RedisConfig::single(server.url()));
    let mut runs = 0;
    compare(&handle, 3_000, |random, model| match random.below(8) {
        0 => {
            server.kill();
            server.restart();
            // Empty, and another run: the model keeps its data, which must not count.
            runs += 1;
            Some(format!("r{runs}"))
        }
        _ => {
            server.ask(&["FLUSHALL"]);
            model.flush();
            None
        }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_does_what_the_model_does() {
    let Some(cluster) = Cluster::start() else { return };
    let handle = patient(RedisConfig::cluster(cluster.urls()));
    compare(&handle, 300, |_, _| None).await;
}
