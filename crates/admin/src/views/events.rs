//! Sources of events.

use std::pin::Pin;

use axum::body::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// What becomes of a delivery.
pub type EventsDelivery = Pin<Box<dyn Future<Output = Result<DeliveryReport, ControlError>> + Send>>;

/// The sources of events of this instance.
pub trait EventsControl: Send + Sync {
    /// All of them.
    fn sources(&self) -> Vec<EventSourceInfo>;
    /// Takes a signed delivery for a source; resolves when what it says has been obeyed.
    ///
    /// # Errors
    /// No such source, a bad signature or time, no event, or too many that wait.
    fn deliver(&self, source: &str, headers: HeaderMap, body: Bytes) -> EventsDelivery;
}

/// A source of events. Counts are since start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventSourceInfo {
    /// Its name.
    pub name: String,
    /// `webhook` or `redis`.
    pub kind: String,
    /// Routes whose answers its events purge.
    pub routes: Vec<String>,
    /// Whether it counts as down, so that these answers are kept for less time.
    pub down: bool,
    /// When it said something last, ns since 1970 UTC; null before.
    pub heard_ns: Option<i64>,
    /// Events.
    pub events: u64,
    /// Events that no rule is about.
    pub unmatched: u64,
    /// Events that cannot be read.
    pub malformed: u64,
    /// Times that events may have been missed, so that its routes were purged.
    pub gaps: u64,
    /// Times that it went down.
    pub outages: u64,
}

/// What a delivery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeliveryReport {
    /// Events in it.
    pub events: u64,
    /// Entries that were purged.
    pub entries: u64,
    /// It had come before: nothing was done again.
    pub repeated: bool,
}
