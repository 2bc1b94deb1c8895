//! A strategy fit in words.

use std::fmt::Write as _;

use super::fit::Fit;
use crate::learn::Examples;

/// For a terminal.
pub fn text(fit: &Fit) -> String {
    let verdict = if fit.passes() { "may be published" } else { "is not published" };
    format!("{}{}verdict     {verdict}: {}\n", found(fit), fit.judgement.text(), fit.judgement.sentence())
}

/// What was found on held-out time.
fn found(fit: &Fit) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "rows        {} (windows of {:.0} s), {} trees of at most {} questions",
        fit.learned.rows.len(),
        fit.window_s,
        fit.learned.model.trees.len(),
        fit.learned.model.depth()
    );
    match &fit.judged {
        Err(why) => {
            let _ = writeln!(out, "not judged  {why}");
        }
        Ok(v) => {
            let _ = writeln!(out, "held out    {} requests; cost is bill + priced staleness + priced waiting", v.requests);
            let _ = writeln!(out, "cost        predictor ${:.4}, rules ${:.4}, passing by ${:.4}", v.model_usd, v.rule_usd, v.bypass_usd);
            let _ = writeln!(
                out,
                "hindsight   best per route ${:.4} (regret {:.2} %), best for all `{}` ${:.4} (we are {:.1} % below)",
                v.hindsight_usd,
                100.0 * v.regret(),
                v.single,
                v.single_usd,
                100.0 * v.below_single()
            );
            let interval = v.interval_usd.map_or_else(|| "too few blocks".to_owned(), |(low, high)| format!("{low:.4} to {high:.4}"));
            let _ = writeln!(out, "difference  ${:.4} against the rules, 95 % interval {interval}", v.against_rules_usd);
            for r in &v.routes {
                let _ = writeln!(
                    out,
                    "  {:<28} {:>8} requests  predictor ${:.4}  rules ${:.4}  hindsight ${:.4} ({})",
                    r.name, r.requests, r.model_usd, r.rule_usd, r.hindsight_usd, r.best
                );
            }
        }
    }
    out
}

/// The model card.
pub fn card(fit: &Fit) -> String {
    let mut out = String::from("# Predictor of kind `strategy`\n\n");
    let _ = writeln!(
        out,
        "Says how the coming window of a route differs from its live statistics: calls, batches and stale answers per request under each combination \
         of strategies. Prices, thresholds and promises are the proxy's.\n"
    );
    let t = &fit.training;
    let _ = writeln!(out, "- trained on {} rows, data {}, seed {}", t.rows, t.data_digest, t.seed);
    let _ = writeln!(out, "- windows of {:.0} s\n\n```\n{}{}```\n", fit.window_s, found(fit), fit.judgement.lasting_text());
    let _ = writeln!(
        out,
        "Blind spots: batches across routes, providers that answer slower when batched, clients that come back because of an error."
    );
    out
}
