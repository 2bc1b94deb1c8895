//! Trait Origin and its decorators.
