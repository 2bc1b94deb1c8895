//! Live statistics beyond one process: saved so that a restart forgets nothing, and repeated from the log so that what was
//! logged can be checked against what the log says.
//!
//! A **run** of the statistics is one process's: it has an id, starts from a saved state (empty at first) that stays beside the
//! log under [`run_file`], and numbers what enters each route from 1. Columns `stat_*` of the log tell, for each request and
//! answer, run, number, key and time; [`Repeat`] goes through them and arrives at the same statistics, bit by bit.

pub mod framing;
mod plans;
mod repeat;
mod saved;

pub use plans::{SavedPlans, plans_file};
pub use repeat::{Entry, Gap, Repeat, What, differing};
pub use saved::{KeyState, LAYOUT, Saved, SavedError};

/// Folder of the saved statistics below the log's.
pub const FOLDER: &str = "statistics";

/// Name of the file with which the next process starts, for an instance's name.
pub fn latest_file(instance: &str) -> String {
    format!("latest-{instance}.stats")
}

/// Name of the file with the state from which a run started.
pub fn run_file(run: u64) -> String {
    format!("run-{run:016x}.stats")
}
