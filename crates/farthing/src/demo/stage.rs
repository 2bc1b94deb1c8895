//! Puts the demo on its feet: providers, proxy and driver, all talking over real HTTP on free loopback ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use farthing_config::{Config, HoldoutConfig, ListenConfig, LogConfig, ModelsConfig, Prices, Provider as ProviderConfig, Route, Secret};
use farthing_proxy::Proxy;
use farthing_sim::{ApiSpec, Driver, DriverSpec, Provider, Target, Truth};
use farthing_types::{Clock, ScaledClock, Span};

use super::workload::Workload;

/// Share of stale answers that the demo allows its routes.
pub const STALE_BUDGET: f64 = 0.005;
/// Share of key-windows that go past the cache, to prove the saving.
const HOLDOUT: f64 = 0.03;
/// Holdout windows over the whole simulated time.
const HOLDOUT_WINDOWS: u32 = 24;
/// Requests under way at once.
const WORKERS: usize = 48;

/// A folder that is removed at the end unless it is to be kept.
pub struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// A new folder among the system's temporary files.
    pub fn new(keep: bool) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("farthing-demo-{}", std::process::id()));
        std::fs::create_dir_all(path.join("models")).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path, keep })
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the demo's folder is left behind");
        }
    }
}

/// Providers, proxy and driver of the money phases.
pub struct Stage {
    pub provider: Provider,
    pub proxy: Arc<Proxy>,
    pub clock: Arc<ScaledClock>,
    pub driver: Driver,
    /// Names of the routes, in the order of the truth.
    pub names: Vec<Arc<str>>,
}

impl Stage {
    /// Starts everything; simulated time starts too. `real` is how many seconds the workload's span shall take.
    pub async fn start(work: &Workload, dir: &Path, real: f64, seed: u64) -> anyhow::Result<Self> {
        let clock = Arc::new(ScaledClock::new(work.start, work.span.as_secs_f64() / real));
        let provider = Provider::start(work.apis.clone(), work.truth.clone(), clock.clone()).await.context("simulated providers")?;
        let holdout = HoldoutConfig { share: HOLDOUT, window: work.span / HOLDOUT_WINDOWS, ..HoldoutConfig::default() };
        let config = Config { holdout, seed, ..config(&work.apis, &provider, dir) };
        let proxy = Proxy::start(Arc::new(config), clock.clone()).await.context("proxy")?;
        let driver = driver(&work.apis, proxy.data_addr(), work.truth.clone(), clock.clone());
        let names = work.apis.iter().map(|api| api.name.clone()).collect();
        Ok(Self { provider, proxy, clock, driver, names })
    }
}

/// A driver that asks for the APIs through the proxy at `server`.
fn driver(apis: &[ApiSpec], server: std::net::SocketAddr, truth: Arc<dyn Truth>, clock: Arc<dyn Clock>) -> Driver {
    let target = |api: &ApiSpec| Target { path: format!("/r/{0}/{0}/items/", api.name), nondeterministic: api.nondeterministic };
    Driver::new(DriverSpec { server, targets: apis.iter().map(target).collect(), workers: WORKERS, truth, clock })
}

/// One route and one provider for each API; logs and models below `dir`.
pub fn config(apis: &[ApiSpec], provider: &Provider, dir: &Path) -> Config {
    let addr = provider.addr();
    let mut config = Config {
        data: ListenConfig { addr: (std::net::Ipv4Addr::LOCALHOST, 0).into(), drain: Span::from_secs(3), ..ListenConfig::default() },
        log: LogConfig { dir: dir.join("logs"), flush: Span::from_secs(5), row_rate: u32::MAX, ..LogConfig::default() },
        models: ModelsConfig {
            dir: dir.join("models"),
            // Driver, providers, trainer and proxy share this machine's cores: a decision that waits for a core is not late. No
            // client waits for it either: it is taken after the answer has gone out.
            deadline: Span::from_secs(1),
            control_interval: Span::from_secs(1),
            // Short demos put a model in force that the gate has refused, to show what that is worth; the experiment says so.
            drift_acts: false,
            ..ModelsConfig::default()
        },
        ..Config::default()
    };
    config.salt.secret = Secret::new("the salt of a demo");
    for api in apis {
        let prefix: Arc<str> = format!("/r/{}", api.name).into();
        config.providers.push(Arc::new(ProviderConfig {
            name: api.name.clone(),
            base_url: http::Uri::try_from(format!("http://{addr}")).unwrap_or_default(),
            prices: Some(Prices::per_call(api.price)),
            ..ProviderConfig::default()
        }));
        config.routes.push(Arc::new(Route {
            name: api.name.clone(),
            provider: api.name.clone(),
            matcher: farthing_config::Matcher { path_prefix: prefix.clone(), ..Default::default() },
            strip_prefix: prefix,
            stale_budget: STALE_BUDGET,
            volatile: if api.volatile { vec!["/generated_at".into()] } else { Vec::new() },
            ..Route::default()
        }));
    }
    config
}
