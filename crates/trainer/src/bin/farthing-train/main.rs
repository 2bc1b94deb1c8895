//! `farthing-train`: learns when answers change from the request log, judges what it learned, and publishes it as a bundle.
//! One file per command; what they share is in `common`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod advise;
mod common;
mod compare;
mod evaluate;
mod fit;
mod fit_prefetch;
mod import;
mod kinds;
mod looping;
mod pack;
mod policy;
mod results;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "farthing-train", version, about = "Learns when answers change from Farthing's request log")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Turns a log of others (access log, JSON lines, LiteLLM, Parquet or CSV) into Farthing's request log.
    Import(import::ImportLog),
    /// Says what a log of an observing proxy, or an imported one, could save, and how.
    Advise(advise::AdviseLog),
    /// Fits a predictor on the request log and publishes it when it is better than the rule.
    Fit {
        #[command(subcommand)]
        kind: FitKind,
    },
    /// Compares the features that were logged with those that the log gives, bit by bit.
    Verify(verify::Verify),
    /// Learns from the first part of a trace with known changes and compares bills on the rest.
    Evaluate {
        #[command(subcommand)]
        kind: EvaluateKind,
    },
    /// Compares two bundles on the same requests: who is cheaper at equal staleness, with interval, per route.
    Compare(compare::Compare),
    /// Trains by itself whatever the log has gained, and names what passes the gate challenger; never champion.
    Loop(looping::RunLoop),
    /// Writes the rows as the learners see them, for learners of another program.
    Features(pack::Features),
    /// Checks, judges and packs a model that another program has made.
    Pack(pack::Pack),
    /// Measures what the learners are promised to be worth and writes the page of results.
    Results(results::Results),
}

#[derive(Subcommand)]
enum FitKind {
    /// How long answers stay true.
    Ttl(fit::FitTtl),
    /// What each combination of strategies leaves to pay.
    Strategy(kinds::FitStrategy),
    /// How much a call will answer.
    Cost(kinds::FitCost),
    /// What will be asked for next, before the cache has it.
    Prefetch(fit_prefetch::FitPrefetch),
}

#[derive(Subcommand)]
enum EvaluateKind {
    /// How long answers stay true.
    Ttl(evaluate::EvaluateTtl),
    /// What another policy would have cost, from decisions that were drawn with logged probabilities.
    Policy(policy::EvaluatePolicy),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Import(args) => import::run(&args),
        Command::Advise(args) => advise::run(&args),
        Command::Fit { kind: FitKind::Ttl(args) } => fit::fit_ttl(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Fit { kind: FitKind::Strategy(args) } => kinds::fit_strategy(&args),
        Command::Fit { kind: FitKind::Cost(args) } => kinds::fit_cost(&args),
        Command::Fit { kind: FitKind::Prefetch(args) } => fit_prefetch::fit_prefetch(&args),
        Command::Evaluate { kind: EvaluateKind::Ttl(args) } => evaluate::evaluate_ttl(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Loop(args) => looping::run(&args),
        Command::Features(args) => pack::features(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Results(args) => results::results(&args),
        Command::Evaluate { kind: EvaluateKind::Policy(args) } => policy::evaluate_policy(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("farthing-train: {error:#}");
        ExitCode::FAILURE
    })
}
