//! `farthing purge`.

use std::process::ExitCode;

use farthing_admin::{FleetTold, PurgeReport, PurgeRequest};
use farthing_types::KeyHash;
use http::Method;

use super::{AdminFlags, ask, print};

/// Flags of `farthing purge`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["tag", "key", "prefix", "route", "tenant", "all"]))]
pub struct Args {
    /// Everything with this tag (`Surrogate-Key`, `Cache-Tag`); may be given more than once.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// An entry with all its variants, by its key: 32 hexadecimal digits, from `x-farthing-key`; may be given more than once.
    #[arg(long, value_name = "KEY")]
    key: Vec<KeyHash>,
    /// Everything whose path, below the route's, begins so; of --route when that is given.
    #[arg(long, value_name = "PATH")]
    prefix: Option<String>,
    /// Everything of this route.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Everything of this tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Everything.
    #[arg(long, conflicts_with_all = ["tag", "key", "prefix", "route", "tenant"])]
    all: bool,
    /// Make entries stale instead of removing them: they can be validated, or stand in for a failed call.
    #[arg(long)]
    soft: bool,
    /// Count only.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Purges, and says how much.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let request = PurgeRequest {
        tags: args.tag.clone(),
        keys: args.key.iter().map(KeyHash::to_string).collect(),
        prefix: args.prefix.clone(),
        route: args.route.clone(),
        tenant: args.tenant.clone(),
        all: args.all,
        soft: args.soft,
        dry_run: args.dry_run,
    };
    ask(&args.admin, async |client| {
        let report: PurgeReport = client.call(Method::POST, "/api/v1/cache/purge", &request).await?;
        print(&args.admin, &report, |report| told(report, request.soft) + others(report));
        Ok(ExitCode::SUCCESS)
    })
}

/// What of the other instances.
const fn others(report: &PurgeReport) -> &'static str {
    match report.fleet {
        Some(FleetTold::Untold) => "the other instances could not be told yet: they will be when redis answers\n",
        Some(FleetTold::Told) => "the other instances are told\n",
        None => "",
    }
}

fn told(report: &PurgeReport, soft: bool) -> String {
    let entries = format!("{} {}", report.entries, if report.entries == 1 { "entry" } else { "entries" });
    if report.dry_run {
        return format!("{entries} would be {}\n", if soft { "made stale" } else { "removed" });
    }
    let done = if soft { "made stale" } else { "removed" };
    match report.flights {
        0 => format!("{entries} {done}\n"),
        1 => format!("{entries} {done}; the answer of 1 call under way does not count as fresh\n"),
        flights => format!("{entries} {done}; the answers of {flights} calls under way do not count as fresh\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said() {
        let report = |entries, flights, dry_run| PurgeReport { entries, flights, dry_run, fleet: None };
        assert_eq!(told(&report(1, 0, false), false), "1 entry removed\n");
        assert_eq!(told(&report(3, 0, true), true), "3 entries would be made stale\n");
        assert!(told(&report(0, 2, false), false).contains("0 entries removed; the answers of 2 calls"));
    }
}
