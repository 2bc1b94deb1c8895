//! The writer's rows: they are put into files first, and read from there.

use farthing_types::Span;

use super::store::{Recent, RecentRows};
use crate::log::LogHandle;

/// A log that is written out before it is read.
#[derive(Clone, Debug)]
pub struct FlushedLog {
    handle: LogHandle,
    wait: Span,
}

impl FlushedLog {
    /// `wait`: how long the writer may take.
    pub const fn new(handle: LogHandle, wait: Span) -> Self {
        Self { handle, wait }
    }
}

impl RecentRows for FlushedLog {
    fn recent(&self) -> Result<Recent, String> {
        // Rows that were dropped are counted in the metrics; what was written is there.
        match self.handle.flush(self.wait) {
            Ok(()) | Err(crate::LogError::Unwritten(_)) => Ok(Recent::default()),
            Err(error) => Err(error.to_string()),
        }
    }
}
