//! What a book holds of limits that instances share.

use std::collections::HashMap;

use farthing_types::{Span, Time};

use super::MAX_MOVED;
use crate::limit::Book;
use crate::limit::counter::{Begin, Cost, Moved, Standing};

/// Standing shares that are remembered; what was longer ago counts as nothing.
const HISTORY: usize = 16;

/// The shares of an instance.
#[derive(Debug)]
pub(in crate::limit) struct Side {
    standing: Standing,
    /// Until when they may be used.
    until: Time,
    /// Since when the instance has had which share of rates and bursts.
    history: Vec<(Time, u32)>,
    /// Nobody had used anything at the begin of that.
    full: bool,
    /// Counters of whose rate it has another share now, those included that nobody has asked for here.
    moved: HashMap<u128, Moved>,
    pub(in crate::limit) marks: HashMap<u128, u32>,
    /// Counters where somebody found no room.
    pub(in crate::limit) short: Vec<u32>,
}

/// Shares as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharesView {
    /// What may be used without asking.
    pub standing: Standing,
    /// For how long.
    pub left: Span,
    /// Counters of which the instance has more of the rate than that, and less.
    pub moved: [usize; 2],
}

impl Book {
    /// Shares all limits with a fleet from now on, and has nothing of them yet; where it does already, all stays as it is. To be called before anything is
    /// asked or restored.
    pub fn enter_fleet(&mut self) {
        self.fleet.get_or_insert_with(|| {
            Box::new(Side {
                standing: Standing::NOTHING,
                until: Time::from_nanos(i64::MIN),
                history: Vec::new(),
                full: false,
                moved: HashMap::new(),
                marks: HashMap::new(),
                short: Vec::new(),
            })
        });
    }

    /// What the instance has of all limits.
    pub fn standing(&self) -> Standing {
        self.fleet.as_ref().map_or(Standing::ALL, |side| side.standing)
    }

    /// How the shares stand; `None` where they are nobody else's.
    pub fn shares_view(&mut self, now: Time) -> Option<SharesView> {
        self.keep_time(now);
        let side = self.fleet.as_ref()?;
        let live = side.moved.values().filter(|moved| moved.until > now);
        let lent = live.clone().filter(|moved| moved.lent).count();
        Some(SharesView { standing: side.standing, left: side.until.since(now), moved: [live.count() - lent, lent] })
    }

    /// What the instance has of all limits from now on, and until when.
    pub(super) fn set_standing(&mut self, standing: Standing, until: Time, now: Time) {
        let Some(side) = &mut self.fleet else { return };
        side.until = until;
        if side.standing == standing {
            return;
        }
        if side.history.last().map_or(0, |(_, share)| *share) != standing.rate {
            side.history.push((now, standing.rate));
            if side.history.len() > HISTORY {
                side.history.remove(0);
                side.full = false;
            }
        }
        side.standing = standing;
        self.changes += 1;
        for (id, counter) in self.counters.iter_mut().enumerate() {
            let Some(counter) = counter else { continue };
            counter.set_standing(standing, now);
            if !counter.line.is_empty() {
                self.changed.push(u32::try_from(id).unwrap_or(u32::MAX));
            }
        }
    }

    /// Which shares of rates and bursts the instance has had since when, so that counters open with what could have gathered in them; `full`: nobody had used
    /// anything at the begin of that.
    pub(super) fn set_history(&mut self, history: Vec<(Time, u32)>, full: bool) {
        if let Some(side) = &mut self.fleet {
            (side.history, side.full) = (history, full);
        }
    }

    /// Nobody has used anything before now: all buckets are full.
    pub(super) fn begin_full(&mut self, now: Time) {
        let Some(side) = &mut self.fleet else { return };
        (side.history, side.full) = (vec![(now, side.standing.rate)], true);
        self.counters.iter_mut().flatten().for_each(|counter| counter.fill_up(now));
    }

    /// See [`Self::set_history`].
    pub(super) fn history(&self) -> (&[(Time, u32)], bool) {
        self.fleet.as_ref().map_or((&[], false), |side| (&side.history, side.full))
    }

    /// Until when the standing shares may be used.
    pub(super) fn stands_until(&self) -> Time {
        self.fleet.as_ref().map_or(Time::from_nanos(i64::MIN), |side| side.until)
    }

    /// Shares end with their time, however late that is noticed.
    pub(in crate::limit) fn keep_time(&mut self, now: Time) {
        if self.fleet.as_ref().is_some_and(|side| side.until <= now && side.standing != Standing::NOTHING) {
            self.set_standing(Standing::NOTHING, now, now);
        }
    }

    /// By what a counter opens.
    pub(in crate::limit) fn begin(&self, mark: u128, now: Time) -> Begin<'_> {
        let Some(side) = &self.fleet else { return Begin::ALONE };
        Begin { standing: side.standing, moved: self.moved(mark, now), history: &side.history, full: side.full }
    }

    pub(in crate::limit) fn note_asked(&mut self, counters: &[u32], cost: Cost) {
        if self.fleet.is_some() {
            for &id in counters {
                if let Some(counter) = self.of(id) {
                    counter.ask(cost);
                }
            }
        }
    }

    /// Somebody has found no room.
    pub(in crate::limit) fn note_short(&mut self, id: u32) {
        let Some(side) = &mut self.fleet else { return };
        let Some(counter) = self.counters.get_mut(id as usize).and_then(Option::as_mut) else { return };
        if counter.has_rate() && !std::mem::replace(&mut counter.short, true) {
            side.short.push(id);
        }
    }

    /// Counters where somebody has found no room since this was asked last, or waits.
    pub(super) fn short_counters(&mut self) -> Vec<u128> {
        let Some(side) = &mut self.fleet else { return Vec::new() };
        let ids = std::mem::take(&mut side.short);
        let counters = ids.into_iter().filter_map(|id| self.counters.get(id as usize)?.as_ref());
        counters.filter(|counter| counter.short).map(|counter| counter.mark).collect()
    }

    /// What share of a counter's rate was asked for in that time.
    pub(super) fn wanted(&mut self, mark: u128, span: Span) -> u32 {
        let id = self.fleet.as_ref().and_then(|side| side.marks.get(&mark).copied());
        let Some((id, counter)) = id.and_then(|id| Some((id, self.of(id)?))) else { return 0 };
        let wanted = counter.wanted(span);
        // Who waits on finds no room again.
        if !counter.line.is_empty() {
            self.note_short(id);
        }
        wanted
    }

    /// What the instance has of a counter's rate.
    pub(super) fn moved(&self, mark: u128, now: Time) -> Option<Moved> {
        self.fleet.as_ref()?.moved.get(&mark).copied().filter(|moved| moved.until > now)
    }

    /// It has another share of a counter's rate; false where there is no room to note that.
    pub(super) fn set_moved(&mut self, mark: u128, moved: Option<Moved>, now: Time) -> bool {
        let Some(side) = &mut self.fleet else { return false };
        if side.moved.len() >= MAX_MOVED && !side.moved.contains_key(&mark) {
            side.moved.retain(|_, moved| moved.until > now);
        }
        match moved {
            Some(moved) if side.moved.len() < MAX_MOVED || side.moved.contains_key(&mark) => drop(side.moved.insert(mark, moved)),
            Some(_) => return false,
            None => drop(side.moved.remove(&mark)),
        }
        let id = side.marks.get(&mark).copied();
        if let Some((id, counter)) = id.and_then(|id| Some((id, self.of(id)?))) {
            counter.set_moved(moved, now);
            if !counter.line.is_empty() {
                self.changed.push(id);
            }
        }
        true
    }

    /// Lets go of shares whose time is over; who waits before those counters looks again.
    pub(super) fn sweep_moved(&mut self, now: Time) {
        let Some(side) = &mut self.fleet else { return };
        let Side { moved, marks, .. } = &mut **side;
        let over = moved.extract_if(|_, moved| moved.until <= now);
        self.changed.extend(over.filter_map(|(mark, _)| marks.get(&mark).copied()));
    }

    /// Whether no more calls are under way under any limit than such a share has room for.
    pub(super) fn calls_fit(&self, slots: u32) -> bool {
        self.counters.iter().flatten().all(|counter| counter.fits(slots))
    }
}
