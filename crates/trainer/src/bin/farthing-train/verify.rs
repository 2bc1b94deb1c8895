//! `verify`: compares logged features with those that the log gives.

use std::process::ExitCode;

use farthing_trainer::verify::verify;

#[derive(clap::Args)]
pub struct Verify {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long)]
    logs: String,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    json: bool,
}

/// Runs the command; fails when something differs.
pub fn run(args: &Verify) -> anyhow::Result<ExitCode> {
    let verified = verify(&args.logs)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&verified)?);
    } else {
        print!("{}", verified.text());
    }
    Ok(if verified.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
