//! `history.jsonl`: who moved which alias, when and why, and which versions were rolled back. Pure: reading and writing are the caller's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Alias, Kind, Target};

/// Events that stay when the file is written anew; beside them stay all that reject a version.
const KEPT_EVENTS: usize = 500;
/// Longest text of `by` and `reason` that is kept, in bytes.
pub const LONGEST_TEXT: usize = 500;

/// What happened to an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It was moved to a version.
    Promote,
    /// It was moved back; the version it left is rejected.
    Rollback,
    /// It names nothing any more.
    Clear,
    /// Its version is rejected, and it names nothing any more.
    Reject,
    /// Somebody else moved it, and this instance followed.
    Follow,
    /// Nothing was moved: answers change otherwise than what it names foretells. For the trainer's loop.
    Drift,
}

impl Action {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Clear => "clear",
            Self::Reject => "reject",
            Self::Follow => "follow",
            Self::Drift => "drift",
        }
    }
    /// Whether the alias names something else since.
    pub const fn moves(self) -> bool {
        !matches!(self, Self::Drift)
    }
    /// Whether it keeps the version that the alias left out of the store.
    pub const fn rejects(self) -> bool {
        matches!(self, Self::Rollback | Self::Reject)
    }
}

/// One change of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, ns since the epoch.
    pub at_ns: i64,
    /// Kind of predictor.
    pub kind: Kind,
    /// The alias.
    pub alias: Alias,
    /// What happened.
    pub action: Action,
    /// What it named before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Target>,
    /// What it names since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// Who: `operator anna`, `canary`, `drift`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// A version that was rejected before was let in again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
}

/// All events that are known, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    events: Vec<Event>,
    /// Lines that could not be read.
    damaged: usize,
}

impl History {
    /// Reads the lines of a file. A line that cannot be read is counted and passed over: a torn end must not hide the rest.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut history = Self::default();
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            match serde_json::from_slice(line) {
                Ok(event) => history.events.push(event),
                Err(_) => history.damaged += 1,
            }
        }
        history
    }

    /// One line of the file; what it says is cut to [`LONGEST_TEXT`].
    pub fn line(event: &Event) -> Vec<u8> {
        let mut line = serde_json::to_vec(&as_kept(event)).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The events, oldest first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
    /// Lines that could not be read.
    pub const fn damaged(&self) -> usize {
        self.damaged
    }
    /// Adds an event that happened now, as its line tells it: read back, it is the same one.
    pub fn push(&mut self, event: &Event) {
        self.events.push(as_kept(event));
    }
    /// The events of this that came after what another knows of it, oldest first. What is older was left out there for its age.
    pub fn beyond(&self, other: &Self) -> Vec<Event> {
        let first = self.events.iter().rposition(|event| other.events.contains(event)).map_or(0, |last| last + 1);
        self.events[first..].to_vec()
    }
    /// Takes in what the store's file knows beyond this; its lines stand in the order in which things happened, whatever a clock said.
    pub fn append(&mut self, other: Self) {
        let new: Vec<_> = other.events.into_iter().filter(|event| !self.events.contains(event)).collect();
        self.events.extend(new);
        self.damaged = other.damaged;
    }
    /// Takes in what an instance has written down by itself, at the time when it happened.
    pub fn insert(&mut self, other: Self) {
        for event in other.events {
            if !self.events.contains(&event) {
                let place = self.events.iter().rposition(|known| known.at_ns <= event.at_ns).map_or(0, |last| last + 1);
                self.events.insert(place, event);
            }
        }
    }

    /// Why a version must not be promoted again: the event that rejected it last, unless it was let in again since.
    pub fn rejected(&self, kind: Kind, digest: &str) -> Option<&Event> {
        let of = |target: &Option<Target>| target.as_ref().is_some_and(|target| target.digest == digest);
        let telling = |event: &&Event| {
            event.kind == kind && ((event.action.rejects() && of(&event.from)) || (event.action == Action::Promote && of(&event.to)))
        };
        self.events.iter().rev().find(telling).filter(|event| event.action.rejects())
    }

    /// The last change of an alias.
    pub fn last_move(&self, kind: Kind, alias: Alias) -> Option<&Event> {
        self.events.iter().rev().find(|event| (event.kind, event.alias) == (kind, alias) && event.action.moves())
    }

    /// When the champion of a kind was last told to mislead, ns since the epoch.
    pub fn drifted_ns(&self, kind: Kind) -> Option<i64> {
        self.events.iter().filter(|event| event.kind == kind && event.action == Action::Drift).map(|event| event.at_ns).max()
    }

    /// What an alias named last, as far as this tells: the newest first.
    pub fn named(&self, kind: Kind, alias: Alias) -> Vec<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for event in self.events.iter().rev().filter(|event| (event.kind, event.alias) == (kind, alias)) {
            if let Some(to) = event.to.as_ref().filter(|to| !targets.contains(to)) {
                targets.push(to.clone());
            }
        }
        targets
    }

    /// The bytes of the file without what is too old to matter.
    pub fn compacted(&self) -> Vec<u8> {
        let recent = self.events.len().saturating_sub(KEPT_EVENTS);
        let mut last: BTreeMap<(Kind, &str), usize> = BTreeMap::new();
        for (index, event) in self.events.iter().enumerate().filter(|(_, event)| event.action.rejects()) {
            if let Some(from) = &event.from {
                last.insert((event.kind, &from.digest), index);
            }
        }
        let keeps = |index: usize| index >= recent || last.values().any(|kept| *kept == index);
        self.events.iter().enumerate().filter(|(index, _)| keeps(*index)).flat_map(|(_, event)| Self::line(event)).collect()
    }
}

fn as_kept(event: &Event) -> Event {
    Event { by: cut(&event.by), reason: cut(&event.reason), ..event.clone() }
}

/// The beginning of a text, at most [`LONGEST_TEXT`] bytes.
pub(super) fn cut(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(version: u32) -> Target {
        Target { version, digest: format!("d{version}") }
    }
    fn event(at_ns: i64, action: Action, (from, to): (Option<u32>, Option<u32>)) -> Event {
        let (kind, alias, by, reason) = (Kind::Ttl, Alias::Champion, "operator".to_owned(), "a test".to_owned());
        Event { at_ns, kind, alias, action, from: from.map(target), to: to.map(target), by, reason, forced: false }
    }

    #[test]
    fn a_version_that_was_left_is_rejected_until_it_is_let_in_again() {
        let mut history = History::default();
        history.push(&event(1, Action::Promote, (None, Some(1))));
        history.push(&event(2, Action::Promote, (Some(1), Some(2))));
        assert!(history.rejected(Kind::Ttl, "d1").is_none(), "a champion that was followed by a better one is no bad one");
        history.push(&event(3, Action::Rollback, (Some(2), Some(1))));
        assert_eq!(history.rejected(Kind::Ttl, "d2").unwrap().at_ns, 3);
        assert!(history.rejected(Kind::Ttl, "d1").is_none() && history.rejected(Kind::Cost, "d2").is_none());
        history.push(&event(4, Action::Follow, (Some(1), Some(2))));
        assert!(history.rejected(Kind::Ttl, "d2").is_some(), "that somebody moved a file lets nothing in");
        history.push(&Event { forced: true, ..event(5, Action::Promote, (Some(1), Some(2))) });
        assert!(history.rejected(Kind::Ttl, "d2").is_none());
        assert_eq!(history.named(Kind::Ttl, Alias::Champion), [target(2), target(1)]);
    }

    #[test]
    fn what_comes_after_the_common_past_is_new_and_nothing_before_it() {
        let events: Vec<Event> = (1..=4).map(|at| event(at, Action::Promote, (None, Some(1)))).collect();
        let of = |events: &[Event]| History { events: events.to_vec(), damaged: 0 };
        assert_eq!(of(&events).beyond(&of(&events[1..2])), events[2..], "the first was left out for its age");
        assert_eq!(of(&events).beyond(&of(&[])), events);
        assert_eq!(of(&events[..2]).beyond(&of(&events)), []);
    }

    #[test]
    fn lines_are_read_back_and_a_torn_one_hides_nothing() {
        let events = [event(1, Action::Promote, (None, Some(1))), event(2, Action::Reject, (Some(1), None))];
        let mut bytes: Vec<u8> = events.iter().flat_map(History::line).collect();
        bytes.extend_from_slice(b"{\"at_ns\": 3, \"ki");
        let history = History::parse(&bytes);
        assert_eq!((history.events(), history.damaged()), (events.as_slice(), 1));
        let long = Event { reason: "ä".repeat(LONGEST_TEXT), ..events[0].clone() };
        let mut known = History::default();
        known.push(&long);
        known.append(History::parse(&History::line(&long)));
        assert!(known.events().len() == 1 && known.events()[0].reason.len() <= LONGEST_TEXT);
        assert!(History::parse(&History::line(&long)).events()[0].reason.len() <= LONGEST_TEXT);
    }

    #[test]
    fn a_clock_that_was_set_back_turns_nothing_around() {
        let of_store: Vec<u8> = [event(9, Action::Rollback, (Some(2), Some(1))), event(5, Action::Promote, (Some(1), Some(2)))]
            .iter()
            .flat_map(History::line)
            .collect();
        let mut history = History::default();
        history.append(History::parse(&of_store));
        assert!(history.rejected(Kind::Ttl, "d2").is_none(), "it was let in after all");
        let own = History::parse(&History::line(&event(7, Action::Rollback, (Some(3), Some(1)))));
        history.insert(own.clone());
        history.insert(own);
        assert_eq!((history.events().len(), history.rejected(Kind::Ttl, "d3").map(|event| event.at_ns)), (3, Some(7)));
    }

    #[test]
    fn what_is_written_anew_keeps_rejections_and_the_newest() {
        let mut history = History::default();
        history.push(&event(0, Action::Reject, (Some(7), None)));
        (1..=2_000).for_each(|at| history.push(&event(at, Action::Promote, (Some(1), Some(2)))));
        let again = History::parse(&history.compacted());
        assert_eq!(again.events().len(), KEPT_EVENTS + 1);
        assert!(again.rejected(Kind::Ttl, "d7").is_some());
        let mut merged = again.clone();
        merged.append(again.clone());
        merged.insert(again.clone());
        assert_eq!(merged, again, "the same events come in once");
    }
}
