//! Money and memory of the proxy: prices, usage, cost records, the Parquet log, aggregates.
//!
//! - [`prices`]: an immutable [`PriceBook`] tells what a call costs; what it cannot price is `None`, never zero.
//! - [`usage`]: reads token counts out of provider answers, whole or streaming, without holding the body.
//! - [`cost`]: who paid what for an answer, and what that saved.
//! - [`costs`]: questions about money, answered from the log.
//! - `journal`: has rows safe within a second, long before they are in a file.
//! - [`log`]: writes the four tables of [`farthing_contract::log`] as Parquet, off the request path.
//! - [`read`]: reads them back for the command line and tests.
//! - [`archive`]: exports, prunes and forgets what is in the log's files.
//! - [`budget`]: money set aside before a call, so that no more is spent than was allowed.
//! - [`limit`]: requests, tokens and calls at a time, and who waits for them.
//! - `place`: what of both the instances of a fleet share.
//! - [`aggregate`]: running totals for status, metrics and the demo.
//! - [`watch`]: what is unusual about spend, where a period will end, and who is told.
//! - [`reconcile`]: an invoice against the log.
//! - [`reference`](mod@reference): generates `docs/request-log.md` from the declaration of the tables.

pub mod aggregate;
pub mod archive;
pub mod budget;
pub mod cost;
pub mod costs;
mod decimal;
mod journal;
pub mod limit;
pub mod log;
mod place;
pub mod prices;
pub mod read;
pub mod reconcile;
pub mod reference;
pub mod usage;
pub mod watch;

pub use aggregate::{Aggregates, AggregatesSnapshot, CallSettled, RequestSettled};
pub use cost::{CostRecord, Paid, SavedBy, Served};
pub use log::{LogConfig, LogError, LogHandle, LogMetrics, LogWriter, Unwritten, check_dir, look_at_dir};
pub use prices::{
    Amount, Amounts, Ask, Billable, Month, PriceBook, PriceError, PriceSpec, Priced, PromptRates, Reads, TokenRates, Unpriced, VolumeKey,
    Volumes,
};
pub use usage::{RequestFacts, UsageReading, UsageTap};
