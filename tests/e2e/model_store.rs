//! Two proxies without a bus that share predictors in a bucket of a real S3 server.

use std::sync::Arc;
use std::time::Duration;

use farthing_config::ModelStoreConfig;
use farthing_models::{Alias, Kind, Order};
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{Clock, RealClock, Span};
use http::StatusCode;

use super::bundles;
use super::sinks::{bucket, servers::s3::Store, until};

fn champion(of: &Started) -> Option<u32> {
    of.proxy.models().current(Kind::Ttl, Alias::Champion).map(|generation| generation.version())
}

fn order() -> Order {
    Order::new(RealClock::default().now(), "operator".to_owned(), "a test".to_owned())
}

/// Orders block on the store's server.
async fn orders<T: Send + 'static>(of: &Started, order: impl FnOnce(&farthing_models::Store) -> T + Send + 'static) -> T {
    let models = Arc::clone(of.proxy.models());
    tokio::task::spawn_blocking(move || order(&models)).await.unwrap()
}

async fn start(origin: &Origin, store: &Store, name: &str) -> (Started, std::path::PathBuf) {
    let mut setup = Setup::new(origin.addr);
    setup.config.models.store = Some(ModelStoreConfig { bucket: bucket(store, "models"), deadline: Span::from_secs(1) });
    // Tests share the cores; whether a late answer counts is not what this is about.
    setup.config.models.deadline = Duration::from_secs(30);
    setup.config.state_dir = setup.config.models.dir.with_file_name(format!("state-{name}"));
    let root = setup.config.models.dir.clone();
    (setup.start_on(Arc::new(RealClock::default())).await, root)
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_share_predictors_in_a_bucket() {
    let (Some(_), Some(server)) = (bundles::runtime(), Store::start()) else { return };
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[], "answer".to_owned())).await;
    let ((one, root), (other, elsewhere)) = (start(&origin, &server, "one").await, start(&origin, &server, "other").await);
    for bias in [1.0, 2.0] {
        bundles::good(&root, bias);
    }
    orders(&one, |models| models.promote(Kind::Ttl, 1, Alias::Champion, order()).map(drop)).await.unwrap();
    until("the other has it brought and follows", || champion(&other) == Some(1)).await;
    assert!(elsewhere.join("ttl/1/manifest.json").is_file());
    orders(&one, |models| models.promote(Kind::Ttl, 2, Alias::Champion, order()).map(drop)).await.unwrap();
    until("the other follows", || champion(&other) == Some(2)).await;
    let named = orders(&other, farthing_models::Store::instances).await.unwrap();
    assert_eq!(named.len(), 2, "{named:?}");

    // The server hangs: nobody promotes, and whoever must goes back.
    server.signal("-STOP");
    let refused = orders(&other, |models| models.promote(Kind::Ttl, 1, Alias::Champion, order()).map(drop)).await.unwrap_err();
    assert!(refused.to_string().contains("s3://"), "{refused}");
    orders(&one, |models| models.rollback(Kind::Ttl, Alias::Champion, order()).map(drop)).await.unwrap();
    assert_eq!((champion(&one), champion(&other)), (Some(1), Some(2)));
    let problem = |of: &Started| of.proxy.parts().into_iter().find(|part| part.name == "models").unwrap().problem;
    until("it is told", || problem(&other).is_some_and(|problem| problem.contains("what is here goes on"))).await;
    server.signal("-CONT");
    until("all follow when it is back", || champion(&other) == Some(1)).await;
    let history = orders(&other, farthing_models::Store::history).await;
    assert_eq!(history.iter().filter(|event| event.action.rejects()).count(), 1, "{history:?}");
    for proxy in [one, other] {
        proxy.proxy.shutdown().await;
    }
}
