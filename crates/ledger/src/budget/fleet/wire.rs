//! What instances and the place of the counters tell each other.

use std::sync::Arc;

/// What an instance tells of a counter in one window; amounts in millionths of a dollar, times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which counter and window.
    pub field: Arc<str>,
    /// Begin of the window.
    pub start: i64,
    /// Its end; a time that never comes where it has none.
    pub end: i64,
    /// The limit as the instance knows it, raises included.
    pub limit: i64,
    /// The most that the instance may spend in all, by what it knows; its allowance is no lower.
    pub claim: i64,
    /// What it needs in all, or nothing.
    pub need: i64,
    /// What it would like in all.
    pub want: i64,
    /// What it spends in any case: calls that pass a used-up budget.
    pub must: i64,
    /// What it has spent, as far as that is settled.
    pub used: i64,
    /// All allowances together when it was told last.
    pub seen: i64,
}

/// A message of a member that has reported: it tells of counters, and asks for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Who.
    pub id: Arc<str>,
    /// Which process it is: drawn at its start.
    pub life: Arc<str>,
    /// Its number: greater than that of all before, over restarts.
    pub seq: i64,
    /// The generation that it knows.
    pub generation: Arc<str>,
    /// The version of the list of members that it has noted durably.
    pub ack: i64,
    /// It ends, and spends nothing more.
    pub closing: bool,
    /// Where to go on looking for windows that are over; `None` to leave that.
    pub sweep: Option<i64>,
    /// The counters.
    pub lines: Vec<Line>,
}

/// What a member tells of itself in a generation that does not know it: first nothing, to hear of the generation, then pages of counters. What was under
/// way when data was lost bears the name of the generation before, so that nothing of it can count in the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who.
    pub id: Arc<str>,
    /// The name by which people know it.
    pub name: Arc<str>,
    /// Which process it is.
    pub life: Arc<str>,
    /// Its number.
    pub seq: i64,
    /// What to name a generation by that begins with this message.
    pub candidate: Arc<str>,
    /// The generation that it reports to; `None` asks for it.
    pub generation: Option<Arc<str>>,
    /// The last generation that it has heard of, and that one's number.
    pub heard: (Arc<str>, i64),
    /// It was in touch with the generation before up to now: it knows all members.
    pub sure: bool,
    /// The members that it knows; with the last page.
    pub known: Vec<Known>,
    /// Its counters.
    pub lines: Vec<Line>,
    /// With this page it has told all.
    pub last: bool,
}

/// An operator says that a member will not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// The generation in which it has not told.
    pub generation: Arc<str>,
    /// Who.
    pub id: Arc<str>,
}

/// A member that somebody knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Until when it may hold something that counts, in milliseconds.
    pub until: i64,
}

/// A member as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub known: Known,
    /// Until when it counts as alive, by the server's time in milliseconds.
    pub expires: i64,
    /// Whether it has reported in this generation.
    pub here: bool,
}

/// What an instance holds of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub id: Arc<str>,
    /// Its allowance.
    pub allowance: i64,
    /// What it has spent of it, as it told.
    pub used: i64,
}

/// What is told of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTold {
    /// Nothing more was granted because not everybody has told, or the instance is too new.
    pub withheld: bool,
    /// Until when somebody lacks room; by the server's time.
    pub hungry: i64,
    /// All who hold something, the instance included.
    pub holders: Vec<Holder>,
}

impl LineTold {
    /// What a member may spend of it in all.
    pub(super) fn allowance(&self, id: &str) -> i64 {
        self.holders.iter().find(|holder| *holder.id == *id).map_or(0, |holder| holder.allowance)
    }
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
    /// Version of the list of members.
    pub version: i64,
    /// All members that are known of have reported.
    pub whole: bool,
    /// All who live have noted this member.
    pub joined: bool,
    /// Where to go on looking for windows that are over.
    pub swept: i64,
    /// The members.
    pub members: Vec<MemberView>,
    /// As many as were told.
    pub lines: Vec<LineTold>,
}

/// What a message is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The generation is another one, or does not know the member: it has to report.
    Lost,
    /// A message with a greater number came before: this one changed nothing.
    Stale,
    /// Another process goes by this member's ledger: a copy of it, which is counted once.
    Twin,
    /// There are too many members.
    Full,
    /// The answer.
    Fine(Told),
}
