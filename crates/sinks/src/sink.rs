//! The trait of all sinks.

use std::collections::{BTreeMap, HashSet};

use farthing_contract::log::Table;
use farthing_ledger::archive::FinishedFile;
use farthing_types::Span;
use futures_util::future::BoxFuture;

use crate::{Fault, LogId};

/// How long a sink may take to forget a tenant: it goes through all of its rows.
pub const FORGETTING: Span = Span::from_secs(600);
/// The same where it has to get all of them first.
pub const FORGETTING_IN_OBJECTS: Span = Span::from_secs(86_400);

/// What an operation of a sink becomes.
pub type Work<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipment {
    /// It is there now.
    Shipped {
        /// Its rows.
        rows: u64,
        /// Cells that the sink cannot hold as they are, so that they were altered.
        altered: u64,
    },
    /// It had been there.
    Held,
    /// It is in the log no more: retention or forgetting has removed it.
    Gone,
}

/// What was removed from a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Rows, by table.
    pub rows: BTreeMap<&'static str, u64>,
}

/// A place that takes whole files of the log.
///
/// # Contract
/// - A file is there as a whole or not at all, whoever dies in between; shipping it again changes nothing. [`Sink::held`] tells what is there.
/// - Operations may be dropped at any await, and several processes may work on one sink.
/// - Once [`Sink::forget`] has answered, no file that was opened before the log was rid of the tenant brings its rows back.
pub trait Sink: Send + Sync {
    /// Its kind, as configured.
    fn kind(&self) -> &'static str;

    /// How long [`Sink::forget`] may take.
    fn forgets_within(&self) -> Span {
        FORGETTING
    }

    /// Makes it ready: connects, makes what is missing. Called before anything else, and again after a fault.
    fn prepare(&self) -> Work<'_, ()>;

    /// The files of a log that it holds, of one table and day: for each `hour=HH/NAME`.
    fn held<'a>(&'a self, log: &'a LogId, table: &'static Table, day: i64) -> Work<'a, HashSet<String>>;

    /// Takes a file.
    fn ship<'a>(&'a self, log: &'a LogId, file: &'a FinishedFile) -> Work<'a, Shipment>;

    /// Removes all rows of a tenant, by the name that the log has for it, of whatever log. The log must have been rid of it before.
    fn forget<'a>(&'a self, tenant: &'a str) -> Work<'a, Erased>;

    /// Removes the days before `day` of a table, of whatever log; how many days that were.
    fn expire(&self, table: &'static Table, day: i64) -> Work<'_, u64>;
}

/// `hour=HH/NAME`: a file within its day.
pub fn within_day(file: &FinishedFile) -> String {
    format!("hour={:02}/{}", file.hour.rem_euclid(24), file.name())
}
