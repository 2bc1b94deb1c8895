//! `farthing prices`: what things cost, and what has no price.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use farthing_ledger::PriceBook;
use farthing_ledger::prices::import::{self, Imported};
use farthing_types::{Clock, RealClock, Time, civil};

use crate::flags::ConfigFlags;
use crate::remote::{self, AdminFlags};
use crate::{check, table};

/// Flags of `farthing prices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What a call costs, by component, as the configuration says.
    Show(Show),
    /// Make a file of prices out of LiteLLM's price map, for `[prices] import`.
    Import(Import),
    /// Have a running proxy read its prices again, all or nothing.
    Reload(AdminFlags),
    /// What a running proxy could not price, and what to do about it.
    Unpriced(AdminFlags),
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    config: ConfigFlags,
    /// Of this route only.
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Of this provider only.
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Of this target, named as in requests.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The price map: a JSON file.
    #[arg(long, value_name = "FILE")]
    litellm: PathBuf,
    /// THEIRS=OURS: the map's name of a provider, and the configuration's; may be repeated. Without it: openai and anthropic.
    #[arg(long = "provider", value_name = "THEIRS=OURS")]
    providers: Vec<String>,
    /// Where to write; standard output when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The day on which the map was fetched, YYYY-MM-DD; today when absent.
    #[arg(long, value_name = "DAY")]
    day: Option<String>,
}

/// Runs one of its commands.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Show(args) => show(args),
        Command::Import(args) => import(args),
        Command::Reload(admin) => remote::prices::reload(admin),
        Command::Unpriced(admin) => remote::prices::unpriced(admin),
    }
}

fn show(args: &Show) -> anyhow::Result<ExitCode> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(error) => return Ok(check::refuse(&error)),
    };
    let book = farthing_proxy::price_book(&config)?;
    let wanted = |route: &str, provider: &str| {
        args.route.as_deref().is_none_or(|name| name == route) && args.provider.as_deref().is_none_or(|name| name == provider)
    };
    let routes: Vec<(&str, &str)> =
        config.routes.iter().map(|route| (&*route.name, &*route.provider)).filter(|(route, provider)| wanted(route, provider)).collect();
    anyhow::ensure!(!routes.is_empty(), "no route is called so; `farthing check` lists them");
    let rows = rows(&book, &routes, args.target.as_deref(), RealClock::default().now());
    if args.json {
        table::out(&(serde_json::to_string_pretty(&rows)? + "\n"));
    } else {
        table::out(&format!("prices {}\n", book.digest()));
        table::out(&table::render(&["route", "provider", "target", "component", "price", "per", "notes"], rows));
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(book: &PriceBook, routes: &[(&str, &str)], target: Option<&str>, now: Time) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (route, provider) in routes {
        let start = |cells: [&str; 5]| [*route, *provider].into_iter().chain(cells).map(str::to_owned).collect();
        match book.lines((route, provider), target, now) {
            Ok(lines) => rows.extend(lines.iter().map(|line| start([&line.target, &line.component, &line.rate, &line.per, &line.notes]))),
            Err(unpriced) => rows.push(start([target.unwrap_or_default(), "unpriced", "", unpriced.as_str(), unpriced.remedy()])),
        }
    }
    rows
}

fn import(args: &Import) -> anyhow::Result<ExitCode> {
    let file = args.litellm.display();
    let text = std::fs::read_to_string(&args.litellm).with_context(|| format!("{file} cannot be read"))?;
    let imported = import::litellm(&text, &pairs(&args.providers)?).with_context(|| format!("{file}"))?;
    let targets: usize = imported.providers.values().map(std::collections::BTreeMap::len).sum();
    anyhow::ensure!(targets > 0, "{file} has no model of these providers; name them with --provider THEIRS=OURS");
    let day = args.day.clone().unwrap_or_else(|| today(RealClock::default().now()));
    let written = imported.to_toml(&day, &format!("LiteLLM price map, {file}"));
    match &args.out {
        Some(out) => std::fs::write(out, written).with_context(|| format!("{} cannot be written", out.display()))?,
        None => table::out(&written),
    }
    eprint!("{}", told(&imported, targets));
    Ok(ExitCode::SUCCESS)
}

fn pairs(given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    if given.is_empty() {
        return Ok(["openai", "anthropic"].map(|name| (name.to_owned(), name.to_owned())).into());
    }
    let pair = |text: &String| {
        let (theirs, ours) = text.split_once('=').filter(|(theirs, ours)| !theirs.is_empty() && !ours.is_empty())?;
        Some((theirs.to_owned(), ours.to_owned()))
    };
    given.iter().map(|text| pair(text).with_context(|| format!("--provider {text}: write THEIRS=OURS, such as openai=openai"))).collect()
}

fn today(now: Time) -> String {
    let (year, month, day) = civil(now.nanos().div_euclid(86_400_000_000_000));
    format!("{year:04}-{month:02}-{day:02}")
}

fn told(imported: &Imported, targets: usize) -> String {
    let mut text = format!("{targets} targets imported; {} prices left out\n", imported.left_out.len());
    let rows = imported.left_out.iter().map(|left| vec![left.target.clone(), left.key.clone(), left.why.to_owned()]);
    if !imported.left_out.is_empty() {
        text += &table::render(&["target", "key", "left out because it"], rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use farthing_config::{Config, Flags, Surroundings};

    use super::*;

    const MAP: &str = r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 9e-06, "input_cost_per_token_above_200k_tokens": 1e-05,
        "output_cost_per_token_priority": 2e-05, "input_cost_per_character": 1},
        "dall": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04}}"#;

    struct Files(String);
    impl Surroundings for Files {
        fn var(&self, _name: &str) -> Option<String> {
            Some("a salt of some length, for tests".to_owned())
        }
        fn file(&self, path: &str) -> std::io::Result<String> {
            if path == "map.toml" { Ok(self.0.clone()) } else { Err(std::io::ErrorKind::NotFound.into()) }
        }
    }

    #[test]
    fn what_is_imported_is_what_a_configuration_reads() {
        let imported = import::litellm(MAP, &pairs(&[]).unwrap()).unwrap();
        let files = Files(imported.to_toml("2026-11-26", "a \"map\""));
        let text = "salt = { env = \"SALT\" }\n[prices]\nimport = [\"map.toml\"]\n[providers.openai]\n";
        let config = Config::parse(text, "f.toml", &Flags::default(), &files).unwrap();
        let prices = config.provider("openai").unwrap().prices.clone().unwrap();
        for (target, rates) in &imported.providers["openai"] {
            assert_eq!(prices.targets.get(target), Some(rates));
        }
        assert_eq!(prices.source.as_deref(), Some("a \"map\""));
        assert!(told(&imported, 2).contains("input_cost_per_character"));

        let book = farthing_proxy::price_book(&config).unwrap();
        let all = rows(&book, &[("openai", "openai")], Some("gpt-4o-2024-08-06"), Time::ZERO);
        let long: Vec<&str> = all.iter().find(|row| row[3].contains("over 200000")).unwrap().iter().map(String::as_str).collect();
        assert_eq!(long[2..6], ["gpt-4o-2024-08-06", "input (input over 200000 tokens)", "10", "1,000,000 tokens"]);
        let none = rows(&book, &[("openai", "openai")], Some("gpt-0"), Time::ZERO);
        assert_eq!(none[0][3..6], ["unpriced", "", "unknown-target"]);
    }

    #[test]
    fn pairs_and_days_are_read() {
        assert!(pairs(&["openai".to_owned()]).unwrap_err().to_string().contains("write THEIRS=OURS"));
        assert_eq!(pairs(&["a=b".to_owned()]).unwrap(), [("a".to_owned(), "b".to_owned())]);
        assert_eq!(today(Time::from_millis(1_794_268_800_000)), "2026-11-10");
    }
}
