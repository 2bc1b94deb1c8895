//! Events that say what has changed: sources behind one trait, one loop that purges, and what becomes of routes whose source is down.

mod cloud;
mod driver;
mod redis;
mod seen;
mod webhook;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use farthing_config::{Config, EventsConfig, EventsFrom, Field};
use farthing_fleet::EntryId;
use farthing_types::{RouteName, Time};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::StartError;
use crate::state::State;
use crate::writes::{encoded, text_of};
pub(crate) use webhook::deliver;
pub use webhook::{Delivered, DeliveryError};

/// What has changed, as a CloudEvent says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its `type`.
    pub kind: String,
    /// Its `subject`.
    pub subject: Option<String>,
    /// Its `data`, where that is JSON.
    pub data: Value,
    /// Where it stands in a source that all instances read.
    pub at: Option<EntryId>,
}

impl Event {
    /// What a field of a rule stands for; in a path encoded as one segment, but for the slashes of a whole subject.
    fn value(&self, field: &Field, in_path: bool) -> Option<String> {
        let told = |text: &str| if in_path { encoded(text) } else { text.to_owned() };
        match field {
            Field::Subject => self.subject.as_deref().map(|text| text.split('/').map(told).collect::<Vec<_>>().join("/")),
            Field::SubjectPart(n) => self.subject.as_deref()?.split('/').nth(n.checked_sub(1)?).map(told),
            Field::Data(pointer) => text_of(self.data.pointer(pointer)?, in_path),
            Field::Path(_) | Field::Query(_) | Field::Body(_) => None,
        }
    }
}

/// Where events come from.
///
/// # Contract
/// - `next` returns what came since it returned last, in order, and waits while there is nothing; it returns at least every few seconds where the
///   source can tell that it is well.
/// - What cannot be known any more is said by `missed`; nothing is left out silently.
/// - It is not dropped half-way but at the end.
pub trait EventSource: Send {
    /// Waits for news.
    fn next(&mut self) -> BoxFuture<'_, News>;
    /// Whether what was sent while nobody listened still comes; else an outage is a gap.
    fn remembers(&self) -> bool;
}

/// What a source says.
#[derive(Debug)]
pub enum News {
    /// It is well.
    Came(Arrival),
    /// It cannot be asked at present, for this reason.
    Trouble(String),
}

/// What came.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Events, oldest first.
    pub events: Vec<Event>,
    /// Events that cannot be read.
    pub malformed: u64,
    /// Events before these may have been missed.
    pub missed: bool,
    /// These are only what came before the process: it has begun to listen.
    pub begun: bool,
    /// The source is another one than before: its events may stand before those.
    pub anew: bool,
    /// Up to where a source that all instances read was read.
    pub read_to: Option<EntryId>,
    /// More has come already: until that is obeyed, too, it is not known what is old.
    pub more: bool,
    /// Where the source stands after them, to go on from after a restart.
    pub position: Option<String>,
    /// Who waits until they have been obeyed; is told how many entries were purged.
    pub obeyed: Option<oneshot::Sender<u64>>,
}

/// A source as the rest sees it.
#[derive(Debug)]
pub struct SourceState {
    /// Its configuration.
    pub config: EventsConfig,
    /// The routes that name it.
    routes: ArcSwap<Vec<RouteName>>,
    /// Counters since start.
    pub counts: SourceCounts,
    down: AtomicBool,
    /// A rule that could not be filled in was told of already.
    told: AtomicBool,
    /// When it said something last; ns since 1970, 0 before.
    heard: AtomicI64,
    trouble: Mutex<Option<String>>,
    /// From which event to which one of a source that all instances read all were obeyed here.
    obeyed: Mutex<Option<(EntryId, EntryId)>>,
    door: Option<webhook::Door>,
}

/// Counters of a source.
#[derive(Debug, Default)]
pub struct SourceCounts {
    /// Events.
    pub events: AtomicU64,
    /// Events that no rule is about.
    pub unmatched: AtomicU64,
    /// Events that cannot be read.
    pub malformed: AtomicU64,
    /// Deliveries with a bad signature or time.
    pub unsigned: AtomicU64,
    /// Deliveries that had come before.
    pub repeated: AtomicU64,
    /// Times that events may have been missed, so that its routes were purged.
    pub gaps: AtomicU64,
    /// Times that it went down.
    pub outages: AtomicU64,
}

impl SourceState {
    /// `unheard`: what is answered before it has said anything may be older than what it has to say.
    fn new(config: &EventsConfig, routes: Vec<RouteName>, unheard: bool) -> Self {
        let door = match &config.from {
            EventsFrom::Webhook { keys } => Some(webhook::Door::new(keys)),
            EventsFrom::Redis { .. } => None,
        };
        Self {
            config: config.clone(),
            routes: ArcSwap::from_pointee(routes),
            counts: SourceCounts::default(),
            down: AtomicBool::new(unheard),
            told: AtomicBool::new(false),
            heard: AtomicI64::new(0),
            trouble: Mutex::default(),
            obeyed: Mutex::default(),
            door,
        }
    }

    /// The routes that name it.
    pub fn routes(&self) -> Arc<Vec<RouteName>> {
        self.routes.load_full()
    }

    /// The routes of this configuration name it from now on.
    pub fn routes_are(&self, config: &Config) {
        self.routes.store(Arc::new(naming(config, &self.config)));
    }

    /// Whether it is down, so that its routes' answers are kept for less time.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// When it said something last.
    pub fn heard(&self) -> Option<Time> {
        Some(self.heard.load(Ordering::Relaxed)).filter(|nanos| *nanos != 0).map(Time::from_nanos)
    }

    /// Whether an event of a source that all instances read has been obeyed here.
    pub fn has_obeyed(&self, event: EntryId) -> bool {
        self.obeyed.lock().is_some_and(|(first, last)| (first..=last).contains(&event))
    }

    /// Its kind: `webhook` or `redis`.
    pub const fn kind(&self) -> &'static str {
        match self.config.from {
            EventsFrom::Webhook { .. } => "webhook",
            EventsFrom::Redis { .. } => "redis",
        }
    }

    /// What is wrong, for the list of parts.
    pub fn problem(&self) -> Option<String> {
        self.is_down().then(|| {
            let why = self.trouble.lock().clone().unwrap_or_else(|| "nothing is heard of it".to_owned());
            format!("{why}: answers of {} are kept for `ttl_when_down` until it is back", self.routes().join(", "))
        })
    }
}

/// The sources of a configuration, each with the routes that name it.
pub fn sources(config: &Config) -> Vec<Arc<SourceState>> {
    let of = |source: &EventsConfig| {
        // Only an L2 holds answers from before the process.
        let unheard = config.l2.is_some() && matches!(source.from, EventsFrom::Redis { .. });
        Arc::new(SourceState::new(source, naming(config, source), unheard))
    };
    config.events.iter().map(of).collect()
}

fn naming(config: &Config, source: &EventsConfig) -> Vec<RouteName> {
    let named = config.routes.iter().filter(|route| route.events.as_ref() == Some(&source.name));
    named.map(|route| route.name.clone()).collect()
}

/// Starts to listen to all sources.
///
/// # Errors
/// A source that could never be reached.
pub fn start(state: &Arc<State>, stop: &CancellationToken) -> Result<(), StartError> {
    for shared in &state.events {
        let kept = place(state, &shared.config);
        let source: Box<dyn EventSource> = match &shared.config.from {
            EventsFrom::Webhook { .. } => match &shared.door {
                Some(door) => Box::new(door.open()),
                None => continue,
            },
            EventsFrom::Redis { server, stream } => Box::new(
                redis::Stream::new((server, stream), shared.config.down_after, kept.as_deref())
                    .map_err(|source| StartError::Events { name: shared.config.name.clone(), source })?,
            ),
        };
        let driver = driver::Driver::new(state.clone(), shared.clone(), kept);
        state.tasks.spawn(driver.run(source, stop.clone()));
    }
    Ok(())
}

/// Where it is kept how far a source was read. Without an L2 nothing outlives the process that older events could be about.
fn place(state: &State, config: &EventsConfig) -> Option<PathBuf> {
    let dir = &state.live().config.state_dir;
    (state.l2.is_some() && !dir.as_os_str().is_empty()).then(|| dir.join("events").join(format!("{}.position", config.name)))
}
