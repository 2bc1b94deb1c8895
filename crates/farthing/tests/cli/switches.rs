//! C4: the bypass switch as an operator turns it.

use std::sync::atomic::Ordering;

use super::{Serving, get, output, text, upstream};

#[test]
fn the_bypass_switch_is_turned_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (addr, calls) = upstream();
    let start = || Serving::start(dir.path(), &["--upstream", &format!("geo=http://{addr}")], None);
    let serving = start();
    let bypass = |serving: &Serving, args: &[&str]| output(dir.path(), &[&["bypass", "--admin", &serving.admin], args].concat());
    assert!(text(&bypass(&serving, &[])).contains("nothing passes by"));
    (0..3).for_each(|_| drop(get(&serving.data, "/r/geo/a")));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let done = text(&bypass(&serving, &["on", "--for", "1h30m", "--reason", "wrong answers"]));
    assert!(done.contains("all routes") && done.contains("until 20") && done.contains("wrong answers"), "{done}");
    let (head, _) = get(&serving.data, "/r/geo/a");
    assert!(head.contains("detail=\"bypassed\""), "{head}");
    assert!(text(&output(dir.path(), &["status", "--admin", &serving.admin])).contains("bypass: on for all routes"));
    let routes = text(&output(dir.path(), &["routes", "--admin", &serving.admin]));
    assert!(routes.contains("bypass of all routes") && routes.contains("bypassed"), "{routes}");
    assert_eq!(serving.end(), Some(0));

    let serving = start();
    get(&serving.data, "/r/geo/a");
    get(&serving.data, "/r/geo/a");
    assert_eq!(calls.load(Ordering::SeqCst), 4, "still on");
    let metrics = get(serving.admin.trim_start_matches("http://"), "/metrics").1;
    assert!(metrics.contains("farthing_bypassed{route=\"geo\"} 1"), "{metrics}");
    assert!(text(&bypass(&serving, &["off", "--reason", "mended"])).contains("nothing passes by"));
    (0..3).for_each(|_| drop(get(&serving.data, "/r/geo/a")));
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    for (args, code, says) in [
        (&["off", "--reason", "again"][..], 1, "nothing passes by"),
        (&["on", "--route", "gee", "--reason", "x"], 1, "there are geo"),
        (&["on"], 2, "--reason"),
        (&["on", "--for", "0s", "--reason", "x"], 2, "1h30m"),
    ] {
        let refused = bypass(&serving, args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}: {}", text(&refused));
        assert!(text(&refused).contains(says), "{args:?}: {}", text(&refused));
    }
}
