//! The writer's rows that are in no file yet.

use std::sync::Arc;

use farthing_types::Span;

use super::store::{Recent, RecentRows};
use crate::log::LogHandle;

/// A log that is being written.
#[derive(Clone, Debug)]
pub struct OpenLog {
    handle: LogHandle,
    wait: Span,
}

impl OpenLog {
    /// `wait`: how long the writer may take to answer.
    pub const fn new(handle: LogHandle, wait: Span) -> Self {
        Self { handle, wait }
    }
}

impl RecentRows for OpenLog {
    fn recent(&self) -> Result<Recent, String> {
        let cut = self.handle.unwritten(self.wait).map_err(|error| error.to_string())?;
        let batches = cut.batches.iter().map(|(table, rows)| (table.name, rows.clone())).collect();
        Ok(Recent { batches, reads: Some(Arc::new(move |file| cut.covers(file))) })
    }
}
