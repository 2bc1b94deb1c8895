//! Predictors beside the champion, and what watches all of them (SPEC M3, M5): candidates are scored at fills, decide for a few keys, and are taken back
//! at once; a route whose answers change otherwise than foretold falls back. The decisions are pure ([`farthing_policy::watch`]); here is
//! who asks them, off the clients' path, and what follows.

mod autopilot;
mod features;
mod fills;
pub mod freeze;
mod report;
mod score;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use farthing_config::Config;
use farthing_models::{Alias, Generation, Kind, Order, Store};
use farthing_policy::watch::{Audit, AuditMove, Canary, CanarySpec, Drift, Trust, Turn};
use farthing_policy::{Guarded, TtlSource};
use farthing_types::{DrawKind, KeyHash, RealClock, RouteName, Span, Time};
use parking_lot::Mutex;

use crate::fleet::message::Said;
use crate::route::RouteState;
use crate::state::State;
use autopilot::Unattended;
use features::Features;
use fills::Fills;

pub use report::{CandidateView, DriftReport, FeatureShift, RouteDrift};

/// The name under which entries keep a challenger's TTL, and the log its decisions.
pub const CHALLENGER: &str = "challenger";
/// Aliases whose versions are scored.
const SCORED: [Alias; 2] = [Alias::Challenger, Alias::Shadow];
/// How long a key keeps its side of a canary. Both TTLs lie in the entry, so another coin takes effect at once.
const WINDOW: Span = Span::from_secs(6 * 3_600);
/// A champion that misleads within this time goes back to the one before.
const PROBATION: Span = Span::from_secs(24 * 3_600);
/// How much larger the share of stale answers of a canary's keys may be.
const STALE_MARGIN: f64 = 0.01;
/// Places that tell in which window a guard has counted a key last.
const MARKS: usize = 1 << 13;

/// See the module.
pub struct Lifecycle {
    fills: Fills,
    candidates: [ArcSwapOption<Candidate>; SCORED.len()],
    /// How late answers of candidates are told.
    lateness: (Arc<RealClock>, Span, Span),
    features: Mutex<Features>,
    marks: Box<[AtomicU64]>,
    numbers: AtomicU64,
    /// Held by who tells the requests whether there is a canary.
    showing: Mutex<()>,
    settings: Settings,
}

#[derive(Clone, Copy)]
struct Settings {
    canary: CanarySpec,
    drift_acts: bool,
    /// Within what time the autopilot must be sure; `None`: there is none.
    autopilot: Option<Span>,
}

/// What is watched of one route.
#[derive(Default)]
pub struct Watched {
    drift: Drift,
    audit: Audit,
    /// The champion that it is about.
    champion: Option<Arc<str>>,
    /// The trainer was told that it misleads.
    told: Arc<AtomicBool>,
    /// A champion that has misled since it is in force was to go back.
    sent_back: bool,
}

/// A version beside the champion.
pub struct Candidate {
    alias: Alias,
    generation: Arc<Generation>,
    number: u64,
    /// What its coins are tossed under.
    scope: String,
    since: Time,
    acts: AtomicBool,
    /// Its own: a late one must close out nobody else.
    guarded: Guarded,
    /// Bits of the share of keys that are watched, for lookups: they ask for no lock.
    slice: AtomicU64,
    canary: Mutex<Canary>,
    unattended: Mutex<Unattended>,
    /// An order of the autopilot to the store is under way.
    deciding: AtomicBool,
}

impl Candidate {
    fn is(&self, generation: &Arc<Generation>) -> bool {
        Arc::ptr_eq(&self.generation, generation)
    }
    /// Share of keys that are watched.
    fn slice(&self) -> f64 {
        f64::from_bits(self.slice.load(Ordering::Relaxed))
    }
    /// Whether it decides for some keys.
    fn acts(&self) -> bool {
        self.acts.load(Ordering::Relaxed)
    }
}

/// Which side of a canary a key is on, and in which window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The challenger decides.
    pub challenger: bool,
    window: i64,
}

/// What a guard counts once for a key and window.
#[derive(Clone, Copy)]
enum Once {
    Cycle = 1,
    Call = 2,
    Audit = 3,
}

/// Whether candidates are asked about answers of the route.
fn is_scored(route: &RouteState) -> bool {
    matches!(route.plan.ttl.source, TtlSource::Model | TtlSource::Table)
}

fn distrust(routes: &[Arc<RouteState>], store: &Store) {
    let version = store.sent_back(Kind::Ttl);
    routes.iter().filter(|route| route.switches.distrusted() != version).for_each(|route| route.switches.put_distrusted(version));
}

const WINDOW_NS: i64 = WINDOW.as_nanos() as i64;

/// The window of a canary that a moment is in.
const fn window_of(at: Time) -> i64 {
    at.nanos().div_euclid(WINDOW_NS)
}

/// When a window begins.
const fn begin_of(window: i64) -> Time {
    Time::from_nanos(window.saturating_mul(WINDOW_NS))
}

impl Lifecycle {
    /// Nothing is known of any predictor.
    pub fn new(config: &Config, lateness: (Arc<RealClock>, Span, Span)) -> Self {
        let models = &config.models;
        let (share, labels) = (models.canary_share, models.shadow_labels);
        let canary = CanarySpec { share, labels, stale_margin: STALE_MARGIN, money_margin: models.autopilot_margin };
        Self {
            fills: Fills::default(),
            candidates: Default::default(),
            lateness,
            features: Mutex::default(),
            marks: (0..MARKS).map(|_| AtomicU64::new(0)).collect(),
            numbers: AtomicU64::new(1),
            showing: Mutex::default(),
            settings: Settings { canary, drift_acts: models.drift_acts, autopilot: models.autopilot.then_some(models.autopilot_within) },
        }
    }

    /// How far the champion is trusted on a route. Of another one than before nothing is known.
    fn trust(&self, route: &RouteState, champion: Option<&Arc<Generation>>) -> Trust {
        let mut watched = route.watched.lock();
        let digest = champion.map(|generation| generation.digest());
        if watched.champion.as_ref() != digest {
            watched.drift.renew();
            *watched = Watched {
                champion: digest.cloned(),
                drift: std::mem::take(&mut watched.drift),
                audit: watched.audit,
                ..Watched::default()
            };
        }
        watched.drift.trust()
    }

    /// Learns of a checked answer of a route: how TTLs were moved, to what, and what was seen until then.
    pub fn audited(&self, route: &RouteState, stale: bool, limits: (f64, bool)) -> Option<(AuditMove, f64, (u64, u64))> {
        let audit = &mut route.watched.lock().audit;
        let (checked, found) = audit.window;
        let moved = audit.add(stale, limits)?;
        Some((moved, audit.scale, (checked + 1, found + u64::from(stale))))
    }

    /// What audits of a route have found.
    pub fn audit(&self, route: &RouteState) -> Audit {
        route.watched.lock().audit
    }

    /// Goes on from what was found before a restart.
    pub fn recall_audit(&self, route: &RouteState, audit: Audit) {
        route.watched.lock().audit = audit;
    }

    /// Whether a guard counts the key now: once in a window. Of keys that share a place the first is counted alone: two that took it from each
    /// other would be counted again and again under the same coins, and such bets are not fair.
    fn once(&self, what: Once, key: KeyHash, window: i64) -> bool {
        let place = ((key.short() ^ what as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % MARKS;
        // 0 is a place where nothing was counted.
        let mark = (window as u64).wrapping_add(1);
        self.marks[place].swap(mark, Ordering::Relaxed) != mark
    }
}

impl State {
    /// Which side of the canary a key is on; `None` where none runs, and for keys that it does not watch.
    pub fn side(&self, route: &RouteState, key: KeyHash, at: Time) -> Option<Side> {
        if !route.switches.has_canary() {
            return None;
        }
        let candidate = self.lifecycle.candidates[0].load();
        let candidate = candidate.as_ref().filter(|candidate| candidate.acts())?;
        self.side_of(candidate, key, at)
    }

    fn side_of(&self, candidate: &Candidate, key: KeyHash, at: Time) -> Option<Side> {
        let (unit, scope) = (u128::from(key.short()), candidate.scope.as_str());
        if self.draw.uniform(DrawKind::Slice, scope, unit, 0) >= candidate.slice() {
            return None;
        }
        let window = window_of(at);
        Some(Side { challenger: self.draw.uniform(DrawKind::Assignment, scope, unit, window) < 0.5, window })
    }

    /// Scores what the aliases name now, and nothing else.
    pub fn follow_candidates(&self) {
        let store = self.predictors.store();
        for (alias, place) in SCORED.iter().zip(&self.lifecycle.candidates) {
            let wanted = store.current(Kind::Ttl, *alias);
            let same = match (&*place.load(), &wanted) {
                (Some(candidate), Some(generation)) => candidate.is(generation),
                (None, None) => true,
                _ => false,
            };
            if !same {
                self.scores(*alias, place, wanted);
            }
        }
    }

    fn scores(&self, alias: Alias, place: &ArcSwapOption<Candidate>, wanted: Option<Arc<Generation>>) {
        let mut spec = self.lifecycle.settings.canary;
        if alias != Alias::Challenger {
            spec.share = 0.0;
        }
        let (real, late_after, rest) = &self.lifecycle.lateness;
        let candidate = wanted.map(|generation| {
            tracing::info!(%alias, version = generation.version(), "scored at fills from now on");
            let canary = Canary::new(spec);
            Arc::new(Candidate {
                alias,
                scope: format!("canary:{}", generation.digest()),
                generation,
                number: self.lifecycle.numbers.fetch_add(1, Ordering::Relaxed),
                since: self.clock.now(),
                acts: AtomicBool::new(false),
                guarded: Guarded::new(real.clone(), *late_after, *rest),
                slice: AtomicU64::new(canary.slice().to_bits()),
                canary: Mutex::new(canary),
                unattended: Mutex::new(Unattended::new(self.clock.now())),
                deciding: AtomicBool::new(false),
            })
        });
        let before = place.swap(candidate);
        if before.is_some_and(|before| before.acts()) {
            self.show_canaries();
        }
    }

    /// Tells the requests of each route whether there is a canary. Heads that were remembered before know nothing of it.
    pub(crate) fn show_canaries(&self) {
        if self.put_canaries(&self.live().routes) {
            self.shortcuts.clear();
        }
    }

    /// Puts on these routes whether there is a canary; whether that is news.
    fn put_canaries(&self, routes: &[Arc<RouteState>]) -> bool {
        // Whoever comes last sees what was stored last.
        let _one_at_a_time = self.lifecycle.showing.lock();
        let acts = self.lifecycle.candidates[0].load().as_ref().is_some_and(|candidate| candidate.acts());
        let mut changed = false;
        for route in routes {
            let on = acts && route.awaited.lock().is_none();
            changed |= route.switches.has_canary() != on;
            route.switches.put_canary(on);
        }
        changed
    }

    /// Says which experiment the canary of a route waits for: both would decide for the same copies, and neither would be seen alone. What was seen of it in the
    /// window in which that changes counts for nobody.
    pub(crate) fn canary_waits(&self, route: &RouteState, experiment: Option<Arc<str>>) {
        let before = std::mem::replace(&mut *route.awaited.lock(), experiment.clone());
        if before.is_some() == experiment.is_some() {
            return;
        }
        let Some(candidate) = self.lifecycle.candidates[0].load_full() else { return };
        candidate.canary.lock().rest(route.index, window_of(self.clock.now()));
        let (route, version) = (&*route.route.name, candidate.generation.version());
        match experiment {
            Some(experiment) => {
                tracing::warn!(route, version, experiment = &*experiment, "a challenger waits for an experiment on the route")
            }
            None => tracing::info!(route, version, "a challenger goes on: the experiment on the route is over"),
        }
    }

    /// Routes on which candidates wait for an experiment, with its name.
    pub(crate) fn waiting(&self) -> Vec<(RouteName, Arc<str>)> {
        let waits = |route: &Arc<RouteState>| Some((route.route.name.clone(), route.awaited.lock().clone()?));
        self.live().routes.iter().filter(|route| is_scored(route)).filter_map(waits).collect()
    }

    /// Tells these routes whether there is a canary, and whose TTLs count for no more than others.
    pub(crate) fn ready_candidates(&self, routes: &[Arc<RouteState>]) {
        self.put_canaries(routes);
        distrust(routes, self.predictors.store());
    }

    /// Does what a candidate's record says. A rejection holds from this moment: requests ask for the champion's TTL, which lies beside its own.
    fn turn(&self, candidate: &Arc<Candidate>, turn: Option<Turn>) {
        let version = candidate.generation.version();
        match turn {
            None => {}
            Some(Turn::Begin) => {
                candidate.acts.store(true, Ordering::Relaxed);
                self.show_canaries();
                tracing::info!(version, share = self.lifecycle.settings.canary.share, "a challenger decides for some keys from now on");
            }
            Some(Turn::Reject(guard)) => {
                if candidate.acts.swap(false, Ordering::Relaxed) {
                    self.show_canaries();
                }
                let report = candidate.canary.lock().report();
                let (seen, foretold) = (report.candidate.observed, report.candidate.expected);
                let reason = format!(
                    "guard `{guard}` after {} fills; changes lately: {seen:.1} seen, {foretold:.1} foretold, evidence {:.3e}",
                    report.fills,
                    report.candidate.evidence()
                );
                tracing::warn!(version, alias = %candidate.alias, %guard, reason, "a candidate is taken back");
                let order = Order::new(self.clock.now(), "canary", reason);
                let (alias, digest) = (candidate.alias, candidate.generation.digest().clone());
                self.in_store(move |store| store.reject(Kind::Ttl, alias, &digest, order));
            }
            Some(turn @ (Turn::Widen | Turn::Promote | Turn::Withdraw)) => self.unattended(candidate, turn),
        }
    }

    /// Changes the store off the threads that serve: it reads and writes files.
    fn in_store<T>(&self, change: impl FnOnce(&Store) -> Result<T, farthing_models::ModelsError> + Send + 'static) {
        let (store, fleet) = (self.predictors.store().clone(), self.fleet.clone());
        let work = move || match change(&store) {
            Ok(_) => fleet.iter().for_each(|fleet| fleet.say(Said::Models)),
            Err(error) => tracing::error!(%error, "a change of the predictors failed"),
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(self.tasks.spawn_blocking_on(work, &runtime)),
            Err(_) => work(),
        }
    }

    /// What a fall of trust on a route leads to.
    fn drifted(&self, route: &RouteState, to: Trust) {
        let name = &*route.route.name;
        match to {
            Trust::Full => tracing::info!(route = name, "the predictor foretells well again: it decides again"),
            Trust::Statistics => {
                tracing::warn!(route = name, "answers change otherwise than the predictor foretells: live statistics decide")
            }
            Trust::Rule => tracing::warn!(route = name, "answers change otherwise than the live statistics foretell: the rule decides"),
        }
        if to == Trust::Statistics {
            self.tell_drift(route);
            self.send_back(name);
        }
    }

    /// A champion that misleads on a route goes back to the one before, if it is new. That protects, so a freeze does not stop it.
    fn send_back(&self, route: &str) {
        let (now, Some(champion)) = (self.clock.now(), self.predictors.ttl(None)) else { return };
        let since = now - PROBATION;
        let reason = format!("route `{route}`: answers change otherwise than it foretold, within a day of its promotion");
        let order = Order::new(now, "drift", reason);
        // The store is asked there as well: while it loads a version, it lets nobody in.
        // Several routes may find out at once; one step back is meant.
        let live = self.live.load_full();
        self.in_store(move |store| {
            if store.is_young(Kind::Ttl, &champion, since) {
                store.reject(Kind::Ttl, Alias::Champion, champion.digest(), order)?;
                distrust(&live.routes, store);
            }
            Ok(())
        });
    }

    /// Copies that a champion gave a TTL to, and that was sent back, by whomever, count for no more than others until it is forgotten. Blocks while a version loads.
    pub(crate) fn distrust_sent_back(&self) {
        distrust(&self.live().routes, self.predictors.store());
    }

    /// Whether a candidate may be let on, TTLs be given back, or a route fall back: not while automation is frozen.
    pub(crate) fn may_act(&self) -> bool {
        !self.freeze.is_on()
    }

    /// Learns how a call for a watched key ended.
    pub(crate) fn note_call(&self, route: &RouteState, key: KeyHash, failed: bool) {
        self.compare(route, (key, Once::Call), |canary, challenger| canary.called(challenger, failed));
    }

    /// Learns what an audit found about a watched key.
    pub(crate) fn note_audit(&self, route: &RouteState, key: KeyHash, stale: bool) {
        self.compare(route, (key, Once::Audit), |canary, challenger| canary.audited(challenger, stale));
    }

    fn compare(&self, route: &RouteState, (key, what): (KeyHash, Once), learn: impl FnOnce(&mut Canary, bool) -> Option<Turn>) {
        let Some(side) = self.side(route, key, self.clock.now()) else { return };
        let Some(candidate) = self.lifecycle.candidates[0].load_full() else { return };
        if self.lifecycle.once(what, key, side.window) {
            let turn = learn(&mut candidate.canary.lock(), side.challenger);
            self.turn(&candidate, turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guard_counts_a_key_once_in_a_window_whatever_else_is_counted() {
        let second = Span::from_secs(1);
        let lifecycle = Lifecycle::new(&Config::default(), (Arc::new(RealClock::default()), second, second));
        let counted = |n: u128, window| [Once::Cycle, Once::Call, Once::Audit].map(|what| lifecycle.once(what, KeyHash(n << 64), window));
        assert_eq!((counted(7, 100), counted(7, 100)), ([true; 3], [false; 3]));
        (0..100_000).for_each(|n| _ = counted(n, 100));
        assert_eq!((counted(7, 100), counted(7, 101)), ([false; 3], [true; 3]));
    }
}
