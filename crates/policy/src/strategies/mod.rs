//! One strategy per file.

pub mod batch;
pub mod cache;
pub mod dedupe;
pub mod defer;
pub mod prefetch;
pub mod prompt_cache;
pub mod ttl_fixed;
pub mod ttl_model;
pub mod ttl_rule;
pub mod ttl_table;
