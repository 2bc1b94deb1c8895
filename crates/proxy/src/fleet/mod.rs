//! The fleet that this instance belongs to: its handle on the Redis that all of them reach, who is who, and what they tell each other.

pub mod bus;
mod identity;
pub mod message;
mod orders;
mod outbox;
mod stamps;
mod stats;
pub mod teller;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use farthing_cache::Hearing;
use farthing_config::{Config, FleetConfig};
use farthing_fleet::{Board, Bus, BusFlag, BusListener, BusMember, BusPosition, Handle};
use farthing_types::{RouteName, Span};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use identity::Identity;
pub(crate) use identity::name as instance_name;
use message::Said;
use outbox::{Outbox, Parcel};
use stamps::Stamps;
use stats::Counts;
pub use stats::FleetStats;

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
    /// How the others know it: its name and incarnation.
    member: String,
    /// What it says of itself to them: a digest of its salt.
    says: String,
    handle: Handle,
    bus: Bus,
    hearing: Arc<Hearing>,
    outbox: Outbox,
    /// Where it stands in what the others say.
    listener: Mutex<BusListener>,
    nonces: AtomicU64,
    /// When orders were given. Held while one is carried out, so that they are in this order, too.
    stamps: Mutex<Stamps>,
    /// Routes that can be bypassed.
    routes: ArcSwap<Vec<RouteName>>,
    members: Mutex<Vec<BusMember>>,
    counts: Counts,
    closing: CancellationToken,
    opened: Instant,
    /// Its own: they run as long as the handle is held.
    _tasks: TaskTracker,
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
        let keys = ["stream", "flags", "members", "sources"].map(|what| key(fleet, "bus", what));
        // Not the salt's own digest, by which keys are made.
        let salted = blake3::derive_key("farthing fleet 1: which salt", config.salt.secret.expose().as_bytes());
        let says = blake3::Hash::from_bytes(salted).to_hex().chars().take(16).collect();
        let member = format!("{} {:016x}", identity.name, identity.incarnation);
        Ok(Some(Arc::new(Self {
            bus: Bus::new(handle.clone(), keys, fleet.deadline),
            hearing: Arc::new(Hearing::new(fleet.bypass_on_partition)),
            outbox: Outbox::default(),
            listener: Mutex::default(),
            nonces: AtomicU64::new(0),
            stamps: Mutex::default(),
            routes: ArcSwap::from_pointee(names(config)),
            members: Mutex::default(),
            counts: Counts::default(),
            closing: CancellationToken::new(),
            opened: Instant::now(),
            config: fleet.clone(),
            identity,
            member,
            says,
            handle,
            _tasks: tasks,
        })))
    }

    /// How it is configured.
    pub const fn config(&self) -> &FleetConfig {
        &self.config
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
    /// What was heard of purges.
    pub const fn hearing(&self) -> &Arc<Hearing> {
        &self.hearing
    }

    /// The key of `what` in a group of keys, which are all in one slot of a Cluster. No other fleet uses it.
    pub fn key(&self, group: &str, what: &str) -> Vec<u8> {
        key(&self.config, group, what)
    }

    /// Where what experiments share is published.
    pub fn board(&self) -> Board {
        Board::new(self.handle.clone(), format!("farthing:{{{}:experiments}}:", self.config.name), self.config.deadline)
    }

    /// How the others know it.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// Its loops end with this.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// These are the routes from now on.
    pub fn routes_are(&self, config: &Config) {
        self.routes.store(Arc::new(names(config)));
    }

    /// Tells the others, as soon as may be.
    pub fn say(&self, said: Said) {
        self.outbox.put(said, |number, said| {
            said.purges().for_each(|(purge, soft)| self.hearing.expect(number, purge, soft));
        });
    }

    /// Whether the others have been told of all that was said, waiting for that for a short time. Blocks.
    pub fn is_told(&self) -> bool {
        self.outbox.wait(bus::TOLD_WITHIN)
    }

    /// What is left where a tenant is forgotten.
    pub fn names_tenants(&self) -> String {
        let stream = key(&self.config, "bus", "stream");
        format!(
            "purges in the fleet's stream that may name it, until 32,768 later messages; delete the key {} to be rid of them at once: all instances then \
             empty their memory",
            String::from_utf8_lossy(&stream)
        )
    }

    /// Ends the loops, when nothing is served any more; what is still to be told is told first, within a second.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// A word that nobody uses twice.
    fn nonce(&self) -> String {
        format!("{:016x}-{}", self.identity.incarnation, self.nonces.fetch_add(1, Ordering::Relaxed))
    }

    fn is_own(&self, nonce: &Bytes) -> bool {
        nonce.starts_with(format!("{:016x}-", self.identity.incarnation).as_bytes())
    }

    /// A message has been carried out.
    fn arrive(&self, at: &BusPosition) {
        let mut listener = self.listener.lock();
        listener.arrive(at);
        self.hearing.advance(at.number);
    }

    /// A message of this instance is on the bus, after one with this nonce; where it is the next that it would hear, it counts as heard. Where somebody else
    /// has `told` it, the number is not its own.
    fn told(&self, parcel: &Parcel, (at, after): (BusPosition, &Bytes), told: bool) {
        for said in &parcel.things {
            said.purges().for_each(|(purge, soft)| self.hearing.note(at.number, purge, soft));
        }
        self.hearing.settle(parcel.last);
        let mut listener = self.listener.lock();
        if told && listener.told(&at, after) {
            self.hearing.advance(at.number);
        }
    }

    /// The flags that go up or down with these things. What has been taken down stays, so that whoever comes back learns of it.
    fn flags(&self, things: &[Said]) -> Vec<BusFlag> {
        let mut out = Vec::new();
        for said in things {
            let Said::Flag(flag, at) = said else { continue };
            let changed = |name, value| BusFlag { name, at: *at, value };
            let mut subjects = stamps::subjects(flag, &self.routes.load());
            // Of what ends all, one text is enough.
            let last = subjects.pop();
            out.extend(subjects.into_iter().map(|name| changed(name, Bytes::new())));
            out.extend(last.map(|name| changed(name, serde_json::to_vec(flag).unwrap_or_default().into())));
        }
        out
    }
}

fn names(config: &Config) -> Vec<RouteName> {
    config.routes.iter().map(|route| route.name.clone()).collect()
}

pub(crate) fn key(config: &FleetConfig, group: &str, what: &str) -> Vec<u8> {
    format!("farthing:{{{}:{group}}}:{what}", config.name).into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use farthing_cache::Purge;
    use farthing_fleet::BusAsked;

    use super::*;

    /// Of an instance that reaches nobody.
    pub(crate) fn config() -> FleetConfig {
        FleetConfig {
            name: "f".into(),
            server: farthing_config::L2Redis { addresses: vec!["redis://127.0.0.1:1".to_owned()], ..Default::default() },
            deadline: Span::from_millis(1),
            fill_leases: true,
            bypass_on_partition: true,
            limits_alone: Span::from_secs(3_600),
            instances: None,
            shared_config: true,
            instance: Some("one".into()),
        }
    }

    /// A server that took over lacked the last message that was heard here, and has another one under its number: a purge that is not known here. What
    /// is told after that one must not count as the next of what was heard.
    #[tokio::test]
    async fn what_is_told_after_a_message_that_was_not_heard_is_not_heard() {
        let fleet = Fleet::open(&Config { fleet: Some(config()), ..Config::default() }).unwrap().unwrap();
        let at = |number, nonce: &'static str| BusPosition { number, nonce: Bytes::from_static(nonce.as_bytes()) };
        fleet.arrive(&at(7, "heard"));
        fleet.say(Said::purge(&Purge::Tag("a".into()), false));
        let parcel = fleet.outbox.next().unwrap();
        fleet.told(&parcel, (at(8, "own"), &Bytes::from_static(b"another")), true);
        let asked = BusAsked { after: at(7, "heard"), told: at(8, "own") };
        assert_eq!((fleet.listener.lock().asks(), fleet.hearing.position()), (asked, 7));
        fleet.told(&parcel, (at(8, "own"), &Bytes::from_static(b"heard")), false);
        assert_eq!(fleet.listener.lock().asks().after, at(7, "heard"), "somebody else's");
        fleet.told(&parcel, (at(8, "own"), &Bytes::from_static(b"heard")), true);
        let asked = BusAsked { after: at(8, "own"), told: at(8, "own") };
        assert_eq!((fleet.listener.lock().asks(), fleet.hearing.position()), (asked, 8));
    }
}
