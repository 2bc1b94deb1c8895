//! Invoices and usage exports as CSV.

use std::collections::BTreeMap;

use super::amount::nanos;
use super::compare::Sums;
use super::{ByDay, csv, undated};
use crate::costs::parse_time;

const DAY: i64 = 86_400_000_000_000;

/// Names of columns in common exports (OpenAI's costs and usage, Anthropic's cost and usage reports, and what people write by hand).
const DATES: &[&str] = &["date", "day", "usage_date_utc", "usage_date", "start_time_iso", "start_time", "bucket_start", "timestamp"];
const METERS: &[&str] = &["meter", "target", "model", "line_item", "sku", "service", "product"];
const AMOUNTS: &[&str] = &["amount", "amount_usd", "amount_value", "cost", "cost_usd", "total_usd", "charge"];
const UNITS: &[&str] = &["units", "quantity", "total_tokens", "usage_quantity"];
/// Columns of tokens that are summed where there is no column of units.
const TOKENS: &[&str] = &[
    "input_tokens",
    "output_tokens",
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
    "usage_output_tokens",
];
const CALLS: &[&str] = &["num_model_requests", "num_requests", "requests", "calls"];

/// Which column is what; what is not named is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    columns: BTreeMap<String, Vec<String>>,
    /// What the invoice calls a meter, and what the log calls it.
    pub aliases: BTreeMap<String, String>,
}

/// Why an invoice cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvoiceError(String);

impl Mapping {
    /// Reads `date=COLUMN,meter=COLUMN,units=COLUMN+COLUMN,amount=COLUMN,calls=COLUMN`.
    ///
    /// # Errors
    /// A part that is none of these.
    pub fn parse(text: &str) -> Result<Self, InvoiceError> {
        let mut mapping = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let known = |name: &str| ["date", "meter", "units", "amount", "calls"].contains(&name);
            let Some((name, columns)) = part.split_once('=').filter(|(name, _)| known(name)) else {
                return Err(InvoiceError(format!("--map: `{part}` is not date=, meter=, units=, amount= or calls= with a column's name")));
            };
            mapping.columns.insert(name.to_owned(), columns.split('+').map(str::to_owned).collect());
        }
        Ok(mapping)
    }
}

/// An invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoice {
    /// Its sums.
    pub days: ByDay,
    /// Whether its units are calls and not tokens.
    pub counts_calls: bool,
    /// Whether it has units, and money.
    pub has: (bool, bool),
    /// Which column was taken for what, for the reader to see.
    pub columns: Vec<(&'static str, String)>,
}

/// Where the columns are.
struct Places {
    date: usize,
    meter: Option<usize>,
    units: Vec<usize>,
    amount: Option<usize>,
}

impl Invoice {
    /// Reads a CSV text.
    ///
    /// # Errors
    /// A column that is not there, and cells that cannot be read, with their line.
    pub fn read(text: &str, mapping: &Mapping) -> Result<Self, InvoiceError> {
        let mut records = csv::records(text).map_err(InvoiceError)?.into_iter();
        let Some((_, head)) = records.next() else { return Err(InvoiceError("the invoice is empty".to_owned())) };
        let mut invoice = Self::default();
        let places = invoice.places(&head, mapping)?;
        for (line, record) in records {
            let cell = |at: usize| record.get(at).map_or("", |cell| cell.trim());
            let wrong = |at: usize, what: &str| {
                InvoiceError(format!(
                    "line {line}: column `{}` has `{}`, which is no {what}",
                    head.get(at).map_or("", |name| name.as_str()),
                    cell(at)
                ))
            };
            let day = day(cell(places.date)).ok_or_else(|| wrong(places.date, "day (2026-11-01, RFC 3339, or seconds since 1970)"))?;
            // An empty cell is none of it.
            let number = |at: usize| if cell(at).is_empty() { Ok(0) } else { nanos(cell(at)).ok_or_else(|| wrong(at, "number")) };
            let units = places.units.iter().try_fold(0, |sum, at| number(*at).map(|units| sum + units))?;
            let amount = places.amount.map_or(Ok(0), number)?;
            let meter = places.meter.map_or("(all)", cell);
            let sums = Sums { units: units / 1_000_000_000, nanos: amount, unpriced: 0 };
            *invoice.days.entry((day, meter_of(meter, mapping))).or_default() += sums;
        }
        Ok(invoice)
    }

    /// Its first and last day; `None` without any.
    pub fn span(&self) -> Option<(i64, i64)> {
        let days = || self.days.keys().map(|(day, _)| *day);
        Some((days().min()?, days().max()?))
    }

    fn places(&mut self, head: &[String], mapping: &Mapping) -> Result<Places, InvoiceError> {
        let at = |name: &str| head.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
        let of = |role: &str, names: &[&str]| -> Result<Vec<usize>, InvoiceError> {
            let Some(asked) = mapping.columns.get(role) else { return Ok(names.iter().filter_map(|name| at(name)).take(1).collect()) };
            asked.iter().map(|name| at(name).ok_or_else(|| InvoiceError(format!("--map {role}: {}", missing(name, head))))).collect()
        };
        let first = |places: &[usize]| places.first().copied();
        let date = first(&of("date", DATES)?);
        let date = date.ok_or_else(|| InvoiceError(format!("no column of days: {}", missing("date", head))))?;
        let (meter, amount) = (first(&of("meter", METERS)?), first(&of("amount", AMOUNTS)?));
        let mut units = of("units", UNITS)?;
        if units.is_empty() && !mapping.columns.contains_key("calls") {
            units = TOKENS.iter().filter_map(|name| at(name)).collect();
        }
        if units.is_empty() {
            units = of("calls", CALLS)?;
            self.counts_calls = !units.is_empty();
        }
        if units.is_empty() && amount.is_none() {
            return Err(InvoiceError(format!("no column of money or units: {}", missing("amount", head))));
        }
        self.has = (!units.is_empty(), amount.is_some());
        let name = |at: usize| head.get(at).cloned().unwrap_or_default();
        self.columns.push(("date", name(date)));
        self.columns.extend(meter.map(|at| ("meter", name(at))));
        if !units.is_empty() {
            self.columns
                .push((if self.counts_calls { "calls" } else { "units" }, units.iter().map(|at| name(*at)).collect::<Vec<_>>().join("+")));
        }
        self.columns.extend(amount.map(|at| ("amount", name(at))));
        Ok(Places { date, meter, units, amount })
    }
}

fn missing(name: &str, head: &[String]) -> String {
    format!(
        "there is no column `{name}`; the file has {}; name it with --map",
        head.iter().map(|name| name.trim()).collect::<Vec<_>>().join(", ")
    )
}

/// What the log calls a meter: line items as `gpt-4o-2024-08-06, input` are of their target.
fn meter_of(meter: &str, mapping: &Mapping) -> String {
    let alias = |name: &str| mapping.aliases.get(name).cloned();
    let plain = meter.split(", ").next().unwrap_or(meter).trim();
    alias(meter).or_else(|| alias(plain)).unwrap_or_else(|| undated(plain).to_owned())
}

fn day(text: &str) -> Option<i64> {
    let seconds = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten().filter(|_| text.len() >= 9);
    // `2026-11-01 00:00:00` and the like: the day is what counts.
    let whole = parse_time(text).or_else(|| parse_time(text.get(..10).filter(|_| text.as_bytes().get(10) == Some(&b' '))?));
    let time = seconds.map(|seconds| seconds.checked_mul(1_000_000_000)).unwrap_or_else(|| whole.map(|time| time.nanos()))?;
    Some(time.div_euclid(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, map: &str) -> Vec<(i64, String, i128, i128)> {
        let invoice = Invoice::read(text, &Mapping::parse(map).unwrap()).unwrap();
        invoice.days.into_iter().map(|((day, meter), sums)| (day, meter, sums.units, sums.nanos)).collect()
    }

    #[test]
    fn common_exports_are_recognised() {
        let day = 20_758; // 2026-11-01
        let costs = "start_time,end_time,start_time_iso,amount_value,amount_currency,line_item\n\
            1793491200,1793577600,2026-11-01T00:00:00+00:00,0.5,usd,\"gpt-4o-mini-2024-07-18, input\"\n\
            1793491200,1793577600,2026-11-01T00:00:00+00:00,1.25,usd,\"gpt-4o-mini-2024-07-18, output\"\n";
        assert_eq!(told(costs, ""), [(day, "gpt-4o-mini".to_owned(), 0, 1_750_000_000)]);
        let usage = "start_time,model,num_model_requests,input_tokens,output_tokens\n1793491200,gpt-4o,3,100,20\n";
        assert_eq!(told(usage, ""), [(day, "gpt-4o".to_owned(), 120, 0)]);
        assert_eq!(told(usage, "calls=num_model_requests"), [(day, "gpt-4o".to_owned(), 3, 0)]);
        let anthropic = "usage_date_utc,model,usage_input_tokens_no_cache,usage_input_tokens_cache_read,usage_output_tokens,cost_usd\n\
            2026-11-01,claude-sonnet-4-20250514,10,5,7,0.000123\n2026-11-01,claude-sonnet-4-20250514,1,,1,\n";
        assert_eq!(told(anthropic, ""), [(day, "claude-sonnet-4".to_owned(), 24, 123_000)]);
    }

    #[test]
    fn other_columns_are_named_and_what_is_wrong_is_said() {
        let text = "Tag;x,Menge,Betrag,Wofür\n";
        let file = format!("{text}2026-11-01 00:00:00,2,\"1,500\",geo\n");
        let error = |text: &str, map: &str| Mapping::parse(map).and_then(|map| Invoice::read(text, &map)).unwrap_err().to_string();
        assert!(error(&file, "").contains("no column of days: there is no column `date`; the file has Tag;x, Menge"));
        assert!(error(&file, "date=Datum").contains("--map date: there is no column `Datum`"));
        assert!(error(&file, "day=x").contains("--map: `day=x` is not date="));
        assert!(error("", "").contains("empty"));
        assert!(error("date,cost\n2026-13-01,1\n", "").contains("line 2: column `date` has `2026-13-01`, which is no day"));
        assert!(error("date,cost\n2026-11-01,much\n", "").contains("column `cost` has `much`, which is no number"));
        assert!(error("date,model\n2026-11-01,x\n", "").contains("no column of money or units"));
        let map = "date=Tag;x,units=Menge,amount=Betrag,meter=Wofür";
        assert_eq!(told(&file, map), [(20_758, "geo".to_owned(), 2, 1_500_000_000_000)], "a comma groups thousands");
        let decimal = file.replace("1,500", "1,5");
        assert!(error(&decimal, map).contains("column `Betrag` has `1,5`, which is no number"), "and is never a decimal one");
    }
}
