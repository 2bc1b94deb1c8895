//! What an import came to: for people and for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use farthing_contract::log::{CallRow, Request};
use serde::Serialize;

use super::skipped::{Reason, Skipped};

/// What one route came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RouteReport {
    /// Requests.
    pub requests: u64,
    /// Of these, without a price.
    pub unpriced: u64,
    /// Of these, GET and HEAD with a known content (digest, ETag or change).
    pub hashed: u64,
    /// Templates of its paths.
    pub endpoints: std::collections::BTreeSet<String>,
}

/// What an import came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Rows that were understood.
    pub rows: u64,
    /// Of these, rows that only tell of a change.
    pub changes: u64,
    /// Requests in the log.
    pub requests: u64,
    /// Files written.
    pub files: usize,
    /// First and last request, ns.
    pub from_ns: i64,
    /// See `from_ns`.
    pub to_ns: i64,
    /// Requests with a latency.
    pub timed: u64,
    /// Requests whose answer named its freshness or forbade keeping it.
    pub with_directives: u64,
    /// Spend, nano-dollars.
    pub cost_nanousd: i64,
    /// By route.
    pub routes: BTreeMap<String, RouteReport>,
    /// What was skipped.
    pub skipped: Skipped,
}

impl Report {
    pub(super) fn note(&mut self, request: &Request, call: &CallRow) {
        let at = request.ts_ns;
        self.from_ns = if self.requests == 0 { at } else { self.from_ns.min(at) };
        self.to_ns = if self.requests == 0 { at } else { self.to_ns.max(at) };
        self.requests += 1;
        self.timed += u64::from(request.latency_us.is_some());
        self.with_directives += u64::from(call.origin_ttl_s.is_some() || call.not_stored_reason.is_some());
        self.cost_nanousd = self.cost_nanousd.saturating_add(request.cost_nanousd.unwrap_or(0));
        if !self.routes.contains_key(&*request.route) {
            self.routes.insert(request.route.to_string(), RouteReport::default());
        }
        let Some(route) = self.routes.get_mut(&*request.route) else { return };
        route.requests += 1;
        route.unpriced += u64::from(request.cost_nanousd.is_none());
        route.hashed += u64::from(call.canonical_hash.is_some() && matches!(&*request.method, "GET" | "HEAD"));
        if let Some(endpoint) = &request.endpoint
            && !route.endpoints.contains(&**endpoint)
        {
            route.endpoints.insert(endpoint.to_string());
        }
    }

    /// Skipped lines over all lines; those that another cache answered count as read.
    pub fn skipped_share(&self) -> f64 {
        let skipped = self.skipped.faulty();
        if skipped == 0 { 0.0 } else { skipped as f64 / (self.rows + skipped) as f64 }
    }

    /// Why the import failed; `None` when it did not. `most` is the largest share of skipped lines.
    pub fn failure(&self, most: f64) -> Option<String> {
        if self.requests == 0 && !self.skipped.0.contains_key(&Reason::Twice) {
            return Some("no request was imported: see the reasons above, or choose another --format or --mapping".to_owned());
        }
        let share = self.skipped_share();
        (share > most).then(|| format!("{:.2} % of the lines were skipped, more than --max-skipped {most}", 100.0 * share))
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let days = (self.to_ns - self.from_ns) as f64 / 86_400e9;
        let _ = writeln!(out, "imported    {} requests over {days:.2} days, {} changes, {} files", self.requests, self.changes, self.files);
        for (name, route) in &self.routes {
            let templates: Vec<&str> = route.endpoints.iter().take(3).map(String::as_str).collect();
            let more = if route.endpoints.len() > 3 { format!(" and {} more", route.endpoints.len() - 3) } else { String::new() };
            let _ = writeln!(out, "route       {name:<24}{:>10} requests  {}{more}", route.requests, templates.join("  "));
        }
        for (reason, skips) in &self.skipped.0 {
            let _ = writeln!(out, "skipped     {} lines: {}", skips.lines, reason.text());
            for (file, line, example) in &skips.first {
                let _ = writeln!(out, "              {file}:{line}: {example}");
            }
        }
        self.lessons(&mut out);
        out
    }

    /// What can be learned from the import, and what cannot.
    fn lessons(&self, out: &mut String) {
        if self.requests == 0 {
            return;
        }
        let sum = |of: fn(&RouteReport) -> u64| self.routes.values().map(of).sum::<u64>();
        let (hashed, unpriced) = (sum(|r| r.hashed), sum(|r| r.unpriced));
        let share = |n: u64| 100.0 * n as f64 / self.requests as f64;
        let mut say = |known: bool, text: String| {
            let _ = writeln!(out, "{}{text}", if known { "known       " } else { "not known   " });
        };
        say(true, "who asks for what when: repeats, and what any TTL would save in calls".to_owned());
        if hashed == 0 {
            say(
                false,
                "when answers change: there is no body digest, ETag or change in this log; `fit` has nothing to learn from it".to_owned(),
            );
        } else {
            say(true, format!("when answers change, for {:.1} % of the requests", share(hashed)));
        }
        if self.timed == 0 {
            say(false, "how long calls took, and so which requests could have shared one".to_owned());
        } else {
            say(true, format!("how long calls took, for {:.1} %: which requests could have shared one", share(self.timed)));
        }
        if unpriced > 0 {
            say(false, format!("what {:.1} % of the calls cost: give --price, or prices in the mapping", share(unpriced)));
        } else {
            say(true, format!("what calls cost: {} USD in all", farthing_types::Money::from_nanos(self.cost_nanousd)));
        }
        if self.with_directives == 0 {
            say(false, "which answers their origin forbids to keep".to_owned());
        }
    }
}
