//! The same sums from the log's calls.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use farthing_contract::log::{CallRow, Row, Value};

use super::compare::Sums;
use super::{ByDay, Mapping, undated};
use crate::read::{self, ReadError};

const DAY: i64 = 86_400_000_000_000;
/// Meters and days that are told apart; the rest of a day is one.
const MOST: usize = 100_000;

/// Calls of `days` (since 1970 UTC, both included) by day and target, of one provider or of all. Units are calls that were sent, or tokens
/// of all kinds; a target is named without the date of its release. Reads files.
///
/// # Errors
/// A file that cannot be read.
pub fn logged(dir: &Path, days: (i64, i64), provider: Option<&str>, (counts_calls, mapping): (bool, &Mapping)) -> Result<ByDay, ReadError> {
    let fixed = ["ts_ns", "provider", "target", "sent", "cost_nanousd"];
    let tokens = CallRow::TABLE.columns.iter().map(|column| column.name).filter(|name| name.starts_with("tokens_"));
    let columns: Vec<&str> = fixed.into_iter().chain(tokens).collect();
    let mut sums: ByDay = BTreeMap::new();
    read::rows(dir, CallRow::TABLE, &columns, &mut |cells| {
        let [Value::I64(ts), Value::Text(by), target, sent, cost, tokens @ ..] = cells else { return ControlFlow::Continue(()) };
        let day = ts.div_euclid(DAY);
        if day < days.0 || day > days.1 || provider.is_some_and(|provider| provider != *by) {
            return ControlFlow::Continue(());
        }
        let meter = match target {
            Value::Text(target) => mapping.aliases.get(*target).map_or_else(|| undated(target), String::as_str),
            _ => by,
        };
        let of = |value: &Value<'_>| if let Value::I64(value) = value { i128::from(*value) } else { 0 };
        let sent = matches!(sent, Value::Bool(true));
        let row = Sums {
            units: if counts_calls { i128::from(sent) } else { tokens.iter().map(of).sum() },
            nanos: of(cost),
            unpriced: i128::from(matches!(cost, Value::Null)),
        };
        let key = (day, meter.to_owned());
        let key = if sums.len() < MOST || sums.contains_key(&key) { key } else { (day, "(others)".to_owned()) };
        *sums.entry(key).or_default() += row;
        ControlFlow::Continue(())
    })?;
    Ok(sums)
}
