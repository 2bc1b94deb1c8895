//! What a server does for the bus: the scripts `hear.lua` and `tell.lua` as a model, for simulations. A test asks both the same (`tests/bus.rs`).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use farthing_types::Time;

use super::{BusAsked, BusFlag, BusMessage, BusNews, BusPosition, BusSaid, BusTold, KEPT, MOST};
use crate::stream::EntryId;

/// A server. A clone of it is a replica as it was then.
#[derive(Clone, Debug, Default)]
pub struct BusServer {
    stream: VecDeque<BusMessage>,
    flags: BTreeMap<String, (Time, Bytes)>,
    sources: BTreeMap<String, EntryId>,
}

impl BusServer {
    /// As [`super::Bus::hear`]; `now` is the server's time in microseconds since 1970. It knows no members.
    pub fn hear(&mut self, asked: &BusAsked, nonce: &str, now: u64) -> BusNews {
        let BusAsked { after: position, told } = asked;
        let known = position.number;
        let last = self.last();
        let lost = last.is_none() || self.lacks(position) || self.lacks(told);
        let follows = !lost && self.at(known).is_some_and(|_| known > 0);
        if lost {
            self.begin(now.max(known.max(told.number) + 1).max(last.map_or(0, |last| last + 1)), nonce);
        }
        let from = if follows { known + 1 } else { 0 };
        let first = self.stream.partition_point(|message| message.at.number < from);
        let messages: Vec<BusMessage> = self.stream.range(first..).take(MOST).cloned().collect();
        let up = |(name, (at, value)): (&String, &(Time, Bytes))| BusFlag { name: name.clone(), at: *at, value: value.clone() };
        let flags = self.flags.iter().filter(|(_, (_, value))| !value.is_empty() && !follows).map(up).collect();
        BusNews { follows, more: messages.len() == MOST, messages, newest: self.last().unwrap_or_default(), flags, members: Vec::new() }
    }

    /// As [`super::Bus::tell`].
    pub fn tell(&mut self, said: &BusSaid, beginning: &str, known: u64, now: u64) -> BusTold {
        if let (Some(of), Some(last)) = (&said.of, self.last())
            && !of.anew
            && self.sources.get(&of.source).is_some_and(|told| *told >= of.place)
        {
            return BusTold { number: last, after: Bytes::new(), told: false };
        }
        if self.stream.is_empty() {
            self.begin(now.max(known + 1), beginning);
        }
        let after = self.stream.back().map(|last| last.at.nonce.clone()).unwrap_or_default();
        let number = (self.last().unwrap_or_default() + 1).max(now);
        let at = BusPosition { number, nonce: said.nonce.clone().into() };
        self.push(BusMessage { at, body: Some(said.body.clone().into()) });
        if let Some(of) = &said.of {
            self.sources.insert(of.source.clone(), of.place);
        }
        for flag in &said.flags {
            if self.flags.get(&flag.name).is_none_or(|(at, _)| *at < flag.at) {
                self.flags.insert(flag.name.clone(), (flag.at, flag.value.clone()));
            }
        }
        BusTold { number, after, told: true }
    }

    /// Whether it has another message in the place of this one, or none; what is older than all that is kept may have been trimmed.
    fn lacks(&self, at: &BusPosition) -> bool {
        match self.at(at.number) {
            _ if at.number == 0 => false,
            Some(there) => there.at != *at,
            None => {
                self.last().is_none_or(|last| last < at.number) || self.stream.front().is_some_and(|oldest| oldest.at.number <= at.number)
            }
        }
    }

    /// Whether it has this message.
    pub fn has(&self, at: &BusPosition) -> bool {
        self.at(at.number).is_some_and(|message| message.at == *at)
    }

    /// Whether it has begun anew after this number: all learn that what was told before may be lost.
    pub fn begun_after(&self, number: u64) -> bool {
        self.stream.iter().any(|message| message.body.is_none() && message.at.number > number)
    }

    /// How often it has begun anew, of what it still keeps.
    pub fn beginnings(&self) -> usize {
        self.stream.iter().filter(|message| message.body.is_none()).count()
    }

    fn begin(&mut self, number: u64, nonce: &str) {
        self.push(BusMessage { at: BusPosition { number, nonce: Bytes::copy_from_slice(nonce.as_bytes()) }, body: None });
    }

    fn push(&mut self, message: BusMessage) {
        self.stream.push_back(message);
        while self.stream.len() > KEPT {
            self.stream.pop_front();
        }
    }

    /// Keeps the last messages alone.
    pub fn trim(&mut self, kept: usize) {
        self.stream.drain(..self.stream.len().saturating_sub(kept));
    }

    fn last(&self) -> Option<u64> {
        self.stream.back().map(|message| message.at.number)
    }

    fn at(&self, number: u64) -> Option<&BusMessage> {
        let at = self.stream.partition_point(|message| message.at.number < number);
        self.stream.get(at).filter(|message| message.at.number == number)
    }
}
