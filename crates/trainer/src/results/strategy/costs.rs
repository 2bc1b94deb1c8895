//! Forecasts of output tokens on real and generated calls.

use farthing_contract::features::CallFacts;
use farthing_types::Time;
use serde::Serialize;

use super::TRAIN;
use super::setup::services_recipe;
use crate::cost::{Call, Options, Source, Verdict, fit};
use crate::error::TrainError;
use crate::learn::Watch;
use crate::read::read_public;
use crate::results::section::{Bar, Found, Ground, Measured, Section};

/// One judged source.
#[derive(Clone, Debug, Serialize)]
struct Costs {
    source: String,
    below_limit: f64,
    published: bool,
    verdict: Verdict,
}

/// See the module.
pub struct CostOfCalls;

impl Section for CostOfCalls {
    fn name(&self) -> &'static str {
        "cost"
    }
    fn title(&self) -> &'static str {
        "Cost of a call, foretold"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let mut absent = Vec::new();
        let (bars, found) = measure(ground, &mut absent)?;
        let mut text =
            "Output tokens foretold call by call on the last 40 % of the time. Where requests name no limit, the longest answer of the \
            training part stands for it. Pinball losses against the live quantiles alone are in the JSON."
                .to_owned();
        for why in absent {
            text += &format!("\n\nNot measured: {why}.");
        }
        Ok(Found::Measured(Measured { text, bars, figures: serde_json::json!({ "sources": found }) }))
    }
}

/// Judges every source; what is absent is added to `absent`.
fn measure(ground: &Ground<'_>, absent: &mut Vec<String>) -> Result<(Vec<Bar>, Vec<Costs>), TrainError> {
    let mut found = vec![judged("services, seed 1", &generated(1)?, ground.watch)?];
    for name in ["llm_azure_conv", "llm_mooncake_conv"] {
        let path = match ground.trace(&format!("{name}.parquet")) {
            Ok(path) => path,
            Err(why) => {
                absent.push(why);
                continue;
            }
        };
        let calls = read_public(&path)?.rows.iter().filter_map(call).collect();
        let source = Source { calls, routes: vec![name.to_owned()], ..Source::default() };
        found.push(judged(name, &source, ground.watch)?);
    }
    let mut bars = Vec::new();
    for one in &found {
        let cover = one.verdict.cover;
        bars.push(Bar::at_least(format!("{}: calls at or below their upper forecast", one.source), cover, 0.88));
        bars.push(Bar::at_most(format!("{}: the same", one.source), cover, 0.92));
        bars.push(Bar::at_least(format!("{}: middle error below that of the limit", one.source), one.below_limit, 0.30));
    }
    Ok((bars, found))
}

fn call(row: &crate::read::PublicRow) -> Option<Call> {
    let facts = CallFacts { prompt: row.tokens_in, ..CallFacts::default() };
    Some(Call { at: Time::from_millis(row.at_ms), route: 0, facts, output: row.tokens_out? })
}

fn generated(seed: u64) -> Result<Source, TrainError> {
    let recipe = services_recipe()?;
    let wrong = |reason: String| TrainError::Recipe { path: "data/services.toml".into(), reason };
    let trace = recipe.generate(seed).map_err(|e| wrong(e.to_string()))?;
    let call = |c: farthing_replay::TokenCall| Call {
        at: c.at,
        route: u32::from(c.route),
        facts: CallFacts { prompt: Some(c.prompt), max_tokens: c.max_tokens, output_rate: None },
        output: c.output,
    };
    let calls = recipe.token_calls(&trace, seed).into_iter().map(call).collect();
    Ok(Source { calls, routes: recipe.routes.iter().map(|r| r.name.clone()).collect(), ..Source::default() })
}

fn judged(name: &str, source: &Source, watch: &dyn Watch) -> Result<Costs, TrainError> {
    let fit = fit(source, Options { seed: 1, train_share: TRAIN }, watch)?;
    let published = fit.passes();
    let verdict = fit.judged.unwrap_or_default();
    Ok(Costs { source: name.to_owned(), below_limit: verdict.below_limit(), published, verdict })
}
