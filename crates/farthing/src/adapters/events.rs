//! Sources of events.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farthing_admin::{ControlError, DeliveryReport, EventSourceInfo, EventsControl, EventsDelivery};
use farthing_proxy::events::{DeliveryError, SourceState};
use http::HeaderMap;

use super::Running;

impl EventsControl for Running {
    fn sources(&self) -> Vec<EventSourceInfo> {
        self.proxy.event_sources().iter().map(|source| info(source)).collect()
    }

    fn deliver(&self, source: &str, headers: HeaderMap, body: Bytes) -> EventsDelivery {
        let delivery = self.proxy.deliver(source, (headers, body));
        Box::pin(async {
            let done = delivery.await.map_err(refused)?;
            Ok(DeliveryReport { events: done.events, entries: done.entries, repeated: done.repeated })
        })
    }
}

fn refused(error: DeliveryError) -> ControlError {
    let detail = error.to_string();
    match error {
        DeliveryError::Unknown(_) => ControlError::NotFound(detail),
        DeliveryError::Unsigned(_) => ControlError::Unauthorized(detail),
        DeliveryError::Malformed(_) => ControlError::Refused(detail),
        DeliveryError::Busy => ControlError::Unavailable(detail),
    }
}

fn info(source: &SourceState) -> EventSourceInfo {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = &source.counts;
    EventSourceInfo {
        name: source.config.name.to_string(),
        kind: source.kind().to_owned(),
        routes: source.routes().iter().map(ToString::to_string).collect(),
        down: source.is_down(),
        heard_ns: source.heard().map(farthing_types::Time::nanos),
        events: read(&counts.events),
        unmatched: read(&counts.unmatched),
        malformed: read(&counts.malformed),
        gaps: read(&counts.gaps),
        outages: read(&counts.outages),
    }
}
