//! Attempts of a further round: their numbers go on from those before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use farthing_types::{CallReport, CallSink, MappedAnswer, Reserved, Span, TraceContext};
use http::{HeaderMap, StatusCode};

/// Adds the attempts made before to the numbers of those that come, and counts these. The innermost client cannot know what came before.
pub(crate) struct Later {
    sink: Arc<dyn CallSink>,
    by: u16,
    made: AtomicU16,
}

impl Later {
    /// For attempts after `by` others.
    pub(crate) fn new(sink: Arc<dyn CallSink>, by: u16) -> Arc<Self> {
        Arc::new(Self { sink, by, made: AtomicU16::new(0) })
    }

    /// Attempts of this round so far.
    pub(crate) fn made(&self) -> u16 {
        self.made.load(Ordering::Relaxed)
    }
}

impl CallSink for Later {
    fn attempt(&self, mut report: CallReport) {
        self.made.fetch_add(1, Ordering::Relaxed);
        report.attempt = report.attempt.saturating_add(self.by);
        self.sink.attempt(report);
    }
    fn waited(&self, span: Span) {
        self.sink.waited(span);
    }
    fn reserved(&self, tokens: Box<dyn Reserved>) {
        self.sink.reserved(tokens);
    }
    fn span(&self) -> Option<TraceContext> {
        self.sink.span()
    }
    fn wants_interim(&self) -> bool {
        self.sink.wants_interim()
    }
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        self.sink.interim(status, headers);
    }
    fn mapped(&self, read: MappedAnswer) {
        self.sink.mapped(read);
    }
}
