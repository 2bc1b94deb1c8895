//! Token counts and metered amounts out of provider answers, and what a request asks for.
//!
//! Read are the shapes of OpenAI (chat completions, legacy completions, responses, embeddings), of Anthropic (messages) and of Gemini
//! (content generation), as plain JSON and as server-sent events, and whatever the prices' own pointers name. The body is scanned as it passes, decoded where it is
//! compressed; only the few values of interest are held, each in a bounded buffer, so an answer may be of any length.
//!
//! The counts become disjoint buckets of [`Usage`] whose sum is the provider's own total; a provider that contradicts itself is
//! believed, and marked. What the provider did not report stays `None`, or is [`estimate`]d and marked so.

mod billing;
mod decode;
pub mod estimate;
mod facts;
mod gemini;
pub mod inject;
mod scan;
pub mod service;
pub mod strip;
mod tap;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use farthing_types::Usage;

pub use billing::{Billing, asks_after};
pub use decode::{Stopped, plain};
pub use facts::RequestFacts;
pub(crate) use scan::Path;
pub use tap::UsageTap;
pub(crate) use tap::wanted;

use crate::prices::Amounts;

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReading {
    /// Metered amounts; `None` when the answer reports none.
    pub usage: Option<Usage>,
    /// The provider contradicts itself: its buckets do not sum to its total.
    pub contradictory: bool,
    /// The target that answered, as the provider names it.
    pub target: Option<Arc<str>>,
    /// The service tier that answered, as the provider names it.
    pub service: Option<Arc<str>>,
    /// What stands where the prices' meters look.
    pub amounts: Amounts,
    /// Bytes of generated text so far: what an estimate of the output goes by.
    pub text_bytes: u64,
    /// Why the rest of the body was not read.
    pub stopped: Option<Stopped>,
}
