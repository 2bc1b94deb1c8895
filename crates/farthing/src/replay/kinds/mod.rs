//! What each kind of predictor does in a replay, and what it is worth against the rules.
//!
//! A kind is one file here and one line in [`ALL`]. Its file implements [`KindReplay`]: it replays its own decisions over the reads and
//! changes of the [`Scene`] twice, with the bundle's predictor and with the rules, through the code that the proxy uses
//! (`farthing_policy::Guarded` over [`Bundle::levels`], the engines of `farthing_replay`), and answers who decided how often and what
//! both cost per key and day. Table, JSON and interval come from here.

mod cost;
mod prefetch;
mod strategy;
mod ttl;

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_contract::bundle::Manifest;
use farthing_models::{Alias, Generation, Kind, Store};
use farthing_policy::Levels;
use farthing_replay::{Paired, Recipe, Trace};
use farthing_types::{By, Money};
use serde::Serialize;

use super::progress::Progress;

/// Every kind that can be replayed, in the order of the report.
pub const ALL: &[&dyn KindReplay] = &[&ttl::TtlReplay, &strategy::StrategyReplay, &prefetch::PrefetchReplay, &cost::CostReplay];

/// A kind of predictor in a replay.
pub trait KindReplay: Sync {
    /// The kind.
    fn kind(&self) -> Kind;
    /// Replays the kind's decisions with and without the predictor.
    ///
    /// # Errors
    /// What keeps the kind from being replayed on this trace; the other kinds are shown all the same.
    fn replay(&self, scene: &Scene<'_>) -> anyhow::Result<KindOutcome>;
}

/// What a kind is replayed on.
pub struct Scene<'a> {
    /// Reads and true changes in order of time.
    pub trace: &'a Trace,
    /// What is configured for each of the trace's routes, in their order.
    pub routes: &'a [RouteScene],
    /// Share of the time that is only watched: money counts from there on, and live statistics are warm by then.
    pub warm: f64,
    /// The recipe, where the world is a generated one: prices and promises of its routes, tokens of its calls.
    pub recipe: Option<&'a Recipe>,
    /// The bundles.
    pub store: &'a Store,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// A route of the scene.
#[derive(Clone, Debug)]
pub struct RouteScene {
    /// As the proxy would compile it.
    pub params: farthing_policy::TtlParams,
    /// Price of one stale answer.
    pub price_stale: Option<Money>,
}

/// The champion of a kind, as far as there is one.
pub struct Bundle(Option<Arc<Generation>>);

impl Scene<'_> {
    /// The champion of a kind.
    pub fn bundle(&self, kind: Kind) -> Bundle {
        Bundle(self.store.current(kind, Alias::Champion))
    }
    /// Index of the first event whose money counts.
    pub fn counted_from(&self) -> usize {
        self.trace.split(self.warm)
    }
}

impl Bundle {
    /// What `Guarded` asks; empty levels without a champion, so that the rule decides and says so.
    pub fn levels(&self) -> Levels {
        self.0.as_ref().map(|generation| generation.levels().clone()).unwrap_or_default()
    }
    /// What the trainer wrote about it.
    pub fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.0.as_ref().map(|generation| generation.manifest())
    }
}

/// Who decided how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deciders(BTreeMap<String, u64>, Vec<(By, u64)>);

impl Deciders {
    /// Counts one decision.
    pub fn count(&mut self, by: &By) {
        // There are few; the text is made once at the end.
        match self.1.iter_mut().find(|(known, _)| known == by) {
            Some((_, count)) => *count += 1,
            None => self.1.push((by.clone(), 1)),
        }
    }
    /// Decisions by the decider's text (`model:3`, `rule:static`, `fallback:no-model`).
    pub fn texts(&self) -> BTreeMap<String, u64> {
        let mut texts = self.0.clone();
        for (by, count) in &self.1 {
            *texts.entry(by.to_string()).or_default() += count;
        }
        texts
    }
    /// Share of the decisions that the ONNX model made.
    pub fn model_share(&self) -> f64 {
        let texts = self.texts();
        let total: u64 = texts.values().sum();
        let model: u64 = texts.iter().filter(|(by, _)| by.starts_with("model:")).map(|(_, count)| count).sum();
        model as f64 / total.max(1) as f64
    }
}

/// What a kind did.
#[derive(Clone, Debug, Default)]
pub struct KindOutcome {
    /// Decisions by decider, of the replay with the predictor.
    pub deciders: Deciders,
    /// Money per key and day: first with the predictor, second by the rules. Money cost where staleness is at stake: bill + price of a
    /// stale answer x stale answers.
    pub money: Paired,
    /// What the money is made of, in a few words: `bill + stale answers at $0.02`.
    pub measure: String,
}

/// A kind's part of the report.
#[derive(Clone, Debug, Serialize)]
pub struct KindReport {
    /// The kind.
    pub kind: &'static str,
    /// Decisions by decider.
    pub decisions: BTreeMap<String, u64>,
    /// Share of them that the ONNX model made.
    pub model_share: f64,
    /// What the money is made of.
    pub measure: String,
    /// Nano-dollars with the predictor.
    pub predicted_nanousd: i64,
    /// Nano-dollars by the rules.
    pub rules_nanousd: i64,
    /// Difference, negative where the predictor is cheaper.
    pub difference_nanousd: i64,
    /// Its 95 % interval by the paired bootstrap over key and day.
    pub interval_nanousd: Option<(i64, i64)>,
    /// Blocks of the bootstrap.
    pub blocks: usize,
    /// Why the kind could not be replayed; the figures are zero then.
    pub problem: Option<String>,
}

/// Replays every kind.
pub fn replay_all(scene: &Scene<'_>, progress: &Progress) -> Vec<KindReport> {
    let one = |kind: &&dyn KindReplay| {
        progress.say(&format!("kind {}", kind.kind()));
        report(kind.kind(), kind.replay(scene), scene.seed)
    };
    ALL.iter().map(one).collect()
}

fn report(kind: Kind, outcome: anyhow::Result<KindOutcome>, seed: u64) -> KindReport {
    let (outcome, problem) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(error) => (KindOutcome::default(), Some(format!("{error:#}"))),
    };
    let difference = outcome.money.difference(seed);
    let (predicted, rules) = outcome.money.totals();
    KindReport {
        kind: kind.as_str(),
        decisions: outcome.deciders.texts(),
        model_share: outcome.deciders.model_share(),
        measure: outcome.measure,
        predicted_nanousd: predicted,
        rules_nanousd: rules,
        difference_nanousd: difference.point,
        interval_nanousd: difference.interval,
        blocks: difference.blocks,
        problem,
    }
}

/// The kinds as a table.
pub fn table(kinds: &[KindReport]) -> String {
    let usd = |nanos: i64| format!("{:.4}", nanos as f64 / 1e9);
    let rows = kinds.iter().map(|kind| {
        let decisions: Vec<String> = kind.decisions.iter().map(|(by, count)| format!("{by} {count}")).collect();
        let interval =
            kind.interval_nanousd.map_or_else(|| "too few blocks".to_owned(), |(low, high)| format!("{} to {}", usd(low), usd(high)));
        vec![
            kind.kind.to_owned(),
            kind.problem.clone().unwrap_or_else(|| decisions.join(", ")),
            format!("{:.1} %", kind.model_share * 100.0),
            usd(kind.predicted_nanousd),
            usd(kind.rules_nanousd),
            usd(kind.difference_nanousd),
            interval,
            kind.measure.clone(),
        ]
    });
    crate::table::render(&["kind", "decisions", "by model", "predicted $", "rules $", "difference $", "95 % interval", "money is"], rows)
}
