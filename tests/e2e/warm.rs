//! D6: warming on order: within its money, never what is fresh, one call for a key whoever asks for it, and on its own line of the bill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farthing_config::{CredentialMode, CredentialPlace, LegConfig, RoutingConfig, Secret, TtlBy};
use farthing_proxy::{WarmOrder, WarmOutcome, WarmReport};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{Money, Span};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use crate::program::{Serving, built, said};

async fn origin() -> Origin {
    Origin::simple(|seen, _| match &*seen.target {
        "/broken" => answer_of(StatusCode::NOT_FOUND, &[], "none"),
        "/secret" => answer_of(StatusCode::OK, &[("cache-control", "no-store")], "{}"),
        target => ok(format!("answer to {target}")),
    })
    .await
}

fn setup(origin: &Origin) -> Setup {
    Setup::new(origin.addr).route(|r| r.ttl = TtlBy::Fixed(Duration::from_secs(60)))
}

fn order(targets: &[&str]) -> WarmOrder {
    WarmOrder {
        route: "api".to_owned(),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        tenant: None,
        headers: HeaderMap::new(),
        limit: None,
        rate: None,
        unpriced_ok: false,
        dry_run: false,
        within: Span::from_secs(10),
    }
}

fn outcomes(report: &WarmReport) -> Vec<&'static str> {
    report.warmed.iter().map(|warmed| warmed.outcome.as_str()).collect()
}

/// Bill of calls made to warm.
fn line(started: &Started) -> (u64, String) {
    started.proxy.totals().total.calls.get("warm").map_or((0, "0".to_owned()), |tally| (tally.count, tally.usd.to_string()))
}

async fn until(holds: impl Fn() -> bool, told: impl Fn() -> String) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{}", told());
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_warmed_is_a_hit_and_what_is_fresh_is_left_alone() {
    let origin = origin().await;
    let (started, clock) = setup(&origin).start_virtual().await;
    started.client.get("/api/a", &[]).await;
    // Its client has the answer a moment before the cache does.
    until(|| started.proxy.cache_stats().entries == 1, || "nothing was stored".to_owned()).await;
    let url = format!("http://{}/c", origin.addr);
    let targets = ["/api/a", "/b", &*url, "/broken", "/secret", "bad target"];
    let dry = started.proxy.warm(WarmOrder { dry_run: true, ..order(&targets) }).await.unwrap();
    assert_eq!(outcomes(&dry)[..3], ["fresh", "wanted", "wanted"]);
    assert_eq!(origin.calls(), 1, "a dry run asks nobody");
    let report = started.proxy.warm(order(&targets)).await.unwrap();
    assert_eq!(outcomes(&report), ["fresh", "fetched", "fetched", "status", "origin-no-store", "pass-through"]);
    // A 404 is not billed.
    assert_eq!(report.spent.to_string(), "0.006");
    until(|| line(&started) == (4, "0.006".to_owned()), || format!("{:?}", line(&started))).await;
    for target in ["/api/b", "/api/c"] {
        until(|| started.proxy.cache_stats().stored == 3, || "stored".into()).await;
        assert!(started.client.get(target, &[]).await.is_hit(), "{target}");
    }
    assert_eq!(origin.calls(), 5);
    // What has expired is wanted again; nobody asked for it, so it counts as no request.
    assert_eq!(started.proxy.totals().total.requests, 3);
    clock.advance(Duration::from_secs(61));
    assert_eq!(outcomes(&started.proxy.warm(order(&["/b"])).await.unwrap()), ["fetched"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_is_a_hard_stop() {
    let origin = origin().await;
    let started = setup(&origin).start().await;
    let targets: Vec<String> = (0..100).map(|n| format!("/doc/{n}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    for (limit, calls) in [("0.0019", 0), ("0.0411", 20), ("0.002", 1)] {
        let before = origin.calls();
        let limit: Money = limit.parse().unwrap();
        let report = started.proxy.warm(WarmOrder { limit: Some(limit), ..order(&targets) }).await.unwrap();
        assert!(report.limit_reached && report.spent <= limit, "{report:?}");
        assert_eq!(origin.calls() - before, calls, "{limit}");
    }
    // A failed attempt may be billed, too: then each call is taken for all its attempts.
    let billed = setup(&origin).provider(|p| {
        p.upstream.attempts = 3;
        p.prices = Some(farthing_config::Prices { errors_billed: true, ..farthing_config::Prices::per_call("0.002".parse().unwrap()) });
    });
    let report = billed.start().await.proxy.warm(WarmOrder { limit: Some("0.005".parse().unwrap()), ..order(&targets) }).await.unwrap();
    assert!(report.limit_reached && report.warmed.is_empty() && report.price.unwrap().to_string() == "0.006", "{report:?}");
}

/// A provider that takes a request and says nothing: it may bill it. How often it was asked.
async fn silent() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    tokio::task::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1_024];
            if tokio::io::AsyncReadExt::read(&mut stream, &mut head).await.is_ok_and(|read| read > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (addr, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_holds_for_attempts_that_get_no_answer() {
    let (addr, asked) = silent().await;
    let started = Setup::new(addr).provider(|p| p.upstream.attempts = 3).start().await;
    let targets: Vec<String> = (0..20).map(|n| format!("/doc/{n}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let limit: Money = "0.013".parse().unwrap();
    let report = started.proxy.warm(WarmOrder { limit: Some(limit), ..order(&targets) }).await.unwrap();
    assert_eq!((report.price.unwrap().to_string(), report.spent.to_string(), report.limit_reached), ("0.006".into(), "0.012".into(), true));
    assert_eq!((asked.load(Ordering::Relaxed), outcomes(&report)), (6, vec!["failed", "failed"]), "each of them may be billed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_and_the_terms_are_those_of_all_providers() {
    let origin = origin().await;
    let several = |limit: &str, prefetch: bool| {
        let mut setup = setup(&origin).route(|r| {
            let leg = |provider: &str| LegConfig { provider: provider.into(), quality: 1.0, adapter: None };
            let providers = vec![leg("origin"), leg("second")];
            r.routing = Some(RoutingConfig { providers, weights: Default::default(), floor: 0.0, required: Vec::new(), complete: 1.0 });
        });
        let mut second = (*setup.config.providers[0]).clone();
        (second.name, second.terms.prefetch) = ("second".into(), prefetch);
        second.prices = Some(farthing_config::Prices::per_call("0.05".parse().unwrap()));
        setup.config.providers.push(Arc::new(second));
        // The cheap one is down: nobody listens at port 1.
        setup = setup.provider(|p| p.base_url = "http://127.0.0.1:1".parse().unwrap());
        let order = WarmOrder { limit: Some(limit.parse().unwrap()), ..order(&["/0", "/1", "/2", "/3", "/4", "/5", "/6"]) };
        async move { setup.start().await.proxy.warm(order).await }
    };
    let report = several("0.008", true).await.unwrap();
    assert!(report.limit_reached && report.warmed.is_empty() && report.price.unwrap().to_string() == "0.052", "{report:?}");
    assert_eq!(origin.calls(), 0);
    let report = several("0.2", true).await.unwrap();
    assert_eq!((report.spent.to_string(), report.limit_reached, origin.calls()), ("0.15".into(), true, 3));
    let refused = several("10", false).await.unwrap_err().to_string();
    assert!(refused.contains("provider `second` forbid to fetch ahead"), "{refused}");
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_meanwhile_shares_the_call() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let origin = Origin::start(Arc::new(move |_, _| {
        let gate = held.clone();
        Box::pin(async move {
            gate.acquire().await.unwrap().forget();
            ok("{}")
        })
    }))
    .await;
    let started = Arc::new(setup(&origin).start().await);
    let proxy = started.proxy.clone();
    let warming = tokio::task::spawn(async move { proxy.warm(order(&["/a"])).await.unwrap() });
    until(|| origin.calls() == 1, || "the call".into()).await;
    let client = started.client;
    let asking = tokio::task::spawn(async move { client.get("/api/a", &[]).await });
    until(|| started.proxy.waiting() == 1, || "the client".into()).await;
    assert_eq!(outcomes(&started.proxy.warm(order(&["/a"])).await.unwrap()), ["under-way"]);
    gate.add_permits(1);
    assert_eq!((warming.await.unwrap().warmed[0].outcome, asking.await.unwrap().status), (WarmOutcome::Fetched, StatusCode::OK));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_warmed_is_refused_with_the_reason() {
    let origin = origin().await;
    let refused = async |setup: Setup, order: WarmOrder| setup.start().await.proxy.warm(order).await.unwrap_err().to_string();
    let one = || order(&["/a"]);
    assert!(refused(setup(&origin), WarmOrder { route: "sea".into(), ..one() }).await.contains("no route is called `sea`"));
    assert!(refused(setup(&origin).provider(|p| p.terms.prefetch = false), one()).await.contains("forbid to fetch ahead"));
    assert!(refused(setup(&origin).provider(|p| p.prices = None), one()).await.contains("set a price per call"));
    let passed = setup(&origin).provider(|p| p.credential_place = CredentialPlace::Bearer);
    assert!(refused(passed, one()).await.contains("passes the clients' own credentials"));
    assert_eq!(origin.calls(), 0);
    // With its own credential a route can be warmed for a tenant who has a key.
    let mut swapped = setup(&origin)
        .provider(|p| (p.credential_place, p.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk-real"))))
        .route(|r| r.credential = CredentialMode::Swap);
    let key = swapped.key("acme");
    let started = swapped.start().await;
    assert!(started.proxy.warm(one()).await.unwrap_err().to_string().contains("those with keys are: acme"));
    let report = started.proxy.warm(WarmOrder { tenant: Some("acme".into()), ..one() }).await.unwrap();
    assert_eq!((outcomes(&report), origin.seen()[0].headers["authorization"].to_str().unwrap()), (vec!["fetched"], "Bearer sk-real"));
    until(|| started.proxy.cache_stats().stored == 1, || "stored".into()).await;
    assert!(started.client.get("/api/a", &[("authorization", &format!("Bearer {key}"))]).await.is_hit());
}

/// The command, as an operator runs it before a peak.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_warms_the_hottest_within_its_limit() {
    let Some(program) = built("farthing") else { return skip("farthing warm: the program is not built (cargo build -p farthing)") };
    let (origin, dir) = (origin().await, tempfile::tempdir().unwrap());
    let config = format!(
        "[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n\
         [providers.geo.upstream]\nattempts = 1\n[routes.geo]\nttl = \"fixed:1h\"\n",
        origin.addr
    );
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let names = (0..30).map(|n| format!("/r/geo/doc/{n}\n")).collect::<String>() + &"/r/geo/doc/29\n".repeat(3);
    std::fs::write(dir.path().join("list"), names).unwrap();
    let serving = Serving::start(&program, dir.path(), &["--config", "farthing.toml"]).await;
    serving.data.get("/r/geo/doc/7", &[]).await;
    let warm = ["warm", "--route", "geo", "--from", "list"];
    let dry = serving.json(&[&warm[..], &["--dry-run", "--top", "5"]].concat()).await;
    assert_eq!(
        (&dry["fresh"], &dry["most_usd"], &dry["targets"][0]["target"]),
        (&1.into(), &"0.01".into(), &"/r/geo/doc/29".into()),
        "{dry}"
    );
    let report = serving.json(&[&warm[..], &["--limit-usd", "0.02", "--rate", "1000"]].concat()).await;
    assert_eq!(
        (&report["fetched"], &report["spent_usd"], &report["limit_reached"]),
        (&10.into(), &"0.02".into(), &true.into()),
        "{report}"
    );
    assert_eq!(origin.calls(), 11);
    let told = said(&serving.cli(&[&warm[..], &["--limit-usd", "1"]].concat()).await);
    assert!(told.contains("30 listed, 11 fresh already, 19 fetched for 0.038 $"), "{told}");
    let status = said(&serving.cli(&["status"]).await);
    assert!(status.contains("warm: 29 calls to warm, 0.058 $ of the bill"), "{status}");
    let refused = serving.cli(&["warm", "--route", "geo", "--from", "."]).await;
    assert!(!refused.status.success() && said(&refused).contains("no URLs"), "{}", said(&refused));
    for n in 0..30 {
        assert!(serving.data.get(&format!("/r/geo/doc/{n}"), &[]).await.is_hit());
    }
    serving.end().await;
}
