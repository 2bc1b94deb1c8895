//! G1: what a limit has given is not given again by a process that takes the place of another.

use std::time::Duration;

use farthing_tests::Origin;
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use http::StatusCode;

use crate::program::{Serving, built};

const CONFIG: &str = "[[limits]]\nname = \"hourly\"\nscope = \"route\"\nrequests = \"3/h\"\nburst = 3\n";

#[tokio::test]
async fn a_restart_and_a_kill_give_nothing_a_second_time() {
    let Some(program) = built("farthing") else { return skip("limits over a restart: no program beside the tests") };
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::simple(|_, _| ok("x")).await;
    let config = format!("{CONFIG}[providers.geo]\nbase_url = \"http://{}\"\nprices = {{ per_call = \"0.5\" }}\n", origin.addr);
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let start = || Serving::start(&program, dir.path(), &["--config", "farthing.toml"]);
    let kept = dir.path().join(".farthing/limits.json");
    let mut answered = 0;
    for life in 0..4 {
        let serving = start().await;
        // One call in each life, until there is no room.
        let answer = serving.data.get(&format!("/r/geo/{life}"), &[("x-farthing-priority", "low")]).await;
        answered += usize::from(answer.status == StatusCode::OK);
        if life % 2 == 0 {
            serving.end().await;
            continue;
        }
        let whole = std::time::Instant::now();
        while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains(&format!("\"requests\":{}", answered))) {
            assert!(whole.elapsed() < Duration::from_secs(30), "it is written down each second");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        serving.signal("-KILL").await;
    }
    assert_eq!((answered, origin.calls()), (3, 3));
}
