//! `farthing budgets`.

use std::process::ExitCode;

use clap::Subcommand;
use farthing_admin::{BudgetMemberView, BudgetRow, BudgetsView, CounterRow, HolderView, RaiseRequest, RefusalView};
use farthing_types::Money;
use http::Method;

use super::{AdminFlags, ask, print, segment};
use crate::table::render;

const PATH: &str = "/api/v1/budgets";

/// Flags of `farthing budgets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is spent of each budget (this is what no subcommand does).
    Show {
        /// Only this one.
        #[arg(value_parser = segment)]
        budget: Option<String>,
    },
    /// Add money to a budget for some time. It is kept, also through a restart.
    Raise {
        /// The budget.
        #[arg(value_parser = segment)]
        budget: String,
        /// How many dollars.
        #[arg(long, value_name = "DOLLARS")]
        by: Money,
        /// Until when: 2026-12-31 (its begin in UTC) or 2026-12-31T18:00:00Z. The end of the window without it.
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        /// Whose counter, where each tenant, team, service or key has its own.
        #[arg(long)]
        unit: Option<String>,
        /// Why; kept with it.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Wait no longer for an instance of the fleet that will not come back, and has not told what it spent since Redis lost its data.
    WriteOff {
        /// Its name or id, as `farthing budgets` shows it.
        #[arg(value_parser = segment)]
        instance: String,
    },
    /// Show why requests were held back, the latest first.
    Why {
        /// Id of a request, as in `x-farthing-request-id`, or a budget's name.
        #[arg(value_parser = segment)]
        what: Option<String>,
    },
}

/// Shows and raises budgets of a running proxy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        match args.command.as_ref().unwrap_or(&Command::Show { budget: None }) {
            Command::Show { budget } => {
                let mut view: BudgetsView = client.get(PATH).await?;
                let unknown = budget.as_ref().filter(|name| !view.budgets.iter().any(|row| row.name == **name));
                if let Some(name) = unknown {
                    let known: Vec<&str> = view.budgets.iter().map(|row| row.name.as_str()).collect();
                    eprintln!("farthing: no budget is called `{name}`; there are: {}", known.join(", "));
                    return Ok(ExitCode::FAILURE);
                }
                view.budgets.retain(|row| budget.as_ref().is_none_or(|name| row.name == *name));
                print(&args.admin, &view, table);
            }
            Command::Raise { budget, by, until, unit, note } => {
                let request = RaiseRequest { by_usd: *by, until: until.clone(), unit: unit.clone(), note: note.clone() };
                let counter: CounterRow = client.call(Method::POST, &format!("{PATH}/{budget}/raise"), &request).await?;
                print(&args.admin, &counter, |counter| {
                    format!("{budget}: the limit is {} $ now, {} $ of it are left\n", counter.limit_usd, counter.left_usd)
                });
            }
            Command::WriteOff { instance } => {
                let view: BudgetsView = client.call(Method::POST, &format!("{PATH}/members/{instance}/write-off"), &()).await?;
                print(&args.admin, &view, |_| {
                    format!("{instance} is waited for no longer; what others saw of its money counts as spent\n")
                });
            }
            Command::Why { what } => {
                let id = what.as_ref().filter(|what| what.len() == 16 && what.bytes().all(|b| b.is_ascii_hexdigit()));
                let query = match (id, what) {
                    (Some(id), _) => format!("?request={id}"),
                    (None, Some(budget)) => format!("?budget={budget}"),
                    (None, None) => String::new(),
                };
                let refusals: Vec<RefusalView> = client.get(&format!("{PATH}/refusals{query}")).await?;
                print(&args.admin, &refusals, |refusals| reasons(refusals));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn table(view: &BudgetsView) -> String {
    if view.budgets.is_empty() {
        return "no budget is configured: add a table [budgets.NAME] with limit and window\n".to_owned();
    }
    let rows = view.budgets.iter().flat_map(|budget| {
        let none = budget.counters.is_empty().then(|| vec![budget.name.clone(), "nothing spent yet".to_owned()]);
        budget.counters.iter().map(|counter| cells(budget, counter)).chain(none).collect::<Vec<_>>()
    });
    let head = ["budget", "of", "window ends", "limit $", "spent $", "unsure $", "set aside $", "left $", "used", "held back"];
    let mut text = render(&head, rows);
    for budget in &view.budgets {
        for (counter, raise) in budget.counters.iter().flat_map(|counter| counter.raises.iter().map(move |raise| (counter, raise))) {
            let of = of_unit(&counter.unit);
            text += &format!("{}{of}: {} $ more until {}{}\n", budget.name, raise.by_usd, raise.until, noted(&raise.note));
        }
    }
    text += &shared(view);
    if let Some(fault) = &view.fault {
        text += &format!("what may be spent cannot be written down: {fault}\n");
    }
    if view.waiting > 0 {
        text += &format!("{} requests wait for room\n", view.waiting);
    }
    text
}

/// Who else spends, and who of them holds what.
fn shared(view: &BudgetsView) -> String {
    let Some(fleet) = &view.fleet else { return String::new() };
    let state = |member: &BudgetMemberView| match (member.away, member.told) {
        (_, false) => " (has not told since redis lost its data)",
        (true, true) => " (away)",
        (false, true) => "",
    };
    let members: Vec<String> = fleet.members.iter().map(|member| format!("{}{}", member.name, state(member))).collect();
    let mut text = format!("shared by: {}\n", members.join(", "));
    for budget in &view.budgets {
        for (counter, told) in budget.counters.iter().filter_map(|counter| Some((counter, counter.fleet.as_ref()?))) {
            let of = of_unit(&counter.unit);
            let away = |holder: &HolderView| if holder.away { ", away" } else { "" };
            let holders: Vec<String> = told
                .holders
                .iter()
                .map(|holder| {
                    format!("{} may spend {} $, has spent {} ${}", holder.name, holder.allowed_usd, holder.spent_usd, away(holder))
                })
                .collect();
            text += &format!("{}{of}: {}\n", budget.name, holders.join("; "));
            if told.quarantined_usd > Money::ZERO {
                text += &format!(
                    "{}{of}: {} $ are quarantined until those that are away tell what they spent\n",
                    budget.name, told.quarantined_usd
                );
            }
        }
    }
    if let Some(trouble) = &fleet.trouble {
        text += &format!("nothing more is granted: {trouble}\n");
    }
    text
}

/// Whose counter it is, where each unit has one.
fn of_unit(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!(" of {unit}") }
}

fn noted(note: &str) -> String {
    if note.is_empty() { String::new() } else { format!(" ({note})") }
}

fn cells(budget: &BudgetRow, counter: &CounterRow) -> Vec<String> {
    let unsure = counter.uncertain_usd + counter.lost_usd;
    let others = counter.fleet.as_ref().map_or(Money::ZERO, |fleet| fleet.spent_usd);
    let used = counter.spent_usd + unsure + others;
    let share = if counter.limit_usd > Money::ZERO { used.as_usd_f64() / counter.limit_usd.as_usd_f64() } else { 1.0 };
    vec![
        budget.name.clone(),
        if counter.unit.is_empty() { budget.counts.clone() } else { counter.unit.clone() },
        counter.until.clone().unwrap_or_else(|| "never".to_owned()),
        counter.limit_usd.to_string(),
        (counter.spent_usd + others).to_string(),
        unsure.to_string(),
        counter.reserved_usd.to_string(),
        counter.left_usd.to_string(),
        format!("{:.1} %", share * 100.0),
        counter.held_back.to_string(),
    ]
}

fn reasons(refusals: &[RefusalView]) -> String {
    if refusals.is_empty() {
        return "no such request was held back, or it is no longer remembered\n".to_owned();
    }
    refusals.iter().map(reason).collect()
}

fn reason(refusal: &RefusalView) -> String {
    let unit = of_unit(&refusal.unit);
    let why = match refusal.why.as_str() {
        "exceeded" => format!(
            "no room: {} $ used and {} $ set aside for other calls, of {} $; this call could have cost {} $",
            refusal.used_usd,
            refusal.reserved_usd,
            refusal.limit_usd,
            refusal.needed_usd.unwrap_or_default()
        ),
        "unpriced" => {
            "it is not known what the call can cost at most: set a price and send max_tokens, or max_call_cost on the route".to_owned()
        }
        "fault" => "what may be spent could not be written down, or not be agreed on with the fleet".to_owned(),
        other => other.to_owned(),
    };
    let reset = refusal.resets.as_ref().map_or_else(String::new, |resets| format!("; the next window begins {resets}"));
    let stood_in = if refusal.stood_in { "; an older copy was served" } else { "" };
    format!(
        "{} request {} of {} ({} priority) on {}: budget {}{unit}: {why}{reset}{stood_in}\n",
        refusal.at, refusal.request, refusal.tenant, refusal.priority, refusal.route, refusal.budget
    )
}
