//! Experiments of a fleet: all instances assign by one published record, and what each has seen of a window goes into one evidence.
//!
//! The pure part is `farthing_experiment::fleet`. Here is the loop that moves things: what was published is [taken over](adopt), reports are told, orders and variants that
//! were switched off are published, and the holder of an experiment's lease [decides](hold) about windows.

mod adopt;
mod codec;
mod desk;
mod hold;
mod orders;
mod turn;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use farthing_experiment::fleet::{Collected, Published};
use farthing_experiment::{Experiment, SwitchOff};
use farthing_types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use orders::Proposal;
pub use turn::{first, start};
pub use view::{AbsentView, FleetView, SharedWindows};

/// Bytes of rows that wait to be kept.
const MOST_LINES: usize = 2 * codec::MOST_ROWS;

/// What an instance knows of an experiment that it shares with others.
#[derive(Clone)]
pub struct Shared {
    /// Of what was published; 0 where nothing is known.
    version: u64,
    published: Option<Published>,
    /// The number of the evidence that is here.
    evidence: u64,
    /// When what it is about began.
    began: Option<Time>,
    /// What is seen here and not in the evidence yet.
    pub collected: Collected,
    /// Variants that were switched off here and of which the fleet may not know.
    own_off: Vec<SwitchOff>,
    /// Why it cannot take part.
    refused: Option<String>,
    /// The last window whose rows are here, or counted as missing.
    rows_to: i64,
    /// Unit-windows of the evidence whose rows are not here.
    rows_missing: u64,
    /// Whether this instance decides about it for the fleet.
    decides: bool,
    /// Rows that are to be kept.
    pub lines: String,
    /// Since when it is known that nothing was published.
    nothing_since: Option<Instant>,
}

/// What is kept of it beside where the experiment stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lineage {
    version: u64,
    published: Published,
}

/// What the loop and its callers share.
#[derive(Default)]
pub struct Desk {
    proposals: Mutex<VecDeque<Proposal>>,
    /// There is something to tell.
    pub wake: Notify,
    /// The how manieth to come it was; 0: not known yet.
    seat: AtomicU64,
}

impl Shared {
    /// Of an experiment that begins here in a window, or goes on with what was kept.
    pub fn new(experiment: &Experiment, window: i64, kept: Option<Lineage>) -> Self {
        let (version, published) = kept.map_or((0, None), |kept| (kept.version, Some(kept.published.unpacked())));
        Self {
            rows_to: published.as_ref().map_or(i64::MIN, |published: &Published| published.closed),
            version,
            published,
            evidence: 0,
            began: None,
            collected: Collected::new(experiment, None, window),
            own_off: Vec::new(),
            refused: None,
            rows_missing: 0,
            decides: false,
            lines: String::new(),
            nothing_since: None,
        }
    }

    /// The evidence that was kept has this number, and is about what began then.
    pub const fn know_evidence(&mut self, evidence: u64, began: Option<Time>) {
        (self.evidence, self.began) = (evidence, began);
    }

    /// What is kept of it.
    pub fn lineage(&self) -> Option<Lineage> {
        // Contexts are not kept: they are of windows that a restart leaves behind.
        self.published.clone().map(|published| Lineage { version: self.version, published })
    }

    /// Rows that could not be kept, for the next time; beyond a bound they count as missing.
    pub fn put_back(&mut self, lines: String) {
        if self.lines.len() + lines.len() > MOST_LINES {
            self.rows_missing += lines.lines().count() as u64;
        } else {
            self.lines.insert_str(0, &lines);
        }
    }

    /// The number of the evidence that is here.
    pub const fn evidence(&self) -> u64 {
        self.evidence
    }

    /// What was switched off here, as far as the fleet does not know of it.
    fn untold_off(&self) -> Vec<SwitchOff> {
        let known = |off: &&SwitchOff| self.published.as_ref().is_some_and(|p| p.life.off.iter().any(|known| known.variant == off.variant));
        self.own_off.iter().filter(|off| !known(off)).copied().collect()
    }

    /// Notes what was switched off here; the fleet is told.
    pub fn switched_off(&mut self, off: &[SwitchOff]) {
        for switched in off {
            if self.own_off.iter().all(|known| known.variant != switched.variant) {
                self.own_off.push(*switched);
            }
        }
    }

    /// Why it cannot take part, where it cannot.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
}

/// The instance's name in what its members are called.
fn instance_of(member: &str) -> Arc<str> {
    member.split(' ').next().unwrap_or(member).into()
}
