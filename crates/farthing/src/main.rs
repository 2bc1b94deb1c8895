//! The binary `farthing`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]

mod check;
mod demo;
mod flags;
mod keys;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A proxy in front of paid APIs: caches with predicted freshness, knows prices.
#[derive(Debug, Parser)]
#[command(name = "farthing", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job on simulated APIs, with a bill.
    Demo(demo::Args),
    /// Read a configuration and print everything that is wrong with it.
    Check(check::Args),
    /// Make keys that clients present in place of a provider's credential.
    Keys(keys::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(&args),
        Command::Keys(args) => keys::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("farthing: {error:#}");
        ExitCode::FAILURE
    })
}
