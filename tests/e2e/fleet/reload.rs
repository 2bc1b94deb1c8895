//! O3, G3: limits and budgets that running instances share are changed by a reload, over a real Redis. Bounds are on counts, never on times.

use std::path::Path;

use farthing_config::Config;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Started};
use farthing_types::{BudgetSpec, LimitScope, LimitSpec, RateSpec, Span};
use futures_util::future::join_all;
use http::StatusCode;

use super::{fleet, start};
use crate::events::until;
use crate::l2::servers::Server;

const INSTANCES: usize = 3;

struct World {
    origin: Origin,
    instances: Vec<Started>,
    _redis: Server,
    _states: tempfile::TempDir,
}

impl World {
    async fn new(change: impl Fn(&mut Config)) -> Option<Self> {
        let redis = Server::start(&[])?;
        let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "no-store")], "answer")).await;
        let (states, mut instances) = (tempfile::tempdir().unwrap(), Vec::new());
        for n in 0..INSTANCES {
            let own = |config: &mut Config, dir: &Path| {
                config.state_dir = dir.join(n.to_string());
                config.log.enabled = false;
                config.models.dir = "no-models".into();
                change(config);
            };
            instances.push(start(&origin, fleet(&redis.url(), &format!("i{n}")), |setup| own(&mut setup.config, states.path())).await);
        }
        Some(Self { origin, instances, _redis: redis, _states: states })
    }

    /// Puts another configuration in force, one instance after the other.
    async fn reload(&self, change: impl Fn(&mut Config)) {
        for one in &self.instances {
            let mut config = Config::clone(&one.proxy.config());
            change(&mut config);
            let (proxy, digest) = (one.proxy.clone(), "another".into());
            let done = tokio::task::spawn_blocking(move || proxy.reload(|| Ok((config, digest)))).await.unwrap();
            assert!(!done.unwrap().0.changes.is_empty());
        }
    }

    /// Asks each instance so often, all at the same time; how many were answered.
    async fn ask(&self, each: usize) -> usize {
        let one = |client: farthing_tests::Client, n: usize| async move {
            // Nobody waits for a limit to let it through.
            client.get(&format!("/api/{n}"), &[("x-farthing-priority", "low")]).await.status
        };
        let all = self.instances.iter().flat_map(|instance| (0..each).map(move |n| one(instance.client, n)));
        join_all(all).await.into_iter().filter(|status| *status == StatusCode::OK).count()
    }
}

fn budget(limit: &str) -> Vec<BudgetSpec> {
    vec![BudgetSpec { name: "all".into(), limit: limit.parse().unwrap(), ..BudgetSpec::default() }]
}

/// A call costs 0.2 cents. Under a limit of 100 $ each instance is granted more in one go than is left when the limit has fallen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_falls_and_rises_is_never_overspent_and_is_used() {
    let Some(world) = World::new(|config| config.budgets = budget("100")).await else { return };
    let mut answered = 0;
    while answered < 120 {
        answered += world.ask(10).await;
    }
    for (limit, calls) in [("0.4", 200), ("0.3", 150), ("0.8", 400), ("0.9", 450)] {
        world.reload(|config| config.budgets = budget(limit)).await;
        let most = answered.max(calls);
        // One in twenty may be left: what the instances cannot tell each other within the time that a call waits.
        for _ in 0..20 {
            answered += world.ask(60).await;
            if answered >= most - calls / 20 {
                break;
            }
        }
        answered += world.ask(20).await;
        assert!(
            (most - calls / 20..=most).contains(&answered),
            "{answered} calls under {limit} $, which is {calls}, or what was spent before"
        );
        assert_eq!(world.origin.calls(), answered, "each is a call that was paid for");
    }
}

fn limit(count: u64) -> Vec<LimitSpec> {
    let requests = Some(RateSpec { count, period: Span::from_secs(3_600), burst: count });
    vec![LimitSpec { name: "hourly".into(), scope: LimitScope::Provider, requests, ..LimitSpec::default() }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_falls_and_rises_lets_no_more_through_than_the_greatest_of_them() {
    let Some(world) = World::new(|config| config.limits = limit(90)).await else { return };
    let share = |n: usize| world.instances[n].proxy.limits().unwrap().fleet.unwrap().shares.standing;
    until("all have a share", || (0..INSTANCES).all(|n| share(n).rate >= 333_000 && !share(n).closed)).await;
    let first = world.ask(10).await;
    assert_eq!(first, 30, "there is room for a third of it");
    // Of what was left no more stays than the smaller burst, each instance's part of it.
    world.reload(|config| config.limits = limit(45)).await;
    let second = world.ask(30).await;
    assert!((36..=46).contains(&second), "{second} of 45, and of what a minute brings one at most");
    // Nothing is filled anew: three a minute come.
    world.reload(|config| config.limits = limit(180)).await;
    let third = world.ask(30).await;
    assert!(third <= 9 + 45 - second.min(45), "{third}");
    let passed = first + second + third;
    until("shares are as they were", || (0..INSTANCES).all(|n| share(n).rate >= 333_000 && !share(n).closed)).await;
    assert_eq!(world.origin.calls(), passed);
    let problems: Vec<String> = world.instances.iter().filter_map(|one| one.proxy.limits().unwrap().fleet.unwrap().problem()).collect();
    assert!(problems.is_empty(), "{problems:?}");
}
