//! `farthing volatile`.

use std::fmt::Write;
use std::process::ExitCode;

use farthing_admin::{RouteInfo, VolatileReport};

use super::client::{Client, ClientError};
use super::{AdminFlags, ask, print, segment};
use crate::table::render;

/// Flags of `farthing volatile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    /// The route; all when absent.
    #[arg(value_parser = segment)]
    route: Option<String>,
}

/// Shows the fields that differ between answers fetched at once, and the line that confirms them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let reports = reports(&client, args.route.as_deref()).await?;
        print(&args.admin, reports.as_slice(), table);
        Ok(ExitCode::SUCCESS)
    })
}

async fn reports(client: &Client, route: Option<&str>) -> Result<Vec<VolatileReport>, ClientError> {
    let routes = match route {
        Some(route) => vec![route.to_owned()],
        None => client.get::<Vec<RouteInfo>>("/api/v1/routes").await?.into_iter().map(|route| route.name).collect(),
    };
    let mut reports = Vec::new();
    for route in routes {
        reports.push(client.get(&format!("/api/v1/routes/{route}/volatile")).await?);
    }
    Ok(reports)
}

fn table(reports: &[VolatileReport]) -> String {
    let fields = reports.iter().flat_map(|report| report.proposed.iter().map(move |field| (report, field)));
    let rows: Vec<_> = fields
        .map(|(report, field)| {
            let told = report.differing.saturating_sub(report.apart);
            let share = format!("{} of {told}", field.differed);
            vec![report.route.clone(), field.pointer.clone(), share, field.looks.clone(), field.examples.join("  ")]
        })
        .collect();
    if rows.is_empty() {
        let pairs: u64 = reports.iter().map(|report| report.pairs).sum();
        return format!("nothing to confirm; {pairs} pairs of answers fetched within ten seconds were compared\n");
    }
    let mut text = render(&["route", "field", "differed", "looks like", "two of its values"], rows);
    text += "\nTo leave them out when answers are compared, add to the configuration what says nothing about change:\n";
    for report in reports.iter().filter(|report| !report.proposed.is_empty()) {
        let proposed = report.proposed.iter().map(|field| &field.pointer);
        let all: Vec<String> = report.confirmed.iter().chain(proposed).map(|pointer| format!("{pointer:?}")).collect();
        // Cannot fail on a String.
        let _ = writeln!(text, "  [routes.{}]\n  volatile = [{}]", report.route, all.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use farthing_admin::VolatileField;

    use super::*;

    #[test]
    fn the_line_to_add_is_shown() {
        let field = VolatileField {
            pointer: "/meta/request_id".into(),
            differed: 9,
            looks: "id".into(),
            examples: vec!["\"a1\"".into(), "\"b2\"".into()],
        };
        let mut report = VolatileReport {
            route: "geo".into(),
            pairs: 12,
            differing: 9,
            apart: 0,
            explained: 4,
            confirmed: vec!["/at".into()],
            proposed: vec![field],
        };
        let text = table(std::slice::from_ref(&report));
        assert!(text.contains("9 of 9") && text.contains("volatile = [\"/at\", \"/meta/request_id\"]"), "{text}");
        report.proposed.clear();
        assert!(table(&[report]).contains("nothing to confirm; 12 pairs"));
    }
}
