//! How WebSockets of a route are tunnelled.

use std::sync::Arc;

use farthing_types::Span;

/// How WebSockets of a route are tunnelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeConfig {
    /// A tunnel through which nothing has passed for so long, either way, is closed.
    pub idle: Span,
    /// The longest that one may last.
    pub longest: Span,
    /// Sites whose pages may open one, beside those of the host that is asked, as browsers write them; `*` is any.
    pub origins: Vec<Arc<str>>,
}

impl Default for UpgradeConfig {
    fn default() -> Self {
        Self { idle: Span::from_secs(300), longest: Span::from_secs(86_400), origins: Vec::new() }
    }
}
