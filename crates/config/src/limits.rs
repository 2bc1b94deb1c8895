//! What holds when too much is under way.

use std::sync::Arc;

/// Bounds of what is under way in the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct OverloadConfig {
    /// Most requests at a time that the cache cannot answer.
    pub max_requests: usize,
    /// Most bytes of request bodies that are held for them.
    pub max_bytes: u64,
    /// Groups of tenants with a share of both of their own.
    pub tiers: Vec<TierConfig>,
}

impl Default for OverloadConfig {
    fn default() -> Self {
        Self { max_requests: 10_000, max_bytes: 512_000_000, tiers: Vec::new() }
    }
}

/// A group of tenants.
#[derive(Clone, Debug, PartialEq)]
pub struct TierConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Its tenants.
    pub tenants: Vec<Arc<str>>,
    /// What nobody else may use of the bounds.
    pub share: f64,
}
