//! `farthing keys`: makes Farthing keys.

use std::process::ExitCode;

use farthing_config::{AdminToken, FarthingKey, Role};
use serde_json::json;

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
    /// Print a new token of the admin API once, and the table with its digest for the configuration.
    Admin(Admin),
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

#[derive(Debug, clap::Args)]
struct Admin {
    /// Whose it is; stands in the audit log.
    #[arg(long, value_parser = holder)]
    name: String,
    /// What it may do: viewer, operator or admin.
    #[arg(long, value_parser = role)]
    role: Role,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "viewer, operator or admin".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let good = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good { Ok(text.to_owned()) } else { Err("letters, digits, '-', '_' and '.', at most 64".to_owned()) }
}

fn holder(text: &str) -> Result<String, String> {
    let name = name(text)?;
    if AdminToken::is_taken(&name) { Err("it stands for another right in the audit log".to_owned()) } else { Ok(name) }
}

/// Prints a new key or token.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::New(new) => key(new),
        Command::Admin(new) => token(new),
    }
}

fn token(new: &Admin) -> anyhow::Result<ExitCode> {
    let (secret, token) = AdminToken::generate(&new.name, new.role)?;
    show("token", secret.expose(), &token_table(&token), new.json);
    Ok(ExitCode::SUCCESS)
}

fn show(what: &str, text: &str, table: &str, as_json: bool) {
    if as_json {
        println!("{}", json!({ what: text, "toml": table }));
    } else {
        eprintln!("The {what}, shown this once; keep it as a password:");
        println!("{text}");
        eprintln!("For the configuration file:");
        println!("{table}");
    }
}

fn key(new: &New) -> anyhow::Result<ExitCode> {
    let (secret, mut key) = FarthingKey::generate(&new.tenant)?;
    key.team = new.team.as_deref().map(Into::into);
    key.service = new.service.as_deref().map(Into::into);
    show("key", secret.expose(), &toml(&key), new.json);
    Ok(ExitCode::SUCCESS)
}

fn toml(key: &FarthingKey) -> String {
    let digest = hex::encode(key.sha256);
    let optional =
        |name: &str, value: &Option<std::sync::Arc<str>>| value.as_ref().map_or_else(String::new, |v| format!("\n{name} = \"{v}\""));
    let (team, service) = (optional("team", &key.team), optional("service", &key.service));
    format!("[[keys]]\nid = \"{}\"\nsha256 = \"{digest}\"\ntenant = \"{}\"{team}{service}", key.id, key.tenant)
}

fn token_table(token: &AdminToken) -> String {
    format!("[[admin.tokens]]\nname = \"{}\"\nrole = \"{}\"\nsha256 = \"{}\"", token.name, token.role, hex::encode(token.sha256))
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
        let (secret, token) = AdminToken::generate("ci", Role::Operator).unwrap();
        let text = format!("[providers.openai]\n{}\n", token_table(&token));
        let config = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
        assert_eq!(config.admin.holder(secret.expose()), Some(("ci".into(), Role::Operator)));
        assert!(name("a b").is_err() && name("acme").is_ok());
    }
}
