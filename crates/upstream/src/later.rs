//! Attempts of a second round: their numbers go on from those of the first.

use std::sync::Arc;

use farthing_types::{CallReport, CallSink, Reserved, Span};

/// Adds the attempts of the first round to the numbers of those that come after.
pub(crate) struct Later {
    pub(crate) sink: Arc<dyn CallSink>,
    pub(crate) by: u16,
}

impl CallSink for Later {
    fn attempt(&self, mut report: CallReport) {
        report.attempt = report.attempt.saturating_add(self.by);
        self.sink.attempt(report);
    }
    fn waited(&self, span: Span) {
        self.sink.waited(span);
    }
    fn reserved(&self, tokens: Box<dyn Reserved>) {
        self.sink.reserved(tokens);
    }
}
