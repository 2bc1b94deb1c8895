//! The bundle that ships with the project: whole, of this build's feature spec, and what the aliases name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_contract::bundle::{Alias, Bundle, Kind, MODEL_FILE, TABLE_FILE, disk};
use farthing_contract::features::{COST_SPEC, FeatureSpec, PREFETCH_SPEC, STRATEGY_SPEC, TTL_SPEC};
use farthing_trainer::publish::SHIPPED_METRIC;
use farthing_trainer::trees::Ensemble;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn the_shipped_champion_is_whole_and_current() {
    let models = root().join("models");
    let aliases = disk::read_aliases(&models).unwrap();
    let champion = &aliases.get(Kind::Ttl, Alias::Champion).expect("models/aliases.json names a champion: run `make models`").current;
    let bundle = Bundle::read(&models, Kind::Ttl, champion.version).unwrap();
    assert_eq!(bundle.digest, champion.digest, "the alias names other bytes: run `make models`");
    bundle.manifest.check_spec(TTL_SPEC.version, &TTL_SPEC.hash()).expect("the features changed: run `make models`");
    assert!(bundle.manifest.operating_points.len() >= 5, "{:?}", bundle.manifest.operating_points);
    assert!(bundle.manifest.metrics["saving_against_rule"] > 0.1);
    assert_eq!(bundle.manifest.metrics[SHIPPED_METRIC], 1.0, "it would act at once on every route: run `make models`");
    let table = Ensemble::from_bytes(bundle.file(TABLE_FILE).unwrap()).unwrap();
    let mut out = vec![0.0; table.outputs()];
    for row in &bundle.manifest.table_golden {
        table.eval(&row.features, &mut out);
        assert_eq!(out, row.outputs);
    }
    assert!(bundle.file(MODEL_FILE).unwrap().len() < 1 << 20);
}

/// The kinds that were trained on `data/services.toml` and `data/sessions.toml`: whole, of this build's features, small, and their tables answer as recorded.
#[test]
fn the_other_shipped_kinds_are_whole_and_current() {
    let models = root().join("models");
    let aliases = disk::read_aliases(&models).unwrap();
    for (kind, spec) in [(Kind::Strategy, STRATEGY_SPEC), (Kind::Cost, COST_SPEC), (Kind::Prefetch, PREFETCH_SPEC)] {
        let champion = &aliases.get(kind, Alias::Champion).expect("models/aliases.json names a champion: run `make models`").current;
        let bundle = Bundle::read(&models, kind, champion.version).unwrap();
        assert_eq!(bundle.digest, champion.digest, "{kind}: the alias names other bytes: run `make models`");
        check_kind(&bundle, &spec);
    }
}

fn check_kind(bundle: &Bundle, spec: &FeatureSpec) {
    bundle.manifest.check_spec(spec.version, &spec.hash()).expect("the features changed: run `make models`");
    assert_eq!(bundle.manifest.metrics[SHIPPED_METRIC], 1.0, "it would act at once on every route: run `make models`");
    let table = Ensemble::from_bytes(bundle.file(TABLE_FILE).unwrap()).unwrap();
    let mut out = vec![0.0; table.outputs()];
    assert!(!bundle.manifest.table_golden.is_empty());
    for row in &bundle.manifest.table_golden {
        table.eval(&row.features, &mut out);
        assert_eq!(out, row.outputs);
    }
    assert!(bundle.file(MODEL_FILE).unwrap().len() < 1 << 20);
}

/// Needs minutes in an unoptimised build, and the same mathematics library as the machine that made the bundle.
#[test]
#[ignore = "a minute: builds the shipped bundle again"]
fn the_shipped_bundle_is_what_its_recipe_gives() {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_farthing-train"))
        .args(["fit", "ttl", "--seed", "7", "--recipe"])
        .arg(root().join("data/demo.toml"))
        .arg("--out")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let built = Bundle::read(dir.path(), Kind::Ttl, 1).unwrap();
    assert_eq!(built.digest, Bundle::read(&root().join("models"), Kind::Ttl, 1).unwrap().digest);
}
