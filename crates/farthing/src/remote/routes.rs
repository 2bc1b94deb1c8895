//! `farthing routes`.

use std::process::ExitCode;

use farthing_admin::{AheadInfo, AuditInfo, NotSaved, OwnTimeInfo, PlanInfo, ProviderInfo, RouteInfo, SwitchInfo};

use super::{AdminFlags, ask, print};
use crate::table::render;

/// Flags of `farthing routes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this route.
    route: Option<String>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Shows each route with what was not saved and why; fails when a named route does not exist.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let mut routes: Vec<RouteInfo> = client.get("/api/v1/routes").await?;
        let names: Vec<String> = routes.iter().map(|route| route.name.clone()).collect();
        routes.retain(|route| args.route.as_ref().is_none_or(|name| *name == route.name));
        if let Some(name) = args.route.as_ref().filter(|_| routes.is_empty()) {
            eprintln!("farthing: no route is called \"{name}\"; there are {}", names.join(", "));
            return Ok(ExitCode::FAILURE);
        }
        print(&args.admin, &routes, |routes| routes.iter().map(told).collect::<Vec<_>>().join("\n"));
        Ok(ExitCode::SUCCESS)
    })
}

fn told(route: &RouteInfo) -> String {
    let totals = &route.totals;
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let mut text = format!(
        "{}  {} {}, {} -> {}\n  {} requests, hits {}, paid {} $, without Farthing {} $, saved {}\n",
        route.name,
        route.mode,
        if route.shared { "shared" } else { "private" },
        route.path_prefix,
        route.base_url,
        totals.requests,
        percent(totals.hit_ratio),
        totals.bill_usd,
        totals.base_usd,
        percent(totals.saving_share),
    );
    for line in super::status::extra(totals).lines() {
        text += &format!("  {line}\n");
    }
    if let Some((heat, rate)) = route.heat.as_ref().zip(route.requests_per_second) {
        text += &format!("  {heat}: {rate:.1} requests a second\n");
    }
    text += &providers(&route.providers);
    if let Some(order) = &route.bypass {
        text += &format!("  {}\n", super::bypass::line(order));
    }
    text += &route.plan.as_ref().map_or_else(String::new, plan);
    text += &route.switches.iter().map(switched).collect::<String>();
    text += &own_time(&route.own_time);
    text += &route.audit.as_ref().map_or_else(String::new, |found| audited(found, route.stale_budget));
    text += &ahead(&route.prefetch);
    if route.not_saved.is_empty() {
        text += "  everything was served from the cache, or nothing was asked yet\n";
    }
    text + &listed("not saved because", "answers", &route.not_saved) + &listed("fetched and not kept because", "calls", &route.not_kept)
}

/// How several providers stand beside each other; nothing where there is one.
fn providers(all: &[ProviderInfo]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let cells = |info: &ProviderInfo| {
        let scores: Vec<String> = info.scores.iter().map(|score| format!("{score:.2}")).collect();
        let chosen: Vec<String> = info.chosen.iter().map(|(by, count)| format!("{by} {count}")).collect();
        let quality = format!("{:.2}{}", info.quality, if info.meets_floor { "" } else { " (below the floor)" });
        vec![
            info.provider.clone(),
            scores.join(" / "),
            info.price_usd.map_or_else(|| "unknown".to_owned(), |price| price.to_string()),
            info.latency_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
            format!("{:.1} %", info.errors * 100.0),
            quality,
            info.breaker.clone(),
            chosen.join(", "),
            format!("{} ({} unmapped)", info.failed, info.unmapped),
        ]
    };
    let heads = ["provider", "score high / medium / low", "price $", "latency", "errors", "quality", "breaker", "chosen", "failed"];
    render(&heads, all.iter().map(cells)).lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

/// Which strategies it uses, who chose them, and what a predictor that looks on would choose.
fn plan(info: &PlanInfo) -> String {
    let without = info.dropped.as_ref().map_or_else(String::new, |dropped| format!("; left out: {dropped}"));
    let mut text = format!(
        "  strategies: {} by {}, expected to save {} $ a request, latency {:.1} ms (19 of 20 within {:.1} ms){without}\n",
        info.mix, info.by, info.saving_usd, info.latency_ms, info.within_ms
    );
    let Some(shadow) = &info.shadow else { return text };
    let without = shadow.dropped.as_ref().map_or_else(String::new, |dropped| format!(", without {dropped}"));
    text += &match shadow.by.strip_prefix("fallback:") {
        Some(reason) => format!("  in shadow: no predictor can choose yet ({reason})\n"),
        None if shadow.mix == info.mix => {
            format!("  in shadow: {} agrees; it did not in {} of {} decisions\n", shadow.by, info.disagreed, info.looked_on)
        }
        None => format!(
            "  in shadow: {} would choose {}{without}, and expects {} $ a request from that; it disagreed in {} of {} decisions\n",
            shadow.by, shadow.mix, shadow.more_usd, info.disagreed, info.looked_on
        ),
    };
    text
}

/// What audits found.
fn audited(info: &AuditInfo, budget: f64) -> String {
    let AuditInfo { checked, stale, ttl_scale, .. } = info;
    let ends = info.share.zip(info.low.zip(info.high));
    let now = ends.map_or_else(String::new, |(share, (low, high))| {
        format!("; stale now {:.2} % ({:.2} to {:.2} %, allowed {:.2} %)", share * 100.0, low * 100.0, high * 100.0, budget * 100.0)
    });
    let cut = if *ttl_scale < 1.0 { format!("; TTLs are cut to {:.0} % for it", ttl_scale * 100.0) } else { String::new() };
    format!("  audited: {stale} of {checked} checked answers were stale{now}{cut}\n")
}

/// What Farthing's own time consists of; nothing where none was measured.
fn own_time(parts: &[OwnTimeInfo]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    let one = |info: &OwnTimeInfo| format!("{} {:.0} us of {}", info.part, info.mean_us, info.requests);
    format!("  own time of requests that went on, by part: {}\n", parts.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// How a strategy stands that can switch itself off; nothing where it never did.
fn switched(info: &SwitchInfo) -> String {
    let SwitchInfo { strategy, standing, switched_off, .. } = info;
    let since = info.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let why = match (&**standing, &**strategy) {
        ("off", "batch") => "promises of time were missed more often with it than without".to_owned(),
        ("off", "optional") => {
            let what = |part: &String| match &**part {
                "l2" => "L2".to_owned(),
                "lists" => "lists item by item".to_owned(),
                "rest" => "batches, compressed answers, fetching ahead and predictors".to_owned(),
                other => other.to_owned(),
            };
            let left_out: Vec<String> = info.left_out.iter().map(what).collect();
            format!("Farthing's own time was above overhead.limit; left out: {}", left_out.join("; "))
        }
        ("off", "cache") => "it cost more than it saved; a slice of the keys is cached to see whether that holds".to_owned(),
        ("trial", _) => "tried for a short time".to_owned(),
        _ if *switched_off == 0 => return String::new(),
        _ => format!("switched itself off {switched_off} times before"),
    };
    let again = info.tried_again.as_ref().map_or_else(String::new, |again| format!("; tried again at {again}"));
    let judged = info
        .judged
        .zip(info.net_usd)
        .map_or_else(String::new, |(requests, net)| format!("; {requests} requests judged since, net {net} $"));
    format!("  {strategy}: {standing}{since}, {why}{again}{judged}\n")
}

/// How fetching ahead stands; nothing where waiting has no price, which is usual.
fn ahead(info: &AheadInfo) -> String {
    if let Some(reason) = &info.reason {
        return if reason == "no-price-wait" { String::new() } else { format!("  fetching ahead: off ({reason})\n") };
    }
    let AheadInfo { state, started, used, wasted, spent_usd, saved_usd, .. } = info;
    let state = match &**state {
        "shadow" => "shadow, nothing is paid before its record shows a gain",
        "lost" => "off, it lost money and is scored again",
        state => state,
    };
    let mut refused: Vec<_> = info.refused.iter().collect();
    refused.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let refused = refused.iter().map(|(why, count)| format!("{why} {count}")).collect::<Vec<_>>().join(", ");
    let refused = if refused.is_empty() { refused } else { format!("; left out: {refused}") };
    format!("  fetching ahead: {state}; {started} calls, {used} used, {wasted} wasted, spent {spent_usd} $, saved {saved_usd} ${refused}\n")
}

fn listed(title: &str, what: &str, reasons: &[NotSaved]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let table = render(&["reason", what, "paid $", "unpriced", "key", "what to do"], reasons.iter().map(row));
    table.lines().fold(format!("  {title}\n"), |text, line| text + "    " + line + "\n")
}

fn row(found: &NotSaved) -> Vec<String> {
    vec![
        found.reason.clone(),
        found.tally.count.to_string(),
        found.tally.usd.to_string(),
        found.tally.unpriced.to_string(),
        found.key.clone().unwrap_or_else(|| "-".to_owned()),
        found.advice.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use farthing_admin::{BypassInfo, ShadowPlan, Tally, Totals};

    use super::*;

    #[test]
    fn the_dearest_reason_stands_first_with_its_key() {
        let not_saved = |reason: &str, usd: &str, key: Option<&str>| NotSaved {
            reason: reason.to_owned(),
            tally: Tally { count: 3, usd: usd.parse().unwrap(), unpriced: 0 },
            key: key.map(str::to_owned),
            advice: "do it".to_owned(),
        };
        let route = RouteInfo {
            name: "geo".to_owned(),
            provider: "maps".to_owned(),
            providers: vec![ProviderInfo {
                provider: "atlas".to_owned(),
                scores: vec![0.5, 0.75, 1.0],
                price_usd: "0.001".parse().ok(),
                quality: 0.9,
                breaker: "closed".to_owned(),
                chosen: [("score".to_owned(), 7)].into(),
                ..ProviderInfo::default()
            }],
            base_url: "https://maps.example.com".to_owned(),
            hosts: Vec::new(),
            path_prefix: "/r/geo".to_owned(),
            methods: Vec::new(),
            mode: "learned".to_owned(),
            shared: false,
            cache: true,
            dedupe: true,
            ttl: "model".to_owned(),
            stale_budget: 0.005,
            experiment: None,
            prefetch: AheadInfo {
                state: "live".to_owned(),
                started: 7,
                used: 5,
                refused: [("budget".to_owned(), 2), ("busy".to_owned(), 9)].into(),
                ..AheadInfo::default()
            },
            audit: Some(AuditInfo { checked: 500, stale: 20, share: Some(0.04), low: Some(0.02), high: Some(0.07), ttl_scale: 0.5 }),
            bypass: Some(BypassInfo { since: "T1".to_owned(), reason: "wrong answers".to_owned(), ..BypassInfo::default() }),
            heat: Some("warm".into()),
            requests_per_second: Some(23.44),
            plan: Some(PlanInfo {
                mix: "cache".to_owned(),
                by: "rule:mix".to_owned(),
                saving_usd: "0.0004".parse().unwrap(),
                latency_ms: 12.34,
                within_ms: 80.0,
                dropped: Some("batch=sla".to_owned()),
                shadow: Some(ShadowPlan { mix: "dedupe".to_owned(), by: "model:3".to_owned(), ..ShadowPlan::default() }),
                looked_on: 9,
                disagreed: 4,
                ..PlanInfo::default()
            }),
            switches: vec![
                SwitchInfo {
                    strategy: "optional".to_owned(),
                    standing: "off".to_owned(),
                    switched_off: 1,
                    left_out: vec!["l2".to_owned(), "rest".to_owned()],
                    ..SwitchInfo::default()
                },
                SwitchInfo { strategy: "cache".to_owned(), standing: "on".to_owned(), judged: Some(7), ..SwitchInfo::default() },
                SwitchInfo {
                    strategy: "batch".to_owned(),
                    standing: "off".to_owned(),
                    since: Some("T2".to_owned()),
                    tried_again: Some("T3".to_owned()),
                    switched_off: 1,
                    ..SwitchInfo::default()
                },
            ],
            own_time: vec![
                OwnTimeInfo { part: "l2".to_owned(), mean_us: 1_250.0, requests: 8 },
                OwnTimeInfo { part: "rest".to_owned(), mean_us: 40.2, requests: 90 },
            ],
            totals: Totals::default(),
            not_kept: vec![not_saved("soft-error", "0.004", Some("cacheable_if"))],
            not_saved: vec![not_saved("expired", "0.006", Some("stale_budget")), not_saved("cold", "0.002", None)],
        };
        let text = told(&route);
        assert!(text.contains("0.50 / 0.75 / 1.00") && text.contains("0.90 (below the floor)") && text.contains("score 7"), "{text}");
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
        assert!(at("not saved because") < at("expired") && at("expired") < at("cold"));
        assert!(at("0.006") < at("stale_budget"));
        assert!(at("cold") < at("fetched and not kept because") && at("not kept") < at("soft-error"));
        assert!(at("fetching ahead: live; 7 calls, 5 used, 0 wasted") < at("left out: busy 9, budget 2"));
        assert!(text.contains("bypass of all routes since T1, until it is switched off: wrong answers"), "{text}");
        assert!(
            text.contains("20 of 500 checked answers were stale; stale now 4.00 % (2.00 to 7.00 %") && text.contains("cut to 50 %"),
            "{text}"
        );
        assert!(text.contains("batch: off since T2, promises of time were missed") && text.contains("tried again at T3"), "{text}");
        assert!(text.contains("strategies: cache by rule:mix, expected to save 0.0004 $ a request, latency 12.3 ms"), "{text}");
        assert!(text.contains("left out: batch=sla") && text.contains("model:3 would choose dedupe") && text.contains("4 of 9"), "{text}");
        assert!(text.contains("optional: off, Farthing's own time was above overhead.limit; left out: L2; batches, compressed"), "{text}");
        assert!(text.contains("own time of requests that went on, by part: l2 1250 us of 8, rest 40 us of 90"), "{text}");
        assert!(!text.contains("cache: on"), "what never changed is not told: {text}");
        let off = |reason: &str| AheadInfo { state: "off".to_owned(), reason: Some(reason.to_owned()), ..AheadInfo::default() };
        assert_eq!((ahead(&off("terms")), ahead(&off("no-price-wait"))), ("  fetching ahead: off (terms)\n".to_owned(), String::new()));
        let text = told(&RouteInfo { not_saved: Vec::new(), not_kept: Vec::new(), ..route });
        assert!(text.contains("nothing was asked yet") && text.contains("  warm: 23.4 requests a second\n"), "{text}");
    }
}
