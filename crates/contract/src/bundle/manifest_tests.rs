use super::*;

pub fn sample() -> Manifest {
    let mut manifest = Manifest::draft(Kind::Ttl, (1, "abc"), 2, 1);
    manifest.version = 3;
    manifest.files.insert(MODEL_FILE.into(), FileRef { sha256: "00".into(), bytes: 4 });
    manifest.golden = vec![GoldenRow { features: vec![0.1, -3.0], outputs: vec![0.3] }];
    manifest.warm_up = vec![vec![0.0, 1e-30]];
    manifest.metrics.insert("stale_share".into(), 0.1);
    manifest
}

fn refused_by(change: impl FnOnce(&mut Manifest)) -> Option<Check> {
    let mut manifest = sample();
    change(&mut manifest);
    manifest.to_bytes().err().and_then(|e| e.check())
}

#[test]
fn what_is_written_is_read_back_bit_for_bit() {
    let manifest = sample();
    let bytes = manifest.to_bytes().unwrap();
    let back = Manifest::parse("ttl/3", &bytes).unwrap();
    assert_eq!(back, manifest);
    assert_eq!(back.to_bytes().unwrap(), bytes);
}

#[test]
fn a_cut_manifest_is_refused_at_every_length() {
    let bytes = sample().to_bytes().unwrap();
    let text_end = bytes.len() - 1;
    for end in 0..text_end {
        assert_eq!(Manifest::parse("ttl/3", &bytes[..end]).unwrap_err().check(), Some(Check::Manifest), "cut at {end}");
    }
}

#[test]
fn a_newer_format_says_upgrade() {
    let error = Manifest::parse("ttl/9", br#"{"format": 2, "shape_of_things": "to come"}"#).unwrap_err();
    assert_eq!(error.check(), Some(Check::Format));
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn an_unknown_field_is_named() {
    let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap().replace("\"trainer\"", "\"trianer\"");
    let error = Manifest::parse("ttl/3", text.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("trianer"), "{error}");
}

#[test]
fn inconsistencies_are_refused() {
    let wanted = Some(Check::Consistency);
    assert_eq!(refused_by(|_| ()), None);
    assert_eq!(refused_by(|m| m.golden[0].features.push(1.0)), wanted);
    assert_eq!(refused_by(|m| m.golden[0].outputs[0] = f32::NAN), wanted);
    assert_eq!(refused_by(|m| m.golden.clear()), wanted);
    assert_eq!(refused_by(|m| m.warm_up.clear()), wanted);
    assert_eq!(refused_by(|m| m.warm_up[0][1] = f32::INFINITY), wanted);
    assert_eq!(refused_by(|m| m.files.clear()), wanted);
    assert_eq!(refused_by(|m| m.inputs.push(TensorSpec::input(2))), wanted);
    assert_eq!(refused_by(|m| m.outputs[0].ty = ElementType::I64), wanted);
    assert_eq!(refused_by(|m| m.metrics = [("bill".to_owned(), f64::NAN)].into()), wanted);
    for name in ["../model.onnx", "a/b", ".hidden", "", "manifest.json"] {
        assert_eq!(refused_by(|m| drop(m.files.insert(name.into(), FileRef { sha256: String::new(), bytes: 0 }))), wanted, "{name}");
    }
    let point = |stale_budget, kappa| OperatingPoint { stale_budget, kappa };
    assert_eq!(refused_by(|m| m.operating_points = vec![point(0.01, 0.2), point(0.005, 0.3)]), wanted);
    assert_eq!(refused_by(|m| m.operating_points = vec![point(0.005, f64::INFINITY)]), wanted);
    assert_eq!(refused_by(|m| m.operating_points = vec![point(0.005, 0.2), point(0.01, 0.3)]), None);
}

#[test]
fn a_table_beside_a_model_needs_its_own_golden_rows() {
    let with_table = |m: &mut Manifest| drop(m.files.insert(TABLE_FILE.into(), FileRef { sha256: String::new(), bytes: 0 }));
    assert_eq!(refused_by(with_table), Some(Check::Consistency));
    assert_eq!(
        refused_by(|m| {
            with_table(m);
            m.table_golden = m.golden.clone();
        }),
        None
    );
}

#[test]
fn signatures_must_agree_in_name_type_and_width() {
    let manifest = sample();
    let (input, output) = (TensorSpec::input(2), TensorSpec::output(1));
    let check = |input: TensorSpec, output: TensorSpec| manifest.check_signature(&[input], &[output]);
    check(input.clone(), output.clone()).unwrap();
    check(TensorSpec { shape: vec![1, 2], ..input.clone() }, output.clone()).unwrap();
    check(TensorSpec::input(3), output.clone()).unwrap_err();
    check(TensorSpec { name: "x".into(), ..input.clone() }, output.clone()).unwrap_err();
    check(TensorSpec { ty: ElementType::F64, ..input.clone() }, output.clone()).unwrap_err();
    check(input.clone(), TensorSpec { shape: vec![-1, -1], ..output.clone() }).unwrap_err();
    let error = manifest.check_signature(&[], &[output]).unwrap_err().to_string();
    assert!(error.contains("inputs are none"), "{error}");
}

#[test]
fn golden_rows_allow_the_tolerance_and_no_more() {
    let manifest = sample();
    let row = &manifest.golden[0];
    manifest.check_golden(0, row, &[0.300_009]).unwrap();
    assert_eq!(manifest.check_golden(0, row, &[0.300_02]).unwrap_err().check(), Some(Check::Golden));
    assert_eq!(manifest.check_golden(0, row, &[]).unwrap_err().check(), Some(Check::Golden));
    assert_eq!(manifest.check_golden(0, row, &[f32::NAN]).unwrap_err().check(), Some(Check::Finite));
}

#[test]
fn kappa_meets_its_points_and_never_exceeds_them() {
    let mut manifest = sample();
    assert_eq!(manifest.kappa(0.01), None);
    let point = |stale_budget, kappa| OperatingPoint { stale_budget, kappa };
    manifest.operating_points = vec![point(0.001, 0.01), point(0.004, 0.04), point(0.016, 0.64)];
    let kappa = |budget| manifest.kappa(budget).unwrap();
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    near(kappa(0.001), 0.01);
    near(kappa(0.002), 0.02);
    near(kappa(0.004), 0.04);
    near(kappa(0.008), 0.16);
    near(kappa(0.5), 0.64);
    near(kappa(0.0005), 0.0025);
    assert_eq!(kappa(0.0), 0.0);
    assert_eq!(kappa(-1.0), 0.0);
}

#[test]
fn only_bundles_of_this_build_s_features_may_decide() {
    assert!(Manifest::draft_ttl().check_build().is_ok());
    let refused = |manifest: Manifest| manifest.check_build().unwrap_err().check();
    assert_eq!(refused(sample()), Some(Check::FeatureSpec));
    let mut other = Manifest::draft_ttl();
    other.inputs = vec![TensorSpec::input(other.input_width() + 1)];
    assert_eq!(refused(other), Some(Check::FeatureSpec));
    assert_eq!(refused(Manifest { kind: Kind::Prefetch, ..Manifest::draft_ttl() }), Some(Check::FeatureSpec));
}

/// Formats are read for ever: this file was written by the first release and must never be changed.
#[test]
fn the_first_format_is_still_read() {
    let manifest = Manifest::parse("ttl/3", include_bytes!("fixtures/manifest-1.json")).unwrap();
    assert_eq!((manifest.name().as_str(), manifest.input_width(), manifest.output_width()), ("ttl/3", 2, 1));
    assert_eq!(manifest.golden, [GoldenRow { features: vec![0.1, -3.0], outputs: vec![0.3] }]);
    assert_eq!(manifest.operating_points, [OperatingPoint { stale_budget: 0.005, kappa: 0.25 }]);
    assert_eq!((manifest.training.rows, manifest.created_ns, manifest.parent.as_deref()), (1_000, 1_700_000_000_000_000_000, Some("aa")));
}
