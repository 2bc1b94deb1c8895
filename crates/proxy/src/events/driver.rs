//! The one loop behind every source: purges what events say, and tells when the source is down.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farthing_cache::Purge;
use farthing_fleet::EntryId;
use farthing_types::RouteName;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Arrival, Event, EventSource, News, SourceState};
use crate::files;
use crate::fleet::message::Read;
use crate::purging::Filled;
use crate::state::State;

/// How often it is written at most how far a source was read, whatever comes: each write waits for the disk. A crash repeats what came since, which
/// does no harm.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// How long L2 may take to write the purges before that.
const FLUSH: Duration = Duration::from_secs(5);

pub(super) struct Driver {
    state: Arc<State>,
    shared: Arc<SourceState>,
    heard: Instant,
    position: Option<String>,
    kept: Option<PathBuf>,
    kept_at: Instant,
    /// What stands there.
    written: Option<String>,
}

impl Driver {
    pub(super) fn new(state: Arc<State>, shared: Arc<SourceState>, kept: Option<PathBuf>) -> Self {
        Self { state, shared, heard: Instant::now(), position: None, kept, kept_at: Instant::now(), written: None }
    }

    pub(super) async fn run(mut self, mut source: Box<dyn EventSource>, stop: CancellationToken) {
        loop {
            let news = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                news = Self::listen(&mut *source, &self.shared, self.heard) => news,
            };
            match news {
                News::Trouble(why) => self.trouble(why),
                News::Came(arrival) => self.take(arrival, source.remembers()).await,
            }
            if self.kept_at.elapsed() >= KEEP_EVERY {
                self.keep().await;
            }
        }
        self.keep().await;
    }

    /// Waits for news; says on the way that there were none for too long.
    async fn listen(source: &mut dyn EventSource, shared: &SourceState, heard: Instant) -> News {
        let next = source.next();
        tokio::pin!(next);
        match shared.config.down_after.filter(|_| !shared.is_down()) {
            None => next.await,
            Some(silence) => tokio::select! {
                biased;
                news = &mut next => news,
                () = tokio::time::sleep_until(heard + silence) => {
                    went_down(shared);
                    next.await
                }
            },
        }
    }

    fn trouble(&self, why: String) {
        // Later troubles are told of when they have lasted.
        if self.shared.heard().is_none() && self.shared.trouble.lock().is_none() {
            tracing::warn!(source = &*self.shared.config.name, why, "the source of events cannot be heard yet");
        }
        *self.shared.trouble.lock() = Some(why);
    }

    async fn take(&mut self, arrival: Arrival, remembers: bool) {
        let Arrival { events, malformed, missed, begun, anew, read_to, more, position, obeyed } = arrival;
        self.heard = Instant::now();
        self.shared.heard.store(self.state.clock.now().nanos(), Ordering::Relaxed);
        let missed = missed || (self.shared.is_down() && !remembers);
        let gap = missed.then_some(Gap { anew, told_to: read_to.filter(|_| !begun) });
        let first = events.iter().find_map(|event| event.at);
        let work = (self.state.clone(), self.shared.clone());
        let counts = &self.shared.counts;
        counts.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        counts.malformed.fetch_add(malformed, Ordering::Relaxed);
        let done = if missed || !events.is_empty() {
            // Some purges go through the whole memory.
            tokio::task::spawn_blocking(move || obey(&work.0, &work.1, (&events, gap))).await.ok()
        } else {
            Some(0)
        };
        // Only now: until the purges are done it is not known what is old.
        if let Some(last) = read_to {
            let mut obeyed = self.shared.obeyed.lock();
            // What came before the first that it has read, it knows nothing of. What it has missed it has purged with all else.
            let since = if missed { (!begun).then(EntryId::default) } else { obeyed.map(|(first, _)| first) };
            *obeyed = since.or(first).filter(|_| done.is_some()).map(|first| (first, last));
        }
        *self.shared.trouble.lock() = None;
        if !more && self.shared.down.swap(false, Ordering::Relaxed) {
            tracing::info!(source = &*self.shared.config.name, "the source of events is heard");
        }
        self.position = position.or(self.position.take());
        if let Some(obeyed) = obeyed {
            let _nobody_waits = obeyed.send(done.unwrap_or_default() as u64);
        }
    }

    /// Writes how far the source was read, after what it said has been written to L2.
    async fn keep(&mut self) {
        self.kept_at = Instant::now();
        let (Some(path), Some(position)) = (self.kept.clone(), self.position.take()) else { return };
        if self.written.as_ref() == Some(&position) {
            return;
        }
        let Some(l2) = &self.state.l2 else { return };
        if !tokio::time::timeout(FLUSH, l2.tier.flush()).await.unwrap_or(false) {
            self.position = Some(position);
            return;
        }
        self.written = Some(position.clone());
        let written = tokio::task::spawn_blocking(move || files::write(&path, position.as_bytes())).await;
        if let Ok(Err(error)) = written {
            self.written = None;
            tracing::warn!(source = &*self.shared.config.name, %error, "how far the source was read is not kept: a restart purges its routes");
        }
    }
}

fn went_down(shared: &SourceState) {
    shared.down.store(true, Ordering::Relaxed);
    shared.counts.outages.fetch_add(1, Ordering::Relaxed);
    let (source, reason) = (&*shared.config.name, shared.trouble.lock().clone());
    tracing::warn!(
        source,
        reason,
        routes = shared.routes().join(", "),
        "the source of events is down: its routes' answers are kept for `ttl_when_down`"
    );
}

/// Events that may have been missed.
#[derive(Clone, Copy)]
struct Gap {
    anew: bool,
    /// Up to where the others may have missed the same, and are told.
    told_to: Option<EntryId>,
}

/// Purges what the events say, and before that everything of the source's routes where some may have been missed; how many entries.
fn obey(state: &State, shared: &SourceState, (events, gap): (&[Event], Option<Gap>)) -> usize {
    let missed = gap.map_or(0, |gap| whole(state, shared, gap));
    missed + each(state, shared, events)
}

fn whole(state: &State, shared: &SourceState, gap: Gap) -> usize {
    shared.counts.gaps.fetch_add(1, Ordering::Relaxed);
    let (source, routes) = (&*shared.config.name, shared.routes().join(", "));
    tracing::warn!(source, routes, "events may have been missed: everything of the source's routes is purged");
    let all_of = |route: &RouteName| Purge::Prefix { route: Some(route.clone()), path: "".into() };
    let purges: Vec<(Purge, bool)> = shared.routes().iter().map(|route| (all_of(route), shared.config.soft_on_gap)).collect();
    match gap.told_to {
        Some(event) => state.purge_read(&Read { source: shared.config.name.clone(), event, last: true, anew: gap.anew, purges }),
        None => purges.iter().map(|(purge, soft)| state.cache.purge(purge, *soft, state.clock.now()).entries).sum(),
    }
}

fn each(state: &State, shared: &SourceState, events: &[Event]) -> usize {
    let mut filled: Vec<(Filled, Option<EntryId>)> = Vec::new();
    for event in events {
        let mut matched = false;
        for rule in shared.config.rules.iter().filter(|rule| rule.is_about(&event.kind)) {
            matched = true;
            let one = Filled::new(&rule.purges, |field, in_path| event.value(field, in_path));
            if one.missing > 0 && !shared.told.swap(true, Ordering::Relaxed) {
                let (source, kind) = (&*shared.config.name, &*rule.kind);
                tracing::warn!(
                    source,
                    kind,
                    "an event had no value for a field of `purges`: that purges nothing; further ones are counted only"
                );
            }
            // Bursts say the same again and again. The last one counts: of the earlier ones somebody may have told before it came.
            filled.retain(|(other, _)| *other != one);
            filled.push((one, event.at));
        }
        if !matched {
            shared.counts.unmatched.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut entries = 0;
    for (at, (one, event)) in filled.iter().enumerate() {
        let purges = one.purges(state, &shared.routes());
        entries += match event {
            Some(event) => {
                let last = filled.get(at + 1).is_none_or(|(_, next)| next != &Some(*event));
                state.purge_read(&Read { source: shared.config.name.clone(), event: *event, last, anew: false, purges })
            }
            // A delivery comes to one instance.
            None => purges.iter().map(|(purge, soft)| state.purge(purge, *soft).entries).sum(),
        };
    }
    entries
}
