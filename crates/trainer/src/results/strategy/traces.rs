//! Real traces: the predictor against the rules.

use super::setup::{DATA, Provider, TEXTS, scene};
use super::{Judged, SEEDS, judged_scene, overlays, text, there};
use crate::error::TrainError;
use crate::read::read_public;
use crate::results::section::{Bar, Found, Ground, Measured, Section};

/// See the module.
pub struct StrategyTraces;

impl Section for StrategyTraces {
    fn name(&self) -> &'static str {
        "strategy_traces"
    }
    fn title(&self) -> &'static str {
        "Strategies: real traces against the rules"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        let (mut bars, mut absent) = (Vec::new(), Vec::new());
        let mut judged: Vec<Judged> = there(overlays(ground, &SEEDS[..1])?, &mut absent).unwrap_or_default();
        judged.extend(judge_all(ground)?.into_iter().filter_map(|found| there(found, &mut absent)));
        if judged.is_empty() {
            return Ok(Found::Absent(absent.join("; ")));
        }
        for one in &judged {
            // What is not better is not published; what is published must be better.
            let gain = if one.published { one.below_rules } else { 0.0 };
            bars.push(Bar::at_least(format!("{}: saving against the rules, 0 when not published", one.scene), gain, 0.0));
        }
        let figures = serde_json::json!({ "scenes": judged });
        Ok(Found::Measured(Measured { text: text(&judged, &absent), bars, figures }))
    }
}

/// Traces with their assumed providers.
const TRACES: [(&str, Provider); 5] = [
    ("http_thedash_api", Provider { batch: (200, 100, 2_000, 0), ..DATA }),
    ("http_nasa", DATA),
    ("kv_twitter52", DATA),
    ("llm_azure_conv", TEXTS),
    ("block_cloudphysics", DATA),
];

/// Judges every trace; `Err` inside says what is absent.
fn judge_all(ground: &Ground<'_>) -> Result<Vec<Result<Judged, String>>, TrainError> {
    let one = |(name, provider): (&str, Provider)| {
        let path = match ground.trace(&format!("{name}.parquet")) {
            Ok(path) => path,
            Err(why) => return Ok(Err(why)),
        };
        judged_scene(&scene(name.to_owned(), &read_public(&path)?, provider), 1, ground.watch).map(Ok)
    };
    TRACES.into_iter().map(one).collect()
}
