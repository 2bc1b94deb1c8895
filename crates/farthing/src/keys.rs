//! `farthing keys`: makes Farthing keys.

use std::process::ExitCode;

use farthing_config::FarthingKey;
use serde_json::json;
use std::fmt::Write;

/// Flags of `farthing keys`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a new key once, and the table with its digest for the configuration.
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Who pays.
    #[arg(long, value_parser = name)]
    tenant: String,
    /// Free attribution.
    #[arg(long, value_parser = name)]
    team: Option<String>,
    /// Free attribution.
    #[arg(long, value_parser = name)]
    service: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    let good = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good { Ok(text.to_owned()) } else { Err("letters, digits, '-', '_' and '.', at most 64".to_owned()) }
}

/// Prints a new key.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::New(new) = &args.command;
    let (secret, mut key) = FarthingKey::generate(&new.tenant)?;
    key.team = new.team.as_deref().map(Into::into);
    key.service = new.service.as_deref().map(Into::into);
    if new.json {
        println!("{}", json!({ "key": secret.expose(), "toml": toml(&key) }));
    } else {
        eprintln!("The key, shown this once; keep it as a password:");
        println!("{}", secret.expose());
        eprintln!("For the configuration file:");
        println!("{}", toml(&key));
    }
    Ok(ExitCode::SUCCESS)
}

fn toml(key: &FarthingKey) -> String {
    let digest: String = key.sha256.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // cannot fail on a String
        text
    });
    let optional =
        |name: &str, value: &Option<std::sync::Arc<str>>| value.as_ref().map_or_else(String::new, |v| format!("\n{name} = \"{v}\""));
    let (team, service) = (optional("team", &key.team), optional("service", &key.service));
    format!("[[keys]]\nid = \"{}\"\nsha256 = \"{digest}\"\ntenant = \"{}\"{team}{service}", key.id, key.tenant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_config::{Config, Flags, System};

    #[test]
    fn the_printed_table_opens_for_the_printed_key() {
        let (secret, mut key) = FarthingKey::generate("acme").unwrap();
        key.team = Some("search".into());
        let text = format!("[providers.openai]\n{}\n", toml(&key));
        let config = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
        assert!(config.keys[0].accepts(secret.expose()));
        assert_eq!(config.keys[0].team.as_deref(), Some("search"));
        assert!(name("a b").is_err() && name("acme").is_ok());
    }
}
