//! What the places have in common where instances of a fleet share [budgets](crate::budget::fleet) and [limits](crate::limit::fleet): scripts that Redis
//! runs, which all begin with `place.lua`, and their models.

use farthing_types::Span;

/// Where and when a message is taken.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The run of the server.
    pub run: &'a str,
    /// Its time in milliseconds.
    pub now: i64,
}

/// A length of time as messages tell it.
pub fn millis(span: Span) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A script's argument that is true or not.
pub fn flag(set: bool) -> String {
    u8::from(set).to_string()
}
