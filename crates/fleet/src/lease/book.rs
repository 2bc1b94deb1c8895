//! What the record of a lease says, and what an operation makes of it. Pure; the script does the same.

use farthing_types::{Span, reasons};

/// One asking for a lease: no two are alike, whichever instance they are of and however often it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim(pub u128);

/// Numbers the grants of a lease, later ones higher. About microseconds since 1970 on the server's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

reasons! {
    /// How a holder has ended its lease.
    Ending {
        /// Another one may have it.
        Released = "released",
        /// What it was for is done.
        Done = "done",
        /// What it was for is done and cannot be shared: everyone does it.
        Unkept = "unkept",
        /// What it was for failed: everyone may try.
        Failed = "failed",
    }
}

/// What a holder shows to renew its lease, to end it, or to write under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Holding {
    /// Its claim.
    pub claim: Claim,
    /// Its token.
    pub token: Token,
}

/// What asks for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub claim: Claim,
    /// For how long; alike for all who ask for the same lease.
    pub lasts: Span,
    /// The greatest token that the asker has seen, of any lease: its own will be greater.
    pub floor: Token,
    /// How the lease with this token has ended is known to the asker, and how those before it did.
    pub past: Token,
}

/// An operation on a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOp {
    /// Asks for it.
    Ask(Ask),
    /// Goes on holding it, for so long from now.
    Renew(Holding, Span),
    /// Ends it; how is told to whoever asks within the time.
    End(Holding, Ending, Span),
}

/// What the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseSaid {
    /// It is yours under this token, or was ended as you have said.
    Yours(Token),
    /// Another one has it, for so long unless it renews.
    Taken(Token, Span),
    /// It was ended so, a moment ago.
    Ended(Token, Ending),
    /// It is not yours any more.
    Lost,
}

/// The record of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its newest grant.
    pub last: Holding,
    /// How that has ended; `None` while it is held, or its time is over.
    pub ended: Option<Ending>,
    /// Until when it is held, or its end is told: microseconds on the server's clock.
    pub until: u64,
}

fn micros(span: Span) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// What becomes of a record at `now` (microseconds on the server's clock), and what is said.
pub fn step(record: Option<Record>, op: LeaseOp, now: u64) -> (Option<Record>, LeaseSaid) {
    match op {
        LeaseOp::Ask(ask) => {
            let (record, said) = asked(record, &ask, now);
            (Some(record), said)
        }
        LeaseOp::Renew(holding, lasts) => told(record, holding, Record { last: holding, ended: None, until: now + micros(lasts) }),
        LeaseOp::End(holding, how, told_for) => {
            told(record, holding, Record { last: holding, ended: Some(how), until: now + micros(told_for) })
        }
    }
}

fn asked(record: Option<Record>, ask: &Ask, now: u64) -> (Record, LeaseSaid) {
    let current = record.filter(|record| record.until > now);
    let granted = |token| {
        let record = Record { last: Holding { claim: ask.claim, token }, ended: None, until: now + micros(ask.lasts) };
        (record, LeaseSaid::Yours(token))
    };
    if let Some(record) = current {
        match record.ended {
            // The same asking once more: the first answer was lost.
            None if record.last.claim == ask.claim => return granted(record.last.token),
            None => {
                // No holder has longer than that: what is beyond comes of a clock that was set back.
                let until = record.until.min(now + micros(ask.lasts));
                return (Record { until, ..record }, LeaseSaid::Taken(record.last.token, Span::from_micros(until - now)));
            }
            Some(Ending::Released) => {}
            Some(how) if record.last.token > ask.past => return (record, LeaseSaid::Ended(record.last.token, how)),
            Some(_) => {}
        }
    }
    let last = record.map_or(0, |record| record.last.token.0);
    granted(Token(now.max(last + 1).max(ask.floor.0 + 1)))
}

/// Writes `next` where the lease is still the holder's. One whose time is over is its own until another one has it.
fn told(record: Option<Record>, holding: Holding, next: Record) -> (Option<Record>, LeaseSaid) {
    match record {
        Some(Record { last, ended: None, .. }) if last == holding => (Some(next), LeaseSaid::Yours(holding.token)),
        record => (record, LeaseSaid::Lost),
    }
}
