//! G3: what Redis runs for shared limits does what its model does, by which the protocol is simulated: the same messages, drawn at random, have the same
//! answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_fleet::{Handle, RedisConfig};
use farthing_ledger::limit::fleet::{Here, Known, Line, Message, Reply, SETTLE, Server as Model, script};
use farthing_ledger::watch::Random;
use farthing_types::{Clock, RealClock};

use crate::fleet_script::{patient, told};
use crate::l2::servers::{Cluster, Server};

struct Draws {
    random: Random,
    seqs: [i64; 4],
    /// As Redis and the model name the present generation and those before, and their numbers.
    generations: Vec<(Arc<str>, Arc<str>, i64)>,
}

impl Draws {
    fn below(&mut self, end: usize) -> i64 {
        i64::try_from(self.random.below(end)).unwrap()
    }

    fn part(&mut self) -> i64 {
        [0, 100_000, 250_000, 333_333][self.random.below(4)]
    }

    fn line(&mut self, now: i64) -> Line {
        let until = [0, now - 10, now + 400, now + 2_000][self.random.below(4)];
        let mark = [1, 0xabc << 96, u128::MAX][self.random.below(3)];
        Line { mark, claim: self.below(600_000), until, want: [0, self.below(1_000_001), 1_000_000][self.random.below(3)] }
    }

    /// A message as it goes to Redis and to the model.
    fn message(&mut self, now: i64) -> [Message; 2] {
        let who = self.random.below(4);
        let other = self.below(30) == 0;
        // Some come late or twice.
        let seq = match self.below(30) {
            0..3 => self.seqs[who] - self.below(2),
            _ => self.seqs[who] + 1 + self.below(3),
        };
        self.seqs[who] = self.seqs[who].max(seq);
        let age = usize::from(self.below(15) == 0);
        let known = self.generations.iter().rev().nth(age).cloned().filter(|_| self.random.below(30) > 0);
        let (redis, model, epoch) = known.unwrap_or_else(|| ("-".into(), "-".into(), 0));
        // Some know of a later generation than the present one.
        let epoch = if self.below(150) == 0 { epoch + 3 } else { epoch };
        let report = self.below(4) == 0;
        let known = (0..if report { self.below(3) } else { 0 })
            .map(|n| Known { id: format!("m{n}").into(), parts: [self.part(), self.part()], left: self.below(3_000) })
            .collect();
        let message = Message {
            id: format!("m{who}").into(),
            life: if other { "b" } else { "a" }.into(),
            start: self.below(3),
            seq,
            generation: redis,
            epoch,
            report,
            fresh: self.below(3) > 0,
            closing: self.below(40) == 0,
            alone: [1_000, 20_000][self.random.below(2)],
            most: [250_000, 1_000_000][self.random.below(2)],
            parts: [self.part(), self.part()],
            known,
            sweep: (self.below(6) == 0).then_some(0),
            lines: (0..self.below(4)).map(|_| self.line(now)).collect(),
        };
        [message.clone(), Message { generation: model, ..message }]
    }

    /// Both have named a generation.
    fn named(&mut self, names: (Arc<str>, Arc<str>, i64)) {
        if self.generations.last() != Some(&names) {
            self.generations.push(names);
        }
    }
}

/// Compares so many messages; `lose` loses Redis' data, and says which run it is in then.
async fn compare(handle: &Handle, messages: usize, mut lose: impl FnMut(&mut Random, &mut Model) -> Option<String>) {
    let (mut model, mut run) = (Model::default(), "r".to_owned());
    let mut draws = Draws { random: Random::new(11), seqs: [10; 4], generations: Vec::new() };
    // The server's time, and when it told it.
    let mut told_at = (RealClock::default().now().millis(), Instant::now());
    let (mut fine, mut grown, mut moved, mut settled) = (0, 0, 0, false);
    for n in 0..messages {
        let [to_redis, to_model] = draws.message(told_at.0);
        let found = told(handle, script::EXCHANGE, (b"{t}shares", &script::arguments(&to_redis)), script::reply).await;
        if let Reply::Fine(told) = &found {
            told_at = (told.now, Instant::now());
        }
        let now = told_at.0 + i64::try_from(told_at.1.elapsed().as_millis()).unwrap();
        let now = if let Reply::Fine(told) = &found { told.now } else { now };
        match (found, model.take(Here { run: &run, now }, &to_model)) {
            (Reply::Fine(mut found), Reply::Fine(mut expected)) => {
                draws.named((found.generation.clone(), expected.generation.clone(), found.epoch));
                (found.generation, found.swept) = ("".into(), 0);
                expected.generation = "".into();
                assert_eq!(found, expected, "message {n}: {to_redis:?}");
                fine += 1;
                grown += usize::from(found.parts[0] > to_redis.parts[0]);
                moved += found.lines.iter().zip(&to_redis.lines).filter(|(told, line)| told.rate > line.claim.max(found.parts[0])).count();
            }
            (Reply::Lost(found, epoch), Reply::Lost(expected, model_epoch)) => {
                assert_eq!(epoch, model_epoch, "message {n}: {to_redis:?}");
                draws.named((found, expected, epoch));
                if !std::mem::replace(&mut settled, true) {
                    // Later generations show what comes before that.
                    tokio::time::sleep(SETTLE + Duration::from_millis(50)).await;
                }
            }
            (found, expected) => assert_eq!(found, expected, "message {n}: {to_redis:?}"),
        }
        if n * 4 > messages * 3
            && draws.random.below(100) == 0
            && let Some(another) = lose(&mut draws.random, &mut model)
        {
            run = another;
        }
    }
    assert!(fine * 3 > messages && grown * 50 > messages && moved > 0, "{fine} answered, {grown} grown, {moved} moved of {messages}");
}

#[tokio::test]
async fn redis_does_with_shares_what_the_model_does() {
    let Some(mut server) = Server::start(&[]) else { return };
    let handle = patient(RedisConfig::single(server.url()));
    let mut runs = 0;
    compare(&handle, 3_000, |random, model| match random.below(6) {
        0 => {
            server.kill();
            server.restart();
            // Empty, and another run: numbers of generations begin anew in both.
            runs += 1;
            model.flush();
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
async fn a_cluster_does_with_shares_what_the_model_does() {
    let Some(cluster) = Cluster::start() else { return };
    let handle = patient(RedisConfig::cluster(cluster.urls()));
    compare(&handle, 300, |_, _| None).await;
}
