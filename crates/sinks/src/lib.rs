//! Ships the finished files of the log to databases and object stores (J4).
//!
//! The files are the queue: they are whole under their final names, and nothing is removed from them for having been shipped. What is
//! still to be shipped is decided by what the sink itself holds, so neither a crash of this process nor one of the sink loses or doubles a row.
//!
//! - [`Sink`]: a place that takes whole files; one file of this crate for each kind, one line in [`open`].
//! - [`Driver`]: walks the log's folder and ships what a sink lacks, with deadline, backoff and breaker; never on the request path.
//! - [`backlog`]: what is still to be shipped; pure.
//! - [`health`]: when to try again; pure.

pub mod backlog;
pub mod clickhouse;
mod client;
mod driver;
mod fault;
pub mod health;
mod log_id;
pub mod memory;
pub mod postgres;
pub mod s3;
mod sink;
mod state;
mod tls;

use std::sync::Arc;

use farthing_contract::log::Table;
use farthing_types::Span;

pub use clickhouse::ClickhouseSpec;
pub use driver::{Driver, Source};
pub use fault::{Fault, FaultReason};
pub use log_id::LogId;
pub use postgres::PostgresSpec;
pub use s3::{Bucket, Condition, Object, S3Credentials, S3Spec};
pub use sink::{Erased, FORGETTING, Shipment, Sink, Work};
pub use state::{SinkState, SinkStats};

/// A sink as it is configured.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// Its name, for metrics and the log.
    pub name: Arc<str>,
    /// The tables that go there.
    pub tables: Vec<&'static Table>,
    /// How long one operation may take: shipping a file, asking what is held.
    pub deadline: Span,
    /// How often the folder is looked at.
    pub interval: Span,
    /// How long rows stay in the sink, in whole days; `None`: whoever owns it decides.
    pub retention: Option<Span>,
    /// Where it is.
    pub target: Target,
}

/// Where a sink is.
#[derive(Clone, Debug)]
pub enum Target {
    /// A PostgreSQL database.
    Postgres(PostgresSpec),
    /// A bucket.
    S3(S3Spec),
    /// A ClickHouse server.
    Clickhouse(ClickhouseSpec),
}

/// Why a sink cannot be opened at all.
#[derive(Debug, thiserror::Error)]
#[error("sink `{name}`: {why}")]
pub struct OpenError {
    /// The sink.
    pub name: Arc<str>,
    /// What is wrong.
    pub why: String,
}

/// The sink of a description. Nothing is connected to yet.
///
/// # Errors
/// A description that cannot work: an address, a prefix or certificates that cannot be read.
pub fn open(spec: &SinkSpec) -> Result<Arc<dyn Sink>, OpenError> {
    let failed = |why: String| OpenError { name: spec.name.clone(), why };
    match &spec.target {
        Target::Postgres(postgres) => Ok(Arc::new(postgres::Postgres::new(postgres, spec.deadline).map_err(failed)?)),
        Target::S3(s3) => Ok(Arc::new(s3::S3::new(s3, spec.deadline).map_err(failed)?)),
        Target::Clickhouse(clickhouse) => Ok(Arc::new(clickhouse::Clickhouse::new(clickhouse, spec.deadline).map_err(failed)?)),
    }
}
