//! Reads Parquet with polars: the log tables and traces of reads and changes. Nothing of polars leaves this module.

mod asked;
mod calls;
mod columns;
mod decisions;
mod entered;
mod files;
mod foreign;
mod ids;
mod latency;
mod log;
mod observed;
mod public;
mod sessions;
mod trace;

pub use calls::{CallLog, read_calls};
pub use decisions::{read_decisions, read_pmf};
pub use entered::{Entered, EnteredLog, Logged, read_entered};
#[cfg(test)]
pub(crate) use files::data_type;
pub use files::{Files, digest, find};
pub use foreign::{ForeignColumn, ForeignTable};
pub use ids::read_request_ids;
pub use latency::read_latencies;
pub use log::{Fetch, Log, Read, read_log};
pub use observed::{Ask, Observed, ObservedRoute, read_observed};
pub use public::{PublicRow, PublicTrace, read_public};
pub use sessions::{SessionLog, read_session_log, read_session_trace};
pub use trace::{Trace, TraceRow, read_trace};
