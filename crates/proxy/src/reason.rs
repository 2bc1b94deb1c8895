//! Why an operator orders something: asked for with each order, kept with it and logged.

/// Longest reason that is kept, in bytes.
pub const LONGEST_REASON: usize = 500;

/// Whether a reason is given, and not too long.
pub fn is_said(reason: &str) -> bool {
    !reason.trim().is_empty() && reason.len() <= LONGEST_REASON
}
