//! The proxy behind the admin API: proxy and admin do not know each other.

mod cache;
mod decisions;
mod events;
mod experiments;
pub mod forget;
mod models;
mod status;
mod totals;

use std::sync::Arc;

use farthing_admin::{MetricsView, Parts};
use farthing_proxy::Proxy;
use farthing_types::{RealClock, Time};

/// A running proxy as the admin API sees it.
pub struct Running {
    proxy: Arc<Proxy>,
    /// Uptime is real time, whatever clock the proxy runs on.
    real: RealClock,
    real_start: Time,
    started: Time,
}

impl Running {
    /// The parts of the admin API, all answered by `proxy`.
    pub fn parts(proxy: Arc<Proxy>) -> Parts {
        let real = RealClock::default();
        let real_start = farthing_types::Clock::now(&real);
        let running = Arc::new(Self { started: proxy.now(), proxy, real, real_start });
        Parts {
            status: running.clone(),
            routes: running.clone(),
            models: running.clone(),
            experiments: running.clone(),
            decisions: running.clone(),
            cache: running.clone(),
            events: running.clone(),
            forget: running.clone(),
            metrics: running,
        }
    }
}

impl MetricsView for Running {
    fn text(&self) -> String {
        farthing_proxy::telemetry::render(&self.proxy).unwrap_or_default()
    }
}
