//! Names of counters in the fleet's place.

use std::fmt::Write;
use std::sync::Arc;

use farthing_types::BudgetSpec;
use sha2::{Digest, Sha256};

use super::agree::end_of;
use crate::budget::{CounterKey, WindowSpan};

/// What tells budgets of one name apart: over which time, and whose calls each counts. Not the limit, nor what happens at its end.
pub(in crate::budget) fn digest(spec: &BudgetSpec) -> Arc<str> {
    let text = format!("{}|{}|{:?}|{:?}", spec.window, spec.zone, spec.per, spec.scope);
    let mut digest = hex::encode(Sha256::digest(text.as_bytes()));
    digest.truncate(12);
    digest.into()
}

/// The name of a counter in a window: its end first, by which what is over is found.
pub(super) fn field(digest: &str, key: &CounterKey, window: WindowSpan) -> Arc<str> {
    let mut name = format!("c:{}:{}:{digest}:", end_of(window), window.start.millis());
    let _never_fails = write!(name, "{}\0{}", key.budget, key.unit);
    name.into()
}

/// Budget and unit of a counter.
pub(super) fn named(field: &str) -> Option<(&str, &str)> {
    field.splitn(5, ':').nth(4)?.split_once('\0')
}
