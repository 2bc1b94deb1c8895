//! No member ever gets another's answer, and none is lost: random batches whose answers fail in random ways.

use std::sync::Arc;

use farthing_types::FailureKind;
use http::Method;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::formats::users;
use super::provider::*;
use crate::batch::*;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Envelope,
    List,
    Embedding,
}

impl Kind {
    fn format(self) -> Arc<dyn BatchFormat> {
        match self {
            Self::Envelope => rest(),
            Self::List => Arc::new(users()),
            Self::Embedding => Arc::new(Embeddings),
        }
    }

    /// The single call of thing `n`.
    fn ask(self, n: u32) -> (Method, String, String) {
        match self {
            Self::Envelope => (Method::GET, format!("/things/{n}"), String::new()),
            Self::List => (Method::GET, format!("/users/{n}"), String::new()),
            Self::Embedding => {
                (Method::POST, "/v1/embeddings".to_owned(), json!({ "model": "m", "input": [n.to_string(), "x"] }).to_string())
            }
        }
    }

    /// Everything that answers thing `n` has this in it, and nothing else has.
    fn mark(self, n: u32) -> String {
        format!("<{n}>")
    }
}

/// What a provider that fails at random answers. Each answer that has a status of success in it names whose it is.
fn answer(kind: Kind, seen: &Seen, rng: &mut StdRng) -> Answer {
    match rng.random_range(0..20) {
        0 => return Answer::Unsent,
        1 => return Answer::Broken,
        2 => return Answer::Reply(503, "busy".to_owned()),
        3 => return Answer::Hang,
        _ => {}
    }
    let body = match kind {
        Kind::Envelope if seen.target == "/batch" => envelope(seen, rng),
        Kind::List if seen.target.contains("ids=") => list(seen, rng),
        Kind::Embedding => embeddings(seen, rng),
        _ => json!({ "is": format!("<{}>", seen.target.rsplit('/').next().unwrap()) }).to_string(),
    };
    match rng.random_range(0..20) {
        0 => Answer::Cut(body[..body.len() / 2].to_owned()),
        1 => Answer::Reply(200, body[..body.len() / 2].to_owned()),
        _ => Answer::Reply(200, body),
    }
}

/// Drops, doubles, or adds one, now and then; and in any order.
fn disturb(items: &mut Vec<Value>, foreign: Value, rng: &mut StdRng) {
    items.shuffle(rng);
    match rng.random_range(0..12) {
        0 => drop(items.pop()),
        1 => items.push(items[0].clone()),
        2 => items.push(foreign),
        _ => {}
    }
}

fn envelope(seen: &Seen, rng: &mut StdRng) -> String {
    let asked: Value = serde_json::from_str(&seen.body).unwrap();
    let mut one = |request: &Value| {
        let status = [200, 200, 200, 200, 200, 404, 500, 503][rng.random_range(0..8)];
        let mark = format!("<{}>", request["url"].as_str().unwrap().rsplit('/').next().unwrap());
        json!({ "id": request["id"], "status": status, "body": { "is": mark } })
    };
    let mut responses: Vec<Value> = asked["requests"].as_array().unwrap().iter().map(&mut one).collect();
    disturb(&mut responses, json!({ "id": "999", "status": 200, "body": { "is": "<999>" } }), rng);
    json!({ "responses": responses }).to_string()
}

fn list(seen: &Seen, rng: &mut StdRng) -> String {
    let ids = seen.target.split("ids=").nth(1).unwrap().split('&').next().unwrap();
    let mut items: Vec<Value> = ids.split(',').map(|id| json!({ "id": id, "is": format!("<{id}>") })).collect();
    disturb(&mut items, json!({ "id": 99_999_999, "is": "<99999999>" }), rng);
    json!({ "users": items }).to_string()
}

fn embeddings(seen: &Seen, rng: &mut StdRng) -> String {
    let asked: Value = serde_json::from_str(&seen.body).unwrap();
    let inputs = asked["input"].as_array().unwrap();
    let one = |(index, input): (usize, &Value)| json!({ "index": index, "embedding": format!("<{}>", input.as_str().unwrap()) });
    let mut data: Vec<Value> = inputs.iter().enumerate().map(one).collect();
    // What one alone is told is as the provider says.
    if inputs.len() > 2 {
        disturb(&mut data, json!({ "index": inputs.len() + 7, "embedding": "<none>" }), rng);
    }
    json!({ "data": data, "usage": { "prompt_tokens": 17 } }).to_string()
}

async fn case(seed: u64) -> (usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let kind = [Kind::Envelope, Kind::List, Kind::Embedding][rng.random_range(0..3)];
    let failing = parking_lot::Mutex::new(StdRng::seed_from_u64(seed ^ 0xdead));
    let provider = Provider::new(move |_, seen| answer(kind, seen, &mut failing.lock()));
    let world = World::new(kind.format(), rule(), rng.random_range(1..4), provider);
    let mut numbers: Vec<u32> = (1..rng.random_range(3..14)).map(|n| n * 1_000 + rng.random_range(0..900)).collect();
    numbers.shuffle(&mut rng);
    let asked = numbers.iter().map(|n| {
        let (method, target, body) = kind.ask(*n);
        world.ask(world.call(method, &target, &body).0)
    });
    let answers = futures_util::future::join_all(asked).await;
    let mut own = 0;
    for (n, answer) in numbers.iter().zip(answers) {
        let body = match answer {
            Ok((_, body)) => body,
            Err(failure) => {
                assert_ne!(failure.kind, FailureKind::LeaderGone, "seed {seed}: lost");
                continue;
            }
        };
        own += usize::from(body.contains(&kind.mark(*n)));
        for other in numbers.iter().filter(|other| *other != n) {
            assert!(!body.contains(&kind.mark(*other)), "seed {seed}, {kind:?}: {n} was told of {other}: {body}");
        }
        assert!(!body.contains("<999>") && !body.contains("<none>") && !body.contains("<99999999>"), "seed {seed}: {body}");
    }
    (numbers.len(), own)
}

async fn cases(seeds: std::ops::Range<u64>) {
    let count = seeds.end - seeds.start;
    let (mut asked, mut own) = (0, 0);
    for seed in seeds {
        let (of_case, with_answer) = case(seed).await;
        (asked, own) = (asked + of_case, own + with_answer);
    }
    println!("{count} batches, {asked} members, {own} with their own answer");
    assert!(own * 2 > asked, "too few answers for the test to tell anything: {own} of {asked}");
}

#[tokio::test(start_paused = true)]
async fn no_member_gets_anothers_answer() {
    cases(0..5_000).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "1e5 batches; `make simulate` runs it"]
async fn no_member_gets_anothers_answer_in_1e5_batches() {
    cases(0..100_000).await;
}
