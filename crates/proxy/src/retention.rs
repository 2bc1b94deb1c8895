//! Removes what of the log is older than its retention, once an hour, and forgets tenants.

use std::sync::Arc;

use farthing_config::{RetentionConfig, TenantRetention};
use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row};
use farthing_ledger::archive::{Retention, prune};
use farthing_types::Span;
use tokio_util::sync::CancellationToken;

use crate::state::State;

/// How often rows that are due are removed.
const EVERY: Span = Span::from_secs(3_600);

/// The rules as the log's files understand them.
pub fn rules(config: &RetentionConfig) -> Retention {
    let tables = [
        (Request::TABLE.name, config.requests),
        (CallRow::TABLE.name, config.calls),
        (Decision::TABLE.name, config.decisions),
        (OutcomeRow::TABLE.name, config.outcomes),
    ];
    let own = |of: &TenantRetention| {
        let times = [(Request::TABLE.name, of.requests), (CallRow::TABLE.name, of.calls)];
        let tenant = of.tenant.to_string();
        times.into_iter().filter_map(move |(table, span)| Some((tenant.clone(), table, span?)))
    };
    Retention {
        tables: tables.into_iter().filter_map(|(table, span)| Some((table, span?))).collect(),
        tenants: config.tenants.iter().flat_map(own).collect(),
    }
}

/// Removes what is due now and then every hour, until `stop`. The age of rows is that on the proxy's clock.
pub(crate) async fn run(state: Arc<State>, stop: CancellationToken) {
    if state.log.is_none() || !state.live().config.retention.removes() {
        return;
    }
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (config, now) = (state.config(), state.clock.now());
        let (dir, rules) = (config.log.dir.clone(), rules(&config.retention));
        match tokio::task::spawn_blocking(move || prune(&dir, &rules, now, false)).await {
            Ok(Ok(pruned)) => {
                pruned
                    .skipped
                    .iter()
                    .for_each(|file| tracing::warn!(file, "a file of the log cannot be read: nothing was removed from it"));
                state.counters.pruned.fetch_add(pruned.rows, std::sync::atomic::Ordering::Relaxed);
                tracing::info!(rows = pruned.rows, bytes = pruned.bytes, "rows of the log removed: they were older than their retention");
            }
            Ok(Err(error)) => tracing::warn!(%error, "rows of the log that are due could not be removed; tried again in an hour"),
            Err(error) => tracing::error!(%error, "removing rows of the log panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_is_a_rule() {
        let day = Span::from_secs(86_400);
        let own = TenantRetention { tenant: "acme".into(), requests: None, calls: Some(3 * day) };
        let config = RetentionConfig { requests: Some(day), outcomes: Some(2 * day), tenants: vec![own], ..RetentionConfig::default() };
        let rules = rules(&config);
        assert_eq!(rules.tables, [("requests", day), ("outcomes", 2 * day)]);
        assert_eq!(rules.tenants, [("acme".to_owned(), "calls", 3 * day)]);
    }
}
