//! `farthing check`: reads a configuration without serving.

use std::process::ExitCode;

use farthing_config::{Config, ConfigError, CredentialMode, Prices};

use crate::flags::ConfigFlags;

/// Exit code of a configuration that cannot be used.
pub const BAD_CONFIG: u8 = 2;

/// Flags of `farthing check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFlags,
    /// Print the reference of all configuration keys (Markdown) and nothing else.
    #[arg(long)]
    reference: bool,
}

/// Prints the routes of a good configuration, or what is wrong with a bad one.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.reference {
        crate::table::out(&farthing_config::reference());
        return Ok(ExitCode::SUCCESS);
    }
    match args.config.load() {
        Ok(config) => {
            crate::table::out(&describe(&config));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(refuse(&error)),
    }
}

/// Prints what is wrong; the exit code for it.
pub fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    if let ConfigError::Problems(problems) = error {
        eprintln!("{} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" });
    }
    ExitCode::from(BAD_CONFIG)
}

fn describe(config: &Config) -> String {
    let rows = config.routes.iter().map(|route| {
        let provider = config.provider(&route.provider);
        let hosts = if route.matcher.hosts.is_empty() { String::new() } else { route.matcher.hosts.join(",") };
        let price = route.prices.as_ref().or_else(|| provider.and_then(|provider| provider.prices.as_ref()));
        vec![
            route.name.to_string(),
            format!("{hosts}{}", route.matcher.path_prefix),
            provider.map_or_else(String::new, |provider| provider.base_url.to_string()),
            format!("{:?}", route.mode).to_lowercase(),
            match route.credential {
                CredentialMode::Pass => "pass".to_owned(),
                CredentialMode::Swap => "swap".to_owned(),
            },
            format!("{:?}", route.max_ttl),
            format!("{} %", route.stale_budget * 100.0),
            price.map_or_else(|| "unknown".to_owned(), show_price),
        ]
    });
    let head = ["route", "takes", "upstream", "mode", "credential", "max ttl", "stale budget", "price"];
    crate::table::render(&head, rows)
}

fn show_price(prices: &Prices) -> String {
    match (prices.free, prices.per_call, prices.targets.len()) {
        (true, ..) => "free".to_owned(),
        (_, Some(rate), 0) => format!("${} a call", rate.cost(1)),
        (_, Some(rate), targets) => format!("${} a call, {targets} targets", rate.cost(1)),
        (_, None, 0) => "metered".to_owned(),
        (_, None, targets) => format!("{targets} targets"),
    }
}
