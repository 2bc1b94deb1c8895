//! The sinks of the log: opens them, runs their drivers, and has them forget tenants.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::{Config, S3Config, SinkConfig, SinkTarget};
use farthing_contract::log::ALL;
use farthing_sinks::{
    Bucket, ClickhouseSpec, Driver, Erased, Fault, FaultReason, PostgresSpec, S3Credentials, S3Spec, Sink, SinkSpec, Source, Target,
};
use farthing_types::{Clock, Draw, RealClock, Span};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use farthing_sinks::SinkState;

use crate::StartError;
use crate::retention;

/// The sinks of an instance.
pub struct Sinks {
    opened: Vec<Opened>,
    tasks: TaskTracker,
    /// Said when the log has written its last files.
    last: CancellationToken,
}

struct Opened {
    sink: Arc<dyn Sink>,
    state: Arc<SinkState>,
    /// Until it runs.
    driver: Mutex<Option<Driver>>,
}

impl Sinks {
    /// Opens those of a configuration; none needs to be reachable, and nothing is shipped yet.
    ///
    /// # Errors
    /// A description that cannot work.
    pub(crate) fn open(config: &Config, clock: Arc<dyn Clock>, real: Arc<RealClock>) -> Result<Self, StartError> {
        let source = Arc::new(Source {
            dir: config.log.dir.clone(),
            kept: retention::rules(&config.retention).tables.into_iter().collect(),
            clock,
            real,
            draw: Draw::new(config.seed),
        });
        let open = |of: &SinkConfig| -> Result<Opened, StartError> {
            let spec = spec(of);
            let sink = farthing_sinks::open(&spec)?;
            let driver = Driver::new(sink.clone(), spec, source.clone());
            Ok(Opened { sink, state: driver.state(), driver: Mutex::new(Some(driver)) })
        };
        let opened = config.sinks.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { opened, tasks: TaskTracker::new(), last: CancellationToken::new() })
    }

    /// Ships until `stop`.
    pub(crate) fn start(&self, stop: &CancellationToken) {
        for driver in self.opened.iter().filter_map(|opened| opened.driver.lock().take()) {
            self.tasks.spawn(driver.run(stop.clone(), self.last.clone()));
        }
    }

    /// Ships what the log has written at its end, within `patience`; what is not done by then the next start ships.
    pub(crate) async fn finish(&self, patience: Span) {
        self.last.cancel();
        self.tasks.close();
        if tokio::time::timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all files of the log were shipped to the sinks: the next start does so");
        }
    }

    /// What is told of each.
    pub fn states(&self) -> Vec<Arc<SinkState>> {
        self.opened.iter().map(|opened| opened.state.clone()).collect()
    }

    /// Removes all rows of a tenant of which the log has been rid: by sink, what was removed or why not.
    pub(crate) async fn forget(&self, tenant: &str) -> BTreeMap<String, Result<Erased, Fault>> {
        let mut all = BTreeMap::new();
        for opened in &self.opened {
            let work = async {
                opened.sink.prepare().await?;
                opened.sink.forget(tenant).await
            };
            let most = opened.sink.forgets_within();
            let late = |_| Err(Fault::new(FaultReason::Timeout, format!("not done within {most:?}")));
            let done = tokio::time::timeout(most, work).await.unwrap_or_else(late);
            all.insert(opened.state.name.to_string(), done);
        }
        all
    }
}

/// Whether all sinks of a configuration, and the store of predictors, can work as they are described. Nobody is asked.
///
/// # Errors
/// The first that cannot.
pub fn check(config: &Config) -> Result<(), StartError> {
    config.sinks.iter().try_for_each(|of| farthing_sinks::open(&spec(of)).map(drop))?;
    let store = config.models.store.as_ref().map(|store| Bucket::new(&s3(&store.bucket), store.deadline));
    store.transpose().map(drop).map_err(StartError::ModelStore)
}

fn spec(of: &SinkConfig) -> SinkSpec {
    SinkSpec {
        name: of.name.clone(),
        tables: ALL.into_iter().filter(|table| of.tables.contains(&table.name)).collect(),
        deadline: of.deadline,
        interval: of.interval,
        retention: of.retention,
        target: match &of.target {
            SinkTarget::Postgres(postgres) => Target::Postgres(PostgresSpec {
                url: postgres.url.clone(),
                password: postgres.password.as_ref().map(|secret| secret.expose().into()),
                authorities: postgres.authorities.clone(),
                schema: postgres.schema.clone(),
            }),
            SinkTarget::S3(bucket) => Target::S3(s3(bucket)),
            SinkTarget::Clickhouse(server) => Target::Clickhouse(ClickhouseSpec {
                url: server.url.clone(),
                user: server.user.clone(),
                password: server.password.as_ref().map(|secret| secret.expose().into()),
                authorities: server.authorities.clone(),
                database: server.database.clone(),
            }),
        },
    }
}

/// A bucket as it is configured.
pub(crate) fn s3(of: &S3Config) -> S3Spec {
    S3Spec {
        bucket: of.bucket.clone(),
        prefix: of.prefix.clone(),
        region: of.region.clone(),
        endpoint: of.endpoint.clone(),
        path_style: of.path_style,
        credentials: credentials(of),
        authorities: of.authorities.clone(),
    }
}

fn credentials(of: &S3Config) -> S3Credentials {
    match &of.key {
        Some(key) => S3Credentials::Key {
            id: key.id.expose().into(),
            secret: key.secret.expose().into(),
            session_token: key.session_token.as_ref().map(|token| token.expose().into()),
        },
        None => S3Credentials::Machine(of.machine.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table that configuration knows and the log does not would never be shipped.
    #[test]
    fn the_tables_of_configuration_are_those_of_the_log() {
        assert_eq!(farthing_config::LOG_TABLES, ALL.map(|table| table.name));
    }
}
