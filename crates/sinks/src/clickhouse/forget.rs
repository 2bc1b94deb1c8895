//! Forgetting a tenant in ClickHouse.
//!
//! The same rows go as in PostgreSQL and in the log's own files. There are no locks: files that were opened before the log was rid of the tenant are waited for. Each says until when the
//! server may take its rows, so after that time none comes, not even of a request that hung on its way.

use std::fmt::Write as _;

use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row, Table};
use farthing_types::Span;
use tokio::time::Instant;

use super::Clickhouse;
use super::schema::{self, quoted};
use super::ship::{SHIPPING, grace};
use crate::{Erased, Fault, FaultReason};

/// How often a server is asked whether it is done.
const POLL: Span = Span::from_millis(200);
/// What clocks of the servers of a cluster may be apart, seconds.
const SKEW: u32 = 2;

/// Deletes the tenant's rows.
pub async fn forget(sink: &Clickhouse, tenant: &str) -> Result<Erased, Fault> {
    wait_for_files(sink).await?;
    let mut erased = Erased::default();
    for (table, own) in conditions(&sink.database, tenant) {
        erased.rows.insert(table.name, erase(sink, table, &own).await?);
    }
    Ok(erased)
}

/// Tables and what is the tenant's in them, in an order in which nothing is missed: were its calls gone, nothing would tell any more which decisions were its. No condition is null for any
/// row: what servers delete then is not the same in all versions.
fn conditions(database: &str, tenant: &str) -> [(&'static Table, String); 4] {
    let (requests, calls) = (schema::rows(database, Request::TABLE), schema::rows(database, CallRow::TABLE));
    let decisions = schema::rows(database, Decision::TABLE);
    let own = format!("tenant = {}", quoted(tenant));
    let keys = keys(&[&requests, &calls], tenant);
    let within = |column: &str, set: &str| format!("(isNotNull({column}) AND assumeNotNull({column}) IN ({set}))");
    let decided = format!(
        "{} OR {} OR {keys}",
        within("call_id", &format!("SELECT call_id FROM {calls} WHERE {own}")),
        within("request_id", &format!("SELECT request_id FROM {requests} WHERE {own}"))
    );
    let decision_ids = format!(
        "SELECT assumeNotNull(decision_id) FROM {calls} WHERE {own} AND isNotNull(decision_id) UNION ALL SELECT decision_id FROM {decisions} WHERE {decided}"
    );
    let became = format!("(decision_id != 0 AND decision_id IN ({decision_ids})) OR {keys}");
    [(OutcomeRow::TABLE, became), (Decision::TABLE, decided), (CallRow::TABLE, own.clone()), (Request::TABLE, own)]
}

/// That `key_hash` is a key which nobody else has used.
fn keys(tables: &[&str], tenant: &str) -> String {
    let used = |comparison: &str, among: Option<&str>| {
        let mut text = String::new();
        for table in tables {
            for (column, there) in [("key_hash", "key_hash"), ("assumeNotNull(stat_key)", "stat_key")] {
                let separator = if text.is_empty() { "" } else { " UNION ALL " };
                let _ = write!(text, "{separator}SELECT {column} FROM {table} WHERE tenant {comparison} {}", quoted(tenant));
                if column != there {
                    let _ = write!(text, " AND isNotNull({there})");
                }
                // Of all the others' keys only those that matter are held.
                if let Some(among) = among {
                    let _ = write!(text, " AND {column} IN ({among})");
                }
            }
        }
        text
    };
    let own = used("=", None);
    format!("(key_hash IN ({own}) AND key_hash NOT IN ({}))", used("!=", Some(&own)))
}

/// Waits until nothing of a file that was opened before now can come any more.
async fn wait_for_files(sink: &Clickhouse) -> Result<(), Fault> {
    const NOW: &str = "SELECT toUnixTimestamp(now())";
    let last = sink.server.number(NOW).await? + u64::from(grace(sink.deadline)) + u64::from(SKEW);
    while sink.server.number(NOW).await? <= last {
        tokio::time::sleep(POLL).await;
    }
    // What was taken up in time and is not through.
    let since = Instant::now();
    loop {
        let running = format!(
            "SELECT count() FROM system.processes WHERE startsWith(query_id, '{SHIPPING}') AND elapsed >= {}",
            since.elapsed().as_secs_f64()
        );
        if sink.server.number(&running).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Deletes rows of a table; how many.
async fn erase(sink: &Clickhouse, table: &'static Table, own: &str) -> Result<u64, Fault> {
    let rows = schema::rows(&sink.database, table);
    // Not FINAL, which reads all rows: of those that came twice the ids are equal.
    let left = format!("SELECT uniqExact(row_id) FROM {rows} WHERE {own}");
    let count = sink.server.number(&left).await?;
    if count == 0 {
        return Ok(0);
    }
    // A file that is left without rows was shipped all the same.
    let done = schema::done(&sink.database);
    let note = format!(
        "INSERT INTO {done} (log, table_name, day, file) SELECT DISTINCT log, '{}', toDate(at), file FROM {rows} WHERE {own}",
        table.name
    );
    sink.server.ask(&note).await?;
    let ordered = sink.server.ask(&format!("ALTER TABLE {rows} DELETE WHERE {own}")).await;
    if let Err(fault) = &ordered
        && fault.reason != FaultReason::Unreachable
    {
        return Err(fault.clone());
    }
    wait_for_deletion(sink, table).await?;
    match ordered {
        // A balancer may have ended a request that took long, and not what it has ordered.
        Err(fault) if sink.server.number(&left).await? > 0 => Err(fault),
        _ => Ok(count),
    }
}

/// Servers delete in the background: until it is over, also what others have ordered before.
async fn wait_for_deletion(sink: &Clickhouse, table: &'static Table) -> Result<(), Fault> {
    let of_table = format!("database = {} AND table = '{}'", quoted(&sink.database), schema::rows_name(table));
    let why = "SELECT count() FROM system.columns WHERE database = 'system' AND table = 'mutations' AND name = 'latest_fail_reason'";
    let tells_why = sink.server.number(why).await? > 0;
    loop {
        let reason = if tells_why { "any(latest_fail_reason)" } else { "''" };
        let rows = sink.server.ask(&format!("SELECT count(), {reason} FROM system.mutations WHERE {of_table} AND is_done = 0")).await?;
        let cell = |place: usize| rows.first().and_then(|row| row.get(place)).cloned().unwrap_or_default();
        if cell(0) == "0" {
            return Ok(());
        }
        if !cell(1).is_empty() {
            return Err(Fault::new(FaultReason::Unavailable, format!("the server cannot delete yet, and tries on: {}", cell(1))));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_end_its_text() {
        for (_, own) in conditions("d", "o'brien\\") {
            assert!(own.contains("tenant = 'o\\'brien\\\\'") && !own.contains("'o'b"), "{own}");
        }
    }

    /// What is null is deleted by some versions and kept by others.
    #[test]
    fn no_condition_compares_what_may_be_absent() {
        for (table, own) in conditions("d", "t") {
            for column in ["stat_key", "call_id", "request_id"] {
                let is_nullable = table.columns.iter().any(|known| known.name == column && known.nullable);
                assert!(!is_nullable || !own.contains(&format!("{column} IN")), "{own}");
            }
        }
    }
}
