//! Marks in prompts: after which parts of a prompt the provider is told to keep what came before, where the reads that are expected pay for
//! the write.
//!
//! A provider with marked prompt caching (Anthropic) keeps the prefix of a prompt that ends at a mark, bills the write dearer than plain input
//! and later reads far cheaper, and forgets a prefix some time after its last use. Without a mark it keeps nothing. A prefix that ends at one
//! of a prompt's [`Boundary`]s is known by its digest; what is learned of it (`memory`) is how often it came again before it would have been
//! forgotten, whether it was marked or not: so nothing has to be paid to learn. Which marks pay is in `choose`, whether they do on a route at
//! all in [`crate::switches::MarkWorth`].

mod choose;
mod keys;
mod memory;
#[cfg(test)]
mod tests;

use farthing_types::{Span, Time, reasons};

use crate::prompt_cache::WritePrices;

pub use keys::PromptKeys;
pub use memory::PromptMarks;

/// The parts of a prompt, in the order in which a provider keeps them, whatever order a request names them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Definitions of tools.
    Tools,
    /// The system prompt.
    System,
    /// The turns of the conversation.
    Messages,
}

/// A place in a prompt where a prefix may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// Stands for whoever asks, the target, and everything up to here.
    pub digest: u64,
    /// Units of input up to here: bytes, or tokens.
    pub size: u64,
    /// Blocks of content up to here.
    pub blocks: u32,
    /// The part that it ends, or is in.
    pub part: Part,
    /// How many turns follow it.
    pub to_end: u32,
    /// A mark can be put here.
    pub markable: bool,
}

/// How a provider takes marks, and what of it is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkTerms {
    /// How long a prefix is kept after its last use.
    pub ttl: Span,
    /// Shortest prefix that is kept, in the boundaries' units.
    pub min_size: u64,
    /// Most marks in a request.
    pub most: usize,
    /// Blocks before a mark in which the provider looks for a prefix that it has.
    pub lookback: u32,
    /// Most prefixes that are remembered.
    pub capacity: usize,
}

reasons! {
    /// What was decided about the marks of a prompt, and why.
    MarkReason {
        /// It was marked.
        Marked = "marked",
        /// Reads that are expected do not pay for a write.
        FewReads = "few-reads",
        /// No prefix is long enough to be kept.
        Short = "short",
        /// What writing and reading cost is not known.
        NoPrice = "no-price",
        /// The client has marked it itself.
        Client = "client",
        /// It cannot be read, or is too long to be.
        Unreadable = "unreadable",
        /// Marks did not pay on the route lately.
        SwitchedOff = "switched-off",
        /// It was given a key, by which the provider sends alike prompts to where they are kept.
        Keyed = "keyed",
        /// The provider refused it so, and was asked again without.
        Refused = "refused",
    }
}

/// Where a prompt is marked.
#[derive(Clone, Debug, PartialEq)]
pub struct Marking {
    /// Places among its boundaries, ascending; none where it is not marked.
    pub marks: Vec<usize>,
    /// Why.
    pub why: MarkReason,
    /// Units that are expected to be read from the provider's cache by this very call.
    pub read: u64,
    /// Units that it is expected to write.
    pub written: u64,
}

impl Marking {
    /// No marks, for one reason.
    pub const fn none(why: MarkReason) -> Self {
        Self { marks: Vec::new(), why, read: 0, written: 0 }
    }
}

/// What came of the prefixes that a call has marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The provider said that it read or wrote.
    Used,
    /// It said that it did neither.
    Ignored,
    /// It gave no answer.
    Failed,
}

/// A decision to be made about the marks of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct MarkAsk<'a> {
    /// When its call begins.
    pub now: Time,
    /// Where its prefixes may end, the shortest first.
    pub boundaries: &'a [Boundary],
    /// What writing and reading cost; `None` where that is not known.
    pub prices: Option<WritePrices>,
    /// Marks are allowed; else the prompt is learned from alone.
    pub may: bool,
}
