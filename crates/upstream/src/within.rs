//! Bounds the time of each attempt, from when limits have given it its turn.

use std::sync::Arc;

use farthing_types::{Call, Failure, Reply, Span};
use futures_util::future::BoxFuture;

use crate::Origin;

/// Gives each call so much time at most.
pub(crate) struct Within {
    inner: Arc<dyn Origin>,
    most: Span,
}

impl Within {
    pub(crate) const fn new(inner: Arc<dyn Origin>, most: Span) -> Self {
        Self { inner, most }
    }
}

impl Origin for Within {
    fn fetch(&self, mut call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        call.deadline = call.deadline.min(self.most);
        self.inner.fetch(call)
    }
}
