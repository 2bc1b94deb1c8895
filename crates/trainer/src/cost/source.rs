//! Calls with what was known before and what they answered.

use std::path::Path;

use farthing_contract::bundle::disk;
use farthing_contract::features::CallFacts;
use farthing_types::Time;

use crate::error::TrainError;
use crate::evaluate::read_recipe;
use crate::read::{Files, read_calls};

/// One call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Call {
    /// When.
    pub at: Time,
    /// Index of its route and target.
    pub route: u32,
    /// What was known before.
    pub facts: CallFacts,
    /// Units that it answered.
    pub output: u64,
}

/// Calls by time, and where they come from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The calls, by time.
    pub calls: Vec<Call>,
    /// Names of routes and targets.
    pub routes: Vec<String>,
    /// Digest of where they come from.
    pub digest: String,
    /// Whether it is a generated world.
    pub generated: bool,
}

impl Source {
    /// A generated world: the routes of its recipe that have tokens.
    ///
    /// # Errors
    /// When the recipe is wrong, or no route of it has tokens.
    pub fn of_recipe(path: &Path, seed: u64) -> Result<Self, TrainError> {
        let recipe = read_recipe(path)?;
        let wrong = |reason: String| TrainError::Recipe { path: path.to_path_buf(), reason };
        let trace = recipe.generate(seed).map_err(|e| wrong(e.to_string()))?;
        let rate = |route: u16| {
            let tokens = recipe.routes.get(usize::from(route)).and_then(|r| r.tokens);
            tokens.map(|t| t.output_price.nanos())
        };
        let call = |c: farthing_replay::TokenCall| Call {
            at: c.at,
            route: u32::from(c.route),
            facts: CallFacts { prompt: Some(c.prompt), max_tokens: c.max_tokens, output_rate: rate(c.route) },
            output: c.output,
        };
        let calls: Vec<Call> = recipe.token_calls(&trace, seed).into_iter().map(call).collect();
        if calls.is_empty() {
            return Err(wrong("no route has `tokens`, so there is no cost to foretell".to_owned()));
        }
        let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
        let digest = disk::sha256(&[bytes.as_slice(), &seed.to_le_bytes()].concat());
        Ok(Self { calls, routes: recipe.routes.iter().map(|r| r.name.clone()).collect(), digest, generated: true })
    }

    /// The log of a proxy: tokens where the provider told them, else bytes of the answer.
    ///
    /// # Errors
    /// When the log cannot be read or holds no whole answer.
    pub fn of_log(from: &(impl Files + ?Sized)) -> Result<Self, TrainError> {
        let log = read_calls(from)?;
        if log.calls.is_empty() {
            return Err(TrainError::TooLittle("the log holds no whole answer with tokens or bytes".to_owned()));
        }
        Ok(Self { calls: log.calls, routes: log.routes, digest: log.digest, generated: false })
    }
}
