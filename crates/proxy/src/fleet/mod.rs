//! The fleet that this instance belongs to: its handle on the Redis that all of them reach, and who is who.

mod identity;

use std::path::PathBuf;
use std::sync::Arc;

use farthing_config::{Config, FleetConfig};
use farthing_fleet::{Handle, HandleStats, RedisConfig};
use farthing_types::Span;
use tokio_util::task::TaskTracker;

pub use identity::Identity;

use crate::l2::redis_config;

/// Why an instance cannot belong to its fleet.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The addresses or certificates cannot be used.
    #[error("[fleet] {0}")]
    Redis(#[from] farthing_fleet::ConfigError),
    /// The instance's name cannot be kept.
    #[error("[fleet] the instance's name in {}: {reason}; remove it, make the folder writable, or write fleet.instance", path.display())]
    Instance {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// The fleet as one of its instances sees it.
#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    identity: Identity,
    handle: Handle,
    /// Its own: they run as long as the handle is held.
    _tasks: TaskTracker,
}

/// Figures of the fleet.
#[derive(Clone, Debug)]
pub struct FleetStats {
    /// The fleet's name.
    pub name: Arc<str>,
    /// This instance.
    pub identity: Identity,
    /// Whether its Redis answers, as far as is known.
    pub connected: bool,
    /// Of the handle.
    pub redis: HandleStats,
}

impl Fleet {
    /// Takes its place in the fleet, if one is configured; waits for nothing but a small file, and connects in the background.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub fn open(config: &Config) -> Result<Option<Arc<Self>>, FleetError> {
        let Some(fleet) = &config.fleet else { return Ok(None) };
        let (tasks, identity) = (TaskTracker::new(), Identity::open(config, fleet)?);
        let handle = Handle::start(&redis_config(&fleet.server, fleet.deadline), &tasks)?;
        tracing::info!(fleet = &*fleet.name, instance = &*identity.name, "this instance is one of a fleet");
        Ok(Some(Arc::new(Self { config: fleet.clone(), identity, handle, _tasks: tasks })))
    }

    /// Its Redis.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
    /// This instance.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }
    /// How long an operation may take that somebody waits for.
    pub const fn deadline(&self) -> Span {
        self.config.deadline
    }
    /// Whether one instance calls for what several lack.
    pub const fn leases_fills(&self) -> bool {
        self.config.fill_leases
    }
    /// How to reach its Redis over a connection of one's own.
    pub fn redis(&self) -> RedisConfig {
        redis_config(&self.config.server, self.config.deadline)
    }

    /// The key of `what` in a group of keys, which are all in one slot of a Cluster. No other fleet uses it.
    pub fn key(&self, group: &str, what: &str) -> Vec<u8> {
        format!("farthing:{{{}:{group}}}:{what}", self.config.name).into_bytes()
    }

    /// Whether its Redis cannot be asked now, or some of its nodes.
    pub fn is_away(&self) -> bool {
        !self.handle.is_connected() || self.handle.stats().open_breakers > 0
    }

    /// Figures now.
    pub fn stats(&self) -> FleetStats {
        let redis = self.handle.stats();
        FleetStats { name: self.config.name.clone(), identity: self.identity.clone(), connected: !self.is_away(), redis }
    }

    /// What is wrong, for the list of parts.
    pub fn problem(&self) -> Option<String> {
        self.is_away().then(|| "redis is away, or some of its nodes: this instance is on its own until it is back".to_owned())
    }
}
