//! What a book knows of a counter that it shares with a fleet.

use std::sync::Arc;

use farthing_types::{Money, Time};

use super::wire::Known;
use super::{GIVEN_BACK, GRACE, MemberState};
use crate::budget::Part;

/// A counter's share in the fleet's.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its name in the fleet's place.
    pub(super) field: Arc<str>,
    /// Asked for, and not answered yet: all that is needed, and all that is wanted.
    pub(super) need: Money,
    pub(super) want: Money,
    /// Spent in any case.
    pub(super) must: Money,
    /// It stands in the line of those that ask.
    pub(super) queued: bool,
    /// No more can be had, as was told last.
    pub(super) short: Option<Short>,
    /// Since when nothing is granted for want of members.
    pub(super) withheld: Option<Time>,
    /// Somebody lacks room.
    pub(super) hungry: bool,
    /// Claim and use as they were told last, and when.
    pub(super) told: Option<(i64, i64, Time)>,
    /// What others have told.
    pub(super) fleet: FleetTold,
}

/// More was asked for than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Short {
    /// All that can be had.
    pub most: Money,
    /// Since when that is so.
    pub since: Time,
    /// Until when it is believed, and not asked for again but with a beat.
    pub until: Time,
    /// Others hold what they have not spent, as far as they have told: they give back what they do not need.
    pub others_hold: Money,
}

/// What others have told of a counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetTold {
    /// What others may spend in all.
    pub allowed: Money,
    /// What they have spent of it.
    pub used: Money,
    /// Unspent allowances of those that are away: counted as spent until they tell.
    pub quarantined: Money,
    /// Who holds what: member, allowance, spent; this instance included.
    pub holders: Vec<(Arc<str>, Money, Money)>,
    /// Nothing is granted until all members have told.
    pub withheld: bool,
}

impl Share {
    pub(super) fn new(field: Arc<str>) -> Self {
        Self {
            field,
            need: Money::ZERO,
            want: Money::ZERO,
            must: Money::ZERO,
            queued: false,
            short: None,
            withheld: None,
            hungry: false,
            told: None,
            fleet: FleetTold::default(),
        }
    }

    /// Whether a call that needs so much in all is known not to find it: there is not enough, or others have had their time to give it back.
    pub(in crate::budget) fn is_short(&self, needed: Money, now: Time) -> bool {
        self.short.is_some_and(|short| {
            let hopeless = needed > short.most + short.others_hold || now.since(short.since) > GIVEN_BACK;
            needed > short.most && now < short.until && hopeless
        })
    }

    /// Whether nothing was granted for so long that calls are held back for it.
    pub(in crate::budget) fn is_withheld(&self, now: Time) -> bool {
        self.withheld.is_some_and(|since| now.since(since) > GRACE)
    }

    /// What others have told.
    pub(in crate::budget) const fn fleet(&self) -> &FleetTold {
        &self.fleet
    }

    /// Asks for more.
    pub(in crate::budget) fn ask(&mut self, (need, want, must): (Money, Money, Money), now: Time) -> bool {
        (self.need, self.want, self.must) = (self.need.max(need), self.want.max(want), self.must.max(must));
        // With a beat it is asked anyway.
        let waits = self.short.is_some_and(|short| need > short.most && now < short.until) && must.nanos() == 0;
        !waits && !std::mem::replace(&mut self.queued, true)
    }

    /// All that was asked for.
    pub(in crate::budget) const fn wanted(&self) -> Money {
        self.want
    }
}

/// What a book knows of its fleet.
#[derive(Clone, Debug)]
pub struct FleetSide {
    /// This member, and how often it has begun; never, where its ledger was not read yet.
    pub id: Arc<str>,
    pub starts: i64,
    /// The last generation that was heard of, and its number.
    pub heard: (Arc<str>, i64),
    /// The members that are known of.
    pub known: Vec<Known>,
    /// Counters that ask for more.
    pub(super) queue: Vec<Part>,
    /// Where the next look for counters to tell of begins.
    pub(super) place: usize,
    /// Why Redis does not answer, and since when.
    pub(super) away: Option<(Time, String)>,
    /// How the member stands.
    pub(super) state: MemberState,
}

impl FleetSide {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            starts: 0,
            heard: ("-".into(), 0),
            known: Vec::new(),
            queue: Vec::new(),
            place: 0,
            away: None,
            state: MemberState::default(),
        }
    }

    /// Notes counters that ask for more.
    pub(in crate::budget) fn queue(&mut self, parts: Vec<Part>) {
        self.queue.extend(parts);
    }

    /// Whether Redis has been away for so long that calls are held back for it, or this member is not let in.
    pub(in crate::budget) fn is_away(&self, now: Time) -> bool {
        self.state.refused.is_some() || self.away.as_ref().is_some_and(|(since, _)| now.since(*since) > GRACE)
    }

    /// Whether members are missing, or this one is too new.
    pub(in crate::budget) const fn is_closed(&self) -> bool {
        !(self.state.whole && self.state.joined)
    }

    /// Why nothing can be granted; said to who asks.
    pub(in crate::budget) fn trouble(&self) -> Option<String> {
        match &self.away {
            Some((_, why)) => Some(why.clone()),
            None => self.state.trouble(),
        }
    }
}
