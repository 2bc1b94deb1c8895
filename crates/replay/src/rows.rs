//! Training rows from a pass-through run: what the statistics said at each fetch, and when the first change was seen after it.

use farthing_contract::features::{Doubt, TTL_FEATURES, TTL_OUTPUTS, TtlInput, ttl_features};
use farthing_types::{Span, Time};

use crate::engine::{Chooser, Engine};
use crate::event::{Event, EventKind, Trace};

/// One fetch: features, and the time until the first change seen after it, per age interval of the copy, measured in the
/// changes that the live statistics expected (hazard times rhythm). A learner's outputs are the logs of the true rates in
/// this measure; with `e_k = exp(output_k)` and `mu = sum of e_k within_k` the log likelihood of a row is
/// `[changed] ln(1 - exp(-mu)) - sum of e_k survived_k`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingRow {
    /// When the copy was fetched.
    pub at: Time,
    /// Index of the route.
    pub route: u16,
    /// Number of the key.
    pub key: u32,
    /// Features at the fetch.
    pub features: [f32; TTL_FEATURES],
    /// Expected changes while the copy was known to be unchanged.
    pub survived: [f32; TTL_OUTPUTS],
    /// Expected changes in the interval between the last read that saw the copy unchanged and the first that did not;
    /// all zero when no change was seen (right-censored).
    pub within: [f32; TTL_OUTPUTS],
    /// Whether the route's statistics were its own by then ([`farthing_contract::features::RouteStats::is_settled`]).
    pub settled: bool,
    /// Time to the next read of the key; `None` at its last.
    pub next_gap: Option<Span>,
    /// Whether the next read saw a change.
    pub next_changed: bool,
}

impl TrainingRow {
    /// Whether a change was seen after the fetch.
    pub fn changed(&self) -> bool {
        self.within.iter().any(|w| *w > 0.0)
    }
}

/// Longest age that is watched: the live statistics know no more.
const LONGEST_S: f64 = 7.0 * 86_400.0;
/// Longer spans are taken without rhythm.
const RHYTHMIC_S: f64 = 2.0 * 86_400.0;

/// One read of a key.
#[derive(Clone, Copy)]
struct Sight {
    at: Time,
    version: u32,
    /// Index of the first read that saw another version; the number of reads where none did.
    end: u32,
}

/// Reads of each key, and the first that is not over.
struct Sightings(Vec<(Vec<Sight>, usize)>);

impl Sightings {
    fn of(trace: &Trace, events: &[Event]) -> Self {
        let mut seen = vec![(Vec::new(), 0); trace.keys()];
        let mut versions = vec![0u32; seen.len()];
        let mut fresh_versions = 0;
        for event in events {
            let key = event.key as usize;
            let nondeterministic = trace.routes.get(usize::from(event.route)).is_some_and(|r| r.nondeterministic);
            let version = match event.kind {
                EventKind::Change => {
                    versions[key] += 1;
                    continue;
                }
                EventKind::Read if nondeterministic => {
                    fresh_versions += 1;
                    fresh_versions
                }
                EventKind::Read => versions[key],
            };
            seen[key].0.push(Sight { at: event.at, version, end: 0 });
        }
        for (sights, _) in &mut seen {
            let mut end = sights.len() as u32;
            for i in (0..sights.len()).rev() {
                if sights.get(i + 1).is_some_and(|next| next.version != sights[i].version) {
                    end = i as u32 + 1;
                }
                sights[i].end = end;
            }
        }
        Self(seen)
    }

    /// For a fetch at `at`, no earlier than those asked about before: seconds to the last read that saw the same, to the first that did
    /// not, and the next read.
    fn after(&mut self, key: u32, at: Time) -> (f64, Option<f64>, Option<(Span, bool)>) {
        let (reads, here) = &mut self.0[key as usize];
        while reads.get(*here).is_some_and(|sight| sight.at < at) {
            *here += 1;
        }
        let Some(sight) = reads.get(*here) else { return (0.0, None, None) };
        let end = sight.end as usize;
        let seconds = |i: usize| reads.get(i).map(|r| r.at.since(at).as_secs_f64());
        let next = reads.get(*here + 1).map(|r| (r.at.since(at), r.version != sight.version));
        (seconds(end.saturating_sub(1)).unwrap_or(0.0), seconds(end), next)
    }
}

struct Collector<'a> {
    sightings: Sightings,
    rows: Vec<TrainingRow>,
    fetches: &'a mut dyn Chooser,
}

impl Chooser for Collector<'_> {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        self.rows.push(row(&mut self.sightings, event, input));
        self.fetches.ttl(event, input)
    }

    fn doubt(&self) -> Doubt {
        self.fetches.doubt()
    }
}

fn row(sightings: &mut Sightings, event: &Event, input: &TtlInput<'_>) -> TrainingRow {
    let (unchanged, changed, next) = sightings.after(event.key, event.at);
    let (survived, within) = exposures(input, unchanged, changed);
    TrainingRow {
        at: event.at,
        route: event.route,
        key: event.key,
        features: ttl_features(input),
        survived,
        within,
        settled: input.route.is_settled(),
        next_gap: next.map(|n| n.0),
        next_changed: next.is_some_and(|n| n.1),
    }
}

/// Changes that the live statistics expect, per age interval, of a copy seen unchanged until the age `unchanged` and changed at `changed`
/// (seconds), `None` where no change was seen: while it was known to be unchanged, and from there to the sight of the change.
///
/// Whether a row counts must not depend on whether a change was seen, or the hazard is biased: a first look after days counts in full.
///
/// Where changes draw readers, the request that saw the change was probably drawn by it; then it came shortly before.
pub fn exposures(input: &TtlInput<'_>, unchanged: f64, changed: Option<f64>) -> ([f32; TTL_OUTPUTS], [f32; TTL_OUTPUTS]) {
    let ahead = input.ahead();
    let unchanged = changed.map_or(unchanged, |at| unchanged + quiet(input, at - unchanged));
    // Over days the rhythm averages out, and would be walked minute by minute.
    let ahead = if changed.unwrap_or(unchanged) > RHYTHMIC_S { ahead.flat() } else { ahead };
    let between = |from: f64, to: f64| ahead.expected(from, to).map(|e| e as f32);
    let within = changed.filter(|_| unchanged < LONGEST_S).map(|at| between(unchanged, at));
    (between(0.0, unchanged.min(LONGEST_S)), within.unwrap_or_default())
}

/// How much of the time between the last look that saw the copy unchanged and the first that did not, `gap` seconds, has passed without a change
/// where the change may have drawn that look.
fn quiet(input: &TtlInput<'_>, gap: f64) -> f64 {
    let Some(draws) = input.route.draws(input.key, input.now) else { return 0.0 };
    let drawn = draws.is_drawn(input.hazard() * gap, gap);
    drawn * (gap - 2.0 * draws.first_s()).max(0.0)
}

/// Replays `events` as a pass-through run in `engine` and gives one row per fetch. With a `chooser` other than
/// [`crate::PassThroughAll`] the statistics are those of a proxy that caches (fewer fetches), the labels still those of the
/// whole log: rows as the predictor will meet them.
pub fn training_rows(engine: &mut Engine, trace: &Trace, events: &[Event], chooser: &mut dyn Chooser) -> Vec<TrainingRow> {
    let mut collector = Collector { sightings: Sightings::of(trace, events), rows: Vec::new(), fetches: chooser };
    engine.run(trace, events, &mut collector);
    collector.rows
}
