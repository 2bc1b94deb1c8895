//! R4, C7: too much at once, and promises that a wait breaks.

use super::*;

#[tokio::test(start_paused = true)]
async fn too_much_at_once_is_refused_by_priority_and_tier() {
    let mut config = config(Vec::new());
    config.overload.max_requests = 20;
    config.overload.tiers = vec![TierConfig { name: "gold".into(), tenants: vec!["named-acme".into()], share: 0.5 }];
    let world = world(config, Span::from_secs(1), OK);
    let flood = |count: usize, headers: Vec<(&'static str, &'static str)>| {
        let tag = format!("{headers:?}").len() * 1_000 + count;
        (0..count)
            .map(|n| world.inside.ask(request(Method::GET, &format!("/{tag}/{n}"), &headers, "")))
            .map(tokio::spawn)
            .collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    let waves = [
        (20, vec![LOW]),
        (20, vec![MEDIUM]),
        (21, vec![HIGH]),
        (22, vec![HIGH, ("x-farthing-tenant", "acme")]),
        (23, vec![LOW, ("x-farthing-tenant", "acme")]),
    ];
    for (count, headers) in waves {
        let wave = flood(count, headers);
        tokio::time::sleep(Span::from_millis(1)).await;
        all.push(wave);
    }
    let mut answered = Vec::new();
    for wave in all {
        let got = join_all(wave).await.into_iter().map(Result::unwrap).collect::<Vec<_>>();
        let shed = got.iter().filter(|got| got.status() == StatusCode::SERVICE_UNAVAILABLE);
        assert!(shed.clone().all(|got| got.headers()["retry-after"] == "1"));
        answered.push(got.len() - shed.count());
    }
    assert_eq!(answered, [8, 1, 1, 10, 0], "of 10 for all: 8 low, 9 with medium, 10 with high; and 10 of their own");
    let tiers = world.inside.load().tiers;
    assert_eq!((tiers[0].shed, tiers[1].shed), ([20, 19, 12], [12, 0, 23]));
    assert_eq!((tiers[0].used.requests, tiers[1].used.requests), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bodies_that_are_held_are_bounded_together() {
    let mut config = config(Vec::new());
    config.overload.max_bytes = 10_000;
    let config = with_provider(config, |provider| provider.dialect = Dialect::OpenAi);
    let world = world(config, Span::from_secs(1), OK);
    let body = "x".repeat(3_000);
    let paths: Vec<String> = (0..5).map(|n| format!("/{n}")).collect();
    let length = [MEDIUM, ("content-length", "3000")];
    let got = join_all(paths.iter().map(|path| world.post(path, &length, &body))).await;
    assert_eq!(got.iter().filter(|got| got.status == StatusCode::OK).count(), 3);
    assert!(got[4].body.contains("overloaded"), "{}", got[4].body);
    assert_eq!(world.inside.load().tiers[0].used.bytes, 0);
    assert_eq!(world.get("/hit", &[LOW]).await.status, StatusCode::OK);
}

/// Where time goes is measured in real time.
#[tokio::test]
async fn a_wait_for_a_turn_is_told_as_such_where_a_promise_was_missed() {
    let mut config = config(vec![limit(LimitScope::Tenant, 4, 1)]);
    Arc::make_mut(&mut config.routes[0]).sla = Some(Span::from_nanos(1));
    let world = world(config, Span::ZERO, OK);
    world.get("/0", &[MEDIUM]).await;
    // One that others may follow, and one that goes by itself.
    world.get("/1", &[MEDIUM]).await;
    world.post("/2", &[MEDIUM], "{}").await;
    world.inside.settle().await;
    let told = world.inside.totals().routes["llm"].sla.clone();
    assert_eq!((told.values().sum::<u64>(), told["queue"]), (3, 2), "{told:?}");
}
