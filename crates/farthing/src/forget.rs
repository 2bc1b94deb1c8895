//! `farthing forget`.

use std::process::ExitCode;

use farthing_admin::{ForgetReport, ForgetRequest};
use http::Method;

use crate::flags::ConfigFlags;
use crate::remote::{AdminFlags, ask, print};

/// Flags of `farthing forget`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant as the log names it; those of passed-through credentials are `p-` and a digest.
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// Work on the folders of a proxy that does not run, named by the configuration.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    admin: Asked,
    #[command(flatten)]
    config: Folders,
}

/// Where a running proxy is.
#[derive(Debug, clap::Args)]
struct Asked {
    /// Admin API of the running proxy. A token is taken from FARTHING_ADMIN_TOKEN, the authority of its certificate (PEM) from FARTHING_ADMIN_CA.
    #[arg(long, value_name = "URL", env = "FARTHING_ADMIN", default_value = "http://127.0.0.1:8788")]
    admin: String,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Where the folders of one are that does not run.
#[derive(Debug, clap::Args)]
struct Folders {
    /// With --offline: the configuration.
    #[arg(long, value_name = "FILE", env = "FARTHING_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// With --offline: directory of the log, in place of the configuration's.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<std::path::PathBuf>,
}

/// Forgets, and says what was removed where; fails when something may be left.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.tenant.is_empty(), "name the tenant as the log does");
    let flags = AdminFlags::new(args.admin.admin.clone(), args.admin.json);
    if args.offline {
        return offline(args, &flags);
    }
    let request = ForgetRequest { tenant: args.tenant.clone() };
    let code = ask(&flags, async |client| {
        loop {
            let report: ForgetReport = client.call(Method::POST, "/api/v1/forget", &request).await?;
            if report.finished {
                print(&flags, &report, told);
                return Ok(code(&report));
            }
        }
    })?;
    if code == ExitCode::from(crate::remote::UNREACHABLE) {
        eprintln!("farthing: to forget in the folders of a proxy that does not run, add --offline and its --config");
    }
    Ok(code)
}

fn offline(args: &Args, flags: &AdminFlags) -> anyhow::Result<ExitCode> {
    let config = ConfigFlags { config: args.config.config.clone(), log_dir: args.config.log_dir.clone(), ..ConfigFlags::default() };
    let config = match config.load() {
        Ok(config) => config,
        Err(error) => return Ok(crate::check::refuse(&error)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = crate::adapters::forget::told(runtime.block_on(farthing_proxy::forget::forget_offline(&config, &args.tenant))?);
    print(flags, &report, told);
    Ok(code(&report))
}

fn code(report: &ForgetReport) -> ExitCode {
    if report.left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn told(report: &ForgetReport) -> String {
    let rows: Vec<String> = report.log_rows.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
    let mut text = format!("memory: {} answers{}\n", report.cache_entries, if report.totals { ", totals" } else { "" });
    if let Some(values) = report.l2_values {
        text += &format!("L2: {values} values\n");
    }
    text += &format!("log: {} in {} files\n", if rows.is_empty() { "no rows".to_owned() } else { rows.join(", ") }, report.log_files);
    report.sink_rows.iter().for_each(|(sink, rows)| text += &format!("sink {sink}: {rows} rows\n"));
    text += &format!("statistics: {} keys\n", report.key_statistics);
    if report.budget_counters > 0 {
        text += &format!("budgets: {} of its own, which begin anew\n", report.budget_counters);
    }
    report.left.iter().for_each(|left| text += &format!("left: {left}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_and_fails() {
        let done = ForgetReport { finished: true, l2_values: Some(3), ..ForgetReport::default() };
        assert_eq!(told(&done), "memory: 0 answers\nL2: 3 values\nlog: no rows in 0 files\nstatistics: 0 keys\n");
        let shipped = ForgetReport { sink_rows: [("warehouse".to_owned(), 9)].into(), ..done.clone() };
        assert!(told(&shipped).contains("\nsink warehouse: 9 rows\n"));
        let partly = ForgetReport { left: vec!["x".to_owned()], ..done.clone() };
        assert!(told(&partly).ends_with("left: x\n"));
        assert_eq!((code(&done), code(&partly)), (ExitCode::SUCCESS, ExitCode::FAILURE));
    }
}
