//! Token counts out of provider answers, and the target out of requests.
//!
//! Read are the shapes of OpenAI (chat completions, responses, embeddings) and of Anthropic (messages), as plain JSON
//! and as server-sent events. The body is scanned as it passes; only the few values of interest are held, each in a
//! bounded buffer, so an answer may be of any length.
//!
//! The counts become disjoint buckets of [`Usage`] whose sum is the provider's own total. What the provider did not
//! report stays `None`.

mod scan;
mod tap;
#[cfg(test)]
mod tests;
mod tokens;

use std::sync::Arc;

use farthing_types::Usage;

pub use tap::UsageTap;

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReading {
    /// Metered amounts; `None` when the answer reports none.
    pub usage: Option<Usage>,
    /// The target that answered, as the provider names it.
    pub target: Option<Arc<str>>,
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The `model` of the JSON body.
    pub target: Option<Arc<str>>,
    /// Whether the body asks for a stream (`"stream": true`).
    pub stream: bool,
}

impl RequestFacts {
    /// Bytes of a request body that are read at most.
    pub const LIMIT: usize = 1 << 20;

    /// Reads `model` and `stream` out of a JSON object. The body may be cut short and is read up to [`Self::LIMIT`]:
    /// what does not appear by then counts as absent, as in a body that is no JSON object.
    pub fn read(body: &[u8]) -> Self {
        tap::request_facts(body.get(..Self::LIMIT).unwrap_or(body))
    }
}
