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
