//! `loop`: closes the loop without an operator, turn by turn.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use farthing_contract::bundle::{Kind, signing};
use farthing_trainer::autopilot::{Lock, Looper, Outcome, Recipe, Told};
use farthing_trainer::import::TimeFormat;
use farthing_types::{Clock, RealClock, Time};

use crate::common::{Bar, out};

/// Exit code of a wrong recipe.
const WRONG: u8 = 2;
/// Exit code when a gate refused what was learned.
const REFUSED: u8 = 3;

#[derive(clap::Args)]
pub struct RunLoop {
    /// What to do, as TOML: docs/examples/loop.toml.
    #[arg(long)]
    recipe: PathBuf,
    /// One look, then the end: 0 done or nothing to do, 1 something failed, 2 the recipe is wrong, 3 a gate refused what was learned.
    #[arg(long)]
    once: bool,
    /// Looks as of this time (ISO 8601) instead of now: for logs of the past.
    #[arg(long, requires = "once", value_parser = time)]
    at: Option<Time>,
    /// Print a JSON object in a line for each kind instead of text.
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<Time, String> {
    let wrong = || format!("`{text}` is no time: write one like 2026-11-27T14:00:00Z");
    TimeFormat::Iso8601.text(text).map(Time::from_nanos).ok_or_else(wrong)
}

/// Runs the command.
pub fn run(args: &RunLoop) -> anyhow::Result<ExitCode> {
    let recipe = match Recipe::read(&args.recipe) {
        Ok(recipe) => recipe,
        Err(error) => {
            eprintln!("farthing-train: {error}");
            return Ok(ExitCode::from(WRONG));
        }
    };
    if let Some(Err(error)) = recipe.sign.as_deref().map(signing::read_key) {
        eprintln!("farthing-train: {error}");
        return Ok(ExitCode::from(WRONG));
    }
    let look = recipe.look;
    let _lock = Lock::take(&recipe.models)?;
    let mut looper = Looper::open(recipe)?;
    let clock = RealClock::default();
    let mut said: BTreeMap<Kind, String> = BTreeMap::new();
    loop {
        let told = {
            let bar = Bar::new(args.json);
            looper.turn(args.at.unwrap_or_else(|| clock.now()), &bar)
        };
        for one in &told {
            // What was said at the last look is not said again.
            let before = said.insert(one.kind, one.text.clone());
            if one.outcome.trained() || before.as_ref() != Some(&one.text) {
                out(&line(one, args.json)?);
            }
        }
        if args.once {
            return Ok(ended(&told));
        }
        std::thread::sleep(look);
    }
}

fn line(told: &Told, json: bool) -> anyhow::Result<String> {
    Ok(if json { format!("{}\n", serde_json::to_string(told)?) } else { format!("{:9} {}\n", told.kind, told.text) })
}

fn ended(told: &[Told]) -> ExitCode {
    let any = |outcome: Outcome| told.iter().any(|one| one.outcome == outcome);
    match (any(Outcome::Failed), any(Outcome::Refused)) {
        (true, _) => ExitCode::FAILURE,
        (_, true) => ExitCode::from(REFUSED),
        _ => ExitCode::SUCCESS,
    }
}
