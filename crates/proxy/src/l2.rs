//! The tier outside of memory: opened from the configuration, asked inside the single flight, closed at the end.

use std::sync::Arc;

use farthing_cache::l2::{DiskError, DiskOptions, DiskStats, DiskStore, OutcomeCounts, RedisStore, Sealer, Store, Tier, TierOptions};
use farthing_cache::{Cached, Ticket};
use farthing_config::{L2Config, L2Redis, L2Store};
use farthing_fleet::{Handle, HandleStats, Password, RedisConfig, Tls};
use farthing_freshness::Keyer;
use farthing_types::{Span, Time, UncachedReason};
use tokio_util::task::TaskTracker;

use crate::request::{CacheControl, Planned};
use crate::state::State;
use crate::ticketed::Wanted;

/// How long closing may take; what is not written by then is lost, and only costs calls.
const CLOSING: Span = Span::from_secs(10);

/// Why there can be no L2.
#[derive(Debug, thiserror::Error)]
pub enum L2Error {
    /// The directory cannot be used.
    #[error("[l2] {0}")]
    Disk(#[from] DiskError),
    /// The addresses or certificates cannot be used.
    #[error("[l2] {0}")]
    Redis(#[from] farthing_fleet::ConfigError),
    /// The secret cannot be used.
    #[error("[l2] encrypt: {0}")]
    Seal(#[from] farthing_cache::l2::SealError),
    /// The thread that opens the directory broke.
    #[error("[l2] opening broke off: {0}")]
    Broken(String),
}

/// The store behind the tier, with what only its kind has.
#[derive(Clone, Debug)]
enum Kind {
    Disk(Arc<DiskStore>),
    Redis(Handle),
    /// A store that was handed in.
    Given,
}

/// An open L2.
#[derive(Clone, Debug)]
pub struct L2 {
    /// What the cache reads and writes.
    pub tier: Tier,
    kind: Kind,
    /// Its own: they run as long as the tier is held, which is longer than what a shutdown waits for.
    tasks: TaskTracker,
}

/// Figures of L2.
#[derive(Clone, Copy, Debug)]
pub struct L2Stats {
    /// `disk` or `redis`.
    pub kind: &'static str,
    /// Outcomes of looks and writes.
    pub outcomes: OutcomeCounts,
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
    /// Of a disk.
    pub disk: Option<DiskStats>,
    /// Of a Redis.
    pub redis: Option<HandleStats>,
}

impl L2 {
    /// Opens the store and starts to write behind. An entry past every TTL is kept for `keep`. A Redis need not be
    /// reachable; a directory must be.
    ///
    /// # Errors
    /// See [`L2Error`].
    pub async fn open(config: &L2Config, (keyer, keep): (Keyer, Span), now: Time) -> Result<Self, L2Error> {
        let tasks = TaskTracker::new();
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let sealer = config.encrypt.as_ref().map(|secret| Sealer::new(secret.expose().as_bytes())).transpose()?;
        let (store, kind): (Arc<dyn Store>, Kind) = match &config.store {
            L2Store::Disk { dir, max_bytes } => {
                let options = DiskOptions { queue_bytes: size(config.queue_bytes), ..DiskOptions::new(*max_bytes) };
                let dir = dir.clone();
                let opened = tokio::task::spawn_blocking(move || DiskStore::open(&dir, options, now)).await;
                let disk = Arc::new(opened.map_err(|broken| L2Error::Broken(broken.to_string()))??);
                (Arc::clone(&disk) as Arc<dyn Store>, Kind::Disk(disk))
            }
            L2Store::Redis(redis) => {
                let handle = Handle::start(&redis_config(redis, config.deadline), &tasks)?;
                (Arc::new(RedisStore::new(handle.clone(), size(config.max_value))), Kind::Redis(handle))
            }
        };
        let options = options(config, keyer, keep);
        let (tier, writer) = Tier::new(store, sealer, options);
        tasks.spawn(writer.run());
        Ok(Self { tier, kind, tasks })
    }

    /// Starts to write behind to a store that is open.
    pub fn over(store: Arc<dyn Store>, config: &L2Config, (keyer, keep): (Keyer, Span)) -> Self {
        let (tier, writer) = Tier::new(store, None, options(config, keyer, keep));
        let tasks = TaskTracker::new();
        tasks.spawn(writer.run());
        Self { tier, kind: Kind::Given, tasks }
    }

    /// Has calls led by one of the instances that share the store. `incarnation`: a number that no other process has; `deadline`: how
    /// long an operation on a lease may take.
    pub fn lease_fills(&self, incarnation: u64, deadline: Span) {
        self.tier.lease_fills((incarnation, deadline), self.tasks.clone());
    }

    /// Writes what waits and closes the store.
    pub async fn close(&self) {
        let closing = async {
            self.tier.flush().await;
            match &self.kind {
                Kind::Disk(disk) => disk.close().await.err().map(|fault| fault.as_str()),
                Kind::Redis(_) | Kind::Given => None,
            }
        };
        match tokio::time::timeout(CLOSING, closing).await {
            Ok(None) => {}
            Ok(Some(fault)) => tracing::warn!(fault, "the disk cache was not closed: its newest segment is scanned at the next start"),
            Err(_) => tracing::warn!("L2 was not written to the end"),
        }
    }

    /// Figures now.
    pub fn stats(&self) -> L2Stats {
        let (disk, redis) = match &self.kind {
            Kind::Disk(disk) => (Some(disk.stats()), None),
            Kind::Redis(handle) => (None, Some(handle.stats())),
            Kind::Given => (None, None),
        };
        L2Stats { kind: self.tier.kind(), outcomes: self.tier.outcomes(), queued_bytes: self.tier.queued_bytes(), disk, redis }
    }

    /// What is wrong with it, for the list of parts.
    pub fn problem(&self) -> Option<String> {
        match &self.kind {
            Kind::Disk(disk) => {
                (!disk.is_healthy()).then(|| "the disk cache cannot be written: answers are kept in memory only".to_owned())
            }
            Kind::Redis(handle) => {
                handle.is_away().then(|| "redis is away, or some of its nodes: its answers are misses until it is back".to_owned())
            }
            Kind::Given => None,
        }
    }
}

fn options(config: &L2Config, keyer: Keyer, keep: Span) -> TierOptions {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    TierOptions { keyer, deadline: config.deadline, queue_bytes: size(config.queue_bytes), max_value_bytes: size(config.max_value), keep }
}

/// How a Redis is reached.
pub fn redis_config(redis: &L2Redis, deadline: Span) -> RedisConfig {
    RedisConfig {
        addresses: redis.addresses.clone(),
        cluster: redis.cluster,
        user: redis.user.clone(),
        password: redis.password.as_ref().map(|password| Password::new(password.expose())),
        tls: Tls { authorities: redis.authorities.clone().map(String::into_bytes) },
        deadline,
        ..RedisConfig::single("")
    }
}

/// Whether L2 may answer a request that leads a call: one that reads the cache and knows no entry yet.
pub fn may_ask(state: &State, planned: &Planned, wanted: &Wanted) -> bool {
    state.l2.is_some()
        && !planned.account.route.switches.leaves_out_l2()
        && planned.cache.is_ok()
        && planned.control != CacheControl::Refresh
        && wanted.previous.is_none()
        && wanted.reason == UncachedReason::Cold
}

/// Asks L2 with the ticket.
///
/// # Errors
/// The ticket, when it has nothing.
pub async fn ask(state: &State, ticket: Ticket) -> Result<Arc<Cached>, Ticket> {
    ticket.from_l2(state.clock.now()).await
}
