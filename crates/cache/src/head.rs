//! The head of a shared answer.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use farthing_freshness::key::Selected;
use farthing_types::CallId;
use http::{HeaderMap, StatusCode};

/// The head of an answer as every follower gets it.
pub struct SharedHead {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers of the whole answer.
    pub headers: HeaderMap,
    /// The call, to join the followers' records with.
    pub call: CallId,
    /// Its purge tags; `None` where they cannot be told, so that a purge by any tag is about it.
    pub tags: Option<Vec<Arc<str>>>,
    /// What else the composer hands to followers, such as the cell into which the price is written at the end.
    pub note: Option<Arc<dyn Any + Send + Sync>>,
    /// Whose it is, where it is about who asked as much as about what was asked for; `None`: everybody's.
    pub only: Option<Arc<str>>,
    pub(crate) selected: Option<Selected>,
}

impl SharedHead {
    /// A head that has no tags and no note.
    pub fn new(status: StatusCode, headers: HeaderMap, call: CallId) -> Self {
        Self { status, headers, call, tags: Some(Vec::new()), note: None, only: None, selected: None }
    }
    /// The request fields the answer was selected by; known once it is shared.
    pub const fn selected(&self) -> Option<&Selected> {
        self.selected.as_ref()
    }
}

impl fmt::Debug for SharedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedHead").field("status", &self.status).field("call", &self.call).finish_non_exhaustive()
    }
}
