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
    let fixed = ["ts_ns", "provider", "target", "sent", "cost_nanousd", "call_id", "batch_id"];
    let tokens = CallRow::TABLE.columns.iter().map(|column| column.name).filter(|name| name.starts_with("tokens_"));
    let columns: Vec<&str> = fixed.into_iter().chain(tokens).collect();
    let mut sums: ByDay = BTreeMap::new();
    read::rows(dir, CallRow::TABLE, &columns, &mut |cells| {
        let [Value::I64(ts), Value::Text(by), target, sent, cost, call, batch, tokens @ ..] = cells else {
            return ControlFlow::Continue(());
        };
        let day = ts.div_euclid(DAY);
        if day < days.0 || day > days.1 || provider.is_some_and(|provider| provider != *by) {
            return ControlFlow::Continue(());
        }
        let meter = match target {
            Value::Text(target) => mapping.aliases.get(*target).map_or_else(|| undated(target), String::as_str),
            _ => by,
        };
        let of = |value: &Value<'_>| if let Value::I64(value) = value { i128::from(*value) } else { 0 };
        // A call that was made for several has a row for each: the first stands for it.
        let counts = matches!(batch, Value::Null) || batch == call;
        let sent = matches!(sent, Value::Bool(true)) && counts;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_call_for_several_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(farthing_types::RealClock::default());
        let writer = crate::LogWriter::open(dir.path(), crate::LogConfig::default(), clock).unwrap();
        for call_id in 1..=3 {
            let (provider, cost_nanousd) = ("p".into(), Some(2));
            writer.handle().write(CallRow {
                ts_ns: DAY,
                provider,
                sent: true,
                call_id,
                batch_id: Some(1),
                cost_nanousd,
                ..CallRow::default()
            });
        }
        writer.close();
        let sums = logged(dir.path(), (1, 1), None, (true, &Mapping::default())).unwrap();
        assert_eq!(sums[&(1, "p".to_owned())], Sums { units: 1, nanos: 6, unpriced: 0 });
    }
}
