//! ClickHouse, over its HTTP interface: each file of the log is one block of rows, which the server takes as a whole or not at all.
//!
//! There are no transactions and no unique keys. What makes repeating idempotent: what is there is told by the rows themselves, which carry the names of their log and file;
//! and a row that comes twice all the same has the same key, of which the views show one. `docs/adr/0013-clickhouse.md` says why.

mod fault;
mod forget;
mod http;
pub mod native;
pub mod schema;
mod ship;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use farthing_contract::log::{ALL, Table};
use farthing_ledger::archive::FinishedFile;
use farthing_types::Span;

use http::Server;
use schema::{quoted, quoted_name};

use crate::sink::FORGETTING_IN_OBJECTS;
use crate::{Erased, Fault, FaultReason, LogId, Shipment, Sink, Work};

/// A server as it is configured.
#[derive(Clone)]
pub struct ClickhouseSpec {
    /// `https://host:8443` or `http://host:8123`.
    pub url: String,
    /// Who asks.
    pub user: String,
    /// The password.
    pub password: Option<Arc<str>>,
    /// Certificates of authorities (PEM) in place of the public ones.
    pub authorities: Option<String>,
    /// The database of the tables: a plain name.
    pub database: String,
}

impl Default for ClickhouseSpec {
    fn default() -> Self {
        Self { url: String::new(), user: "default".to_owned(), password: None, authorities: None, database: "farthing".to_owned() }
    }
}

impl fmt::Debug for ClickhouseSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickhouseSpec").field("url", &self.url).field("database", &self.database).finish_non_exhaustive()
    }
}

/// A server.
pub struct Clickhouse {
    server: Server,
    database: String,
    deadline: Span,
}

/// The columns of tables with their types, by table.
type Columns = BTreeMap<String, BTreeMap<String, String>>;

impl Clickhouse {
    /// Of a description; what is wrong with it.
    ///
    /// # Errors
    /// A URL, a name or certificates that cannot be used.
    pub fn new(spec: &ClickhouseSpec, deadline: Span) -> Result<Self, String> {
        Ok(Self { server: Server::new(spec, deadline)?, database: spec.database.clone(), deadline })
    }

    /// Makes database, tables and views, and adds the columns of a newer version. All four tables, so that a tenant can be forgotten the same way whatever is shipped.
    async fn make_tables(&self) -> Result<(), Fault> {
        let named = quoted(&self.database);
        if self.server.number(&format!("SELECT count() FROM system.databases WHERE name = {named}")).await? == 0 {
            // Asked first: making one needs a right even where there is one.
            self.server.ask(&format!("CREATE DATABASE IF NOT EXISTS {}", quoted_name(&self.database))).await?;
        }
        let there = self.columns().await?;
        if !there.contains_key(schema::DONE) {
            self.server.ask(&schema::create_done(&self.database)).await?;
        }
        for table in ALL {
            self.make_table(table, &there).await?;
            self.make_view(table, &there).await?;
        }
        self.check_keys().await
    }

    async fn columns(&self) -> Result<Columns, Fault> {
        let ask = format!("SELECT table, name, type FROM system.columns WHERE database = {}", quoted(&self.database));
        let mut found = Columns::new();
        for row in self.server.ask(&ask).await? {
            if let [table, name, ty] = &row[..] {
                found.entry(table.clone()).or_default().insert(name.clone(), ty.clone());
            }
        }
        Ok(found)
    }

    async fn make_table(&self, table: &'static Table, there: &Columns) -> Result<(), Fault> {
        let change = match there.get(&schema::rows_name(table)) {
            None => Some(schema::create(&self.database, table)),
            Some(columns) => match schema::foreign(table, columns) {
                Some(what) => return Err(self.refused(&what)),
                None => schema::extend(&self.database, table, columns),
            },
        };
        if let Some(change) = change {
            self.server.ask(&change).await?;
        }
        Ok(())
    }

    /// A view that has all columns is left as it is: its owner may have made another.
    async fn make_view(&self, table: &'static Table, there: &Columns) -> Result<(), Fault> {
        let columns = there.get(table.name);
        if columns.is_some_and(|columns| table.columns.iter().all(|column| columns.contains_key(column.name))) {
            return Ok(());
        }
        if columns.is_some() {
            let engine = self.engines().await?.remove(table.name);
            if engine.is_some_and(|(engine, _)| engine != "View") {
                return Err(self.refused(&format!(
                    "`{}` is a table of somebody else, not the view of `{}`",
                    table.name,
                    schema::rows_name(table)
                )));
            }
            self.server.ask(&format!("DROP TABLE IF EXISTS {}", schema::view(&self.database, table))).await?;
        }
        self.server.ask(&schema::create_view(&self.database, table)).await.map(drop)
    }

    /// Engines and sorting keys, by table.
    async fn engines(&self) -> Result<BTreeMap<String, (String, String)>, Fault> {
        let ask = format!("SELECT name, engine, sorting_key FROM system.tables WHERE database = {}", quoted(&self.database));
        let rows = self.server.ask(&ask).await?;
        let named = |row: Vec<String>| <[String; 3]>::try_from(row).ok().map(|[name, engine, key]| (name, (engine, key)));
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// Tables that their owner has made, for replicas for one, must keep rows as ours do.
    async fn check_keys(&self) -> Result<(), Fault> {
        let engines = self.engines().await?;
        let unfit = |table: &&'static Table| {
            let (engine, key) = engines.get(&schema::rows_name(table))?;
            schema::unfit(table, engine, key)
        };
        ALL.iter().find_map(unfit).map_or(Ok(()), |what| Err(self.refused(&what)))
    }

    fn refused(&self, what: &str) -> Fault {
        let remedy = "name another database, or put that table away";
        Fault::new(FaultReason::Refused, format!("{what}, in database `{}`: {remedy}", self.database))
    }

    async fn names_held(&self, log: &LogId, table: &'static Table, day: i64) -> Result<HashSet<String>, Fault> {
        let log = quoted(log.as_str());
        let ask = format!(
            "SELECT DISTINCT file FROM {} WHERE toYYYYMMDD(at) = {} AND log = {log} \
             UNION ALL SELECT file FROM {} WHERE table_name = '{}' AND day = {} AND log = {log}",
            schema::rows(&self.database, table),
            schema::partition(in_calendar(day)?),
            schema::done(&self.database),
            table.name,
            schema::date(day),
        );
        Ok(self.server.ask(&ask).await?.into_iter().flatten().collect())
    }

    async fn drop_days(&self, table: &'static Table, day: i64) -> Result<u64, Fault> {
        // Before the first day that can be there is nothing to look for.
        let day = day.clamp(0, LAST_DAY);
        let (rows, done) = (schema::rows(&self.database, table), schema::done(&self.database));
        let before = schema::partition(day);
        let days = self.server.ask(&format!("SELECT DISTINCT toYYYYMMDD(at) FROM {rows} WHERE toYYYYMMDD(at) < {before}")).await?;
        for partition in days.iter().flatten() {
            self.server.ask(&format!("ALTER TABLE {rows} DROP PARTITION {partition}")).await?;
        }
        let listed = format!("SELECT DISTINCT day FROM {done} WHERE table_name = '{}' AND day < {}", table.name, schema::date(day));
        for date in self.server.ask(&listed).await?.iter().flatten() {
            self.server.ask(&format!("ALTER TABLE {done} DROP PARTITION ('{}', {})", table.name, quoted(date))).await?;
        }
        Ok(days.len() as u64)
    }
}

/// The last day that ClickHouse's dates have in all versions: of the year 2099.
const LAST_DAY: i64 = 47_481;

/// A day that ClickHouse has.
fn in_calendar(day: i64) -> Result<i64, Fault> {
    if (0..=LAST_DAY).contains(&day) {
        Ok(day)
    } else {
        Err(Fault::new(FaultReason::Rejected, format!("no day of ClickHouse's calendar: {day}")))
    }
}

impl Sink for Clickhouse {
    fn kind(&self) -> &'static str {
        "clickhouse"
    }

    fn forgets_within(&self) -> Span {
        // Parts are written anew.
        FORGETTING_IN_OBJECTS
    }

    fn prepare(&self) -> Work<'_, ()> {
        Box::pin(async {
            self.server.learn_settings().await?;
            self.make_tables().await
        })
    }

    fn held<'a>(&'a self, log: &'a LogId, table: &'static Table, day: i64) -> Work<'a, HashSet<String>> {
        Box::pin(self.names_held(log, table, day))
    }

    fn ship<'a>(&'a self, log: &'a LogId, file: &'a FinishedFile) -> Work<'a, Shipment> {
        Box::pin(ship::ship(self, log, file))
    }

    fn forget<'a>(&'a self, tenant: &'a str) -> Work<'a, Erased> {
        Box::pin(forget::forget(self, tenant))
    }

    fn expire(&self, table: &'static Table, day: i64) -> Work<'_, u64> {
        Box::pin(self.drop_days(table, day))
    }
}
