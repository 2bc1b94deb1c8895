//! A route with several providers: who they are, how each is spoken to, and how one is chosen for a call.

use std::sync::Arc;

use farthing_types::WeightsByPriority;
use http::{HeaderName, HeaderValue, StatusCode};

/// How one of several providers is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingConfig {
    /// The providers, in the order in which equals are taken; never empty.
    pub providers: Vec<LegConfig>,
    /// What counts, by priority; `None`: the usual weights.
    pub weights: WeightsByPriority,
    /// The least quality of who gets calls, as long as anybody has it, 0 to 1.
    pub floor: f64,
    /// JSON pointers to what an answer in the route's shape must have.
    pub required: Vec<Arc<str>>,
    /// Least share of these that an answer is delivered with, 0 to 1.
    pub complete: f64,
}

/// One of a route's providers.
#[derive(Clone, Debug, PartialEq)]
pub struct LegConfig {
    /// The provider.
    pub provider: Arc<str>,
    /// What its answers are worth beside the best, 0 to 1.
    pub quality: f64,
    /// How it is spoken to; `None`: like the route.
    pub adapter: Option<AdapterConfig>,
}

/// What is changed on the way to a provider and back. Pairs are the route's name first, then the provider's.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// The paths of the route that it can answer; `None`: all.
    pub path: Option<Arc<str>>,
    /// The path that it is asked for instead.
    pub to: Option<Arc<str>>,
    /// Query parameters with another name.
    pub rename_query: Vec<(Arc<str>, Arc<str>)>,
    /// Query parameters with this value.
    pub set_query: Vec<(Arc<str>, Arc<str>)>,
    /// Query parameters that are left out.
    pub drop_query: Vec<Arc<str>>,
    /// Headers with this value.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Values of the JSON body that stand elsewhere, by pointer.
    pub rename_body: Vec<(Arc<str>, Arc<str>)>,
    /// Values of the JSON body, as JSON text, by pointer.
    pub set_body: Vec<(Arc<str>, Arc<str>)>,
    /// Values of an answer, by pointer.
    pub answer: Vec<(Arc<str>, Arc<str>)>,
    /// Values that each mapped answer has, as JSON text, by pointer.
    pub set_answer: Vec<(Arc<str>, Arc<str>)>,
    /// Values of an error, by pointer.
    pub error: Vec<(Arc<str>, Arc<str>)>,
    /// What makes an answer that says that it is good an error.
    pub error_if: Vec<ErrorIfConfig>,
    /// Most bytes of an answer that is mapped.
    pub max_answer: u64,
}

impl Default for AdapterConfig {
    /// Changes nothing.
    fn default() -> Self {
        Self {
            path: None,
            to: None,
            rename_query: Vec::new(),
            set_query: Vec::new(),
            drop_query: Vec::new(),
            set_headers: Vec::new(),
            rename_body: Vec::new(),
            set_body: Vec::new(),
            answer: Vec::new(),
            set_answer: Vec::new(),
            error: Vec::new(),
            error_if: Vec::new(),
            max_answer: 4_000_000,
        }
    }
}

/// An error that calls itself a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorIfConfig {
    /// Where to look.
    pub pointer: Arc<str>,
    /// What means an error; empty: anything but nothing, `null` and `false`.
    pub is: Vec<Arc<str>>,
    /// The status that the client gets.
    pub status: StatusCode,
}
