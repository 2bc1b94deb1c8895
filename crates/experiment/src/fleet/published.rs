//! What a fleet has published of an experiment: where it stands for all instances, and which windows are in the evidence.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::Time;
use serde::{Deserialize, Serialize};

use super::collect::allocation;
use super::fold::Absent;
use crate::allocation::SharedContexts;
use crate::contextual::Contexts;
use crate::life::{Life, Order, OrderError, Stage};
use crate::spec::ExperimentSpec;

/// Notes that are passed on: an instance that was away for longer lacks the earlier ones in its audit.
const KEPT_NOTES: usize = 32;

/// Versions between two losses.
const EPOCH: u64 = 1 << 32;

/// Something that was done, for the audit of every instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetNote {
    /// Its number; later ones have higher ones.
    pub number: u64,
    /// When.
    pub at: Time,
    /// Who: `operator`, `configuration`, `guardrail`, `evidence`, `ramp`, `budget`, `fleet`.
    pub by: Arc<str>,
    /// What.
    pub what: String,
    /// Why, as an operator said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The instance that did it.
    pub instance: Arc<str>,
}

/// A window that is not in the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentWindow {
    /// Its number.
    pub window: i64,
    /// Why.
    pub why: Absent,
    /// The instance that it was for, where it was one.
    pub instance: Option<Arc<str>>,
}

/// One experiment of a fleet as it was published. Whoever changes it publishes the next version, and only over the one that it changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    format: u32,
    /// What must not change under its name, by key of the configuration: all instances have the same.
    pub frozen: BTreeMap<String, String>,
    /// Where it stands.
    pub life: Life,
    /// Contexts of its allocations, by which units are drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    contexts: Vec<Contexts>,
    /// The last window about which is decided whether it is in the evidence.
    pub closed: i64,
    /// In which window each variant was switched off.
    off_since: Vec<(usize, i64)>,
    /// Windows in the evidence, also those without a request.
    pub whole: u64,
    /// Windows that are not in it since measuring began, by reason.
    pub absent: BTreeMap<Absent, u64>,
    /// The last of these.
    pub last_absent: Option<AbsentWindow>,
    /// The version that was brought back after a loss, as long as nothing has changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u64>,
    /// Number of the evidence that belongs to it.
    pub evidence: u64,
    /// When it was published.
    pub at: Time,
    /// By whom.
    pub by: Arc<str>,
    /// What was done lately.
    pub notes: Vec<FleetNote>,
}

/// The version of what is brought back after `version` was lost: greater than all that may have come of it meanwhile.
pub const fn after_loss(version: u64) -> u64 {
    version + EPOCH - version % EPOCH + (version + 1) % EPOCH
}

/// Whether what was brought back is older than `version`, which is known here: whoever knows the newest one brings that back, as long as nothing has changed since.
pub fn is_older(restored: (u64, &Published), version: u64) -> bool {
    let (at, published) = restored;
    published.restored_from.is_some_and(|from| from < version && at == after_loss(from) && from / EPOCH == version / EPOCH)
}

impl Published {
    /// The first version, of an experiment that stands so.
    pub fn first(frozen: BTreeMap<String, String>, life: Life, window: i64) -> Self {
        let off_since = life.off.iter().map(|off| (off.variant, window)).collect();
        Self {
            format: 1,
            frozen,
            life,
            contexts: Vec::new(),
            closed: window,
            off_since,
            whole: 0,
            absent: BTreeMap::new(),
            last_absent: None,
            restored_from: None,
            evidence: 0,
            at: Time::ZERO,
            by: "".into(),
            notes: Vec::new(),
        }
    }

    /// The same as it stands after something has happened in `window`.
    #[must_use]
    pub fn living(&self, life: Life, window: i64) -> Self {
        let news = life.off.iter().map(|off| off.variant).filter(|variant| self.off_since.iter().all(|(known, _)| known != variant));
        let off_since = self.off_since.iter().copied().chain(news.map(|variant| (variant, window))).collect();
        Self { life, off_since, restored_from: None, ..self.clone() }
    }

    /// What an order makes of it. Measuring begins with the window after the one in which it starts.
    ///
    /// # Errors
    /// Where it stands does not allow the order.
    pub fn ordered(&self, order: &Order, spec: &ExperimentSpec, (now, window): (Time, i64)) -> Result<Self, OrderError> {
        let life = self.life.step(order, spec, (now, window))?;
        let begins = self.life.stage != Stage::Running && life.stage == Stage::Running;
        let next = self.living(life, window);
        Ok(if begins { Self { closed: window, whole: 0, absent: BTreeMap::new(), last_absent: None, ..next } } else { next })
    }

    /// The same, with a window that is decided about.
    #[must_use]
    pub fn decided(&self, window: i64, absent: Option<(Absent, Option<Arc<str>>)>) -> Self {
        let mut next = Self { closed: window.max(self.closed), restored_from: None, ..self.clone() };
        match absent {
            None => next.whole += 1,
            Some((why, instance)) => next.leave_out(AbsentWindow { window, why, instance }, 1),
        }
        next
    }

    /// Whether anybody takes part in a window: not where traffic was set to 0, at once, in it or before.
    pub fn measures(&self, window: i64) -> bool {
        allocation(&self.life, window).is_none_or(|allocation| allocation.ramp > 0.0)
    }

    /// The same, with a window in which nobody takes part: it is none of the experiment's.
    #[must_use]
    pub fn rested(&self, window: i64) -> Self {
        Self { closed: window.max(self.closed), restored_from: None, ..self.clone() }
    }

    /// The same, which was `version`, brought back in `window` after what the fleet had published was lost. Nobody knows any more who has been there in windows up to
    /// this one.
    #[must_use]
    pub fn restored(&self, version: u64, window: i64) -> Self {
        let lost = u64::try_from(window.saturating_sub(self.closed)).unwrap_or(0);
        let mut next = self.clone();
        if lost > 0 && self.life.stage == Stage::Running {
            next.leave_out(AbsentWindow { window, why: Absent::Lost, instance: None }, lost);
        }
        Self { closed: window.max(self.closed), restored_from: Some(version), ..next }
    }

    /// The same, without windows up to `window`, of which nothing is known any more.
    #[must_use]
    pub fn without_upto(&self, window: i64) -> Self {
        let missed = u64::try_from(window.saturating_sub(self.closed)).unwrap_or(0);
        let mut next = self.clone();
        next.leave_out(AbsentWindow { window, why: Absent::Nobody, instance: None }, missed);
        Self { closed: window.max(self.closed), restored_from: None, ..next }
    }

    fn leave_out(&mut self, absent: AbsentWindow, windows: u64) {
        let count = self.absent.entry(absent.why).or_default();
        *count = count.saturating_add(windows);
        self.last_absent = Some(absent);
    }

    /// Notes what was done; its number is one more than the last one's.
    pub fn note(&mut self, note: FleetNote) {
        let number = self.last_note() + 1;
        self.notes.push(FleetNote { number, ..note });
        let too_many = self.notes.len().saturating_sub(KEPT_NOTES);
        self.notes.drain(..too_many);
    }

    /// The number of the last note; 0 before the first.
    pub fn last_note(&self) -> u64 {
        self.notes.last().map_or(0, |note| note.number)
    }

    /// The same, to which the evidence of this number belongs.
    #[must_use]
    pub const fn with_evidence(mut self, number: u64) -> Self {
        self.evidence = number;
        self
    }

    /// In which window a variant was switched off; `None` where it was not.
    pub(super) fn off_since(&self, variant: usize) -> Option<i64> {
        self.off_since.iter().find(|(off, _)| *off == variant).map(|(_, since)| *since)
    }

    /// As it is to travel: with the contexts of its allocations.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let shared = self.life.allocations.iter().filter_map(|a| a.contexts.as_ref());
        let mut contexts: Vec<Contexts> = Vec::new();
        for context in shared.map(|shared| &*shared.0) {
            // An allocation that only changes the share has the contexts of the one before.
            if contexts.iter().all(|known| known.window() != context.window()) {
                contexts.push(context.clone());
            }
        }
        self.contexts = contexts;
        self
    }

    /// As it has come: allocations get the contexts that were published for their window, or for the last one before it.
    #[must_use]
    pub fn unpacked(mut self) -> Self {
        let contexts: Vec<Arc<Contexts>> = std::mem::take(&mut self.contexts).into_iter().map(Arc::new).collect();
        for allocation in &mut self.life.allocations {
            let own = contexts.iter().filter(|context| context.window() <= allocation.from).max_by_key(|context| context.window());
            allocation.contexts = own.cloned().map(SharedContexts);
        }
        self
    }
}
