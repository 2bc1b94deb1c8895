//! Bring your own model: rows as the learners see them, a foreign ONNX file checked, judged and packed, and two bundles compared.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_contract::bundle::{Bundle, Kind, TREES_FILE};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS, TTL_SPEC};
use farthing_contract::native;
use farthing_replay::Process;
use farthing_trainer::onnx::{Model, encode};
use farthing_trainer::trees::{Ensemble, Node, Tree};
use prost::Message as _;

fn world(dir: &Path) -> PathBuf {
    let recipe = common::world(30.0, (40, 0.15), Process::Never);
    let path = dir.join("world.toml");
    std::fs::write(&path, toml::to_string(&recipe).unwrap()).unwrap();
    path
}

/// A model as another program would export it: other names, one answer for all ages.
fn foreign(dir: &Path, features: usize) -> PathBuf {
    let tree = Tree::new(vec![Node::split(3, 0.1, 1, 2), Node::leaf(0), Node::leaf(1)], vec![-0.2, 0.1], 1).unwrap();
    let ensemble = Ensemble { features, base: vec![0.0], trees: vec![tree] };
    let mut model = Model::decode(encode(&ensemble, "mine", &[]).as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    graph.input[0].name = "X".to_owned();
    graph.output[0].name = "variable".to_owned();
    graph.node[0].input = vec!["X".to_owned()];
    graph.node[0].output = vec!["variable".to_owned()];
    let path = dir.join(format!("mine-{features}.onnx"));
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    path
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_farthing-train")).args(args).output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

/// Says what was not tested, also in the list at the end of `make test`.
fn skip(why: &str) {
    let line = format!("packing foreign models: {why}");
    eprintln!("SKIPPED: {line}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(list)
    {
        let _ = writeln!(file, "{line}");
    }
}

#[test]
fn the_rows_are_written_as_the_learners_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, out) = (world(dir.path()), dir.path().join("features"));
    let (code, text) = run(&["features", "--recipe", recipe.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(code == Some(0) && text.contains(&TTL_SPEC.hash()), "{text}");
    use polars::prelude::{IntoLazy, col, lit};
    use polars_io::SerReader as _;
    let file = std::fs::File::open(out.join("rows.parquet")).unwrap();
    let frame = polars_io::parquet::read::ParquetReader::new(file).finish().unwrap();
    let names: Vec<String> = frame.get_column_names().iter().map(|n| n.to_string()).collect();
    assert_eq!(names[..TTL_FEATURES], TTL_SPEC.names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    for wanted in ["survived_7", "within_0", "changed", "weight", "at_ns", "route", "split"] {
        assert!(names.iter().any(|n| n == wanted), "{wanted}: {names:?}");
    }
    let train = frame.clone().lazy().filter(col("split").eq(lit("train"))).collect().unwrap();
    let test = frame.lazy().filter(col("split").eq(lit("test"))).collect().unwrap();
    let range = |f: &polars::prelude::DataFrame| {
        let at = f.column("at_ns").unwrap().i64().unwrap().clone();
        (at.iter().flatten().min().unwrap(), at.iter().flatten().max().unwrap())
    };
    assert!(train.height() > 100 && test.height() > 100 && range(&train).1 <= range(&test).0, "training rows come before the others");
}

#[test]
fn a_foreign_model_is_checked_judged_and_packed() {
    if native::find(None).is_err() {
        return skip("no ONNX Runtime library (make deps)");
    }
    let dir = tempfile::tempdir().unwrap();
    let (recipe, models) = (world(dir.path()), dir.path().join("models"));
    let pack = |file: &Path, more: &[&str]| {
        let (file, recipe, models) = (file.to_str().unwrap(), recipe.to_str().unwrap(), models.to_str().unwrap());
        run(&[&["pack", "--kind", "ttl", "--onnx", file, "--recipe", recipe, "--out", models], more].concat())
    };
    let (code, text) = pack(&foreign(dir.path(), 3), &[]);
    assert!(code == Some(1) && text.contains(&format!("3 columns, wanted [rows, {TTL_FEATURES}]")), "{text}");
    let mine = foreign(dir.path(), TTL_FEATURES);
    let (code, text) = pack(&mine, &["--force", "--json"]);
    assert_eq!(code, Some(0), "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(found["judgement"]["checks"].as_array().unwrap().len() >= 10, "{found}");
    let bundle = Bundle::read(&models, Kind::Ttl, 1).unwrap();
    bundle.manifest.check_build().unwrap();
    let trees = Ensemble::from_bytes(bundle.file(TREES_FILE).expect("it is nothing but trees")).unwrap();
    let mut out = [0.0; TTL_OUTPUTS];
    for row in &bundle.manifest.golden {
        trees.eval(&row.features, &mut out);
        assert_eq!(row.outputs, out, "one answer at all ages");
    }
    assert!(bundle.manifest.gate.is_some() && bundle.manifest.operating_points.len() >= 3, "{:?}", bundle.manifest.operating_points);
    // A bundle against itself is not told apart, and that is no success.
    let version = models.join("ttl/1");
    let (code, text) =
        run(&["compare", version.to_str().unwrap(), version.to_str().unwrap(), "--recipe", recipe.to_str().unwrap(), "--stale", "0.01"]);
    assert!(code == Some(3) && text.contains("not told apart") && text.contains("calibration"), "{text}");
}

#[test]
fn without_the_library_packing_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = world(dir.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-train"));
    command.args(["pack", "--onnx"]).arg(foreign(dir.path(), TTL_FEATURES)).arg("--recipe").arg(recipe).arg("--out").arg(dir.path());
    let out = command.env(native::LIBRARY_VARIABLE, "/nowhere").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && text.contains("make deps"), "{text}");
}
