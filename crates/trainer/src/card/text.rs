//! The Markdown of a card.

use std::fmt::Write as _;

use super::Contents;
use super::plots::Plot;
use crate::gate::{Against, Check};

/// The whole text.
pub fn markdown(contents: &Contents<'_>, plots: &[Plot]) -> String {
    let mut out = format!("# Model card: {}\n\n{}\n\n**Verdict:** {}.\n\n", contents.kind, contents.says, contents.verdict);
    contents.facts.iter().for_each(|fact| out.push_str(&format!("- {fact}\n")));
    out.push_str("\n## Gate\n\n");
    gate(&mut out, contents);
    for plot in plots {
        let _ = write!(out, "\n## {}\n\n![{0}]({})\n", plot.caption, plot.file);
    }
    for against in &contents.judgement.against {
        routes(&mut out, against);
    }
    if !contents.importance.is_empty() {
        out.push_str("\n## Features\n\nMean absolute move of the output when the answers to training rows are taken apart (`farthing models explain` does so for one).\n\n| feature | move |\n|---|---|\n");
        contents.importance.iter().filter(|(_, m)| *m > 0.0).for_each(|(name, m)| {
            let _ = writeln!(out, "| `{name}` | {m:.4} |");
        });
    }
    out.push_str("\n## Limits\n\n");
    contents.limits.iter().for_each(|limit| out.push_str(&format!("- {limit}\n")));
    out
}

fn gate(out: &mut String, contents: &Contents<'_>) {
    let judgement = contents.judgement;
    if judgement.checks.is_empty() {
        out.push_str("Not judged.\n");
        return;
    }
    out.push_str("| check | value | bound | verdict | |\n|---|---|---|---|---|\n");
    for Check { name, value, bound, verdict, note } in &judgement.checks {
        // Latencies are of the machine that trained; the bundle is the same on all.
        let shown = value.filter(|_| !name.of_the_machine()).map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let _ = writeln!(out, "| `{}` | {shown} | {bound} | {} | {} |", name.as_str(), verdict.as_str(), cell(note));
    }
    let _ = writeln!(
        out,
        "\nHeld out: {} blocks of a key and a day, worth {:.0} of equal weight. Competitors are tuned in hindsight to at most the model's stale share of {:.3} %. \
         Intervals are 95 %, from a paired bootstrap over the blocks. Latency is measured on the trees in Rust where the model is trained, and is no part of the bundle.",
        judgement.blocks,
        judgement.effective_blocks,
        100.0 * judgement.stale_share
    );
}

fn routes(out: &mut String, against: &Against) {
    let (saving, percent) = (against.saving, |x: f64| 100.0 * x);
    let _ = write!(
        out,
        "\n## Against {} ({})\n\nSaving {:+.1} % [{:+.1}, {:+.1}], at stale shares of the competitor of {:.3} %.\n\n",
        against.opponent.as_str(),
        cell(&against.setting),
        percent(saving.value),
        percent(saving.low),
        percent(saving.high),
        percent(against.stale_share)
    );
    out.push_str(
        "| route | share of spend | bill | theirs | stale | theirs | cost, stale answers priced |\n|---|---|---|---|---|---|---|\n",
    );
    for r in &against.routes {
        let _ = writeln!(
            out,
            "| {} | {:.1} % | ${:.4} | ${:.4} | {:.3} % | {:.3} % | {:+.1} % [{:+.1}, {:+.1}] |",
            cell(&r.route),
            percent(r.spend_share),
            r.money_usd,
            r.their_money_usd,
            percent(r.stale_share),
            percent(r.their_stale_share),
            percent(r.change.value),
            percent(r.change.low),
            percent(r.change.high)
        );
    }
}

/// Text that cannot break a table.
fn cell(text: &str) -> String {
    text.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).collect()
}
