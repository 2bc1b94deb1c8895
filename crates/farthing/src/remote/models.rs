//! `farthing models`.

use std::path::PathBuf;
use std::process::ExitCode;

use farthing_admin::{
    AliasState, CandidateInfo, ExplanationView, ModelDetail, ModelEvent, ModelInstance, ModelList, ModelOrder, ModelVersion,
};
use http::Method;
use serde_json::json;

use super::client::{Client, ClientError};
use super::{AdminFlags, ask, id, models_sign, models_watch, print, segment};
use crate::explain::{self, Places};
use crate::table::render;

/// Flags of `farthing models`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// All versions on disk, and what decides.
    List,
    /// One version with its manifest.
    Show(Named),
    /// Load a version with all its checks; it does not decide yet.
    Load(Named),
    /// Let a version decide; no request waits.
    Promote {
        #[command(flatten)]
        named: Named,
        /// `champion`, `challenger` or `shadow`.
        #[arg(long, default_value = "champion")]
        alias: String,
        #[command(flatten)]
        why: Why,
        /// Also a version that was rolled back before.
        #[arg(long)]
        force: bool,
    },
    /// Let a version prove itself beside the champion: it is scored at each fill, then decides for a few keys, and is taken back when it does harm.
    Challenge {
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        why: Why,
        /// Also a version that was rolled back before.
        #[arg(long)]
        force: bool,
    },
    /// Take a challenger or shadow away.
    Clear {
        /// Kind of predictor.
        #[arg(default_value = "ttl", value_parser = segment)]
        kind: String,
        /// `challenger` or `shadow`.
        #[arg(long, default_value = "challenger", value_parser = segment)]
        alias: String,
        #[command(flatten)]
        why: Why,
    },
    /// Make a key that signs predictors; asks no proxy.
    Keygen(models_sign::Keygen),
    /// Sign a version on disk, beside the signatures it has; asks no proxy.
    Sign(models_sign::Sign),
    /// Who moved which alias, when and why.
    History,
    /// Versions beside the champion: how they are scored, and whether they decide for some keys.
    Candidates,
    /// Which instances share [models.store], and which do not follow an alias; fails while one does not.
    Instances,
    /// How forecasts have come true on each route, and how far features have moved.
    Drift,
    /// Why a request was answered as it was: its decision, with how far each feature moved the prediction.
    Explain {
        /// `x-farthing-request-id` of the answer: 16 hexadecimal digits.
        #[arg(long, value_name = "ID", value_parser = id)]
        request: u64,
        /// Read this folder of logs instead of asking a running proxy.
        #[arg(long, value_name = "DIR")]
        log_dir: Option<PathBuf>,
        /// Folder of the bundles, with --log-dir.
        #[arg(long, value_name = "DIR", default_value = "models", requires = "log_dir")]
        models: PathBuf,
        /// Staleness budget of the route, with --log-dir: for the operating point.
        #[arg(long, requires = "log_dir")]
        stale_budget: Option<f64>,
    },
    /// Go back to the version before.
    Rollback {
        /// Kind of predictor.
        #[arg(default_value = "ttl")]
        kind: String,
        /// `champion`, `challenger` or `shadow`.
        #[arg(long, default_value = "champion")]
        alias: String,
        #[command(flatten)]
        why: Why,
    },
}

/// Who wants a change, and why; kept in the history.
#[derive(Debug, clap::Args)]
struct Why {
    /// Why; kept in the history.
    #[arg(long)]
    reason: Option<String>,
    /// Who; kept in the history.
    #[arg(long, env = "USER")]
    by: Option<String>,
}

impl Why {
    fn order(&self, force: bool) -> ModelOrder {
        ModelOrder { by: self.by.clone(), reason: self.reason.clone(), force }
    }
}

#[derive(Debug, clap::Args)]
struct Named {
    /// Kind of predictor, such as `ttl`.
    #[arg(value_parser = segment)]
    kind: String,
    /// Version.
    version: u32,
}

/// Shows or changes predictors.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.admin;
    if let Command::Explain { request, log_dir: Some(log), models, stale_budget } = &args.command {
        let places = Places { log, models, stale_budget: &|_| *stale_budget };
        let view = explain::request(&places, *request)?;
        print(flags, &view, explain::text);
        return Ok(ExitCode::SUCCESS);
    }
    match &args.command {
        Command::Keygen(args) => return models_sign::keygen(args),
        Command::Sign(args) => return models_sign::sign(args),
        _ => {}
    }
    ask(flags, async |client| {
        match &args.command {
            Command::List => print(flags, &client.get("/api/v1/models").await?, list),
            Command::Show(Named { kind, version }) => {
                print(flags, &client.get(&format!("/api/v1/models/{kind}/versions/{version}")).await?, detail);
            }
            Command::Load(Named { kind, version }) => {
                let path = format!("/api/v1/models/{kind}/versions/{version}/load");
                print(flags, &client.call(Method::POST, &path, &()).await?, |loaded: &ModelVersion| {
                    format!("{} {} passes all checks; `farthing models promote {0} {1}` lets it decide\n", loaded.kind, loaded.version)
                });
            }
            Command::Promote { named, alias, why, force } => {
                let moved = promote(&client, (named, alias), &why.order(*force)).await?;
                print(flags, &moved, alias_line);
            }
            Command::Challenge { named, why, force } => {
                let moved = promote(&client, (named, "challenger"), &why.order(*force)).await?;
                print(flags, &moved, alias_line);
            }
            Command::Clear { kind, alias, why } => {
                let path = format!("/api/v1/models/{kind}/aliases/{alias}");
                let left: Vec<AliasState> = client.call(Method::DELETE, &path, &why.order(false)).await?;
                print(flags, &left, |left| left.iter().map(alias_line).collect());
            }
            Command::Candidates => {
                print(flags, &client.get::<Vec<CandidateInfo>>("/api/v1/models/candidates").await?, |all| models_watch::candidates(all));
            }
            Command::Instances => {
                let all: Vec<ModelInstance> = client.get("/api/v1/models/instances").await?;
                print(flags, all.as_slice(), models_watch::instances);
                let follow = all.iter().all(|instance| instance.differs.is_empty());
                return Ok(if follow { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            Command::Drift => print(flags, &client.get("/api/v1/models/drift").await?, models_watch::drift),
            Command::History => {
                print(flags, &client.get::<Vec<ModelEvent>>("/api/v1/models/history").await?, |events| history(events));
            }
            Command::Explain { request, .. } => {
                let path = format!("/api/v1/requests/{request:016x}/explanation");
                print(flags, &client.get::<ExplanationView>(&path).await?, explain::text);
            }
            // They have ended above.
            Command::Keygen(_) | Command::Sign(_) => {}
            Command::Rollback { kind, alias, why } => {
                let path = format!("/api/v1/models/{kind}/rollback");
                let order = json!({ "alias": alias, "by": why.by, "reason": why.reason });
                print(flags, &client.call(Method::POST, &path, &order).await?, alias_line);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn promote(client: &Client, (named, alias): (&Named, &str), order: &ModelOrder) -> Result<AliasState, ClientError> {
    let Named { kind, version } = named;
    let order = json!({ "version": version, "by": order.by, "reason": order.reason, "force": order.force });
    client.call(Method::PUT, &format!("/api/v1/models/{kind}/aliases/{alias}"), &order).await
}

fn history(events: &[ModelEvent]) -> String {
    let number = |version: Option<u32>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    let rows = events.iter().map(|event| {
        let forced = if event.forced { " (forced)" } else { "" };
        vec![
            event.at.clone(),
            event.kind.clone(),
            event.alias.clone(),
            format!("{}{forced}", event.action),
            format!("{} -> {}", number(event.from), number(event.to)),
            event.by.clone(),
            event.reason.clone(),
        ]
    });
    render(&["at", "kind", "alias", "action", "versions", "by", "reason"], rows)
}

fn list(models: &ModelList) -> String {
    let rows = models.versions.iter().map(|version| {
        vec![
            version.kind.clone(),
            version.version.to_string(),
            version.aliases.join(","),
            if version.live { "yes" } else { "no" }.to_owned(),
            version.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
            version.metrics.get("saving_against_rule").map_or_else(|| "-".to_owned(), |share| format!("{:+.1} %", -share * 100.0)),
            version.digest.as_deref().map_or("-", |digest| digest.get(..12).unwrap_or(digest)).to_owned(),
            version.problem.clone().or_else(|| version.rejected.clone()).unwrap_or_default(),
        ]
    });
    let mut text = render(&["kind", "version", "aliases", "live", "rows", "bill vs rule", "digest", "problem"], rows);
    for alias in &models.aliases {
        text += &alias_line(alias);
    }
    text += &match &models.library {
        Some(library) => format!("runtime {library}; {} generations loaded, {} freed\n", models.loaded, models.freed),
        None => "no ONNX Runtime library: tables and rules decide\n".to_owned(),
    };
    text
}

fn alias_line(alias: &AliasState) -> String {
    let number = |version: Option<u32>| version.map_or_else(|| "nothing".to_owned(), |version| version.to_string());
    let engine = alias.engine.as_deref().map_or_else(String::new, |engine| format!(" ({engine})"));
    let problem = alias.problem.as_deref().map_or_else(String::new, |problem| format!(": {problem}"));
    let wanted = if alias.version == alias.live { String::new() } else { format!(", wanted {}", number(alias.version)) };
    format!("{} {} is {}{engine}{wanted}{problem}\n", alias.kind, alias.alias, number(alias.live))
}

fn detail(detail: &ModelDetail) -> String {
    let version = &detail.version;
    let mut text = format!("{} {}\n", version.kind, version.version);
    for (name, value) in &version.metrics {
        text += &format!("  {name} = {value}\n");
    }
    text + &serde_json::to_string_pretty(&detail.manifest).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_shows_what_a_version_saves_against_the_rule() {
        let version = |version, saving: Option<f64>| ModelVersion {
            kind: "ttl".to_owned(),
            version,
            digest: None,
            aliases: Vec::new(),
            live: false,
            created_ns: None,
            rows: None,
            metrics: saving.map(|share| ("saving_against_rule".to_owned(), share)).into_iter().collect(),
            problem: None,
            rejected: None,
        };
        let versions = vec![version(1, Some(0.4923)), version(2, Some(-0.05)), version(3, None)];
        let text = list(&ModelList { library: None, versions, aliases: Vec::new(), loaded: 0, freed: 0 });
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("BILL VS RULE"), "{text}");
        assert!(lines[1].contains("-49.2 %") && lines[2].contains("+5.0 %") && !lines[3].contains('%'), "{text}");
    }
}
