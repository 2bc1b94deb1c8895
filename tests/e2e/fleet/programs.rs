//! Real programs: one is stopped, misses a purge, and goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Script};
use http::StatusCode;

use crate::l2::servers::Server;
use crate::program::{Serving, built, said};

/// The program as one of a fleet, in a directory of its own.
async fn serve(program: &Path, origin: &Origin, dir: &Path, redis: &Server) -> Serving {
    let config = format!(
        "state_dir = \"state\"\nsalt = {{ file = \"salt\" }}\n[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n\
         [fleet]\nname = \"programs\"\ndeadline = \"300ms\"\naddresses = [\"{url}\"]\n\
         [l2]\nkind = \"redis\"\ndeadline = \"300ms\"\naddresses = [\"{url}\"]\n\
         [providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
        origin.addr,
        url = redis.url(),
    );
    std::fs::write(dir.join("farthing.toml"), config).unwrap();
    std::fs::write(dir.join("salt"), "a salt that all of them share").unwrap();
    Serving::start(program, dir, &["--config", "farthing.toml"]).await
}

async fn until_heard(program: &Serving, members: usize) {
    let start = Instant::now();
    loop {
        let fleet = program.json(&["status"]).await["status"]["fleet"].clone();
        if fleet["silent"] == false && fleet["members"].as_array().is_some_and(|of| of.len() == members) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{fleet}");
    }
}

/// A purge while the other one is stopped, with a call of its under way: when it goes on, it answers nothing older, and what that call brings does
/// not come back by way of what they share.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_program_goes_on_with_what_it_missed() {
    let Some(program) = built("farthing") else {
        return farthing_tests::skip::skip("a stopped instance of a fleet: the program is not built (cargo build -p farthing)");
    };
    let Some(redis) = Server::start(&[]) else { return };
    let version = Arc::new(AtomicU64::new(1));
    let script: Script = {
        let version = version.clone();
        Arc::new(move |seen, _| {
            let (version, slow) = (version.load(Ordering::SeqCst), seen.target == "/slow" && version.load(Ordering::SeqCst) == 1);
            Box::pin(async move {
                if slow {
                    tokio::time::sleep(Duration::from_millis(600)).await;
                }
                answer_of(StatusCode::OK, &[("surrogate-key", "item"), ("cache-control", "max-age=3600")], version.to_string())
            })
        })
    };
    let origin = Origin::start(script).await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (first, second) = (serve(&program, &origin, dirs[0].path(), &redis).await, serve(&program, &origin, dirs[1].path(), &redis).await);
    until_heard(&first, 2).await;
    until_heard(&second, 2).await;
    assert_eq!(second.data.get("/r/geo/quick", &[]).await.text(), "1");
    assert!(second.data.get("/r/geo/quick", &[]).await.is_hit());
    // Its call is under way, and it is stopped.
    let data = second.data;
    let under_way = tokio::task::spawn(async move { data.get("/r/geo/slow", &[]).await.text() });
    while origin.seen().iter().all(|seen| seen.target != "/slow") {
        tokio::task::yield_now().await;
    }
    second.pause();
    version.store(2, Ordering::SeqCst);
    let purged = first.cli(&["purge", "--tag", "item"]).await;
    assert!(purged.status.success() && said(&purged).contains("the other instances are told"), "{}", said(&purged));
    let told = Instant::now();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // Asked while it is stopped: these requests came more than a second after the purge.
    let late: Vec<_> =
        ["/r/geo/quick", "/r/geo/slow"].map(|target| tokio::task::spawn(async move { data.get(target, &[]).await.text() })).into();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(told.elapsed() > Duration::from_secs(1));
    second.go_on();
    for answer in late {
        assert_eq!(answer.await.unwrap(), "2", "asked later than a second after the purge");
    }
    assert_eq!(under_way.await.unwrap(), "1", "asked before it");
    until_heard(&second, 2).await;
    for program in [&first, &second] {
        for target in ["/r/geo/quick", "/r/geo/slow"] {
            assert_eq!(program.data.get(target, &[]).await.text(), "2", "{target}");
        }
    }
    let (_, ready) = second.readiness().await;
    assert!(ready["parts"].as_array().unwrap().iter().any(|part| part["name"] == "fleet" && part["ok"] == true), "{ready}");
    // Without Redis both go on, and say so.
    let mut redis = redis;
    redis.kill();
    let start = Instant::now();
    loop {
        let (answer, ready) = first.readiness().await;
        assert_eq!(answer.status, StatusCode::OK);
        if ready["parts"].as_array().unwrap().iter().any(|part| part["name"] == "fleet" && part["ok"] == false) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{ready}");
    }
    assert_eq!(first.data.get("/r/geo/quick", &[]).await.text(), "2");
    let purged = first.cli(&["purge", "--tag", "item"]).await;
    assert!(purged.status.success() && said(&purged).contains("could not be told yet"), "{}", said(&purged));
    first.end().await;
    second.end().await;
}
