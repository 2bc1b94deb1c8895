//! PostgreSQL: each file of the log is one transaction that writes the file's name and copies its rows.
//!
//! The name is a primary key. So whoever dies, a file is there as a whole or not at all, and one that is sent again changes nothing.

mod connect;
pub mod copy;
mod forget;
pub mod schema;
mod ship;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use farthing_contract::log::{ALL, Table};
use farthing_ledger::archive::FinishedFile;
use farthing_types::Span;
use parking_lot::Mutex;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use connect::Connector;

use crate::fault::with_sources;
use crate::{Erased, Fault, FaultReason, LogId, Shipment, Sink, Work};

/// Days of which it is remembered that their partitions are there.
const REMEMBERED: usize = 4_096;

/// A database as it is configured.
#[derive(Clone)]
pub struct PostgresSpec {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<Arc<str>>,
    /// Certificates of authorities (PEM) in place of the public ones.
    pub authorities: Option<String>,
    /// The schema of the tables: a plain name.
    pub schema: String,
}

impl Default for PostgresSpec {
    fn default() -> Self {
        Self { url: String::new(), password: None, authorities: None, schema: "farthing".to_owned() }
    }
}

impl fmt::Debug for PostgresSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSpec").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// A database.
pub struct Postgres {
    connector: Connector,
    schema: String,
    /// The connection while nobody works with it: one that something went wrong on, or whose work was dropped, does not come back.
    idle: Mutex<Option<Client>>,
    /// Days and tables whose partitions are known to be there.
    partitions: Mutex<HashSet<(i64, &'static str)>>,
}

impl Postgres {
    /// Of a description; what is wrong with it.
    ///
    /// # Errors
    /// A URL or certificates that cannot be read.
    pub fn new(spec: &PostgresSpec, deadline: Span) -> Result<Self, String> {
        let connector = Connector::new(spec, deadline)?;
        Ok(Self { connector, schema: spec.schema.clone(), idle: Mutex::default(), partitions: Mutex::default() })
    }

    async fn client(&self) -> Result<Client, Fault> {
        let idle = self.idle.lock().take().filter(|client| !client.is_closed());
        match idle {
            Some(client) => Ok(client),
            None => self.connector.connect().await,
        }
    }

    fn put_back(&self, client: Client) {
        *self.idle.lock() = Some(client);
    }

    /// Makes schema and tables, and adds the columns of a newer version. All four tables, so that a tenant can be forgotten the same way whatever is shipped.
    async fn make_tables(&self, client: &mut Client) -> Result<(), Fault> {
        let transaction = client.transaction().await.map_err(fault)?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&schema::DDL_LOCK]).await.map_err(fault)?;
        let there = transaction.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = $1", &[&self.schema]).await.map_err(fault)?;
        if there.is_none() {
            // Not IF NOT EXISTS: that needs the right to create schemas even where there is one.
            transaction.batch_execute(&format!("CREATE SCHEMA \"{}\"", self.schema)).await.map_err(fault)?;
        }
        if !self.columns(&transaction, schema::FILES).await?.contains_key("shipped_at") {
            transaction.batch_execute(&schema::files_table(&self.schema)).await.map_err(fault)?;
        }
        for table in ALL {
            let columns = self.columns(&transaction, table.name).await?;
            if let Some(what) = schema::foreign(table, &columns) {
                let remedy = "name another schema, or put that table away";
                return Err(Fault::new(FaultReason::Refused, format!("{what}, in schema `{}`: {remedy}", self.schema)));
            }
            let change =
                if columns.is_empty() { Some(schema::create(&self.schema, table)) } else { schema::extend(&self.schema, table, &columns) };
            if let Some(change) = change {
                transaction.batch_execute(&change).await.map_err(fault)?;
            }
        }
        transaction.commit().await.map_err(fault)
    }

    /// The columns of a table with their types; none when it is not there.
    async fn columns(&self, transaction: &tokio_postgres::Transaction<'_>, table: &str) -> Result<BTreeMap<String, String>, Fault> {
        let ask = "SELECT a.attname::text, format_type(a.atttypid, NULL) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";
        let rows = transaction.query(ask, &[&self.schema, &table]).await.map_err(fault)?;
        Ok(rows.into_iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Makes the partition of a day, and that of the next one ahead of time, unless they are there.
    async fn ensure_partition(&self, client: &mut Client, table: &'static Table, day: i64) -> Result<(), Fault> {
        if self.partitions.lock().contains(&(day, table.name)) {
            return Ok(());
        }
        let transaction = client.transaction().await.map_err(fault)?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&schema::DDL_LOCK]).await.map_err(fault)?;
        for day in [day, day + 1] {
            let name = schema::partition_name(table, day);
            let ask = "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
            if transaction.query_opt(ask, &[&self.schema, &name]).await.map_err(fault)?.is_none() {
                transaction.batch_execute(&schema::partition(&self.schema, table, day)).await.map_err(fault)?;
            }
        }
        transaction.commit().await.map_err(fault)?;
        let mut known = self.partitions.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((day, table.name));
        Ok(())
    }

    async fn drop_days(&self, client: &mut Client, table: &'static Table, day: i64) -> Result<u64, Fault> {
        let ask = "SELECT p.relname::text FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_class c ON c.oid = i.inhparent \
                   JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
        let rows = client.query(ask, &[&self.schema, &table.name]).await.map_err(fault)?;
        let names = rows.iter().map(|row| row.get::<_, String>(0));
        let due: Vec<String> = names.filter(|name| schema::partition_day(table, name).is_some_and(|of| of < day)).collect();
        let first = i32::try_from(day).unwrap_or(i32::MIN);
        let transaction = client.transaction().await.map_err(fault)?;
        // The list of files first, as whoever ships and forgets does: else each could wait for the other.
        let files = format!("DELETE FROM \"{}\".{} WHERE table_name = $1 AND day < $2", self.schema, schema::FILES);
        transaction.execute(&files, &[&table.name, &first]).await.map_err(fault)?;
        for name in &due {
            transaction.batch_execute(&format!("DROP TABLE \"{}\".{name}", self.schema)).await.map_err(fault)?;
        }
        transaction.commit().await.map_err(fault)?;
        self.partitions.lock().retain(|(of, name)| *name != table.name || *of >= day);
        Ok(due.len() as u64)
    }

    /// What a fault says about what we believe to be there.
    fn doubt(&self, fault: &Fault) {
        if fault.reason == FaultReason::Refused {
            // Somebody may have removed a partition.
            self.partitions.lock().clear();
        }
    }
}

impl Sink for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn prepare(&self) -> Work<'_, ()> {
        Box::pin(async {
            let mut client = self.client().await?;
            self.make_tables(&mut client).await?;
            self.put_back(client);
            Ok(())
        })
    }

    fn held<'a>(&'a self, log: &'a LogId, table: &'static Table, day: i64) -> Work<'a, HashSet<String>> {
        Box::pin(async move {
            let client = self.client().await?;
            let ask = format!("SELECT file FROM \"{}\".{} WHERE log = $1 AND table_name = $2 AND day = $3", self.schema, schema::FILES);
            let rows = client.query(&ask, &[&log.as_str(), &table.name, &in_days(day)?]).await.map_err(fault)?;
            self.put_back(client);
            Ok(rows.into_iter().map(|row| row.get(0)).collect())
        })
    }

    fn ship<'a>(&'a self, log: &'a LogId, file: &'a FinishedFile) -> Work<'a, Shipment> {
        Box::pin(async move {
            let mut client = self.client().await?;
            let day = file.hour.div_euclid(24);
            let shipped = match self.ensure_partition(&mut client, file.table, day).await {
                Ok(()) => ship::ship(&mut client, &self.schema, (log, file, in_days(day)?)).await,
                Err(fault) => Err(fault),
            };
            let shipment = shipped.inspect_err(|fault| self.doubt(fault))?;
            self.put_back(client);
            Ok(shipment)
        })
    }

    fn forget<'a>(&'a self, tenant: &'a str) -> Work<'a, Erased> {
        Box::pin(async move {
            let mut client = self.client().await?;
            let erased = forget::forget(&mut client, &self.schema, tenant).await?;
            self.put_back(client);
            Ok(erased)
        })
    }

    fn expire(&self, table: &'static Table, day: i64) -> Work<'_, u64> {
        Box::pin(async move {
            let mut client = self.client().await?;
            let days = self.drop_days(&mut client, table, day).await?;
            self.put_back(client);
            Ok(days)
        })
    }
}

fn in_days(day: i64) -> Result<i32, Fault> {
    i32::try_from(day).map_err(|_| Fault::new(FaultReason::Rejected, format!("no day of a calendar: {day}")))
}

/// What an error of the client means to us.
fn fault(error: tokio_postgres::Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        let reason = if is_of_tls(&error) { FaultReason::Refused } else { FaultReason::Unreachable };
        return Fault::new(reason, with_sources(&error));
    };
    let detail = match said.detail() {
        // Those about data may show what stands in a row.
        Some(detail) if !said.code().code().starts_with("22") && !said.code().code().starts_with("23") => {
            format!("{} ({detail}, SQLSTATE {})", said.message(), said.code().code())
        }
        _ => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
    };
    Fault::new(reason(said.code()), detail)
}

/// Whether it is about a certificate, or what else TLS does not let pass.
fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.and_then(std::io::Error::get_ref).is_some_and(|inner| inner.is::<rustls::Error>())
}

fn reason(code: &SqlState) -> FaultReason {
    match (code, code.code().get(..2).unwrap_or_default()) {
        (&SqlState::QUERY_CANCELED | &SqlState::LOCK_NOT_AVAILABLE, _) => FaultReason::Timeout,
        // Starting, ending, too many connections, no room, a deadlock that we lost.
        (_, "57" | "53" | "58" | "40" | "XX" | "08" | "25") => FaultReason::Unavailable,
        (_, "22") => FaultReason::Rejected,
        _ => FaultReason::Refused,
    }
}
