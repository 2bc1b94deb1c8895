//! The advice for people.

use std::fmt::Write as _;

use farthing_types::Money;

use super::interval::Saving;
use super::ways::Way;
use super::{Advice, RouteAdvice};

/// Routes that are told one by one; the rest is summed up.
const ROUTES: usize = 12;

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(s: &Saving) -> String {
    if (s.low, s.high) == (0.0, 1.0) {
        return format!("{} (one key and day: no interval)", percent(s.share));
    }
    format!("{:.1} % ({:.1} to {:.1})", 100.0 * s.share, 100.0 * s.low, 100.0 * s.high)
}

fn usd(nanos: i64) -> String {
    format!("${:.4}", Money::from_nanos(nanos).as_usd_f64())
}

fn time(ns: i64) -> String {
    let hours = ns as f64 / 3_600e9;
    match hours {
        h if h < 2.0 => format!("{:.0} minutes", 60.0 * h),
        h if h < 48.0 => format!("{h:.1} hours"),
        h => format!("{:.1} days", h / 24.0),
    }
}

/// The whole advice.
pub fn text(advice: &Advice) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "log         {} files, {} requests of {} routes over {}{}",
        advice.files,
        advice.requests,
        advice.routes.len(),
        time(advice.to_ns - advice.from_ns),
        if advice.left_out > 0 { format!("; {} older ones left out", advice.left_out) } else { String::new() }
    );
    let _ = writeln!(
        out,
        "how         settings were chosen on the first {}; every saving below is that of the {} after, with its 95 % interval",
        time(advice.cut_ns - advice.from_ns),
        time(advice.to_ns - advice.cut_ns)
    );
    for route in advice.routes.iter().take(ROUTES) {
        push_route(&mut out, advice, route);
    }
    if let Some(rest) = advice.routes.get(ROUTES..).filter(|r| !r.is_empty()) {
        let requests: u64 = rest.iter().map(|r| r.facts.requests).sum();
        let _ = writeln!(out, "\nand {} smaller routes with {requests} requests (--json tells of them)", rest.len());
    }
    if !advice.unpriced.is_empty() {
        let _ = writeln!(out, "\nunpriced    {}: savings of these are in calls, not in money", advice.unpriced.join(", "));
    }
    let _ = writeln!(out, "\n{}\n{}", advice.toml.trim_end(), "-".repeat(40));
    let _ = writeln!(out, "{}", advice.sentence);
    out
}

fn push_route(out: &mut String, advice: &Advice, route: &RouteAdvice) {
    let f = &route.facts;
    let spend = f.spend_nanousd.map_or_else(|| "unpriced".to_owned(), usd);
    let _ = writeln!(out, "\nroute {}: {} requests, {spend}, {} keys", f.route, f.requests, f.keys);
    let of = |n: u64, all: u64| if all == 0 { "none".to_owned() } else { percent(n as f64 / all as f64) };
    let duplicates = if f.timed { of(f.duplicates, f.requests) } else { "not known (no latencies)".to_owned() };
    let _ = writeln!(out, "  repeats {}, concurrent duplicates {duplicates}, {}", of(f.repeats, f.requests), changes(route));
    let reasons: Vec<String> = f.not_cacheable.iter().map(|(reason, n)| format!("{reason} {}", of(*n, f.requests))).collect();
    if f.other_methods > 0 && f.repeats_by_other_methods > 0 {
        let share = of(f.repeats_by_other_methods, f.other_methods);
        let _ = writeln!(
            out,
            "  of its requests by other methods than GET, {share} repeat an earlier one: worth `idempotent = true` only where asking twice is as good as once"
        );
    }
    let _ = writeln!(out, "  not cacheable: {}", if reasons.is_empty() { "nothing".to_owned() } else { reasons.join(", ") });
    if f.nondeterministic {
        let _ = writeln!(out, "  answers differ from call to call: nothing to keep");
    }
    for way in Way::ALL {
        push_way(out, route, *way);
    }
    if !route.potential.is_empty() && route.potential.iter().any(|p| p.saving > 0.0) {
        let each: Vec<String> = route.potential.iter().map(|p| format!("{} s: {}", p.ttl_s, percent(p.saving))).collect();
        let _ = writeln!(out, "  a TTL would save (how many answers would be stale is not known)  {}", each.join(", "));
    }
    let _ = writeln!(out, "  advised at {}: {}, saves {}", percent(advice.stale_budget), route.advised, interval(&route.saving));
}

fn changes(route: &RouteAdvice) -> String {
    let f = &route.facts;
    if f.compared > 0 && f.known {
        let rate = f.changes_per_hour.map_or_else(String::new, |r| format!(", {r:.3} changes per key and hour"));
        return format!("{} of {} refetches found a change{rate}", f.changed, f.compared);
    }
    if f.repeats == 0 {
        return "nothing was asked for twice".to_owned();
    }
    let lengths = if f.other_length > 0 {
        format!(" ({} of the repeats had another length, so at least some do)", percent(f.other_length as f64 / f.repeats as f64))
    } else {
        String::new()
    };
    format!("when answers change is not known{lengths}")
}

fn push_way(out: &mut String, route: &RouteAdvice, way: Way) {
    let lines: Vec<_> = route.lines.iter().filter(|l| l.way == way).collect();
    if lines.iter().all(|l| l.setting.is_none()) || (way == Way::Best && !route.facts.known) {
        return;
    }
    let _ = write!(out, "  {:<24}", way.name());
    for line in lines {
        let budget = if way.budgets(&[0.0, 1.0]).len() == 1 { String::new() } else { format!("at {}: ", percent(line.stale_budget)) };
        match &line.setting {
            None => out.push_str(&format!("  {budget}nothing")),
            Some(setting) => {
                let stale =
                    if route.facts.known { format!("{:.2} % stale", 100.0 * line.stale_share) } else { "staleness not known".to_owned() };
                let name = if way == Way::Dedupe || way == Way::Respect { String::new() } else { format!(" {setting},") };
                out.push_str(&format!("  {budget}{}{name} {stale};", interval(&line.saving)));
            }
        }
    }
    out.push('\n');
}

/// What is saved, in money and in calls where these are worth telling.
fn saved(advice: &Advice, after: &str) -> String {
    let calls = interval(&advice.unpriced_saving);
    let which = if advice.unpriced.len() == advice.routes.len() { "" } else { "to routes without a price " };
    let in_calls =
        || format!("the calls {which}of the last {after} by {calls}{}", if which.is_empty() { " (nothing is priced)" } else { "" });
    if !advice.saving.is_worth() {
        return in_calls();
    }
    let (from, to) = (usd(advice.base_nanousd), usd(advice.bill_nanousd));
    let money = format!("the bill of the last {after} by {}, from {from} to {to}", interval(&advice.saving));
    if advice.unpriced_saving.is_worth() { format!("{money}, and {}", in_calls()) } else { money }
}

/// All of it in a sentence.
pub fn sentence(advice: &Advice) -> String {
    let after = time(advice.to_ns - advice.cut_ns);
    let unknown = advice.routes.iter().filter(|r| !r.facts.known && r.facts.cacheable > 0).count();
    let changed = advice.routes.iter().filter(|r| r.advised != "observe").count();
    let ask = "run `farthing serve --mode observe` for a few days, which changes nothing and logs when answers change, and ask again";
    if advice.pays() {
        let cut = saved(advice, &after);
        let more =
            if unknown > 0 { format!(" For {unknown} routes this log does not say when answers change: {ask}.") } else { String::new() };
        return format!(
            "This configuration changes {changed} of {} routes; it would have cut {cut}, with {:.2} % of the answers stale.{more}",
            advice.routes.len(),
            100.0 * advice.stale_share
        );
    }
    let repeats = advice.routes.iter().filter(|r| !r.facts.known).flat_map(|r| &r.potential).map(|p| p.saving).fold(0.0, f64::max);
    if unknown > 0 && repeats > super::interval::WORTH {
        return format!("This log does not say when answers change, so no saving can be promised; requests do repeat: {ask}.");
    }
    if unknown > 0 {
        return format!(
            "There is nothing to save here: what is asked for hardly repeats within an hour, {} of {} routes.",
            unknown,
            advice.routes.len()
        );
    }
    let cacheable: u64 = advice.routes.iter().map(|r| r.facts.cacheable).sum();
    if cacheable == 0 {
        return "There is nothing to save here by keeping or sharing answers: none of these requests may be answered from a cache (see `not cacheable`)."
            .to_owned();
    }
    "There is nothing to save here within this staleness budget: answers change before they are asked for again, or must not be kept."
        .to_owned()
}
