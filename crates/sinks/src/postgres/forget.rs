//! Forgetting a tenant in PostgreSQL.
//!
//! The same rows go as in the log's own files: those that name the tenant, decisions about its calls, its requests and the keys that nobody
//! else has used, and what became of these.

use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row};

use super::schema::FILES;
use crate::{Erased, FORGETTING, Fault};

/// A table and what deletes the tenant's rows of it, in an order in which nothing is missed: were its calls gone, nothing would tell any more which
/// decisions were its.
pub fn statements(schema: &str) -> [(&'static str, String); 4] {
    let table = |name: &str| format!("\"{schema}\".{name}");
    let (requests, calls) = (table(Request::TABLE.name), table(CallRow::TABLE.name));
    let (decisions, outcomes) = (table(Decision::TABLE.name), table(OutcomeRow::TABLE.name));
    let keys = |comparison: &str| {
        let of = |column: &str, table: &str| format!("SELECT {column} FROM {table} WHERE tenant {comparison} $1 AND {column} IS NOT NULL");
        let all = [of("key_hash", &requests), of("stat_key", &requests), of("key_hash", &calls), of("stat_key", &calls)];
        all.join(" UNION ")
    };
    let own_keys = format!("own_keys(key) AS MATERIALIZED ({} EXCEPT ({}))", keys("="), keys("<>"));
    let own_decisions = format!(
        "SELECT decision_id FROM {calls} WHERE tenant = $1 AND decision_id IS NOT NULL UNION \
         SELECT decision_id FROM {decisions} WHERE call_id IN (SELECT call_id FROM {calls} WHERE tenant = $1) \
         OR request_id IN (SELECT request_id FROM {requests} WHERE tenant = $1) OR key_hash IN (SELECT key FROM own_keys)"
    );
    [
        (
            OutcomeRow::TABLE.name,
            format!(
                "WITH {own_keys}, own_decisions(id) AS MATERIALIZED ({own_decisions}) DELETE FROM {outcomes} \
                 WHERE (decision_id <> 0 AND decision_id IN (SELECT id FROM own_decisions)) OR key_hash IN (SELECT key FROM own_keys)"
            ),
        ),
        (
            Decision::TABLE.name,
            format!(
                "WITH {own_keys} DELETE FROM {decisions} WHERE call_id IN (SELECT call_id FROM {calls} WHERE tenant = $1) \
                 OR request_id IN (SELECT request_id FROM {requests} WHERE tenant = $1) OR key_hash IN (SELECT key FROM own_keys)"
            ),
        ),
        (CallRow::TABLE.name, format!("DELETE FROM {calls} WHERE tenant = $1")),
        (Request::TABLE.name, format!("DELETE FROM {requests} WHERE tenant = $1")),
    ]
}

/// Deletes the tenant's rows.
///
/// Files that are under way hold a lock on the list of files from before they are opened until they are there: this waits for them, and holds up all that begin
/// meanwhile until the rows are gone. Those read the log as it is without the tenant.
pub async fn forget(client: &mut tokio_postgres::Client, schema: &str, tenant: &str) -> Result<Erased, Fault> {
    let transaction = client.transaction().await.map_err(super::fault)?;
    // How long that takes depends on the rows. The server ends it, too, were we gone: until then nothing is shipped.
    let bound = FORGETTING.as_millis();
    let lock = format!(
        "SET LOCAL statement_timeout = {bound}; SET LOCAL lock_timeout = {bound}; LOCK TABLE \"{schema}\".{FILES} IN SHARE ROW EXCLUSIVE MODE"
    );
    transaction.batch_execute(&lock).await.map_err(super::fault)?;
    let mut erased = Erased::default();
    for (table, delete) in statements(schema) {
        erased.rows.insert(table, transaction.execute(&delete, &[&tenant]).await.map_err(super::fault)?);
    }
    transaction.commit().await.map_err(super::fault)?;
    Ok(erased)
}
