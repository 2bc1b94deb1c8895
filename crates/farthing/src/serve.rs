//! `farthing serve`.

use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use farthing_config::{Config, ConfigError, Dialect, Mode, Route, TlsConfig};
use farthing_proxy::Proxy;
use farthing_types::RealClock;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::adapters::Running;
use crate::adapters::config::{Source, reload_by_signal};
use crate::check;
use crate::flags::ConfigFlags;
use crate::origin::{Beginning, Origin};

/// Exit code of a second signal while draining: 128 + SIGINT.
const IMPATIENT: i32 = 130;

/// Flags of `farthing serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFlags,
}

/// Serves until SIGTERM or SIGINT.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    crate::telemetry::init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let origin = Origin::new(args.config.clone());
    let Beginning { config, digest } = runtime.block_on(origin.begin());
    let config = match config {
        Ok(config) => config,
        Err(error) => return Ok(check::refuse(&error)),
    };
    for hint in config.hints() {
        tracing::warn!("{hint}");
    }
    // Records of money would be lost one by one else, long after whoever started this has gone.
    farthing_proxy::check_log(&config)?;
    match config.persist_salt() {
        Ok(()) => {}
        Err(error @ ConfigError::Salt { .. }) => tracing::warn!(%error, "digests change with the next start"),
        Err(error) => return Err(error.into()),
    }
    runtime.block_on(serve(Arc::new(config), (origin, digest)))
}

async fn serve(config: Arc<Config>, (origin, digest): (Arc<Origin>, Option<Arc<str>>)) -> anyhow::Result<ExitCode> {
    // Signals first: one that comes while starting must end it in order, too.
    let mut signals = Signals::new()?;
    let addr = config.admin.addr;
    let listener =
        TcpListener::bind(addr).await.with_context(|| format!("the admin port {addr} cannot be opened; choose another with --admin"))?;
    let admin_addr = listener.local_addr()?;
    let proxy = Proxy::start(config.clone(), Arc::new(RealClock::default())).await?;
    proxy.answers_at(admin_addr);
    proxy.config_is(digest.unwrap_or_else(|| "unknown".into()));
    if let Some(shared) = origin.shared() {
        proxy.follow_config(shared);
    }
    let source: Arc<dyn Source> = origin;
    crate::table::out(&greeting(&config, &proxy.data_addr().to_string(), &admin_addr.to_string()));
    for part in proxy.parts() {
        if let Some(problem) = part.problem {
            tracing::warn!(part = part.name, problem, "degraded");
        }
    }
    let router = farthing_admin::router(Running::parts(proxy.clone(), Some(source.clone())), &config.admin);
    let (stop_admin, stopped) = tokio::sync::oneshot::channel::<()>();
    let admin = farthing_admin::serve(listener, router, proxy.admin_tls(), async move {
        let _ = stopped.await;
    });
    let ending = async {
        signals.ended(|| reload(&proxy, &source)).await;
        tracing::info!("draining; a second signal ends at once");
        let log = tokio::select! {
            log = proxy.shutdown() => log,
            () = signals.next() => std::process::exit(IMPATIENT),
        };
        // The admin port answers while draining, so that the drain can be watched.
        let _ = stop_admin.send(());
        log
    };
    let (served, log) = tokio::join!(admin, ending);
    served?;
    match log.map(|metrics| (metrics.rows(), metrics.dropped())) {
        Some((rows, 0)) => tracing::info!(rows, "log written"),
        Some((rows, dropped)) => tracing::warn!(rows, dropped, "log written, rows were dropped"),
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
    /// Waits for the end; on each SIGHUP before it, `reload`.
    async fn ended<F: Future<Output = ()>>(&mut self, reload: impl Fn() -> F) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload().await,
            }
        }
    }
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Reads the configuration again, off the threads that answer; what is wrong is logged, and changes nothing.
async fn reload(proxy: &Arc<Proxy>, source: &Arc<dyn Source>) {
    let (proxy, source) = (proxy.clone(), source.clone());
    if let Err(error) = tokio::task::spawn_blocking(move || reload_by_signal(&proxy, &*source)).await {
        tracing::error!(%error, "the reload of the configuration broke off");
    }
}

/// What is served where, and the one line to change in the app.
fn greeting(config: &Config, data: &str, admin: &str) -> String {
    let scheme = |tls: &Option<TlsConfig>| if tls.is_some() { "https" } else { "http" };
    let data = &format!("{}://{data}", scheme(&config.data.tls));
    let admin = format!("{}://{admin}", scheme(&config.admin.tls));
    let mut text = format!("farthing {} answers at {data}; admin API at {admin}\n", env!("CARGO_PKG_VERSION"));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Change one line in the app, the base URL:");
    for route in &config.routes {
        let provider = config.provider(&route.provider);
        let upstream = provider.map_or_else(String::new, |provider| provider.base_url.to_string());
        let dialect = provider.map_or(Dialect::Generic, |provider| provider.dialect);
        let _ = writeln!(text, "  {:<16} {}   ({upstream})", route.name, line(route, dialect, data));
    }
    for (mode, says) in [
        (Mode::Learned, "learned: GET and HEAD answers without explicit freshness are kept for a predicted time"),
        (Mode::Override, "override: answers are kept for the route's time, whatever the origin says"),
        (Mode::Respect, "respect: never more than RFC 9111 allows"),
        (Mode::Observe, "observe: no answer is changed, everything is logged"),
    ] {
        let routes: Vec<&Arc<Route>> = config.routes.iter().filter(|route| route.mode == mode).collect();
        let Some(budget) = routes.iter().map(|route| route.stale_budget).max_by(f64::total_cmp) else { continue };
        let names = routes.iter().map(|route| &*route.name).collect::<Vec<_>>().join(", ");
        let stale = if mode == Mode::Learned {
            format!("; at most {} % stale; --mode respect|observe changes it", budget * 100.0)
        } else {
            String::new()
        };
        let _ = writeln!(text, "{names}: mode {says}{stale}");
    }
    for route in &config.routes {
        let known = route.prices.is_some() || config.provider(&route.provider).is_some_and(|provider| provider.prices.is_some());
        if !known {
            let _ =
                writeln!(text, "{}: price unknown, its costs are counted as unpriced; set --price {}=DOLLARS", route.name, route.provider);
        }
    }
    text
}

/// How the app names the route.
fn line(route: &Route, dialect: Dialect, data: &str) -> String {
    match (route.matcher.hosts.first(), dialect) {
        (Some(host), _) => format!("{data} with Host: {host}"),
        (None, Dialect::OpenAi) => format!("base_url=\"{data}{}/v1\"", route.matcher.path_prefix.trim_end_matches('/')),
        (None, Dialect::Anthropic | Dialect::Gemini) => {
            format!("base_url=\"{data}{}\"", route.matcher.path_prefix.trim_end_matches('/'))
        }
        (None, _) => format!("{data}{}", route.matcher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_config::{Flags, System};

    #[test]
    fn the_greeting_names_the_line_to_change() {
        let flags = Flags { upstreams: vec!["openai".to_owned(), "geo=https://maps.example.com".to_owned()], ..Flags::default() };
        let config = Config::build(None, &flags, &System).unwrap();
        let text = greeting(&config, "127.0.0.1:8787", "127.0.0.1:8788");
        assert!(text.contains("base_url=\"http://127.0.0.1:8787/openai/v1\""), "{text}");
        assert!(text.contains("http://127.0.0.1:8787/r/geo   (https://maps.example.com/)"), "{text}");
        assert!(text.contains("geo: price unknown") && !text.contains("openai: price unknown"), "{text}");
        assert!(text.contains("at most 0.5 % stale; --mode respect|observe"), "{text}");
    }
}
