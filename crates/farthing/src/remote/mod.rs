//! Commands that ask a running proxy's admin API.

pub mod alerts;
pub mod budgets;
pub mod bypass;
pub mod client;
pub mod config;
mod config_fleet;
pub mod costs;
mod costs_table;
pub mod experiments;
pub mod explain;
pub mod freeze;
pub mod limits;
pub mod models;
mod models_sign;
mod models_watch;
pub mod prices;
pub mod purge;
pub mod routes;
pub mod status;
pub mod volatile;
pub mod warm;

use std::process::ExitCode;

use client::{Client, ClientError};
use serde::Serialize;

/// Exit code when no proxy answers.
pub const UNREACHABLE: u8 = 4;

/// Flags of every command that asks a running proxy.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminFlags {
    /// Admin API of the running proxy. A token is taken from FARTHING_ADMIN_TOKEN, the authority of its certificate (PEM) from FARTHING_ADMIN_CA.
    #[arg(long, value_name = "URL", env = "FARTHING_ADMIN", default_value = "http://127.0.0.1:8788", global = true)]
    admin: String,
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

impl AdminFlags {
    /// Flags that another command has read.
    pub const fn new(admin: String, json: bool) -> Self {
        Self { admin, json }
    }
}

/// A name that can stand in a path.
fn segment(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good { Ok(text.to_owned()) } else { Err("letters, digits, '-', '_' and '.'".to_owned()) }
}

/// An id as it stands in headers and logs.
fn id(text: &str) -> Result<u64, String> {
    let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| good).ok_or_else(|| "16 hexadecimal digits, as in x-farthing-request-id".to_owned())
}

/// Asks, prints, and turns what went wrong into a message and an exit code.
pub fn ask<F>(flags: &AdminFlags, question: impl FnOnce(Client) -> F) -> anyhow::Result<ExitCode>
where
    F: Future<Output = Result<ExitCode, ClientError>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = Client::new(&flags.admin, std::env::var("FARTHING_ADMIN_TOKEN").ok()).map(question);
    match outcome.map(|question| runtime.block_on(question)) {
        Ok(Ok(code)) => Ok(code),
        Ok(Err(error)) | Err(error) => {
            eprintln!("farthing: {error}");
            Ok(if error.is_unreachable() { ExitCode::from(UNREACHABLE) } else { ExitCode::FAILURE })
        }
    }
}

/// Prints `view` as JSON, or as what `table` makes of it.
pub fn print<T: Serialize + ?Sized>(flags: &AdminFlags, view: &T, table: impl FnOnce(&T) -> String) {
    match serde_json::to_string_pretty(view) {
        Ok(json) if flags.json => crate::table::out(&(json + "\n")),
        _ => crate::table::out(&table(view)),
    }
}
