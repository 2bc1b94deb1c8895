//! Orders that hold on all instances.

use farthing_models::{Alias, Kind, Order};
use farthing_proxy::BypassOrder;
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Started};

use super::link::Link;
use super::{fleet, heard, start, stats};
use crate::bundles;
use crate::events::until;
use crate::l2::servers::Server;

/// What was promoted on one instance decides on the other as soon as that has heard of it, not only when it looks at the store by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_seen_by_all() {
    let Some(server) = Server::start(&[]) else { return };
    let (origin, dir) = (Origin::simple(|_, _| ok("x")).await, tempfile::tempdir().unwrap());
    let models = |setup: &mut farthing_tests::Setup| setup.config.models.dir = dir.path().to_owned();
    let (a, b) = (start(&origin, fleet(&server.url(), "a"), models).await, start(&origin, fleet(&server.url(), "b"), models).await);
    heard(&a).await;
    heard(&b).await;
    let live = |proxy: &Started| {
        let aliases = proxy.proxy.models().status().aliases;
        aliases.into_iter().find(|info| (info.kind, info.alias) == (Kind::Ttl, Alias::Champion)).and_then(|info| info.live)
    };
    for _ in 0..3 {
        let version = bundles::with_table(dir.path()).manifest.version;
        let now = a.proxy.now();
        a.proxy.models().promote(Kind::Ttl, version, Alias::Champion, Order::new(now, "operator".to_owned(), "better".to_owned())).unwrap();
        a.proxy.say_models();
        assert_eq!(a.proxy.is_told(), Some(true));
        let told = stats(&a).told;
        until("b has heard", || stats(&a).told == told && stats(&b).position >= stats(&a).position).await;
        assert_eq!(live(&b), Some(version));
    }
}

fn passes_by(proxy: &Started) -> bool {
    !proxy.proxy.bypasses().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bypass_and_a_freeze_hold_everywhere_and_for_who_comes_later() {
    let Some(server) = Server::start(&[]) else { return };
    let origin = Origin::simple(|_, _| ok("x")).await;
    let (a, b) = (start(&origin, fleet(&server.url(), "a"), |_| ()).await, start(&origin, fleet(&server.url(), "b"), |_| ()).await);
    heard(&a).await;
    heard(&b).await;
    let order = BypassOrder { route: Some("api".into()), since: a.proxy.now(), until: None, reason: "an incident".into() };
    a.proxy.bypass_on(order).unwrap();
    b.proxy.freeze(true, "until monday").unwrap();
    until("both hold on both", || [&a, &b].iter().all(|proxy| passes_by(proxy) && proxy.proxy.frozen().is_some())).await;
    assert_eq!(&*a.proxy.frozen().unwrap().reason, "until monday");
    let late = start(&origin, fleet(&server.url(), "late"), |_| ()).await;
    until("and on who comes later", || passes_by(&late) && late.proxy.frozen().is_some()).await;
    b.proxy.bypass_off(None, "over").unwrap();
    a.proxy.freeze(false, "monday").unwrap();
    until("neither holds any more", || [&a, &b, &late].iter().all(|proxy| !passes_by(proxy) && proxy.proxy.frozen().is_none())).await;
    let later = start(&origin, fleet(&server.url(), "later"), |_| ()).await;
    heard(&later).await;
    assert!(!passes_by(&later) && later.proxy.frozen().is_none());
}

/// An order that could not be told, or was told and not acknowledged, and is told once more when a later one holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_order_that_is_told_late_does_not_come_back() {
    let Some(server) = Server::start(&[]) else { return };
    let (origin, link) = (Origin::simple(|_, _| ok("x")).await, Link::to(server.port).await);
    let (a, b) = (start(&origin, fleet(&link.url(), "a"), |_| ()).await, start(&origin, fleet(&server.url(), "b"), |_| ()).await);
    heard(&a).await;
    heard(&b).await;
    let order = |proxy: &Started, route: &str| BypassOrder {
        route: Some(route.into()),
        since: proxy.proxy.now(),
        until: None,
        reason: "an incident".into(),
    };
    // What a says is held up on its way, and said again and again.
    link.freeze();
    a.proxy.bypass_on(order(&a, "api")).unwrap();
    a.proxy.freeze(true, "an incident").unwrap();
    until("a cannot tell", || stats(&a).silent && stats(&a).waiting == 2).await;
    b.proxy.freeze(true, "the same").unwrap();
    b.proxy.freeze(false, "over").unwrap();
    b.proxy.bypass_on(order(&b, "api")).unwrap();
    b.proxy.bypass_off(None, "over").unwrap();
    until("b has told", || stats(&b).waiting == 0).await;
    link.thaw();
    until("a has told", || stats(&a).waiting == 0 && !stats(&a).silent && stats(&a).position >= stats(&b).position).await;
    until("a obeys the later order", || !passes_by(&a) && a.proxy.frozen().is_none()).await;
    until("b has heard a", || stats(&b).position >= stats(&a).position).await;
    assert!(!passes_by(&b) && b.proxy.frozen().is_none());
    let late = start(&origin, fleet(&server.url(), "late"), |_| ()).await;
    heard(&late).await;
    assert!(!passes_by(&late) && late.proxy.frozen().is_none());
    // And the next order holds everywhere, whoever gives it.
    a.proxy.bypass_on(order(&a, "api")).unwrap();
    until("it holds", || [&a, &b, &late].iter().all(|proxy| passes_by(proxy))).await;
}
