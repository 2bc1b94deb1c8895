//! What a listener does with what it hears, step by step; pure.

use bytes::Bytes;

use super::{BusAsked, BusMessage, BusNews, BusPosition};

/// Where a listener stands.
#[derive(Debug, Default)]
pub struct BusListener {
    /// The last message that was carried out.
    position: BusPosition,
    /// The last message of its own of which it is not known whether the server has it in the place that it was given.
    told: BusPosition,
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
        BusAsked { after: self.position.clone(), told: self.told.clone() }
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
        // The server was asked for it, or has it here; who comes to its number later may find another in its place.
        let known = asked.told == self.told || news.messages.iter().any(|message| message.at == self.told);
        let reached = last.as_ref().unwrap_or(&self.position).number >= self.told.number;
        if !news.follows || (known && reached) {
            self.told = BusPosition::default();
        }
        (turns, last)
    }

    /// Everything up to a message has been carried out.
    pub fn arrive(&mut self, at: &BusPosition) {
        self.position = at.clone();
    }

    /// A message of one's own is on the bus, after one with this nonce. Whether it counts as heard, because it is the next that would be. A server that took
    /// over may lack what was heard last and have another message in its place: that is still to be noticed.
    pub fn told(&mut self, at: &BusPosition, after: &Bytes) -> bool {
        let next = self.position.number > 0 && self.position.number + 1 == at.number && self.position.nonce == *after;
        if next {
            self.arrive(at);
        } else if at.number > self.told.number {
            self.told = at.clone();
        }
        next
    }
}
