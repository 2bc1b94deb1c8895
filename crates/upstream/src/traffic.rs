//! What happened towards one upstream, counted since the start: connections, places, repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::reasons;
use http::Version;

use crate::coding::Passed;

reasons! {
    /// Why a call that could have been repeated was not.
    NotRepeated {
        /// All attempts were made.
        Attempts = "attempts",
        /// The wait would have gone beyond the call's deadline.
        Deadline = "deadline",
        /// The upstream is left alone: nobody waits for it.
        BreakerOpen = "breaker-open",
        /// Repeats have used up their share of the upstream's calls.
        Budget = "budget",
    }
}

reasons! {
    /// What became of a request body that was looked at for compression.
    Squeezed {
        /// It went out compressed.
        Sent = "sent",
        /// Compression saves less than a fifth of it.
        NotWorth = "not-worth",
        /// The upstream answered 415: it was sent again as it was, and no other is compressed for a while.
        Unsupported = "unsupported",
        /// Not compressed, because the upstream answered 415 a while ago.
        Resting = "resting",
    }
}

/// Counters of one upstream, read for metrics.
#[derive(Debug, Default)]
pub struct Traffic {
    opened: [AtomicU64; 2],
    closed: [AtomicU64; 2],
    unconnected: AtomicU64,
    answered: [AtomicU64; 2],
    entered: AtomicU64,
    left: AtomicU64,
    queued: AtomicU64,
    crowded: AtomicU64,
    repeated: AtomicU64,
    not_repeated: [AtomicU64; NotRepeated::ALL.len()],
    squeezed: [AtomicU64; Squeezed::ALL.len()],
    /// Bytes of compressed request bodies, before and after.
    pub requests: Passed,
}

fn one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const fn place(version: Version) -> usize {
    matches!(version, Version::HTTP_2) as usize
}

impl Traffic {
    /// The versions of HTTP that are told apart, with their label.
    pub const VERSIONS: [(Version, &'static str); 2] = [(Version::HTTP_11, "1.1"), (Version::HTTP_2, "2")];

    /// Connections opened for a version of HTTP.
    pub fn opened(&self, version: Version) -> u64 {
        read(&self.opened[place(version)])
    }
    /// Of these, connections open now.
    pub fn open(&self, version: Version) -> u64 {
        let closed = read(&self.closed[place(version)]);
        self.opened(version).saturating_sub(closed)
    }
    /// Connections that could not be opened.
    pub fn unconnected(&self) -> u64 {
        read(&self.unconnected)
    }
    /// Attempts that were answered over a version of HTTP.
    pub fn answered(&self, version: Version) -> u64 {
        read(&self.answered[place(version)])
    }
    /// Attempts under way, their answers' bodies included; over HTTP/2 these are its streams.
    pub fn under_way(&self) -> u64 {
        let left = read(&self.left);
        read(&self.entered).saturating_sub(left)
    }
    /// Attempts that found all places taken and had to wait for one.
    pub fn queued(&self) -> u64 {
        read(&self.queued)
    }
    /// Of these, attempts that got none.
    pub fn crowded(&self) -> u64 {
        read(&self.crowded)
    }
    /// Calls that were made again.
    pub fn repeated(&self) -> u64 {
        read(&self.repeated)
    }
    /// Calls that were not made again though they might have been, by reason.
    pub fn not_repeated(&self, why: NotRepeated) -> u64 {
        read(&self.not_repeated[why as usize])
    }
    /// Request bodies that were looked at for compression, by what became of them.
    pub fn squeezed(&self, how: Squeezed) -> u64 {
        read(&self.squeezed[how as usize])
    }

    pub(crate) fn count_answer(&self, version: Version) {
        one(&self.answered[place(version)]);
    }
    pub(crate) fn count_unconnected(&self) {
        one(&self.unconnected);
    }
    pub(crate) fn count_queued(&self) {
        one(&self.queued);
    }
    pub(crate) fn count_crowded(&self) {
        one(&self.crowded);
    }
    pub(crate) fn count_repeat(&self) {
        one(&self.repeated);
    }
    pub(crate) fn count_not_repeated(&self, why: NotRepeated) {
        one(&self.not_repeated[why as usize]);
    }
    pub(crate) fn count_squeezed(&self, how: Squeezed) {
        one(&self.squeezed[how as usize]);
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Open(Arc<Traffic>, Version);

impl Open {
    pub(crate) fn new(traffic: &Arc<Traffic>, version: Version) -> Self {
        one(&traffic.opened[place(version)]);
        Self(Arc::clone(traffic), version)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        one(&self.0.closed[place(self.1)]);
    }
}

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Traffic>);

impl UnderWay {
    pub(crate) fn new(traffic: &Arc<Traffic>) -> Self {
        one(&traffic.entered);
        Self(Arc::clone(traffic))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        one(&self.0.left);
    }
}
