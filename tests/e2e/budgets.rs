//! G2: hard budgets of the real program hold through kill -9, and people can see and change them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use futures_util::future::join_all;
use http::StatusCode;

use crate::program::{Serving, built, said};

/// Dollars of a call, in thousandths.
const LIMIT: usize = 600;
/// Clients that ask at a time.
const CLIENTS: usize = 16;

/// A proxy whose one budget lets [`LIMIT`] calls through, each for a tenth of a cent. The file is the same each time it starts.
async fn serve(program: &Path, origin: &Origin, dir: &Path) -> Serving {
    let config = format!(
        "state_dir = {:?}\n[log]\nenabled = false\n[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.001\"\n\
         [providers.geo.upstream]\nattempts = 1\n[budgets.all]\nlimit = \"0.6\"\nwindow = \"ever\"\n[models]\ndir = {:?}\n",
        dir.join("state"),
        origin.addr,
        dir.join("models"),
    );
    let file = dir.join("farthing.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_string_lossy();
    tokio::time::timeout(Duration::from_secs(30), Serving::start(program, dir, &["--config", &file])).await.expect("serve names its port")
}

/// What happened in one life of the process.
#[derive(Default)]
struct Life {
    asked: AtomicUsize,
    /// Refused although more than a twentieth of the limit was not billed yet.
    early: AtomicUsize,
    refused: AtomicUsize,
}

/// Asks for one thing after the other until the process is gone, or has refused ten times.
async fn client(data: Client, origin: &Origin, life: &Life, path: String) {
    let mut refused = 0;
    for n in 0.. {
        let room = LIMIT - origin.calls().min(LIMIT);
        let Some(answer) = data.try_get(&format!("/r/geo{path}/{n}"), &[]).await else { return };
        life.asked.fetch_add(1, Ordering::Relaxed);
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            life.refused.fetch_add(1, Ordering::Relaxed);
            life.early.fetch_add(usize::from(room > LIMIT / 20), Ordering::Relaxed);
            refused += 1;
        }
        if refused == 10 {
            return;
        }
    }
}

/// Runs with two deaths each, after a number of calls that the seed tells; answers requests, and those refused early.
async fn runs(program: &Path, seeds: std::ops::Range<usize>) -> (usize, usize) {
    let (mut asked, mut early) = (0, 0);
    for seed in seeds {
        let origin = Arc::new(Origin::simple(|_, n| ok(format!("answer {n}"))).await);
        let dir = tempfile::tempdir().unwrap();
        let deaths = [40 + seed * 37 % 230, 300 + seed * 53 % 250, usize::MAX];
        for (life, death) in deaths.into_iter().enumerate() {
            let serving = serve(program, &origin, dir.path()).await;
            let counts = Life::default();
            let data = serving.data;
            let clients = join_all((0..CLIENTS).map(|n| client(data, &origin, &counts, format!("/{life}/{n}"))));
            if death == usize::MAX {
                clients.await;
                assert!(counts.refused.load(Ordering::Relaxed) >= CLIENTS, "seed {seed}: it is used up in the end");
                let shown = serving.json(&["budgets"]).await;
                let counter = &shown["budgets"][0]["counters"][0];
                assert!(counter["left_usd"].as_str().unwrap().parse::<f64>().unwrap() < 0.03, "seed {seed}: {counter}");
                serving.end().await;
            } else {
                let kill = async {
                    while origin.calls() < death {
                        tokio::task::yield_now().await;
                    }
                    serving.signal("-KILL").await
                };
                tokio::join!(clients, kill);
            }
            asked += counts.asked.load(Ordering::Relaxed);
            early += counts.early.load(Ordering::Relaxed);
        }
        assert!(origin.calls() <= LIMIT, "seed {seed}: billed {} of {LIMIT}", origin.calls());
    }
    (asked, early)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_budget_holds_through_kill_9() {
    let Some(program) = built("farthing") else {
        return skip("budgets through kill -9: the program is not built (cargo build -p farthing)");
    };
    let (asked, early) = runs(&program, 0..2).await;
    assert!(early * 100 < asked, "{early} of {asked} refused early");
}

/// `make simulate` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "some minutes"]
async fn a_hard_budget_holds_through_kill_9_in_two_hundred_runs() {
    let program = built("farthing").expect("the program is built");
    let (asked, early) = runs(&program, 0..200).await;
    eprintln!("200 runs: {asked} requests, {early} refused although more than 5 % of the limit was not billed");
    assert!(early * 100 < asked, "{early} of {asked} refused early");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_shown_explained_and_raised() {
    let Some(program) = built("farthing") else { return skip("farthing budgets: the program is not built (cargo build -p farthing)") };
    let origin = Origin::simple(|_, n| ok(format!("answer {n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(&program, &origin, dir.path()).await;
    for n in 0..LIMIT {
        assert_eq!(serving.data.get(&format!("/r/geo/{n}"), &[]).await.status, StatusCode::OK);
    }
    let refused = serving.data.get("/r/geo/more", &[]).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let shown = said(&serving.cli(&["budgets"]).await);
    assert!(shown.contains("all calls") && shown.contains("100.0 %"), "{shown}");
    let why = said(&serving.cli(&["budgets", "why", refused.header("x-farthing-request-id")]).await);
    assert!(why.contains("no room: 0.6 $ used and 0 $ set aside for other calls, of 0.6 $; this call could have cost 0.001 $"), "{why}");
    let wrong = serving.cli(&["budgets", "raise", "al", "--by", "1"]).await;
    assert!(!wrong.status.success() && said(&wrong).contains("there are: all"), "{}", said(&wrong));
    let raised = said(&serving.cli(&["budgets", "raise", "all", "--by", "0.002", "--note", "launch"]).await);
    assert!(raised.contains("the limit is 0.602 $ now, 0.002 $ of it are left"), "{raised}");
    assert_eq!(serving.data.get("/r/geo/more", &[]).await.status, StatusCode::OK);
    serving.signal("-KILL").await;
    let serving = serve(&program, &origin, dir.path()).await;
    let again = said(&serving.cli(&["budgets"]).await);
    assert!(again.contains("0.002 $ more until") && again.contains("(launch)"), "kept through a crash: {again}");
    assert!(
        String::from_utf8(serving.admin.get("/metrics", &[]).await.body.to_vec())
            .unwrap()
            .contains("farthing_budget_limit_usd{budget=\"all\"} 0.602")
    );
    serving.end().await;
}
