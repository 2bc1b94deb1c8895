//! What is remembered of prefixes: when they came, how often before they would have been forgotten, and whether the provider has them.

use std::collections::HashMap;

use farthing_types::{Span, Time};

use super::choose::{Candidate, Scale, best};
use super::{Boundary, Kept, MarkAsk, MarkReason, MarkTerms, Marking, Part};

/// A write that nothing was heard of for so long is not waited for.
const WRITING: Span = Span::from_secs(60);
/// So many starts of its class stand beside the starts of a prefix itself.
const PRIOR: f64 = 2.0;
/// Starts of no reads that each class begins with: nothing is written before something was seen to come again.
const DOUBT: f64 = 2.0;
/// So many starts of its kind, whatever the length, stand beside those of a class.
const OF_KIND: f64 = 4.0;
/// Starts of a class beyond which the older ones fade.
const FADE: f64 = 2_000.0;
/// Starts of a prefix beyond which they fade.
const FADE_OWN: u16 = 32;
/// Classes by how long a prefix is.
const LENGTHS: usize = 10;
/// Classes by how many turns follow.
const TO_END: usize = 3;
/// Classes without their lengths: by part, turns that follow, and whether the prefix before it had come again.
const KINDS: usize = 3 * TO_END * 2;

/// What is known of one prefix.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it came last.
    last: Time,
    /// How often it came when it would have been forgotten, or was new.
    starts: u16,
    /// How often it came again before.
    reads: u16,
    /// The class of its latest start.
    class: u16,
    /// When the provider last read or wrote it.
    kept: Option<Time>,
    /// Since when a call is under way that writes it.
    writing: Option<Time>,
}

/// Prefixes of a class: starts, and reads that followed them.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    starts: f64,
    reads: f64,
}

/// What is remembered of the prompts of a route. Bounded: [`MarkTerms::capacity`] prefixes, and a fixed number of classes.
#[derive(Clone, Debug)]
pub struct PromptMarks {
    terms: MarkTerms,
    slots: HashMap<u64, Slot>,
    classes: Vec<Class>,
    kinds: [Class; KINDS],
}

impl PromptMarks {
    /// Nothing known.
    pub fn new(terms: MarkTerms) -> Self {
        Self { terms, slots: HashMap::new(), classes: vec![Class::default(); KINDS * LENGTHS], kinds: [Class::default(); KINDS] }
    }

    /// Prefixes that are remembered.
    pub fn remembered(&self) -> usize {
        self.slots.len()
    }

    /// Decides about the marks of a prompt, and notes that it came.
    pub fn decide(&mut self, ask: &MarkAsk<'_>) -> Marking {
        let marking = self.choose(ask);
        self.note(ask.now, ask.boundaries);
        for boundary in marking.marks.iter().filter_map(|mark| ask.boundaries.get(*mark)) {
            if let Some(slot) = self.slots.get_mut(&boundary.digest).filter(|slot| !self.terms.holds(slot.kept, ask.now)) {
                slot.writing = Some(ask.now);
            }
        }
        marking
    }

    fn choose(&self, ask: &MarkAsk<'_>) -> Marking {
        if !ask.may {
            return Marking::none(MarkReason::SwitchedOff);
        }
        let Some(prices) = ask.prices else { return Marking::none(MarkReason::NoPrice) };
        if !ask.boundaries.iter().any(|boundary| self.terms.fits(boundary)) {
            return Marking::none(MarkReason::Short);
        }
        let candidates = self.candidates(ask);
        let scale = Scale { boundaries: ask.boundaries, prices, terms: self.terms };
        let (marks, _) = best(&scale, &candidates);
        let Some(last) = marks.last() else { return Marking::none(MarkReason::FewReads) };
        let size = |place: usize| ask.boundaries.get(place).map_or(0, |boundary| boundary.size);
        let warm = candidates.iter().rev().find(|candidate| candidate.warm && scale.finds(&marks, candidate.place));
        let read = warm.map_or(0, |candidate| size(candidate.place));
        Marking { written: size(*last).saturating_sub(read), read, marks, why: MarkReason::Marked }
    }

    /// The boundaries that may be marked, with what is expected of them. The longer a prefix, the fewer come with it.
    fn candidates(&self, ask: &MarkAsk<'_>) -> Vec<Candidate> {
        let known = self.seen(ask.now, ask.boundaries);
        let mut candidates: Vec<Candidate> = Vec::with_capacity(ask.boundaries.len());
        let mut longer: f64 = 0.0;
        for (place, (boundary, seen)) in ask.boundaries.iter().zip(&known).enumerate().rev() {
            longer = longer.max(self.reads(seen));
            let slot = seen.slot;
            let warm = slot.is_some_and(|slot| self.terms.holds(slot.kept, ask.now));
            let written = !warm && slot.and_then(|slot| slot.writing).is_some_and(|since| ask.now.since(since) < WRITING);
            // Whoever writes it now is not read yet, and a second write is worth nothing.
            if self.terms.fits(boundary) && !written {
                candidates.push(Candidate { place, reads: longer, warm });
            }
        }
        candidates.reverse();
        candidates
    }

    /// Reads of a prefix that are expected after it was kept: its own record beside that of its class.
    fn reads(&self, seen: &Seen<'_>) -> f64 {
        let of = |class| self.of_class(class);
        match seen.slot {
            None => of(seen.class),
            Some(slot) => {
                let class = if seen.again { slot.class } else { seen.class };
                let reads = f64::from(slot.reads) + f64::from(u8::from(seen.again));
                (reads + PRIOR * of(class)) / (f64::from(slot.starts) + PRIOR)
            }
        }
    }

    /// The same of a prefix of a class of which nothing else is known.
    fn of_class(&self, class: u16) -> f64 {
        let class = usize::from(class);
        let (Some(kind), Some(class)) = (self.kinds.get(class / LENGTHS), self.classes.get(class)) else { return 0.0 };
        (class.reads + OF_KIND * kind.reads / (kind.starts + DOUBT)) / (class.starts + OF_KIND)
    }

    fn seen<'a>(&'a self, now: Time, boundaries: &[Boundary]) -> Vec<Seen<'a>> {
        let mut before = false;
        let one = |boundary: &Boundary| {
            let slot = self.slots.get(&boundary.digest);
            let again = slot.is_some_and(|slot| now.since(slot.last) <= self.terms.ttl);
            let seen = Seen { slot, again, class: class(boundary, before, self.terms.min_size) };
            before = again;
            seen
        };
        boundaries.iter().map(one).collect()
    }

    /// Notes the prefixes of a prompt that came.
    fn note(&mut self, now: Time, boundaries: &[Boundary]) {
        let seen: Vec<(bool, bool, u16)> =
            self.seen(now, boundaries).into_iter().map(|seen| (seen.slot.is_some(), seen.again, seen.class)).collect();
        for (boundary, (known, again, class)) in boundaries.iter().zip(seen) {
            let new = Slot { last: now, starts: 0, reads: 0, class, kept: None, writing: None };
            let slot = self.slots.entry(boundary.digest).or_insert(new);
            slot.last = now;
            if known && again {
                slot.reads = slot.reads.saturating_add(1);
            } else {
                slot.starts += 1;
                slot.class = class;
            }
            if slot.starts >= FADE_OWN || slot.reads == u16::MAX {
                (slot.starts, slot.reads) = (slot.starts.div_ceil(2), slot.reads / 2);
            }
            let class = usize::from(slot.class);
            let of_both = self.classes.get_mut(class).into_iter().chain(self.kinds.get_mut(class / LENGTHS));
            of_both.for_each(|class| class.add(again));
        }
        if self.slots.len() > self.terms.capacity {
            self.forget(now);
        }
    }

    /// The head of a call's answer has come: from now on the provider reads what the call has marked.
    pub fn began(&mut self, now: Time, marked: &[u64]) {
        for digest in marked {
            if let Some(slot) = self.slots.get_mut(digest) {
                // Heads come in any order: one of an earlier call does not take back what a later one has shown.
                (slot.kept, slot.writing) = (slot.kept.max(Some(now)), None);
            }
        }
    }

    /// A call has ended: what came of what it has marked.
    pub fn ended(&mut self, marked: &[u64], kept: Kept) {
        for digest in marked {
            if let Some(slot) = self.slots.get_mut(digest) {
                slot.writing = None;
                if kept == Kept::Ignored {
                    slot.kept = None;
                }
            }
        }
    }

    /// Forgets what came longest ago: half, so that it is seldom done.
    fn forget(&mut self, now: Time) {
        let ttl = self.terms.ttl;
        self.slots.retain(|_, slot| now.since(slot.last) <= ttl);
        if self.slots.len() > self.terms.capacity / 2 {
            let mut times: Vec<Time> = self.slots.values().map(|slot| slot.last).collect();
            times.sort_unstable();
            let cut = times.get(times.len().saturating_sub(self.terms.capacity / 2)).copied().unwrap_or(now);
            self.slots.retain(|_, slot| slot.last >= cut);
        }
        if self.slots.len() > self.terms.capacity {
            // All came at one instant.
            self.slots.clear();
        }
    }
}

/// A boundary of a prompt that has just come.
struct Seen<'a> {
    slot: Option<&'a Slot>,
    /// It came before it would have been forgotten.
    again: bool,
    class: u16,
}

impl Class {
    fn add(&mut self, again: bool) {
        if again {
            self.reads += 1.0;
        } else {
            self.starts += 1.0;
        }
        if self.starts > FADE {
            (self.starts, self.reads) = (self.starts / 2.0, self.reads / 2.0);
        }
    }
}

impl MarkTerms {
    /// Whether a mark can be put there, and what it ends is long enough to be kept.
    fn fits(&self, boundary: &Boundary) -> bool {
        boundary.markable && boundary.size >= self.min_size
    }

    fn holds(&self, kept: Option<Time>, now: Time) -> bool {
        kept.is_some_and(|kept| now.since(kept) <= self.ttl)
    }
}

/// What a prefix is like of which nothing else is known.
fn class(boundary: &Boundary, before: bool, unit: u64) -> u16 {
    let length = (boundary.size / unit.max(1)).max(1).ilog2() as usize;
    let part = match boundary.part {
        Part::Tools => 0,
        Part::System => 1,
        Part::Messages => 2,
    };
    let to_end = (boundary.to_end as usize).min(TO_END - 1);
    let kind = (part * TO_END + to_end) * 2 + usize::from(before);
    let index = kind * LENGTHS + length.min(LENGTHS - 1);
    u16::try_from(index).unwrap_or_default()
}
