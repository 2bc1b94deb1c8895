//! One look at log and store: what is due, what is done about it, and what is said.

use std::collections::BTreeMap;
use std::path::Path;

use farthing_contract::bundle::disk::{
    append_history, change_aliases, history_path, read_aliases, read_frozen, read_history, remove_versions, versions,
};
use farthing_contract::bundle::{Action, Alias, AliasState, Bundle, Event, History, Kind, Target};
use farthing_types::{Span, Time};
use serde::Serialize;

use super::kept::{Attempt, Kept};
use super::kinds::{Made, train};
use super::partitions::{Chosen, Partitions};
use super::recipe::Recipe;
use crate::error::TrainError;
use crate::learn::Watch;
use crate::read;
use crate::write::HOUR_NS;

/// How long a kind rests whose training failed.
const REST: Span = Span::from_secs(3_600);
/// Who names a challenger, for the history.
const BY: &str = "loop";

/// What a turn came to for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A version was made, and is challenger.
    Challenger,
    /// It was made, and is not named: why is said.
    Unnamed,
    /// The gate refused what was learned.
    Refused,
    /// There is too little log.
    TooLittle,
    /// Too little is new.
    NothingNew,
    /// A challenger is being judged.
    Waits,
    /// An operator has frozen automation.
    Frozen,
    /// Something went wrong.
    Failed,
}

/// What is said of a kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// When, ns since the epoch.
    pub at_ns: i64,
    /// The kind.
    pub kind: Kind,
    /// What it came to.
    pub outcome: Outcome,
    /// The version that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What was done and why, for people.
    pub text: String,
}

impl Outcome {
    /// Whether something was trained.
    pub const fn trained(self) -> bool {
        matches!(self, Self::Challenger | Self::Unnamed | Self::Refused)
    }
}

/// A loop over one store. The caller holds its [`super::Lock`].
pub struct Looper {
    recipe: Recipe,
    kept: Kept,
    /// What failed in the middle of a training is left alone until then.
    rests: BTreeMap<Kind, Time>,
}

/// What store and log say at a moment.
struct Now<'a> {
    at: Time,
    kind: Kind,
    log: &'a Partitions,
    watch: &'a dyn Watch,
}

type Said = (Outcome, Option<u32>, String);

impl Looper {
    /// Goes on where the one before has left off.
    ///
    /// # Errors
    /// What is remembered cannot be read.
    pub fn open(recipe: Recipe) -> Result<Self, TrainError> {
        let kept = Kept::read(&recipe.models)?;
        Ok(Self { recipe, kept, rests: BTreeMap::new() })
    }

    /// One turn at `at` over all kinds. Nothing that goes wrong with one keeps another from its turn.
    pub fn turn(&mut self, at: Time, watch: &dyn Watch) -> Vec<Told> {
        let log = Partitions::closed(&self.recipe.logs, (at, self.recipe.grace));
        let mut told = Vec::new();
        for kind in self.recipe.kinds.clone() {
            let said = log
                .as_ref()
                .map_err(ToString::to_string)
                .and_then(|log| self.of_kind(&Now { at, kind, log, watch }).map_err(|error| error.to_string()));
            let (outcome, version, text) = said.unwrap_or_else(|error| (Outcome::Failed, None, format!("{error}; nothing was changed")));
            told.push(Told { at_ns: at.nanos(), kind, outcome, version, text });
        }
        told
    }

    fn of_kind(&mut self, now: &Now<'_>) -> Result<Said, TrainError> {
        let root = self.recipe.models.clone();
        if let Some(why) = frozen(&root) {
            return Ok((Outcome::Frozen, None, why));
        }
        let Some(until) = now.log.until() else {
            return Ok((Outcome::TooLittle, None, "no hour of the log is closed yet".to_owned()));
        };
        let history = read_history(&history_path(&root)).map_err(TrainError::bundle(&root))?;
        let drift = history.drifted_ns(now.kind);
        let aliases = read_aliases(&root).map_err(TrainError::bundle(&root))?;
        if let Some(why) = aliases.get(now.kind, Alias::Challenger).and_then(|named| self.waits(named, now, drift)) {
            return Ok((Outcome::Waits, None, why));
        }
        if let Some(said) = self.not_due(now, (until, drift)) {
            return Ok(said);
        }
        if let Some(until) = self.rests.get(&now.kind).filter(|until| now.at < **until) {
            return Ok((Outcome::NothingNew, None, format!("a training failed; tried again after {}", utc(*until))));
        }
        let chosen = now.log.newest(self.recipe.window, self.recipe.rows)?;
        let digest = read::digest(&chosen.files)?;
        let last = self.kept.kinds.get(&now.kind);
        if last.is_some_and(|last| last.data_digest == digest && last.version.is_none()) {
            return Ok((Outcome::NothingNew, None, "the log is the one that was learned from last".to_owned()));
        }
        let attempt = Attempt {
            at_ns: now.at.nanos(),
            until_hour: until,
            data_digest: digest.clone(),
            made: last.map(|last| last.made.clone()).unwrap_or_default(),
            drift_ns: last.and_then(|last| last.drift_ns),
            ..Attempt::default()
        };
        self.learn(now, (attempt, drift), (&chosen, &history))
    }

    /// Trains, or takes up what was made of the same log before a kill, and names it.
    fn learn(
        &mut self,
        now: &Now<'_>,
        (mut attempt, drift): (Attempt, Option<i64>),
        (chosen, history): (&Chosen, &History),
    ) -> Result<Said, TrainError> {
        let root = self.recipe.models.clone();
        let span = describe(chosen);
        let known = made_of(&root, now.kind, (&attempt.data_digest, self.recipe.seed));
        if let Some(target) = &known
            && let Some(event) = history.rejected(now.kind, &target.digest)
        {
            let text = format!(
                "{}/{} was made of the same log ({span}) and rejected by {} ({}): waits for more",
                now.kind, target.version, event.by, event.reason
            );
            attempt.outcome.clone_from(&text);
            self.keep(now.kind, attempt)?;
            return Ok((Outcome::NothingNew, None, text));
        }
        let made = match known {
            Some(target) => Made::Published(target, "made of the same log before".to_owned()),
            None => {
                let stop = || frozen(&root);
                let made = train(now.kind, &chosen.files, &self.recipe, (&stop, now.watch));
                if made.is_err() {
                    self.rests.insert(now.kind, now.at + REST);
                }
                made?
            }
        };
        let (outcome, text) = match made {
            Made::Published(target, verdict) => return self.name(now, (attempt, drift), (target, verdict, span)),
            Made::Stopped(why) => return Ok((Outcome::Frozen, None, why)),
            Made::Refused(why) => (Outcome::Refused, format!("learned from {span}; the gate refused it: {why}; nothing was published")),
            Made::TooLittle(why) => (Outcome::TooLittle, format!("{span}: {why}")),
        };
        attempt.outcome.clone_from(&text);
        self.keep(now.kind, attempt)?;
        Ok((outcome, None, text))
    }

    /// Names a version challenger, under the lock of the aliases, unless it was frozen or rejected meanwhile.
    fn name(
        &mut self,
        now: &Now<'_>,
        (mut attempt, drift): (Attempt, Option<i64>),
        (target, verdict, span): (Target, String, String),
    ) -> Result<Said, TrainError> {
        let (root, version) = (self.recipe.models.clone(), target.version);
        let reason = format!("learned from {span}; gate: {verdict}");
        let named = change_aliases(&root, |aliases| {
            if let Some(why) = frozen(&root) {
                return Ok(Some(why));
            }
            if read_history(&history_path(&root))?.rejected(now.kind, &target.digest).is_some() {
                return Ok(Some("it was rejected".to_owned()));
            }
            if aliases.get(now.kind, Alias::Champion).is_some_and(|champion| champion.current == target) {
                return Ok(Some("it is the champion already".to_owned()));
            }
            let from = aliases.get(now.kind, Alias::Challenger).map(|named| named.current.clone());
            if aliases.promote(now.kind, Alias::Challenger, target.clone(), now.at.nanos()) {
                let event = Event {
                    at_ns: now.at.nanos(),
                    kind: now.kind,
                    alias: Alias::Challenger,
                    action: Action::Promote,
                    from,
                    to: Some(target.clone()),
                    by: BY.to_owned(),
                    reason: reason.clone(),
                    forced: false,
                };
                append_history(&history_path(&root), &event)?;
            }
            Ok(None)
        });
        let unnamed = named.map_err(TrainError::bundle(&root))?;
        attempt.has_made(version);
        attempt.drift_ns = drift;
        attempt.outcome = reason.clone();
        self.prune((now.kind, now.at), &mut attempt);
        self.keep(now.kind, attempt)?;
        Ok(match unnamed {
            None => (Outcome::Challenger, Some(version), format!("{}/{version} is challenger: {reason}", now.kind)),
            Some(why) => (Outcome::Unnamed, Some(version), format!("{}/{version} was made and is not named ({why}): {reason}", now.kind)),
        })
    }

    fn keep(&mut self, kind: Kind, attempt: Attempt) -> Result<(), TrainError> {
        let mut kept = self.kept.clone();
        kept.kinds.insert(kind, attempt);
        kept.write(&self.recipe.models)?;
        self.kept = kept;
        Ok(())
    }

    /// Whether a challenger is still being judged: not beyond its time, and not one from before a drift.
    fn waits(&self, named: &AliasState, now: &Now<'_>, drift: Option<i64>) -> Option<String> {
        let since = Time::from_nanos(named.moved_ns);
        if now.at.since(since) >= self.recipe.challenger_for || drift.is_some_and(|drift| drift > named.moved_ns) {
            return None;
        }
        Some(format!(
            "{}/{} is challenger since {}: waits until it is promoted, taken back or cleared, until a drift, or for {}",
            now.kind,
            named.current.version,
            utc(since),
            hours(self.recipe.challenger_for.saturating_sub(now.at.since(since)))
        ))
    }

    /// Why nothing is to be trained now.
    fn not_due(&self, now: &Now<'_>, (until, drift): (i64, Option<i64>)) -> Option<Said> {
        let Some(last) = self.kept.kinds.get(&now.kind) else {
            let (there, wanted) = (now.log.since(i64::MIN), whole_hours(self.recipe.least));
            let text = || format!("{there} h of closed log, {wanted} h to begin with");
            return (there < wanted).then(|| (Outcome::TooLittle, None, text()));
        };
        let pending = drift.filter(|drift| last.drift_ns.is_none_or(|answered| *drift > answered));
        let wanted = match pending {
            // At once: nothing was tried since.
            Some(drift) if drift > last.at_ns => 1,
            Some(_) => whole_hours(self.recipe.after_drift),
            None => whole_hours(self.recipe.every),
        };
        let new = usize::try_from(until - last.until_hour).unwrap_or(0);
        let why = if pending.is_some() { " after a drift" } else { "" };
        (new < wanted).then(|| (Outcome::NothingNew, None, format!("{new} h of closed log are new, {wanted} h are waited for{why}")))
    }

    /// Removes the oldest versions of this loop beyond the recipe's number; never one that an alias or an experiment names, or an alias remembers.
    fn prune(&self, (kind, now): (Kind, Time), attempt: &mut Attempt) {
        let (root, most) = (&self.recipe.models, self.recipe.versions as usize);
        let Some(excess) = attempt.made.len().checked_sub(most).filter(|excess| *excess > 0 && most > 0) else { return };
        // What cannot be read of the store may name any of them: they stay, and are looked at after the next attempt.
        let gone = remove_versions(root, kind, &attempt.made[..excess], now).unwrap_or_default();
        attempt.made.retain(|made| !gone.contains(made));
    }
}

/// Who has frozen automation on this store. What cannot be read is taken for a freeze.
fn frozen(root: &Path) -> Option<String> {
    let frozen = match read_frozen(root) {
        Ok(frozen) if frozen.is_empty() => return None,
        Ok(frozen) => frozen,
        Err(error) => return Some(format!("who is frozen cannot be read ({error}): nothing is trained; restore or remove the file")),
    };
    let who: Vec<_> = frozen
        .instances()
        .map(|(name, frost)| format!("{name} since {} ({})", utc(Time::from_nanos(frost.since_ns)), frost.reason))
        .collect();
    Some(format!("frozen: {}; `farthing freeze off` there lets it go on", who.join(", ")))
}

/// The version that was made of a log with a seed, as a loop that was killed may have left it.
fn made_of(root: &Path, kind: Kind, (digest, seed): (&str, u64)) -> Option<Target> {
    let newest = versions(root, kind).ok()?.into_iter().rev();
    newest.take(20).find_map(|version| {
        let (manifest, own, _) = Bundle::read_manifest(root, kind, version).ok()?;
        let same = manifest.training.data_digest == digest
            && manifest.training.seed == seed
            && manifest.gate.as_ref().is_none_or(|gate| gate.passed);
        same.then_some(Target { version, digest: own })
    })
}

fn describe(chosen: &Chosen) -> String {
    let from = Time::from_nanos(chosen.from.saturating_mul(HOUR_NS));
    let cut = if chosen.cut { ", as many rows as the recipe allows" } else { "" };
    format!("{} h of log since {} ({} rows{cut})", chosen.hours, utc(from), chosen.rows)
}

fn whole_hours(span: Span) -> usize {
    usize::try_from(span.as_secs().div_ceil(3_600)).unwrap_or(usize::MAX).max(1)
}

fn hours(span: Span) -> String {
    format!("{:.1} h", span.as_secs_f64() / 3_600.0)
}

/// `2026-11-27 14:00 UTC`.
fn utc(at: Time) -> String {
    let minutes = at.nanos().div_euclid(60_000_000_000);
    let (year, month, day) = farthing_types::civil(minutes.div_euclid(1_440));
    let of_day = minutes.rem_euclid(1_440);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", of_day / 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use farthing_contract::bundle::disk::note_named;

    use super::*;

    #[test]
    fn its_oldest_versions_go_and_what_an_alias_names_or_remembers_stays() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("logs = \"logs\"\nmodels = {:?}\nversions = 2\n", dir.path());
        let looper = Looper::open(Recipe::parse(Path::new("loop.toml"), &text).unwrap()).unwrap();
        for version in 1..=6 {
            std::fs::create_dir_all(dir.path().join("ttl").join(version.to_string())).unwrap();
        }
        change_aliases(dir.path(), |aliases| {
            for version in [2, 3] {
                aliases.promote(Kind::Ttl, Alias::Champion, Target { version, digest: format!("d{version}") }, 0);
            }
            Ok(())
        })
        .unwrap();
        let there = || (1..=9).filter(|version: &u32| dir.path().join("ttl").join(version.to_string()).exists()).collect::<Vec<_>>();
        // Version 1 is not of this loop.
        let mut attempt = Attempt { made: vec![2, 3, 4, 5, 6], ..Attempt::default() };
        looper.prune((Kind::Ttl, Time::ZERO), &mut attempt);
        assert_eq!((there(), &*attempt.made), (vec![1, 2, 3, 5, 6], &[2, 3, 5, 6][..]));
        assert_eq!(std::fs::read_dir(dir.path().join("ttl")).unwrap().count(), 5);
        // An experiment of a proxy names version 5: the loop knows nothing of it but what stands in the store.
        note_named(dir.path(), "a", (Kind::Ttl, [5].into()), Time::ZERO).unwrap();
        for version in 7..=9 {
            std::fs::create_dir_all(dir.path().join("ttl").join(version.to_string())).unwrap();
            attempt.made.push(version);
        }
        looper.prune((Kind::Ttl, Time::ZERO), &mut attempt);
        assert_eq!((there(), &*attempt.made), (vec![1, 2, 3, 5, 8, 9], &[2, 3, 5, 8, 9][..]));
        std::fs::write(dir.path().join("named.json"), "damaged").unwrap();
        attempt.made = vec![8, 9, 10, 11];
        looper.prune((Kind::Ttl, Time::ZERO), &mut attempt);
        assert_eq!((there(), attempt.made.len()), (vec![1, 2, 3, 5, 8, 9], 4));
    }
}
