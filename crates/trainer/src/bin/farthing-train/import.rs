//! `import`: logs of others become Farthing's own.

use std::path::PathBuf;
use std::process::ExitCode;

use farthing_trainer::import::format::{ALL, Format, by_name};
use farthing_trainer::import::mapping::Mapping;
use farthing_trainer::import::{Import, import, read_salt};
use farthing_types::Money;

use crate::common::{Bar, out};

/// Exit code when nothing, or too little, was imported.
const TOO_LITTLE: u8 = 3;

#[derive(clap::Args)]
pub struct ImportLog {
    /// Files, plain or gzip; - for the standard input.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// What the files are: combined, json-lines, litellm or columns.
    #[arg(long, value_parser = format)]
    format: &'static dyn Format,
    /// Mapping file: where times, URLs, costs ... are (docs/import.md).
    #[arg(long)]
    mapping: Option<PathBuf>,
    /// Folder of the log that is written.
    #[arg(long, default_value = "imported")]
    out: PathBuf,
    /// Price of a call where the files name none, dollars: 0.002.
    #[arg(long, value_parser = money)]
    price: Option<Money>,
    /// Each client has a cache of its own, as on routes that are not shared; without it repeats count over all clients.
    #[arg(long)]
    private: bool,
    /// File of the deployment's salt; made up when it is not there.
    #[arg(long, default_value = ".farthing/salt")]
    salt: PathBuf,
    /// Largest share of lines that may be skipped without the exit code saying so.
    #[arg(long, default_value_t = 0.05, value_parser = at_most_one)]
    max_skipped: f64,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    json: bool,
}

fn format(name: &str) -> Result<&'static dyn Format, String> {
    let known = || ALL.iter().map(|f| format!("{} ({})", f.name(), f.about())).collect::<Vec<_>>().join("; ");
    by_name(name).ok_or_else(|| format!("`{name}` is no format: there are {}", known()))
}

fn money(text: &str) -> Result<Money, String> {
    text.parse::<Money>().map_err(|e| e.to_string())
}

fn at_most_one(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x| (0.0..=1.0).contains(x)).ok_or_else(|| format!("`{text}` is not a share: give a number from 0 to 1"))
}

/// Runs the command.
pub fn run(args: &ImportLog) -> anyhow::Result<ExitCode> {
    let mapping = args.mapping.as_deref().map(Mapping::read).transpose()?.unwrap_or_default();
    let bar = Bar::new(args.json);
    let what = Import {
        format: args.format,
        inputs: &args.inputs,
        mapping: &mapping,
        out: &args.out,
        salt: read_salt(&args.salt)?,
        price: args.price,
        private: args.private,
    };
    let report = import(&what, &bar)?;
    drop(bar);
    let failure = report.failure(args.max_skipped);
    if args.json {
        out(&(serde_json::to_string_pretty(&serde_json::json!({"log": args.out, "failure": failure, "report": report}))? + "\n"));
    } else {
        out(&report.text());
        if report.requests > 0 {
            out(&format!("next        farthing-train advise --logs {}\n", args.out.display()));
        }
        if let Some(failure) = &failure {
            eprintln!("farthing-train: {failure}");
        }
    }
    Ok(if failure.is_some() { ExitCode::from(TOO_LITTLE) } else { ExitCode::SUCCESS })
}
