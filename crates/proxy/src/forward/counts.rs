//! What passes unobserved: calls and bytes by host, never money.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farthing_types::{Body, BodyError};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

/// Hosts that are told apart; what goes to others is counted as one.
const MOST: usize = 256;
/// Their name.
const OTHERS: &str = "(other)";

/// What went to one host since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// The host; `(other)` for those beyond the bound.
    pub host: Arc<str>,
    /// Tunnels that were opened.
    pub tunnels: u64,
    /// Requests that were passed on.
    pub passed: u64,
    /// Bytes sent there, of bodies and through tunnels.
    pub up: u64,
    /// Bytes that came from there.
    pub down: u64,
}

#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) tunnels: AtomicU64,
    pub(super) passed: AtomicU64,
    bytes: [AtomicU64; 2],
}

/// See the module.
#[derive(Debug, Default)]
pub struct Unobserved(Mutex<BTreeMap<Arc<str>, Arc<Host>>>);

impl Unobserved {
    pub(super) fn host(&self, name: &Arc<str>) -> Arc<Host> {
        let mut hosts = self.0.lock();
        let name = if hosts.len() < MOST || hosts.contains_key(name) { name.clone() } else { OTHERS.into() };
        hosts.entry(name).or_default().clone()
    }

    /// What went to each host.
    pub fn report(&self) -> Vec<HostReport> {
        let told = |(name, host): (&Arc<str>, &Arc<Host>)| HostReport {
            host: name.clone(),
            tunnels: host.tunnels.load(Relaxed),
            passed: host.passed.load(Relaxed),
            up: host.bytes[0].load(Relaxed),
            down: host.bytes[1].load(Relaxed),
        };
        self.0.lock().iter().map(told).collect()
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    Host = 0,
    Client = 1,
}

/// Bytes of one exchange, and of its host.
#[derive(Debug)]
pub(super) struct Meter {
    host: Arc<Host>,
    own: [AtomicU64; 2],
}

impl Meter {
    pub(super) fn of(host: Arc<Host>) -> Arc<Self> {
        Arc::new(Self { host, own: Default::default() })
    }

    /// Bytes to the host and from it.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [self.own[0].load(Relaxed), self.own[1].load(Relaxed)]
    }

    fn count(&self, to: To, bytes: u64) {
        self.own[to as usize].fetch_add(bytes, Relaxed);
        self.host.bytes[to as usize].fetch_add(bytes, Relaxed);
    }
}

/// A body whose bytes are counted as they pass.
pub(super) struct Metered {
    body: Body,
    meter: Arc<Meter>,
    to: To,
}

impl Metered {
    pub(super) fn body(body: Body, meter: &Arc<Meter>, to: To) -> Body {
        Body::stream(Self { body, meter: meter.clone(), to })
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.meter.count(self.to, data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_bound_are_counted_as_one() {
        let unobserved = Unobserved::default();
        for number in 0..MOST + 10 {
            unobserved.host(&format!("h{number}.test").into()).tunnels.fetch_add(1, Relaxed);
        }
        unobserved.host(&"h0.test".into()).tunnels.fetch_add(1, Relaxed);
        let report = unobserved.report();
        let count = |name: &str| report.iter().find(|host| &*host.host == name).map(|host| host.tunnels);
        assert_eq!((report.len(), count(OTHERS), count("h0.test"), count("h265.test")), (MOST + 1, Some(10), Some(2), None));
    }
}
