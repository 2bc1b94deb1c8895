//! `farthing config push|status|history|rollback`, and `show N`: the configuration that a fleet keeps.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use farthing_admin::{ConfigPush, ConfigPushed, ConfigReport, ConfigRollback, ConfigText, ConfigVersion, FleetConfig, InstanceConfig};
use http::Method;

use super::client::{Client, ClientError};
use super::{AdminFlags, ask, print};

const FLEET: &str = "/api/v1/config/fleet";
const VERSIONS: &str = "/api/v1/config/versions";
/// What the first line of a file says that was made from a version.
const MADE_FROM: &str = "# farthing: made from version ";
/// Between two looks at what the instances say, and how many that are in a second.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u64 = 4;
/// Instances that were not heard of for so long are not waited for, seconds.
const GONE: u64 = 10;

/// Flags of what changes the fleet's configuration.
#[derive(Debug, clap::Args)]
pub struct Terms {
    /// What is said about it, for the history.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Let it change what running instances cannot take over; they take it when they start.
    #[arg(long)]
    restart: bool,
    /// Judge it and show what it would change; push nothing.
    #[arg(long)]
    dry_run: bool,
    /// Wait until every instance has it in force or has refused it, so many seconds at most; 0: do not wait. Exit code 1 where one has not got it.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
}

/// Flags of `farthing config push`.
#[derive(Debug, clap::Args)]
pub struct PushArgs {
    /// TOML file of what the fleet shares, without the keys that are an instance's own (state_dir, salt, seed, [data], [admin], [cache], [l2], [fleet],
    /// [log], [models], [alerts]).
    file: PathBuf,
    /// The version that it was made from; without it, what the first line of the file says (`farthing config show N` writes it there). 0: the fleet has none.
    #[arg(long, value_name = "VERSION")]
    over: Option<u64>,
    #[command(flatten)]
    terms: Terms,
}

/// Flags of `farthing config rollback`.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The version that is to be in force again.
    version: u64,
    /// The version that is to be replaced; without it, the newest.
    #[arg(long, value_name = "VERSION")]
    over: Option<u64>,
    #[command(flatten)]
    terms: Terms,
}

/// Puts a file into the fleet's Redis.
pub fn push(flags: &AdminFlags, args: &PushArgs) -> anyhow::Result<ExitCode> {
    ask(flags, async |client| {
        let (made_from, text) = read(&args.file)?;
        let Terms { note, restart, dry_run, .. } = &args.terms;
        let order = ConfigPush { over: args.over.or(made_from), note: note.clone(), restart: *restart, dry_run: *dry_run, text };
        let done: ConfigPushed = client.call(Method::POST, "/api/v1/config/push", &order).await?;
        told(&client, flags, (&done, &args.terms)).await
    })
}

/// Puts what an earlier version said there again.
pub fn rollback(flags: &AdminFlags, args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    ask(flags, async |client| {
        let over = match args.over {
            Some(over) => over,
            None => client.get::<FleetConfig>(FLEET).await?.newest.map_or(0, |newest| newest.version),
        };
        let Terms { note, restart, dry_run, .. } = &args.terms;
        let order = ConfigRollback { version: args.version, over, note: note.clone(), restart: *restart, dry_run: *dry_run };
        let done: ConfigPushed = client.call(Method::POST, "/api/v1/config/rollback", &order).await?;
        told(&client, flags, (&done, &args.terms)).await
    })
}

/// Shows what the fleet keeps, and what each instance goes by. Fails where one that is heard of does not have the newest version in force.
pub fn status(flags: &AdminFlags) -> anyhow::Result<ExitCode> {
    ask(flags, async |client| {
        let fleet: FleetConfig = client.get(FLEET).await?;
        print(flags, &fleet, table);
        let behind = fleet.newest.as_ref().is_some_and(|newest| !behind(&fleet, newest.version).is_empty());
        Ok(if behind || fleet.problem.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// Lists the versions that are still there.
pub fn history(flags: &AdminFlags) -> anyhow::Result<ExitCode> {
    ask(flags, async |client| {
        let versions: Vec<ConfigVersion> = client.get(VERSIONS).await?;
        print(flags, &versions, |versions| history_table(versions));
        Ok(ExitCode::SUCCESS)
    })
}

/// Prints a version as a file from which the next one can be made.
pub fn show(flags: &AdminFlags, version: u64) -> anyhow::Result<ExitCode> {
    ask(flags, async |client| {
        let found: ConfigText = client.get(&format!("{VERSIONS}/{version}")).await?;
        print(flags, &found, |found| {
            let text = found.text.strip_prefix('\n').unwrap_or(&found.text);
            format!("{MADE_FROM}{}\n{text}", found.version.version)
        });
        Ok(ExitCode::SUCCESS)
    })
}

fn read(file: &Path) -> Result<(Option<u64>, String), ClientError> {
    let text = std::fs::read_to_string(file).map_err(|error| ClientError::Unread(format!("{}: {error}", file.display())))?;
    Ok(split(&text))
}

/// The version that a text says it was made from, and the text without that line: its place stays, so that errors name the lines of the file.
fn split(text: &str) -> (Option<u64>, String) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match first.strip_prefix(MADE_FROM).and_then(|version| version.trim().parse().ok()) {
        Some(version) => (Some(version), format!("\n{rest}")),
        None => (None, text.to_owned()),
    }
}

/// Tells what became of a push, and how the instances took it.
async fn told(client: &Client, flags: &AdminFlags, (done, terms): (&ConfigPushed, &Terms)) -> Result<ExitCode, ClientError> {
    print(flags, done, what_became);
    let Some(version) = done.version.filter(|_| terms.wait > 0) else { return Ok(ExitCode::SUCCESS) };
    let mut looks = terms.wait.saturating_mul(LOOKS);
    let missing = loop {
        let fleet: FleetConfig = client.get(FLEET).await?;
        let missing = behind(&fleet, version);
        // Who has refused it will not take it by waiting.
        let settled = missing.iter().all(|of| of.refuses.is_some_and(|refused| refused >= version));
        if settled || looks == 0 {
            break missing.into_iter().cloned().collect::<Vec<_>>();
        }
        looks -= 1;
        tokio::time::sleep(LOOK).await;
    };
    missing.iter().for_each(|of| eprintln!("{}", not_there(of, version)));
    let only_waits = terms.restart && missing.iter().all(|of| of.restart);
    Ok(if missing.is_empty() || only_waits { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Instances that are heard of and do not have a version in force, or a later one.
fn behind(fleet: &FleetConfig, version: u64) -> Vec<&InstanceConfig> {
    fleet.instances.iter().filter(|of| of.ago_s < GONE && of.version.is_none_or(|has| has < version)).collect()
}

fn not_there(of: &InstanceConfig, version: u64) -> String {
    let has = match of.version {
        None => "has only just started, or is of another release".to_owned(),
        Some(0) => "goes by its own file".to_owned(),
        Some(has) => format!("goes by version {has}"),
    };
    let why = match &of.refused {
        Some(why) if of.restart => format!("version {version} waits for its restart: {why}"),
        Some(why) => format!("version {version} was refused there: {why}"),
        None => format!("nothing was heard of version {version} yet"),
    };
    format!("{}: {has}; {why}", of.instance)
}

fn what_became(done: &ConfigPushed) -> String {
    let mut text = match (done.version, &done.refused) {
        (None, _) => "nothing was pushed\n".to_owned(),
        (Some(version), None) => format!("the fleet has version {version} ({})\n", done.digest),
        (Some(version), Some(why)) => format!("the fleet has version {version} ({}); it is not in force here: {why}\n", done.digest),
    };
    let report = ConfigReport { digest: done.digest.clone(), changes: done.changes.clone(), purged: done.purged.clone() };
    text += &super::config::listed(&report);
    text
}

fn who(of: &ConfigVersion) -> String {
    of.said.as_ref().map_or_else(|| of.by.clone(), |said| format!("{} (says {said})", of.by))
}

fn table(fleet: &FleetConfig) -> String {
    let mut text = match &fleet.newest {
        None => "the fleet keeps no configuration: each instance goes by its own file\n".to_owned(),
        Some(of) => format!("the fleet has version {} ({}), pushed {} by {} at {}\n", of.version, of.digest, of.at, who(of), of.instance),
    };
    let lines = [&fleet.problem, &fleet.refused];
    for line in lines.into_iter().flatten() {
        let _ = writeln!(text, "{line}"); // cannot fail on a String
    }
    let row = |of: &InstanceConfig| {
        let version =
            of.version.map_or_else(|| "-".to_owned(), |version| if version == 0 { "own file".to_owned() } else { version.to_string() });
        let refused = of.refuses.zip(of.refused.as_ref()).map_or_else(String::new, |(version, why)| {
            format!("{version} {}: {why}", if of.restart { "waits for a restart" } else { "is refused" })
        });
        vec![of.instance.clone(), version, format!("{} s ago", of.ago_s), refused]
    };
    text + &crate::table::render(&["instance", "version", "heard", "not in force"], fleet.instances.iter().map(row))
}

fn history_table(versions: &[ConfigVersion]) -> String {
    if versions.is_empty() {
        return "the fleet keeps no configuration\n".to_owned();
    }
    let row = |of: &ConfigVersion| {
        let note =
            [of.again.map(|again| format!("version {again} again")), of.note.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let digest = of.digest.get(..8).unwrap_or(&of.digest).to_owned();
        vec![of.version.to_string(), of.at.clone(), who(of), of.instance.clone(), digest, note]
    };
    crate::table::render(&["version", "at", "by", "instance", "digest", "note"], versions.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_what_it_was_made_from() {
        let of = split;
        assert_eq!(of("# farthing: made from version 7\n[a]\n"), (Some(7), "\n[a]\n".to_owned()));
        assert_eq!(of("[a]\n# farthing: made from version 7\n").0, None, "not by what stands elsewhere");
        assert_eq!(of("# farthing: made from version x\n"), (None, "# farthing: made from version x\n".to_owned()));
        assert_eq!(of("# farthing: made from version 7"), (Some(7), "\n".to_owned()));
    }

    #[test]
    fn who_is_behind_is_named_with_the_reason() {
        let instance = |instance: &str, version, refuses: Option<u64>, ago_s| InstanceConfig {
            instance: instance.to_owned(),
            version,
            refuses,
            refused: refuses.map(|_| "no variable KEY".to_owned()),
            ago_s,
            ..InstanceConfig::default()
        };
        let instances = vec![
            instance("a", Some(3), None, 1),
            instance("b", Some(2), Some(3), 1),
            instance("c", None, None, 1),
            instance("d", Some(1), None, 99),
        ];
        let fleet =
            FleetConfig { instances, newest: Some(ConfigVersion { version: 3, ..ConfigVersion::default() }), ..FleetConfig::default() };
        let names: Vec<&str> = behind(&fleet, 3).iter().map(|of| &*of.instance).collect();
        assert_eq!(names, ["b", "c"], "who is gone is not waited for");
        let told = not_there(behind(&fleet, 3)[0], 3);
        assert_eq!(told, "b: goes by version 2; version 3 was refused there: no variable KEY");
        let shown = table(&fleet);
        assert!(shown.contains("the fleet has version 3") && shown.contains("3 is refused: no variable KEY"), "{shown}");
    }
}
