//! Compares the features that were logged with those that the log itself gives, bit by bit: training and serving must see the same.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use farthing_contract::features::{KeyStats, TTL_FEATURES, TTL_SPEC, TtlInput, ttl_features};
use farthing_contract::statistics::{Gap, Repeat, Saved, differing};
use serde::Serialize;

use crate::error::TrainError;
use crate::read::{Entered, EnteredLog, Logged, read_entered};

/// What a comparison has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verified {
    /// Rows of the log that were read.
    pub rows: u64,
    /// Rows of requests and calls that entered no statistics, or are of a release that did not say so.
    pub outside: u64,
    /// Runs of the proxy.
    pub runs: usize,
    /// Decisions whose features were compared and are equal in every bit.
    pub equal: u64,
    /// Decisions that differ, by the first feature that does.
    pub differing: BTreeMap<&'static str, u64>,
    /// Decisions that cannot be compared, by reason.
    pub not_comparable: BTreeMap<String, u64>,
}

impl Verified {
    /// Decisions that differ.
    pub fn differences(&self) -> u64 {
        self.differing.values().sum()
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let compared = self.equal + self.differences();
        let mut text = format!(
            "rows        {} in {} {} of the proxy; {} entered no statistics\ncompared    {compared} decisions, {} differ\n",
            self.rows,
            self.runs,
            if self.runs == 1 { "run" } else { "runs" },
            self.outside,
            self.differences()
        );
        // Cannot fail on a String.
        for (feature, count) in &self.differing {
            let _ = writeln!(text, "  {count:>9}  first differ in `{feature}`");
        }
        for (reason, count) in &self.not_comparable {
            let _ = writeln!(text, "not comparable {count}: {reason}");
        }
        text
    }
}

/// Compares the log of the files that `pattern` matches.
///
/// # Errors
/// Files that are not of a log, or are damaged.
pub fn verify(pattern: &str) -> Result<Verified, TrainError> {
    Ok(compare(&read_entered(pattern)?))
}

fn compare(log: &EnteredLog) -> Verified {
    let mut verified = Verified { rows: log.rows, outside: log.outside, ..Verified::default() };
    let mut seen = vec![false; log.logged.len()];
    let mut start: Option<(u64, Start)> = None;
    for ((run, route), part) in &log.parts {
        // Parts come run by run, so one state is held at a time.
        if start.as_ref().is_none_or(|(held, _)| held != run) {
            start = Some((*run, log.start(*run).map(|saved| (by_key(&saved), saved))));
            verified.runs += 1;
        }
        let state = start.as_ref().and_then(|(_, state)| state.as_ref()).map(|(keys, saved)| (saved, keys));
        verified.part(Repeat::new(route, state), part, (&log.logged, &mut seen));
    }
    let unseen = seen.iter().filter(|seen| !**seen).count() as u64;
    if unseen > 0 {
        verified
            .not_comparable
            .insert("the call is not in the log, or of a release that did not log how it entered the statistics".into(), unseen);
    }
    verified
}

/// The features of every answer that the log gives exactly, by call.
pub fn features(log: &EnteredLog) -> HashMap<u64, [f32; TTL_FEATURES]> {
    let mut all = HashMap::new();
    let mut start: Option<(u64, Start)> = None;
    for ((run, route), part) in &log.parts {
        if start.as_ref().is_none_or(|(held, _)| held != run) {
            start = Some((*run, log.start(*run).map(|saved| (by_key(&saved), saved))));
        }
        let state = start.as_ref().and_then(|(_, state)| state.as_ref()).map(|(keys, saved)| (saved, keys));
        let mut repeat = Repeat::new(route, state);
        for Entered { entry, answer } in part {
            if let (Ok((key, route)), Some((call, head))) = (repeat.step(entry), answer.as_deref()) {
                all.insert(*call, ttl_features(&TtlInput { key, route, head: *head, now: entry.at }));
            }
        }
    }
    all
}

type Start = Option<(HashMap<u64, KeyStats>, Saved)>;

fn by_key(saved: &Saved) -> HashMap<u64, KeyStats> {
    saved.keys.iter().map(|state| (state.key, state.stats)).collect()
}

impl Verified {
    /// Compares the decisions of one route in one run, each once, however often its call is there.
    fn part(&mut self, mut repeat: Repeat<'_>, part: &[Entered], (logged, seen): (&[Logged], &mut [bool])) {
        let mut gaps = BTreeMap::<Gap, u64>::new();
        for Entered { entry, answer } in part {
            let stats = repeat.step(entry);
            let Some((call, head)) = answer.as_deref() else { continue };
            let first = logged.partition_point(|one| one.call < *call);
            let decisions = logged.iter().zip(&mut *seen).skip(first).take_while(|(one, _)| one.call == *call);
            for (one, seen) in decisions.filter(|(_, seen)| !**seen) {
                *seen = true;
                match stats {
                    Err(gap) => *gaps.entry(gap).or_default() += 1,
                    Ok(stats) => match differing(&one.features, stats, *head, entry.at) {
                        None => self.equal += 1,
                        Some(at) => *self.differing.entry(TTL_SPEC.names.get(at).copied().unwrap_or("length")).or_default() += 1,
                    },
                }
            }
        }
        for (gap, count) in gaps {
            *self.not_comparable.entry(gap.to_string()).or_default() += count;
        }
    }
}
