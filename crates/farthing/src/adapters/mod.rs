//! The proxy behind the admin API: proxy and admin do not know each other.

mod alerts;
mod budgets;
mod bypass;
mod cache;
pub mod config;
pub mod costs;
mod decisions;
mod events;
mod experiments;
mod fleet_config;
pub mod forget;
mod freeze;
mod limits;
mod models;
mod plans;
pub mod prices;
mod sinks;
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
    places: costs::Places,
    /// Where the configuration came from.
    source: Option<Arc<dyn config::Source>>,
}

impl Running {
    /// The parts of the admin API, all answered by `proxy`; `source` is where its configuration came from.
    pub fn parts(proxy: Arc<Proxy>, source: Option<Arc<dyn config::Source>>) -> Parts {
        let real = RealClock::default();
        let real_start = farthing_types::Clock::now(&real);
        let running = Arc::new(Self { started: proxy.now(), proxy, real, real_start, places: costs::Places::default(), source });
        Parts {
            status: running.clone(),
            routes: running.clone(),
            models: running.clone(),
            experiments: running.clone(),
            decisions: running.clone(),
            budgets: running.clone(),
            bypass: running.clone(),
            freeze: running.clone(),
            limits: running.clone(),
            cache: running.clone(),
            config: running.clone(),
            fleet_config: running.clone(),
            audit: running.clone(),
            costs: running.clone(),
            alerts: running.clone(),
            events: running.clone(),
            prices: running.clone(),
            forget: running.clone(),
            sinks: running.clone(),
            metrics: running,
        }
    }
}

impl MetricsView for Running {
    fn text(&self) -> String {
        farthing_proxy::telemetry::render(&self.proxy).unwrap_or_default()
    }
}
