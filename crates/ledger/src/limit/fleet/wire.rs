//! What members tell the place where shares are granted, and are told. Shares are of [`WHOLE`](crate::limit::bucket::WHOLE), times milliseconds.

use std::sync::Arc;

/// What a member tells of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub mark: u128,
    /// The most of its rate that the member uses from now on.
    pub claim: i64,
    /// Until when that is less than its standing share, by the server's time; 0 where it is not less.
    pub until: i64,
    /// What it would like of it.
    pub want: i64,
}

/// A message of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who.
    pub id: Arc<str>,
    /// Which process it is: drawn at its start.
    pub life: Arc<str>,
    /// When that began, by its own clock: of two by one name the later one counts.
    pub start: i64,
    /// Its number in this life.
    pub seq: i64,
    /// The generation that it knows, and its number.
    pub generation: Arc<str>,
    /// Number of that generation.
    pub epoch: i64,
    /// It tells this generation who it is and whom it knows; without that it is not let in.
    pub report: bool,
    /// It has never had shares, nor heard of anybody who had; with a report.
    pub fresh: bool,
    /// It ends, and uses nothing more.
    pub closing: bool,
    /// How long it goes on with its standing shares after this message.
    pub alone: i64,
    /// The most that it takes of what there is.
    pub most: i64,
    /// The standing shares that it uses at most, from now on: of rates and bursts, and of calls at a time.
    pub parts: [i64; 2],
    /// Members that it knows; with a report.
    pub known: Vec<Known>,
    /// Where to go on looking for counters that are over; `None` to leave that.
    pub sweep: Option<i64>,
    /// Counters.
    pub lines: Vec<Line>,
}

/// A member that somebody knows of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Known {
    /// Who.
    pub id: Arc<str>,
    /// Its standing shares.
    pub parts: [i64; 2],
    /// How long it may use them yet.
    pub left: i64,
}

/// A member as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who, and what it holds.
    pub known: Known,
    /// Whether it was heard of lately.
    pub live: bool,
    /// Whether it has told of itself in this generation.
    pub here: bool,
}

/// What is told of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTold {
    /// What the member may use of its rate.
    pub rate: i64,
    /// How long, where that is more than its standing share.
    pub left: i64,
    /// Its fair share, by what all want.
    pub fair: i64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The generation.
    pub generation: Arc<str>,
    /// Its number.
    pub epoch: i64,
    /// The server's time.
    pub now: i64,
    /// Nobody has used anything before.
    pub fresh: bool,
    /// All have told who are known of: shares can grow.
    pub whole: bool,
    /// What another process by this name has lent is back.
    pub ready: bool,
    /// The member's standing shares.
    pub parts: [i64; 2],
    /// What they are to be.
    pub targets: [i64; 2],
    /// Where to go on looking for counters that are over.
    pub swept: i64,
    /// All members.
    pub members: Vec<MemberView>,
    /// As many as were told.
    pub lines: Vec<LineTold>,
    /// Counters of which somebody lacks some.
    pub wanted: Vec<u128>,
}

/// What a message is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// This is the generation; the member has to report to it.
    Lost(Arc<str>, i64),
    /// A message with a greater number came before: this one changed nothing.
    Stale,
    /// Another process goes by this name.
    Twin,
    /// There are too many members.
    Full,
    /// The answer.
    Fine(Told),
}
