//! The binary `farthing`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]

mod adapters;
mod check;
mod demo;
mod explain;
mod flags;
mod forget;
mod keys;
mod logs;
mod origin;
mod prices;
mod reconcile;
mod remote;
mod replay;
mod serve;
mod table;
mod telemetry;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A proxy in front of paid APIs: caches with predicted freshness, knows prices.
#[derive(Debug, Parser)]
#[command(name = "farthing", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed or refused, 2 bad flags or configuration, 4 no proxy answers.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: listen for the app, call the providers.
    Serve(serve::Args),
    /// Show the main job on simulated APIs, with a bill.
    Demo(demo::Args),
    /// Read a configuration and print everything that is wrong with it.
    Check(check::Args),
    /// Show, compare and reload the configuration of a running proxy.
    Config(remote::config::Args),
    /// Show who changed what on a running proxy, and when.
    Audit(remote::config::AuditArgs),
    /// Show a running proxy: routes, bill, savings.
    Status(remote::status::Args),
    /// Show money by any names and over any time: bill, savings, what remains; of a running proxy or of a log folder.
    Costs(remote::costs::Args),
    /// Show alerts about money, and where the month will end.
    Alerts(remote::alerts::Args),
    /// Compare a provider's invoice or usage export with the log, by day and meter.
    Reconcile(reconcile::Args),
    /// Show why answers were not served from the cache: dearest first, with the key that would change it.
    Routes(remote::routes::Args),
    /// Show what was done for a request and why, strategy by strategy.
    Explain(remote::explain::Args),
    /// Purge the cache of a running proxy: by tag, key, prefix, route, tenant, or all of it.
    Purge(remote::purge::Args),
    /// Show which fields of answers differ from call to call, for `volatile` of a route.
    Volatile(remote::volatile::Args),
    /// Fetch what a list or an access log names into a running proxy's cache, hottest first, within a limit of money.
    Warm(remote::warm::Args),
    /// Prices: show, import a price map, reload, see what has none.
    Prices(prices::Args),
    /// Show and change the predictors of a running proxy.
    Models(remote::models::Args),
    /// Show what is spent of each budget, raise one, or show why requests were held back.
    Budgets(remote::budgets::Args),
    /// Let everything pass by at once: on all routes or one, for a time or until it is switched off.
    Bypass(remote::bypass::Args),
    /// Stop all automation at once, until it is let go on: promotions, canaries, switches, tuning. Safeguards go on.
    Freeze(remote::freeze::Args),
    /// Show what limits let through, who waits for them, and what is under way.
    Limits(remote::limits::Args),
    /// Show the experiments of a running proxy.
    Experiments(remote::experiments::Args),
    /// The door to the Parquet log: its schema, what it holds, verified exports, retention.
    Logs(logs::Args),
    /// Remove everything of a tenant: from cache, L2, log, journal and statistics.
    Forget(forget::Args),
    /// Replay a log or a generated world under a policy: bill, hits, staleness, worth of each predictor.
    Replay(replay::Args),
    /// Make keys that clients present in place of a provider's credential.
    Keys(keys::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => remote::config::run(&args),
        Command::Audit(args) => remote::config::audit(&args),
        Command::Status(args) => remote::status::run(&args),
        Command::Costs(args) => remote::costs::run(&args),
        Command::Alerts(args) => remote::alerts::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Routes(args) => remote::routes::run(&args),
        Command::Explain(args) => remote::explain::run(&args),
        Command::Purge(args) => remote::purge::run(&args),
        Command::Volatile(args) => remote::volatile::run(&args),
        Command::Warm(args) => remote::warm::run(&args),
        Command::Prices(args) => prices::run(&args),
        Command::Models(args) => remote::models::run(&args),
        Command::Budgets(args) => remote::budgets::run(&args),
        Command::Bypass(args) => remote::bypass::run(&args),
        Command::Freeze(args) => remote::freeze::run(&args),
        Command::Limits(args) => remote::limits::run(&args),
        Command::Experiments(args) => remote::experiments::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Forget(args) => forget::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Keys(args) => keys::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("farthing: {}", told(&error));
        ExitCode::FAILURE
    })
}

/// The error with its causes; a cause that the error's own text already tells is not told again.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        text if text.contains(&cause) => text.to_owned(),
        text => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || Err::<(), _>(std::io::Error::other("no such source"));
        assert_eq!(super::told(&cause().context("route `geo`").unwrap_err()), "route `geo`: no such source");
        assert_eq!(
            super::told(&cause().context("route `geo`: no such source; write one").unwrap_err()),
            "route `geo`: no such source; write one"
        );
    }
}
