//! `farthing config` and `farthing audit`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use farthing_admin::{ChangeNote, ConfigChange, ConfigInfo, ConfigQuestion, ConfigReport};
use http::Method;

use super::client::ClientError;
use super::{AdminFlags, ask, config_fleet, print};
use crate::check;

const PATH: &str = "/api/v1/config";

/// Flags of `farthing config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which configuration a running proxy has in force, since when, and whether a reload was refused (this is what no subcommand does); or the text of
    /// a version that its fleet keeps.
    Show {
        /// The version.
        version: Option<u64>,
    },
    /// Put what the fleet shares into its Redis: judged as at a start, and taken over by all instances as a reload. Not over what somebody else has pushed
    /// meanwhile.
    Push(config_fleet::PushArgs),
    /// Show which configuration the fleet keeps, and which version each instance has in force or has refused. Exit code 1 where one is behind.
    Status,
    /// List the versions that the fleet still keeps: who pushed them and when.
    History,
    /// Push what an earlier version said, as a new one.
    Rollback(config_fleet::RollbackArgs),
    /// Have it read its configuration again: all of it is put in force, or, when anything is wrong or needs a restart, nothing.
    Reload,
    /// Show what a reload would change, and what needs a restart: of a file, or of the proxy's own as it is on disk now. Exit code 1 where a restart is
    /// needed. The proxy looks up secrets and files that it names.
    Diff {
        /// The file.
        file: Option<PathBuf>,
    },
    /// Read a configuration and print everything that is wrong with it, as `farthing check` does; asks no proxy.
    Check(check::Args),
}

/// Shows, compares and reloads the configuration of a running proxy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.command.as_ref().unwrap_or(&Command::Show { version: None }) {
        Command::Check(check) => check::run(check),
        Command::Show { version: Some(version) } => config_fleet::show(&args.admin, *version),
        Command::Push(push) => config_fleet::push(&args.admin, push),
        Command::Status => config_fleet::status(&args.admin),
        Command::History => config_fleet::history(&args.admin),
        Command::Rollback(rollback) => config_fleet::rollback(&args.admin, rollback),
        Command::Show { version: None } => ask(&args.admin, async |client| {
            let info: ConfigInfo = client.get(PATH).await?;
            print(&args.admin, &info, told);
            Ok(ExitCode::SUCCESS)
        }),
        Command::Reload => ask(&args.admin, async |client| {
            let report: ConfigReport = client.call(Method::POST, &format!("{PATH}/reload"), &()).await?;
            print(&args.admin, &report, |report| format!("configuration {} is in force\n{}", report.digest, listed(report)));
            Ok(ExitCode::SUCCESS)
        }),
        Command::Diff { file } => ask(&args.admin, async |client| {
            let unread = |error| ClientError::Unread(format!("{}: {error}", file.as_deref().unwrap_or(std::path::Path::new("")).display()));
            let text = file.as_ref().map(std::fs::read_to_string).transpose().map_err(unread)?;
            let report: ConfigReport = client.call(Method::POST, &format!("{PATH}/diff"), &ConfigQuestion { text }).await?;
            print(&args.admin, &report, listed);
            let restart = report.changes.iter().any(|change| change.restart.is_some());
            Ok(if restart { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }),
    }
}

fn told(info: &ConfigInfo) -> String {
    let file = info.file.as_deref().unwrap_or("flags");
    let of =
        info.fleet_version.map_or_else(|| file.to_owned(), |version| format!("the fleet, version {version}, and its own part of {file}"));
    let mut text = format!("configuration {} of {of}, in force since {}\n", info.digest, info.since);
    text += &format!(
        "reloads since the start: {} put in force, {} without a change, {} that needed a restart, {} with errors\n",
        info.applied, info.unchanged, info.restart, info.invalid
    );
    if let (Some(at), Some(why)) = (&info.refused_at, &info.refused) {
        text += &format!("the last one was refused at {at}: {why}\n");
    }
    text
}

/// What a change of the configuration comes to.
pub fn listed(report: &ConfigReport) -> String {
    if report.changes.is_empty() {
        return "nothing is another than what is in force\n".to_owned();
    }
    let row = |change: &ConfigChange| {
        let takes = change.restart.as_ref().map_or_else(|| "reload".to_owned(), |why| format!("restart: {why}"));
        vec![change.key.clone(), change.from.clone(), change.to.clone(), takes]
    };
    let mut text = crate::table::render(&["key", "from", "to", "takes"], report.changes.iter().map(row));
    if !report.purged.is_empty() {
        text += &format!("purged, because copies come from elsewhere or were made by other rules: {}\n", report.purged.join(", "));
    }
    text
}

/// Flags of `farthing audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Option<AuditCommand>,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show who changed what and when, the last change last (this is what no subcommand does).
    Show {
        /// So many of the latest.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        last: usize,
    },
}

/// Shows the record of changes of a running proxy.
pub fn audit(args: &AuditArgs) -> anyhow::Result<ExitCode> {
    let AuditCommand::Show { last } = args.command.as_ref().unwrap_or(&AuditCommand::Show { last: 50 });
    ask(&args.admin, async |client| {
        let changes: Vec<ChangeNote> = client.get(&format!("/api/v1/audit?last={last}")).await?;
        print(&args.admin, &changes, |changes| table(changes));
        Ok(ExitCode::SUCCESS)
    })
}

fn table(changes: &[ChangeNote]) -> String {
    if changes.is_empty() {
        return "nothing was changed so far\n".to_owned();
    }
    let row = |note: &ChangeNote| {
        let who = note.said.as_ref().map_or_else(|| note.by.clone(), |said| format!("{} (says {said})", note.by));
        let config = if note.before == note.after { String::new() } else { format!("{} -> {}", short(&note.before), short(&note.after)) };
        vec![note.at.clone(), who, note.what.clone(), note.with.clone(), note.outcome.clone(), config]
    };
    crate::table::render(&["at", "by", "what", "with", "outcome", "configuration"], changes.iter().map(row))
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_named_with_its_reason() {
        let change = |key: &str, restart: Option<&str>| ConfigChange {
            key: key.to_owned(),
            restart: restart.map(str::to_owned),
            ..ConfigChange::default()
        };
        let report = ConfigReport {
            changes: vec![change("routes.geo.max_ttl", None), change("data.listen", Some("it is opened at the start"))],
            purged: vec!["geo".to_owned()],
            ..ConfigReport::default()
        };
        let text = listed(&report);
        assert!(
            ["routes.geo.max_ttl", "restart: it is opened at the start", "purged", "geo"].iter().all(|part| text.contains(part)),
            "{text}"
        );
        assert!(listed(&ConfigReport::default()).starts_with("nothing is another"));
    }

    #[test]
    fn who_and_what_are_told() {
        let note = ChangeNote {
            by: "token".to_owned(),
            said: Some("anna".to_owned()),
            before: "0011223344".to_owned(),
            after: "99".to_owned(),
            ..ChangeNote::default()
        };
        let text = table(&[note]);
        assert!(text.contains("token (says anna)") && text.contains("00112233 -> 99"), "{text}");
    }
}
