//! The decisions, pure and synchronous.
