//! What a listener does with what it hears, step by step; pure.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{BusAsked, BusMessage, BusNews, BusPosition};

/// Messages of one's own that are remembered until they are met: more than are told between two questions.
const MOST_OWN: usize = 256;

/// Where a listener stands.
#[derive(Debug, Default)]
pub struct BusListener {
    /// The last message that was carried out.
    position: BusPosition,
    /// Messages of its own of which it is not known whether the server has them in the place that they were given, oldest first.
    own: VecDeque<BusPosition>,
    /// Messages up to this one were told before memory was emptied last.
    old_until: u64,
}

/// What a message is to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusHeard {
    /// It has told it, and done it before.
    Own,
    /// Somebody has just told it.
    News,
    /// It was told before memory was emptied last. Of orders, the flags tell what is in force.
    Old,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusTurn<'a> {
    /// Nobody knows what was told up to this number and not heard. `news`: some of it had been heard.
    Lost {
        /// The number.
        before: u64,
        /// See above.
        news: bool,
    },
    /// The flags say which orders are in force.
    Raise,
    /// This is said.
    Said {
        /// Under which number.
        number: u64,
        /// What.
        body: &'a Bytes,
        /// What it is to the listener.
        heard: BusHeard,
    },
}

impl BusListener {
    /// What it asks for now.
    pub fn asks(&self) -> BusAsked {
        BusAsked { after: self.position.clone(), told: self.own.front().cloned().unwrap_or_default() }
    }

    /// What is to be done with an answer to the question for what came after `asked`, in order; and the message at which the listener arrives with that, if
    /// there is one. `heard`: the number up to which everything has been carried out by now; `own`: whether the listener has told what has this nonce.
    pub fn turns<'a>(
        &mut self,
        news: &'a BusNews,
        (asked, heard): (&BusAsked, u64),
        own: impl Fn(&Bytes) -> bool,
    ) -> (Vec<BusTurn<'a>>, Option<BusPosition>) {
        let (mut turns, mut last) = (Vec::new(), None);
        if !news.follows {
            // These come too late to be news; what came into memory since it was emptied is still to be judged by them.
            self.old_until = news.newest;
            // Wherever it was, it goes on from the first of these.
            self.position = BusPosition::default();
            let first = news.messages.first().map_or(news.newest, |first| first.at.number);
            turns.extend([BusTurn::Lost { before: first.saturating_sub(1), news: asked.after.number > 0 }, BusTurn::Raise]);
        }
        for BusMessage { at, body } in &news.messages {
            // Told by this instance, and heard already when it was told.
            if news.follows && at.number <= heard {
                continue;
            }
            let is_news = at.number > self.old_until;
            turns.push(match body {
                // What was told before may never have been heard by anybody else.
                None => BusTurn::Lost { before: at.number, news: is_news },
                Some(body) => {
                    let heard = match (is_news, own(&at.nonce)) {
                        (false, _) => BusHeard::Old,
                        (true, true) => BusHeard::Own,
                        (true, false) => BusHeard::News,
                    };
                    BusTurn::Said { number: at.number, body, heard }
                }
            });
            last = Some(at.clone());
        }
        self.meet(news, asked, last.as_ref().unwrap_or(&self.position).number);
        (turns, last)
    }

    /// Forgets what of its own it has met, up to the number that it comes to. What should have been there and was not is asked for next.
    fn meet(&mut self, news: &BusNews, asked: &BusAsked, reached: u64) {
        // The server was asked for it, and has it.
        if news.follows && self.own.front().is_some_and(|first| *first == asked.told && first.number <= reached) {
            self.own.pop_front();
        }
        // Of what was told before it began anew all know that it may be lost.
        let begun = news.messages.iter().filter(|message| message.body.is_none()).map(|message| message.at.number).max();
        self.own.retain(|own| {
            let at = news.messages.partition_point(|message| message.at.number < own.number);
            let asked_for = news.follows && *own == asked.after;
            !asked_for && begun.is_none_or(|begun| begun < own.number) && news.messages.get(at).is_none_or(|message| message.at != *own)
        });
    }

    /// Everything up to a message has been carried out.
    pub fn arrive(&mut self, at: &BusPosition) {
        // Meanwhile messages of its own may have followed.
        if at.number > self.position.number {
            self.position = at.clone();
        }
    }

    /// A message of one's own is on the bus, after one with this nonce. Whether it counts as heard, because it is the next that would be. A server that took
    /// over may lack what was heard last and have another message in its place: that is still to be noticed.
    pub fn told(&mut self, at: &BusPosition, after: &Bytes) -> bool {
        let next = self.position.number > 0 && self.position.nonce == *after;
        if next {
            self.arrive(at);
        }
        // A question that is under way may be answered by another server.
        if self.own.len() < MOST_OWN {
            self.own.push_back(at.clone());
        }
        next
    }
}
