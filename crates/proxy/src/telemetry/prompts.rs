//! Figures of prompts that are marked for the provider's own cache.

use super::Family;
use crate::prompts::PromptReport;

/// Families of the routes that mark prompts; of the others there is nothing to tell.
pub fn families(reports: &[PromptReport]) -> [Family<'_>; 7] {
    let mut calls = Family::counter("prompt_cache_calls", "Calls by what was decided about marks in their prompts");
    let mut tokens =
        Family::counter("prompt_cache_tokens", "Input tokens that marked calls read from the provider's cache, or wrote to it");
    let mut ignored = Family::counter("prompt_cache_ignored", "Marked calls of which the provider kept nothing");
    let mut refused = Family::counter(
        "prompt_cache_refused",
        "Calls that the provider refused for what was put into their prompts, and answered without",
    );
    let mut saved = Family::counter("prompt_cache_read", "Saved by marked calls that read more than they wrote").usd();
    let mut lost = Family::counter("prompt_cache_write", "Paid more by marked calls that wrote more than they read").usd();
    let mut remembered = Family::gauge("prompt_cache_prefixes", "Prefixes of prompts that are remembered");
    for PromptReport { route, remembered: count, stats } in reports {
        let route = || ("route", &**route);
        for (why, count) in &stats.decided {
            calls.add(vec![route(), ("decision", why.as_str())], *count as f64);
        }
        tokens.add(vec![route(), ("what", "read")], stats.read as f64);
        tokens.add(vec![route(), ("what", "written")], stats.written as f64);
        ignored.add(vec![route()], stats.ignored as f64);
        refused.add(vec![route()], stats.refused as f64);
        saved.add(vec![route()], stats.saved.as_usd_f64());
        lost.add(vec![route()], stats.lost.as_usd_f64());
        remembered.add(vec![route()], *count as f64);
    }
    [calls, tokens, ignored, refused, saved, lost, remembered]
}
