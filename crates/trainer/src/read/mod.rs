//! Reads Parquet with polars: the log tables and traces of reads and changes. Nothing of polars leaves this module.

mod columns;
mod files;
mod log;
mod trace;

pub use files::find;
pub use log::{Fetch, Log, Read, read_log};
pub use trace::{Trace, TraceRow, read_trace};
