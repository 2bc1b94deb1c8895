//! How prompts of a route are marked for the provider's own cache.

use farthing_types::Span;

/// How long the provider is told to keep a prompt after its last use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptTtl {
    /// Five minutes: the usual lifetime.
    #[default]
    FiveMinutes,
    /// An hour, at a higher price of writing.
    Hour,
}

impl PromptTtl {
    /// As a span.
    pub const fn span(self) -> Span {
        match self {
            Self::FiveMinutes => Span::from_secs(300),
            Self::Hour => Span::from_secs(3_600),
        }
    }
}

/// How prompts of a route are marked for the provider's own cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptCacheConfig {
    /// How long it is told to keep them.
    pub ttl: PromptTtl,
    /// Shortest prefix that the provider keeps, tokens.
    pub min_tokens: u32,
}

impl Default for PromptCacheConfig {
    fn default() -> Self {
        Self { ttl: PromptTtl::FiveMinutes, min_tokens: 1_024 }
    }
}
