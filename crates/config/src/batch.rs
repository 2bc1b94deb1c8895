//! How calls of a route are made together.

use std::sync::Arc;

use farthing_types::Span;

/// How long the first call of a batch waits for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchWindow {
    /// By the rate of calls.
    #[default]
    Auto,
    /// As long as it takes until the batch is full.
    Learned,
    /// So long.
    Fixed(Span),
}

/// What a batch looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchFormat {
    /// An envelope `{"requests":[...]}`, posted to this path and query.
    Rest {
        /// Path and query.
        path: Arc<str>,
    },
    /// A list of ids in the URL.
    IdList(IdListConfig),
    /// An array of GraphQL requests, posted to where one would be.
    GraphqlArray,
    /// GraphQL queries as one query, whose fields have names of their own.
    GraphqlMerge,
    /// Input arrays of embeddings, as OpenAI has them.
    Embeddings,
}

/// Lists of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdListConfig {
    /// Path and query of a single call, before and after its id.
    pub single: (Arc<str>, Arc<str>),
    /// Path and query of a list, before and after its ids.
    pub list: (Arc<str>, Arc<str>),
    /// What stands between ids.
    pub separator: Arc<str>,
    /// JSON pointer to the items; empty for the whole answer.
    pub items: Arc<str>,
    /// JSON pointer to an item's id, within it.
    pub id: Arc<str>,
    /// Body of the 404 for an id that is not in the list.
    pub missing: Arc<str>,
    /// A list's answer before and after its items, as it is put together of them.
    pub answer: (Arc<str>, Arc<str>),
}

/// How calls of a route are made together.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchConfig {
    /// What a batch looks like.
    pub format: BatchFormat,
    /// How long the first call waits.
    pub window: BatchWindow,
    /// Most calls, or inputs where a call has several, in a batch.
    pub max_size: u32,
    /// Most bytes of their parts of the request.
    pub max_bytes: u64,
    /// Below this many calls per second nobody waits.
    pub min_rate: f64,
    /// How long a batch call may take before its members are made alone.
    pub timeout: Span,
    /// Most bytes of its answer.
    pub max_answer: u64,
    /// Requests that carry a list themselves are answered item by item.
    pub split: bool,
}

impl BatchConfig {
    /// Batches of this format, with the defaults.
    pub const fn new(format: BatchFormat) -> Self {
        Self {
            format,
            window: BatchWindow::Auto,
            max_size: 100,
            max_bytes: 1_000_000,
            min_rate: 10.0,
            timeout: Span::from_secs(5),
            max_answer: 32_000_000,
            split: false,
        }
    }
}
