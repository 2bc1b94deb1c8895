//! A proxy in front of an origin, configured in code.

use std::net::SocketAddr;
use std::sync::Arc;

use farthing_config::{Config, FarthingKey, Provider, Route};
use farthing_proxy::Proxy;
use farthing_types::{Clock, RealClock, Time, VirtualClock};
use tempfile::TempDir;

use crate::Client;

/// A configuration to start from: one provider at the origin, route `/api` to it, port 0, a log in a temporary folder.
pub struct Setup {
    /// The configuration.
    pub config: Config,
    dir: TempDir,
}

/// A running proxy with everything it needs.
pub struct Started {
    /// The proxy.
    pub proxy: Arc<Proxy>,
    /// A client of its data port.
    pub client: Client,
    /// Its folder: `logs/` and `models/`.
    pub dir: TempDir,
}

impl Setup {
    /// A route `/api` to `origin`.
    pub fn new(origin: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data.addr = SocketAddr::from(([127, 0, 0, 1], 0));
        config.log.dir = dir.path().join("logs");
        config.models.dir = dir.path().join("models");
        config.holdout.share = 0.0;
        config.providers = vec![Arc::new(provider(origin))];
        config.routes = vec![Arc::new(route())];
        Self { config, dir }
    }

    /// Changes the route.
    pub fn route(mut self, change: impl FnOnce(&mut Route)) -> Self {
        let mut route = Route::clone(&self.config.routes[0]);
        change(&mut route);
        self.config.routes[0] = Arc::new(route);
        self
    }

    /// Changes the provider.
    pub fn provider(mut self, change: impl FnOnce(&mut Provider)) -> Self {
        let mut provider = Provider::clone(&self.config.providers[0]);
        change(&mut provider);
        self.config.providers[0] = Arc::new(provider);
        self
    }

    /// Adds a key of ours for `tenant`; returns its text.
    pub fn key(&mut self, tenant: &str) -> String {
        let (secret, key) = FarthingKey::generate(tenant).unwrap();
        self.config.keys.push(key);
        secret.expose().to_owned()
    }

    /// Starts it on real time.
    pub async fn start(self) -> Started {
        self.start_on(Arc::new(RealClock::default())).await
    }

    /// Starts it on a clock that the test moves.
    pub async fn start_virtual(self) -> (Started, Arc<VirtualClock>) {
        let clock = Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000)));
        (self.start_on(clock.clone()).await, clock)
    }

    /// Starts it on `clock`.
    pub async fn start_on(self, clock: Arc<dyn Clock>) -> Started {
        // A test holds it beside all else that it has.
        let proxy = Box::pin(Proxy::start(Arc::new(self.config), clock)).await.unwrap();
        Started { client: Client { addr: proxy.data_addr() }, proxy, dir: self.dir }
    }
}

fn provider(origin: SocketAddr) -> Provider {
    let mut provider = Provider { name: "origin".into(), base_url: format!("http://{origin}").parse().unwrap(), ..Provider::default() };
    provider.prices = Some(farthing_config::Prices::per_call("0.002".parse().unwrap()));
    provider.upstream.attempts = 1;
    provider
}

fn route() -> Route {
    let mut route = Route { name: "api".into(), provider: "origin".into(), strip_prefix: "/api".into(), ..Route::default() };
    route.matcher.path_prefix = "/api".into();
    route
}
