//! Short fits of the kinds `strategy` and `cost` on the world of `data/services.toml`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

use farthing_contract::bundle::Kind;
use farthing_contract::features::CallFacts;
use farthing_replay::Recipe;
use farthing_replay::strategies::Model;
use farthing_trainer::learn::{Examples, Unwatched};
use farthing_trainer::{cost, onnx, strategy};

/// The first hour and a half of the world.
fn world() -> Recipe {
    let recipe: Recipe = toml::from_str(include_str!("../../../data/services.toml")).unwrap();
    Recipe { duration_s: 5_400.0, ..recipe }
}

#[test]
#[ignore = "a minute: replays an hour and a half under every combination, four times"]
fn a_strategy_fit_comes_close_to_hindsight_and_beats_the_rules() {
    let recipe = world();
    let source =
        strategy::Source { trace: recipe.generate(5).unwrap(), model: Model::of_recipe(&recipe), digest: "world".into(), generated: true };
    let fit = strategy::fit(&source, strategy::Options { seed: 3, ..strategy::Options::default() }, Err("none"), &Unwatched).unwrap();
    let verdict = fit.judged.as_ref().unwrap();
    println!("{}", strategy::text(&fit));
    assert!(fit.passes() && verdict.below_rules() > 0.05, "{}", strategy::text(&fit));
    assert!(verdict.regret() < 0.06, "an hour warms little, and yet: {}", verdict.regret());
    assert!((verdict.predicted - 1.0).abs() < 1e-9);
    assert!(fit.learned.model.trees.len() <= 50 && fit.learned.model.depth() <= 6);
    // The same rows and seed give the same bytes.
    let again = strategy::learn((&source.trace, source.trace.events.len()), &source.model, 3, &Unwatched).unwrap();
    let bytes = |e| onnx::encode(e, Kind::Strategy.as_str(), &[]);
    assert_eq!(bytes(&again.model), bytes(&fit.learned.model));
}

#[test]
#[ignore = "half a minute: two fits of 48 trees"]
fn a_cost_fit_covers_what_it_says_and_reserves_less_than_the_limits() {
    let recipe = Recipe { duration_s: 21_600.0, ..world() };
    let trace = recipe.generate(5).unwrap();
    let call = |c: farthing_replay::TokenCall| cost::Call {
        at: c.at,
        route: u32::from(c.route),
        facts: CallFacts { prompt: Some(c.prompt), max_tokens: c.max_tokens, output_rate: None },
        output: c.output,
    };
    let calls: Vec<cost::Call> = recipe.token_calls(&trace, 5).into_iter().map(call).collect();
    let routes = recipe.routes.iter().map(|r| r.name.clone()).collect();
    let source = cost::Source { calls, routes, ..cost::Source::default() };
    let fit = cost::fit(&source, cost::Options::default(), &Unwatched).unwrap();
    let verdict = fit.judged.as_ref().unwrap();
    println!("{}", cost::text(&fit));
    assert!(fit.passes(), "{}", cost::text(&fit));
    assert!((0.88..=0.92).contains(&verdict.cover) && verdict.below_limit() >= 0.3, "{}", cost::text(&fit));
    assert!(verdict.loss < 0.97 * verdict.live_loss && verdict.reserved < 0.7);
    assert!(!fit.learned.rows.is_empty() && fit.learned.model.trees.len() <= 50);
}

#[test]
fn too_little_is_said_in_words() {
    let recipe = Recipe { duration_s: 30.0, ..world() };
    let source =
        strategy::Source { trace: recipe.generate(5).unwrap(), model: Model::of_recipe(&recipe), digest: String::new(), generated: true };
    let error = strategy::fit(&source, strategy::Options::default(), Err("none"), &Unwatched).unwrap_err();
    assert!(error.to_string().contains("nothing to learn from"), "{error}");
    let error = cost::fit(&cost::Source::default(), cost::Options::default(), &Unwatched).unwrap_err();
    assert!(error.to_string().contains("nothing to learn from"), "{error}");
}
