//! `farthing limits`.

use std::process::ExitCode;

use farthing_admin::{LimitCounter, LimitRow, LimitsInstance, LimitsShared, LimitsView};

use super::{AdminFlags, ask, print};
use crate::table::render;

/// Counters of a limit in the table; `--json` has more.
const MOST: usize = 10;

/// Flags of `farthing limits`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
}

/// Shows the limits of a running proxy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let view: LimitsView = client.get("/api/v1/limits").await?;
        print(&args.admin, &view, table);
        Ok(ExitCode::SUCCESS)
    })
}

fn table(view: &LimitsView) -> String {
    let mut text = String::new();
    if view.limits.is_empty() {
        text += "no limit is configured: add a table [[limits]] with name, scope and requests\n";
    } else {
        let rows = view.limits.iter().flat_map(|limit| {
            let none = limit.busiest.is_empty().then(LimitCounter::default);
            limit.busiest.iter().take(MOST).chain(none.as_ref()).map(|counter| cells(limit, counter)).collect::<Vec<_>>()
        });
        let mut head = vec!["limit", "of", "allows", "left", "running", "waiting", "held"];
        head.extend(view.fleet.as_ref().map(|_| "rate here"));
        text += &render(&head, rows);
        text += "\n";
        text += &render(&["limit", "let through", "over it", "waited", "mean wait", "refused"], view.limits.iter().map(totals));
    }
    if let Some(fleet) = &view.fleet {
        text += &shared(fleet);
    }
    text += "\n";
    let load = view.load.iter().map(|tier| {
        let shed: Vec<String> = tier.shed.iter().map(ToString::to_string).collect();
        vec![tier.tier.clone(), tier.requests.to_string(), tier.bytes.to_string(), tier.own_requests.to_string(), shed.join(" / ")]
    });
    text + &render(&["tier", "under way", "bytes held", "room of its own", "refused high / medium / low"], load)
}

fn cells(limit: &LimitRow, counter: &LimitCounter) -> Vec<String> {
    let concurrency = limit.concurrency.map(|most| format!("{most} at a time"));
    let tokens = limit.tokens.as_ref().map(|rate| format!("{rate} tokens"));
    let allows: Vec<String> = [limit.requests.clone(), tokens, concurrency].into_iter().flatten().collect();
    let left: Vec<String> = [counter.requests_left, counter.tokens_left].into_iter().flatten().map(|left| left.to_string()).collect();
    let of = if counter.unit.is_empty() { limit.scope.clone() } else { format!("{} {}", limit.scope, counter.unit) };
    let held = if counter.held_ms > 0 { format!("{} ms", counter.held_ms) } else { String::new() };
    let mut cells =
        vec![limit.name.clone(), of, allows.join(", "), left.join(", "), counter.running.to_string(), counter.waiting.to_string(), held];
    cells.extend(counter.share.map(percent));
    cells
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

/// Who has what of limits that a fleet shares.
fn shared(fleet: &LimitsShared) -> String {
    let instance = |row: &LimitsInstance| {
        let away = if row.away { format!(" (away; kept for {} s)", row.kept_ms / 1_000) } else { String::new() };
        format!("{} {}{away}", row.name, percent(row.share))
    };
    let instances: Vec<String> = fleet.instances.iter().map(instance).collect();
    let mut text = format!("\nshared by: {}\n", instances.join(", "));
    text += &format!(
        "this instance ({}) has {} of each limit; of {} rates more now, of {} less\n",
        fleet.instance,
        percent(fleet.share),
        fleet.borrowed,
        fleet.lent
    );
    if !fleet.missing.is_empty() {
        text += &format!("nobody is given more until these have told of themselves, or a minute has gone: {}\n", fleet.missing.join(", "));
    }
    if let Some(problem) = &fleet.problem {
        let holds = if fleet.share > 0.0 { format!(", for {} s yet", fleet.holds_ms / 1_000) } else { String::new() };
        text += &format!("{problem}{holds}\n");
    }
    text
}

fn totals(limit: &LimitRow) -> Vec<String> {
    let refused: Vec<String> = limit.refused.iter().map(|count| format!("{} {}", count.calls, count.why)).collect();
    vec![
        limit.name.clone(),
        limit.admitted.to_string(),
        limit.passed_over.to_string(),
        limit.waited.to_string(),
        limit.wait_ms_mean.map_or_else(String::new, |mean| format!("{mean:.1} ms")),
        if refused.is_empty() { "0".to_owned() } else { refused.join(", ") },
    ]
}
