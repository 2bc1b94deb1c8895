//! `farthing replay --world`: what each kind of predictor is worth, and what stands in for it where it cannot act. And what the command
//! says to wrong input.

use std::process::Command;

use crate::virtually::{replay, root};

/// Half a day of the demo's world: the whole is for people.
fn world() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join("data/demo.toml")).unwrap();
    let path = dir.path().join("world.toml");
    std::fs::write(&path, text.replace("duration_s = 345600.0", "duration_s = 43200.0")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn predictors_are_measured_against_rules() {
    let (_dir, world) = world();
    let models = root().join("models");
    let (report, code) = replay(&["--world", &world, "--seed", "7", "--models", models.to_str().unwrap()]);
    assert_eq!(code, 0);
    let kinds = report["kinds"].as_array().unwrap();
    let ttl = kinds.iter().find(|kind| kind["kind"] == "ttl").unwrap();
    // Without the library the bundle's table decides, and says so.
    let library = report["runtime_problem"].is_null();
    assert!(ttl["model_share"].as_f64().unwrap() > 0.9 || !library, "{ttl:#}");
    assert!(ttl["decisions"].as_object().unwrap().keys().all(|by| by.starts_with("model:") || by.starts_with("table:")), "{ttl:#}");
    let interval = ttl["interval_nanousd"].as_array().unwrap();
    assert!(interval[0].as_i64() <= ttl["difference_nanousd"].as_i64() && ttl["difference_nanousd"].as_i64() <= interval[1].as_i64());
    assert!(interval[1].as_i64().unwrap() < 0, "the predictor is cheaper than the rule: {ttl:#}");
}

#[test]
fn without_models_every_kind_falls_back_and_says_so() {
    let (dir, world) = world();
    let nothing = dir.path().join("nothing");
    let (report, code) = replay(&["--world", &world, "--models", nothing.to_str().unwrap()]);
    assert_eq!(code, 0);
    for kind in report["kinds"].as_array().unwrap() {
        assert_eq!(kind["model_share"], 0.0, "{kind:#}");
        if kind["kind"] == "cost" {
            assert!(kind["problem"].as_str().unwrap().contains("`tokens`"), "this world is not billed by the token: {kind:#}");
            continue;
        }
        let decisions = kind["decisions"].as_object().unwrap();
        assert!(decisions.keys().any(|by| by.starts_with("fallback:")), "{kind:#}");
    }
}

#[test]
fn wrong_input_is_named_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("good.toml"), "[providers.geo]\nbase_url = \"http://geo.test\"\nprice = \"0.002\"\n").unwrap();
    std::fs::write(at("bad.toml"), "[providers.geo]\nbase_url = \"http://geo.test\"\nprise = \"0.002\"\n").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    let said = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_farthing")).arg("replay").args(args).current_dir(dir.path()).output().unwrap();
        (String::from_utf8_lossy(&out.stderr).into_owned(), out.status.code().unwrap())
    };
    let (text, code) = said(&["--log", &at("nowhere"), "--policy", &at("good.toml")]);
    assert!(code == 1 && text.contains("is not a directory; name the directory"), "{code} {text}");
    let (text, code) = said(&["--log", &at("empty"), "--policy", &at("good.toml")]);
    assert!(code == 1 && text.contains("no requests"), "{code} {text}");
    let (text, code) = said(&["--log", &at("empty"), "--policy", &at("bad.toml")]);
    assert!(code == 2 && text.contains("prise"), "{code} {text}");
    let (text, code) = said(&["--log", &at("empty")]);
    assert!(code == 2 && text.contains("--policy"), "{code} {text}");
    let (text, code) = said(&["--world", &at("good.toml")]);
    assert!(code == 1 && text.contains("not a recipe"), "{code} {text}");
    let (text, code) = said(&[]);
    assert!(code == 2 && text.contains("--log"), "{code} {text}");
}

/// Logs are read for ever: one of schema version 1, which does not tell what requests asked and answers said.
#[test]
fn a_log_of_the_first_version_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    let provider = |name: &str| format!("[providers.{name}]\nbase_url = \"http://{name}.test\"\nprice = \"0.002\"\n");
    std::fs::write(&policy, ["geo", "news", "rates"].map(provider).concat()).unwrap();
    let log = root().join("crates/trainer/tests/fixtures/log-v1");
    let (report, code) = replay(&["--log", log.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert_eq!((code, &report["policy"]["total"]["requests"]), (0, &serde_json::json!(360)));
    assert_eq!(report["policy"]["fidelity"]["same_calls"], 120, "every call of the log is found: {report:#}");
}
