//! Prompts are marked for the provider's own cache where that pays; the ledger's bill is the provider's, and so is the saving.

use bytes::Bytes;
use farthing_config::{Config, Mode, PromptCacheConfig, PromptTtl, Route};
use farthing_proxy::SwitchView;
use farthing_types::Money;
use futures_util::future::join_all;
use http::StatusCode;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::world::{Temper, World, anthropic};

const MARKS: PromptCacheConfig = PromptCacheConfig { ttl: PromptTtl::FiveMinutes, min_tokens: 100 };

fn usual() -> World {
    World::new(anthropic(), Some(MARKS), |_, _| ())
}

/// So many words of four bytes, told apart by their beginning.
fn text(name: &str, words: usize) -> String {
    format!("{name}{}", " wrd".repeat(words.saturating_sub(1)))
}

fn question(system: &str, words: usize) -> Value {
    json!({"model": "m", "max_tokens": 50, "system": text(system, 2_000), "messages": [{"role": "user", "content": text(&words.to_string(), 5)}]})
}

fn marks(body: &Value) -> usize {
    body.to_string().matches("cache_control").count()
}

#[tokio::test(start_paused = true)]
async fn a_system_prompt_that_comes_again_is_written_once_and_read_from_then_on() {
    let world = usual();
    for turn in 0..10 {
        world.ask("a", &question("s", turn)).await;
        world.wait(60);
    }
    let (counted, logged) = world.end().await;
    assert_eq!((counted.calls, counted.written, counted.read, counted.refused), (10, 2_000, 8 * 2_000, 0));
    assert_eq!(logged.decisions[..2], ["few-reads", "marked"]);
    assert!(logged.decisions[2..].iter().all(|decision| decision == "marked"), "{logged:?}");
    logged.agrees(&counted);
    // 8 reads save nine tenths, one write costs a quarter more: of 2,000 tokens each at 3,000 nano-dollars.
    assert_eq!(logged.saved, Money::from_nanos(8 * 2_000 * 2_700 - 2_000 * 750));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_reads_is_shown_as_a_loss() {
    let world = usual();
    world.ask("a", &question("s", 0)).await;
    world.wait(60);
    world.ask("a", &question("s", 1)).await;
    world.wait(400);
    let (counted, logged) = world.end().await;
    assert_eq!((counted.written, counted.read), (2_000, 0));
    logged.agrees(&counted);
    assert_eq!(logged.saved, Money::from_nanos(-2_000 * 750));
}

#[tokio::test(start_paused = true)]
async fn only_what_is_ours_to_mark_is_marked_and_nothing_else_of_a_body_changes() {
    let changed = |change: fn(&mut Config, &mut Route)| World::new(anthropic(), Some(MARKS), change);
    let plain = question("s", 7);
    let own = json!({"model": "m", "max_tokens": 5, "system": [{"type": "text", "text": text("s", 2_000), "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": "q"}]});
    let told: Bytes = plain.to_string().into();
    for (world, headers, body, decision) in [
        (usual(), vec![], own.to_string().into(), "client"),
        (usual(), vec![("digest", "sha-256=x")], told.clone(), "unreadable"),
        (usual(), vec![("x-farthing-cache", "off")], told.clone(), "none"),
        (changed(|_, route| route.mode = Mode::Observe), vec![], told.clone(), "none"),
        (changed(|_, route| route.prompt_cache = None), vec![], told.clone(), "none"),
        (
            usual(),
            vec![],
            Bytes::from(
                json!({"model": "x", "max_tokens": 5, "system": text("s", 2_000), "messages": [{"role": "user", "content": "q"}]})
                    .to_string(),
            ),
            "no-price",
        ),
        (
            usual(),
            vec![],
            Bytes::from(json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "q"}]}).to_string()),
            "short",
        ),
    ] {
        for _ in 0..3 {
            world.send("a", &headers, body.clone()).await;
            assert_eq!(world.vendor.bodies.lock().last(), Some(&body), "{decision}");
        }
        world.inside.settle().await;
        if decision != "no-price" {
            assert_eq!(world.end().await.1.decisions, [decision; 3]);
        }
    }
    // A marked body says the same, with its fields in their order.
    let world = usual();
    let body = Bytes::from(format!(
        "{{ \"system\" : \"{}\",\"max_tokens\":9,\"messages\":[{{\"role\":\"user\",\"content\":\"q\"}}] ,\"model\":\"m\" }}",
        text("s", 2_000)
    ));
    for _ in 0..2 {
        world.send("a", &[], body.clone()).await;
    }
    let sent = String::from_utf8(world.vendor.bodies.lock()[1].to_vec()).unwrap();
    let back = sent.replacen("[{\"type\":\"text\",\"text\":", "", 1).replacen(",\"cache_control\":{\"type\":\"ephemeral\"}}]", "", 1);
    assert_eq!(back.as_bytes(), &body[..]);
}

#[tokio::test(start_paused = true)]
async fn nobody_counts_on_what_others_have_sent() {
    let world = usual();
    for (turn, who) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        world.ask(who, &question("s", turn)).await;
        assert_eq!(marks(&world.sent()), 0, "{who}");
    }
    let (counted, logged) = world.end().await;
    assert_eq!(counted.billed, counted.plain);
    logged.agrees(&counted);
}

#[tokio::test(start_paused = true)]
async fn keys_and_copies_are_made_of_what_the_client_sent() {
    let world = World::new(anthropic(), Some(MARKS), |_, route| {
        (route.cache, route.idempotent, route.mode) = (true, true, Mode::Override);
    });
    for turn in [0, 1, 2, 2, 1] {
        let (status, _) = world.ask("a", &question("s", turn)).await;
        assert_eq!(status, StatusCode::OK);
    }
    let totals = world.inside.totals();
    let saved = |cause: &str| totals.routes["claude"].saved.get(cause).map_or(0, |tally| tally.count);
    // Two copies, whose calls were marked: each is worth a plain call.
    assert_eq!((saved("l1"), world.vendor.take().calls), (2, 3));
    let (counted, logged) = world.end().await;
    assert_eq!(logged.bill, counted.billed);
    let plain = Money::from_nanos((2_000 + 5) * 3_000 + 10 * 15_000);
    assert_eq!(logged.base, plain.times(5));
}

#[tokio::test(start_paused = true)]
async fn an_hour_is_asked_for_where_the_route_says_so() {
    let world = World::new(anthropic(), Some(PromptCacheConfig { ttl: PromptTtl::Hour, ..MARKS }), |_, _| ());
    // A write for an hour costs as much as 1.1 reads save: more has to be seen before it is dared.
    for turn in 0..6 {
        world.ask("a", &question("s", turn)).await;
        world.wait(1_800);
    }
    assert_eq!(world.sent()["system"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
    let (counted, logged) = world.end().await;
    assert_eq!((counted.read, counted.written), (2 * 2_000, 2_000));
    logged.agrees(&counted);
}

fn standing(world: &World) -> SwitchView {
    let told = world.inside.switches();
    told[0].strategies.iter().find(|view| view.strategy.as_str() == "prompt_cache").unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn marks_that_lose_stop_and_say_so() {
    let world = usual();
    *world.vendor.temper.lock() = Temper::Forgetful;
    for turn in 0..200 {
        world.ask("a", &question("s", turn)).await;
        world.wait(10);
    }
    let view = standing(&world);
    assert_eq!((view.standing.as_str(), view.switched_off), ("off", 1));
    assert!(view.tried_again.is_some_and(|at| at > farthing_types::Clock::now(&*world.clock)));
    // Tried again after the rest, and the provider has mended.
    *world.vendor.temper.lock() = Temper::Usual;
    world.wait(3_600);
    for turn in 0..210 {
        world.ask("a", &question("s", turn)).await;
        world.wait(10);
    }
    let view = standing(&world);
    assert_eq!((view.standing.as_str(), view.switched_off), ("on", 1));
    let (counted, logged) = world.end().await;
    let off = logged.decisions.iter().filter(|decision| *decision == "switched-off").count();
    assert!((100..190).contains(&off), "{off} calls while they rested");
    logged.agrees(&counted);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_has_kept_nothing_and_bills_nothing() {
    let world = usual();
    world.ask("a", &question("s", 0)).await;
    *world.vendor.temper.lock() = Temper::Overloaded;
    for turn in 1..4 {
        world.ask("a", &question("s", turn)).await;
    }
    *world.vendor.temper.lock() = Temper::Usual;
    world.wait(31);
    for turn in 4..6 {
        world.ask("a", &question("s", turn)).await;
    }
    let (counted, logged) = world.end().await;
    assert_eq!((counted.calls, counted.written, counted.read), (3, 2_000, 2_000), "{:?}", logged.decisions);
    logged.agrees(&counted);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_knows_no_marks_is_asked_again_without_and_left_alone() {
    for (cache, stream) in [(false, false), (false, true), (true, false)] {
        let world =
            World::new(anthropic(), Some(MARKS), |_, route| (route.cache, route.idempotent, route.mode) = (cache, cache, Mode::Override));
        *world.vendor.temper.lock() = Temper::Strict;
        for turn in 0..5 {
            let mut body = question("s", turn);
            body["stream"] = json!(stream);
            let (status, _) = world.ask("a", &body).await;
            assert_eq!((status, &world.sent()), (StatusCode::OK, &body));
        }
        // What the client has put wrong itself is told as it is, and says nothing of marks.
        assert_eq!(world.inside.prompts()[0].stats.refused, 1);
        assert_eq!((standing(&world).standing.as_str(), standing(&world).switched_off), ("off", 1));
        let (counted, logged) = world.end().await;
        assert_eq!((counted.calls, counted.refused, counted.billed), (5, 1, counted.plain));
        logged.agrees(&counted);
        // The refused attempt and the one after it are of one call.
        // Fills settle in tasks of their own, in any order.
        let mut decisions = logged.decisions.clone();
        decisions.sort_unstable();
        assert_eq!(decisions, ["few-reads", "refused", "refused", "switched-off", "switched-off", "switched-off"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_alike_prompts_writes_once() {
    let world = usual();
    *world.vendor.temper.lock() = Temper::Slow;
    let bodies: Vec<Value> = (0..30).map(|turn| question("s", turn)).collect();
    join_all(bodies.iter().map(|body| world.ask("a", body))).await;
    assert_eq!((world.vendor.take().written, world.vendor.take().read), (2_000, 0), "what is not there yet is not paid for twice");
    world.ask("a", &question("s", 40)).await;
    let (counted, logged) = world.end().await;
    assert_eq!((counted.written, counted.read), (2_000, 2_000));
    logged.agrees(&counted);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_has_put_wrong_is_told_as_it_is() {
    let world = usual();
    let wrong = |turn: usize| json!({"model": "m", "system": text("s", 2_000), "messages": [{"role": "user", "content": text(&turn.to_string(), 5)}]});
    for turn in 0..4 {
        let (status, told) = world.ask("a", &wrong(turn)).await;
        assert_eq!((status, &told[..]), (StatusCode::BAD_REQUEST, &b"max_tokens: Field required"[..]));
        world.wait(1);
    }
    assert_eq!((standing(&world).standing.as_str(), world.inside.prompts()[0].stats.refused), ("on", 0));
    let (counted, logged) = world.end().await;
    assert_eq!((counted.billed, logged.bill), (Money::ZERO, Money::ZERO));
}

/// Who marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Farthing,
    /// The client itself: its system prompt and its last turn, always.
    Client,
}

/// Seeded: users with conversations of several turns, some of whom come back late or never, plain and streamed; of a hundred turns so many are the last.
/// Bill / base over prices as Anthropic's, provider and ledger agreeing.
async fn talk(by: By, last: u32) -> f64 {
    let world = World::new(anthropic(), (by == By::Farthing).then_some(MARKS), |_, _| ());
    let mut rng = StdRng::seed_from_u64(11);
    let mut talks: Vec<(usize, Vec<Value>)> = Vec::new();
    let mut born = 0;
    for _ in 0..700 {
        if talks.len() < 12 || rng.random_range(0..10) == 0 {
            born += 1;
            talks.push((born, Vec::new()));
        }
        let place = rng.random_range(0..talks.len());
        let (name, turns) = &mut talks[place];
        turns.push(json!({"role": "user", "content": text(&format!("q{name}.{}", turns.len()), rng.random_range(20..400))}));
        let stream = rng.random_range(0..3) == 0;
        let mut body = json!({"model": "m", "max_tokens": 50, "stream": stream, "system": text("system", 1_500), "messages": turns});
        if by == By::Client {
            let marked = |text: &Value| json!([{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]);
            body["system"] = marked(&body["system"]);
            let turn = body["messages"].as_array_mut().unwrap().last_mut().unwrap();
            turn["content"] = marked(&turn["content"]);
        }
        let (status, _) = world.ask("a", &body).await;
        assert_eq!(status, StatusCode::OK);
        turns.push(json!({"role": "assistant", "content": text(&format!("a{name}.{}", turns.len()), rng.random_range(20..200))}));
        if rng.random_range(0..100) < last {
            talks.swap_remove(place);
        }
        world.wait(rng.random_range(1..20));
    }
    let (counted, logged) = world.end().await;
    assert_eq!(counted.refused, 0);
    if by == By::Farthing {
        logged.agrees(&counted);
    }
    let share = counted.billed.nanos() as f64 / counted.plain.nanos() as f64;
    println!("conversations, {last} of 100 turns the last, marked by {by:?}: bill / base {share:.4}, {counted:?}");
    share
}

#[tokio::test(start_paused = true)]
async fn conversations_cost_less_than_with_marks_everywhere() {
    // Where most go on, marks everywhere are right but for what is learned; where few do, they pay for what nobody reads.
    let (ours, everywhere) = (talk(By::Farthing, 33).await, talk(By::Client, 33).await);
    assert!(ours < 0.5 && ours < everywhere + 0.03, "{ours} {everywhere}");
    let (ours, everywhere) = (talk(By::Farthing, 90).await, talk(By::Client, 90).await);
    assert!(ours < everywhere, "{ours} {everywhere}");
}
