//! E4 and "at most one billable attempt unless opted in": every fault, for calls that may be repeated and such that may not, with and
//! without a batch.

use farthing_types::{Failure, FailureKind};
use http::{HeaderValue, Method};

use super::provider::*;

/// Its name, and what the provider does.
type Fault = (&'static str, fn() -> Answer);

/// What goes wrong with the first thing that is sent.
const FAULTS: &[Fault] = &[
    ("before anything is sent", || Answer::Unsent),
    ("after it was sent", || Answer::Broken),
    ("within the answer", || Answer::Cut("{\"responses\":[{\"id\":\"0\",\"st".to_owned())),
    ("nothing comes", || Answer::Hang),
    ("no answer of the format", || Answer::Reply(200, "[]".to_owned())),
    ("an answer that lacks one", || Answer::Reply(200, "{\"responses\":[{\"id\":\"0\",\"status\":200,\"body\":1}]}".to_owned())),
    ("503", || Answer::Reply(503, "busy".to_owned())),
    ("404", || Answer::Reply(404, "no".to_owned())),
    ("429", || Answer::Reply(429, "slow".to_owned())),
];

struct Row {
    method: Method,
    key: bool,
    attempts: u16,
    batched: bool,
    fault: &'static str,
}

type Told = Result<(u16, String), Failure>;

/// Asks for two things while the fault happens once; what each was told and how often each may have been billed.
async fn run(row: &Row) -> Vec<(Told, usize)> {
    let fault = FAULTS.iter().find(|(name, _)| *name == row.fault).unwrap().1;
    // Unbatched, each of the two meets it.
    let times = if row.batched { 1 } else { 2 };
    let world =
        World::new(rest(), rule(), row.attempts, Provider::new(move |number, seen| if number < times { fault() } else { echo(seen) }));
    let calls = ["/a", "/b"].map(|target| {
        let body = if row.method == Method::GET { "" } else { "{}" };
        let (mut call, sink) = world.call(row.method.clone(), target, body);
        if row.key {
            call.headers.insert("idempotency-key", HeaderValue::from_static("k"));
        }
        call.batch = call.batch.filter(|_| row.batched);
        (call, sink)
    });
    let [(a, of_a), (b, of_b)] = calls;
    let (a, b) = tokio::join!(world.ask(a), world.ask(b));
    vec![(a, of_a.billable()), (b, of_b.billable())]
}

#[tokio::test(start_paused = true)]
async fn nothing_is_bought_twice_unless_it_may_be_and_nobody_is_lost() {
    let mut rows = 0;
    for (fault, _) in FAULTS {
        for (method, key) in [(Method::GET, false), (Method::PUT, false), (Method::POST, false), (Method::POST, true)] {
            for attempts in [1, 2, 3] {
                for batched in [false, true] {
                    let row = Row { method: method.clone(), key, attempts, batched, fault };
                    let name = format!("{method}, key {key}, {attempts} attempts, batched {batched}: {fault}");
                    let repeatable = method.is_idempotent() || key;
                    let most = if repeatable { usize::from(attempts) } else { 1 };
                    for (told, billable) in run(&row).await {
                        assert!(billable <= most, "{name}: {billable} attempts that may be billed");
                        judge(&row, repeatable, told, &name);
                        rows += 1;
                    }
                }
            }
        }
    }
    assert_eq!(rows, FAULTS.len() * 4 * 3 * 2 * 2);
}

/// What a client must be told, where it is not left to the provider's fault.
fn judge(row: &Row, repeatable: bool, told: Told, name: &str) {
    let in_batch = row.batched && !row.key;
    let again = match row.fault {
        // A batch that was not sent costs no attempt.
        "before anything is sent" => in_batch || row.attempts > 1,
        "429" => false,
        _ => in_batch && repeatable && row.attempts > 1,
    };
    match told {
        Ok((200, body)) if again => assert!(body == asked("/a") || body == asked("/b"), "{name}: {body}"),
        Ok((200, body)) => assert!(!in_batch || body.contains("asked"), "{name}: an answer out of nothing: {body}"),
        Ok((status, _)) => assert!(!again && row.fault.starts_with(&status.to_string()), "{name}: {status}"),
        Err(failure) => assert!(!again && failure.kind != FailureKind::LeaderGone, "{name}: {failure}"),
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_failed_are_made_again_only_when_they_are_few() {
    for (failing, again) in [(1, true), (2, false)] {
        let provider = Provider::new(move |_, seen| {
            let Answer::Reply(status, body) = echo(seen) else { unreachable!() };
            let failed = |n: usize| format!("{{\"id\":\"{n}\",\"status\":503,\"body\":{{\"busy\":{n}}}}}");
            let body = if seen.target == "/batch" {
                let rest = (failing..6).map(|n| format!("{{\"id\":\"{n}\",\"status\":200,\"body\":{n}}}"));
                format!("{{\"responses\":[{}]}}", (0..failing).map(failed).chain(rest).collect::<Vec<_>>().join(","))
            } else {
                body
            };
            Answer::Reply(status, body)
        });
        let world = World::new(rest(), rule(), 2, provider);
        let answers = world.all(&["/0", "/1", "/2", "/3", "/4", "/5"]).await;
        for (n, answer) in answers.into_iter().enumerate() {
            let expected = match n < failing {
                true if again => (200, asked(&format!("/{n}"))),
                true => (503, format!("{{\"busy\":{n}}}")),
                false => (200, n.to_string()),
            };
            assert_eq!(answer, Ok(expected));
        }
        assert_eq!(world.provider.calls(), if again { 1 + failing } else { 1 });
    }
}

/// Else many calls would be made of one that was too many.
#[tokio::test(start_paused = true)]
async fn who_is_told_to_slow_down_goes_on_in_batches() {
    for (status, rests) in [(429, 0), (401, 0), (503, 1)] {
        let world = World::new(rest(), rule(), 1, Provider::new(move |_, _| Answer::Reply(status, "no".to_owned())));
        for _ in 0..3 {
            for told in world.all(&["/0", "/1", "/2", "/3", "/4"]).await {
                assert_eq!(told, Ok((status, "no".to_owned())));
            }
        }
        assert_eq!((world.provider.targets(), world.stats.rests()), (vec!["/batch".to_owned(); 3], rests), "{status}");
        world.all(&["/0", "/1", "/2", "/3", "/4"]).await;
        assert_eq!(world.provider.calls(), if rests == 0 { 4 } else { 8 }, "{status}");
    }
}
