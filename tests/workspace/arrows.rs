//! The arrows of ARCHITECTURE.md: which crate may use which, and which outside crates must not be seen where.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Crate and the crates of ours that it may use. What is not listed is an error, in both directions.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("contract", &["types"]),
    ("policy", &["types", "contract"]),
    ("experiment", &["types", "contract"]),
    ("freshness", &["types", "contract", "policy"]),
    ("replay", &["types", "contract", "policy", "experiment", "freshness"]),
    ("tls", &["types", "config"]),
    ("models", &["types", "contract", "policy"]),
    ("fleet", &["types"]),
    ("cache", &["types", "contract", "policy", "freshness", "fleet"]),
    ("upstream", &["types", "contract", "policy"]),
    ("ledger", &["types", "contract", "policy"]),
    ("sinks", &["types", "contract", "ledger"]),
    (
        "proxy",
        &[
            "types",
            "config",
            "contract",
            "policy",
            "experiment",
            "freshness",
            "replay",
            "tls",
            "models",
            "fleet",
            "cache",
            "upstream",
            "ledger",
            "sinks",
        ],
    ),
    ("admin", &["types", "config", "contract", "tls"]),
    ("sim", &["types", "config", "contract", "policy", "experiment", "replay", "proxy"]),
    ("trainer", &["types", "config", "contract", "policy", "experiment", "freshness", "replay"]),
];

/// Crates whose whole tree must be free of the named outside crates.
const FREE_OF: &[(&str, &[&str])] = &[
    ("farthing-types", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-contract", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-policy", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-experiment", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-freshness", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-replay", &["tokio", "hyper", "arrow", "ort", "polars"]),
    ("farthing-proxy", &["polars", "polars-core", "linfa", "linfa-trees", "axum", "reqwest", "openssl-sys"]),
    ("farthing", &["polars", "polars-core", "linfa", "linfa-trees", "reqwest", "openssl-sys"]),
    // polars-core brings tokio itself; ours may not use it, which the list of direct dependencies below sees to.
    ("farthing-trainer", &["hyper", "axum", "reqwest", "openssl-sys"]),
];

fn metadata() -> Metadata {
    // This platform's dependencies alone: those of others need not be downloaded.
    let rustc = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let options = ["--locked", "--filter-platform", host].map(String::from).to_vec();
    MetadataCommand::new().manifest_path(super::root().join("Cargo.toml")).other_options(options).exec().unwrap()
}

#[test]
fn arrows_only_point_downwards() {
    let metadata = metadata();
    let allowed: BTreeMap<String, BTreeSet<String>> =
        ALLOWED.iter().map(|(name, deps)| (format!("farthing-{name}"), deps.iter().map(|d| format!("farthing-{d}")).collect())).collect();
    let mut seen = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let name = package.name.to_string();
        if matches!(name.as_str(), "farthing" | "farthing-tests" | "farthing-bench") {
            continue; // the composers at the top may use any
        }
        let may = allowed.get(&name).unwrap_or_else(|| panic!("{name} is not in the list of arrows: decide what it may use"));
        for dependency in &package.dependencies {
            if dependency.kind == DependencyKind::Normal && dependency.name.starts_with("farthing") {
                assert!(may.contains(&dependency.name), "{name} must not use {}", dependency.name);
            }
        }
        seen.insert(name);
    }
    for name in allowed.keys() {
        assert!(seen.contains(name), "{name} is in the list of arrows but not in the workspace");
    }
}

#[test]
fn the_trainer_has_no_runtime_of_its_own() {
    let metadata = metadata();
    let trainer = metadata.workspace_packages().into_iter().find(|p| p.name.as_str() == "farthing-trainer").unwrap();
    assert!(trainer.dependencies.iter().all(|d| !["tokio", "hyper"].contains(&d.name.as_str())));
}

/// Names of everything that a crate is built from when it is built alone, as `cargo build -p` does: in the metadata of the whole workspace
/// the features of all crates are unified.
fn tree(name: &str) -> BTreeSet<String> {
    let args = ["tree", "-p", name, "-e", "normal", "--prefix", "none", "--locked"];
    let output = std::process::Command::new("cargo").args(args).current_dir(super::root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    for (crate_name, banned) in FREE_OF {
        let names = tree(crate_name);
        assert!(names.contains(*crate_name));
        for name in *banned {
            assert!(!names.contains(*name), "{crate_name} must not see {name}");
        }
    }
}
