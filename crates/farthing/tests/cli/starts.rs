//! J4, O3: what is told before anything is served.

use super::{farthing, output, text};

const PROVIDER: &str = "[providers.geo]\nbase_url = \"http://geo.test\"\n";

#[test]
fn a_log_that_cannot_be_written_is_told_before_anything_is_served() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "in the way").unwrap();
    for folder in ["file", "file/logs"] {
        std::fs::write(dir.path().join("f.toml"), format!("{PROVIDER}[log]\ndir = \"{folder}\"\n")).unwrap();
        for (command, code) in [("check", 2), ("serve", 1)] {
            let told = output(dir.path(), &[command, "--config", "f.toml"]);
            assert_eq!(told.status.code(), Some(code), "{}", text(&told));
            let says = format!("log folder `{folder}` cannot be written");
            assert!(text(&told).contains(&says) && text(&told).contains("name another in log.dir"), "{}", text(&told));
        }
        let off = format!("{PROVIDER}[log]\nenabled = false\ndir = \"{folder}\"\n");
        std::fs::write(dir.path().join("f.toml"), off).unwrap();
        assert!(output(dir.path(), &["check", "--config", "f.toml"]).status.success());
    }
}

#[test]
fn a_credential_that_is_missing_is_one_problem_and_one_that_nobody_can_use_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let credential = "credential_place = \"bearer\"\ncredential = { env = \"TEST_GEO_KEY\" }\n";
    let swap = "[routes.geo]\nprovider = \"geo\"\ncredential = \"swap\"\n";
    let check = |routes: &str, key: Option<&str>| {
        std::fs::write(dir.path().join("f.toml"), format!("{PROVIDER}{credential}{routes}")).unwrap();
        let mut command = farthing(dir.path(), &["check", "--config", "f.toml"]);
        command.env_remove("TEST_GEO_KEY").envs(key.map(|key| ("TEST_GEO_KEY", key))).output().unwrap()
    };
    let missing = check(swap, None);
    assert_eq!(missing.status.code(), Some(2));
    let said = text(&missing);
    assert!(said.contains("no variable TEST_GEO_KEY") && said.contains("1 problem\n") && !said.contains("swap"), "{said}");
    let (used, unused) = (check(swap, Some("sk-1")), check("", Some("sk-1")));
    assert!(used.status.success() && !text(&used).contains("warning"), "{}", text(&used));
    let said = text(&unused);
    assert!(unused.status.success() && said.contains("warning: providers.geo.credential") && !said.contains("sk-1"), "{said}");
}
