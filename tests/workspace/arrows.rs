//! The arrows of ARCHITECTURE.md: which crate may use which, and which outside crates must not be seen where.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Crate and the crates of ours that it may use. What is not listed is an error, in both directions.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &["types"]),
    ("contract", &["types"]),
    ("policy", &["types", "contract"]),
    ("experiment", &["types", "contract"]),
    ("freshness", &["types", "contract", "policy"]),
    ("replay", &["types", "contract", "policy", "experiment", "freshness"]),
    ("models", &["types", "contract", "policy"]),
    ("cache", &["types", "contract", "policy", "freshness"]),
    ("upstream", &["types", "contract", "policy"]),
    ("ledger", &["types", "contract", "policy"]),
    ("proxy", &["types", "config", "contract", "policy", "experiment", "freshness", "replay", "models", "cache", "upstream", "ledger"]),
    ("admin", &["types", "config", "contract"]),
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

fn tree<'a>(metadata: &'a Metadata, root: &PackageId) -> BTreeSet<&'a str> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let mut names = BTreeSet::new();
    let mut todo = vec![root];
    while let Some(id) = todo.pop() {
        if !names.insert(metadata[id].name.as_str()) {
            continue;
        }
        let normal = nodes[id].deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
        todo.extend(normal.map(|d| &d.pkg));
    }
    names
}

#[test]
fn heavy_crates_stay_where_they_belong() {
    let metadata = metadata();
    for (crate_name, banned) in FREE_OF {
        let package = metadata.workspace_packages().into_iter().find(|p| p.name.as_str() == *crate_name).unwrap();
        let names = tree(&metadata, &package.id);
        for name in *banned {
            assert!(!names.contains(name), "{crate_name} must not see {name}");
        }
    }
}
