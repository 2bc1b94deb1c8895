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
            if let Err(error) = farthing_proxy::check_parts(&config) {
                eprintln!("{error}");
                return Ok(ExitCode::from(BAD_CONFIG));
            }
            crate::table::out(&describe(&config));
            config.hints().iter().for_each(|hint| eprintln!("warning: {hint}"));
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
            format!("{hosts}{}", route.matcher),
            provider.map_or_else(String::new, |provider| provider.base_url.to_string()),
            format!("{:?}", route.mode).to_lowercase(),
            match route.credential {
                CredentialMode::Pass => "pass".to_owned(),
                CredentialMode::Swap => "swap".to_owned(),
            },
            time(route.max_ttl),
            format!("{} %", route.stale_budget * 100.0),
            price.map_or_else(|| "unknown".to_owned(), show_price),
        ]
    });
    let head = ["route", "takes", "upstream", "mode", "credential", "max ttl", "stale budget", "price"];
    crate::table::render(&head, rows)
}

/// A time in its largest whole unit.
fn time(span: farthing_types::Span) -> String {
    let millis = span.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let found = units.iter().find(|(scale, _)| millis >= *scale && millis.is_multiple_of(*scale));
    found.map_or_else(|| format!("{millis}ms"), |(scale, unit)| format!("{}{unit}", millis / scale))
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

#[cfg(test)]
mod tests {
    use farthing_config::TtlBy;
    use farthing_policy::{TtlSource, registry::ttl_source};
    use farthing_types::Span;

    /// What `check` lets pass, `serve` can compile: the word that a variant's TTL is kept as names the same source.
    #[test]
    fn a_ttl_is_the_same_in_configuration_and_plan() {
        for (text, source) in [
            ("model", TtlSource::Model),
            ("table", TtlSource::Table),
            ("rule", TtlSource::Rule),
            ("fixed:500ms", TtlSource::Fixed(Span::from_millis(500))),
            ("fixed:1ns", TtlSource::Fixed(Span::from_nanos(1))),
            ("fixed:0s", TtlSource::Fixed(Span::ZERO)),
            ("fixed:1h30m1ms", TtlSource::Fixed(Span::from_millis(5_400_001))),
            ("fixed:36525d", TtlSource::Fixed(Span::from_secs(36_525 * 86_400))),
        ] {
            let by: TtlBy = text.parse().unwrap();
            assert_eq!(ttl_source(&by.to_string()), Some(source), "{text} is kept as {by}");
            assert_eq!(by.to_string().parse(), Ok(by), "{text}");
        }
    }

    #[test]
    fn times_read_well() {
        for (millis, text) in [(86_400_000, "1d"), (5_400_000, "90m"), (60_000, "1m"), (1_500, "1500ms"), (0, "0ms")] {
            assert_eq!(super::time(Span::from_millis(millis)), text);
        }
    }
}
