//! What is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::Time;

use super::dimension::Dimension;
use super::window::{Window, parse_span};

/// Most names that money is grouped by at a time.
const MOST_NAMES: usize = 6;
/// Most steps of a series.
const MOST_STEPS: i64 = 10_000;
/// Groups that are answered unless asked otherwise; the others become one.
const TOP: usize = 1_000;

/// Rows whose name is one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The name.
    pub by: Dimension,
    /// Its values; the empty one stands for rows without a value.
    pub values: Vec<Arc<str>>,
}

/// A question about money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostQuery {
    /// Over what time.
    pub window: Window,
    /// Grouped by these names; none: one group.
    pub by: Vec<Dimension>,
    /// Only rows that all of these take.
    pub filters: Vec<Filter>,
    /// Most groups; the others become one that says so.
    pub top: usize,
    /// Width of the steps of a series, ns; `None`: no series.
    pub step: Option<i64>,
    /// Only calls: requests are not read.
    pub calls_only: bool,
}

/// What is wrong with a question, and what can be asked instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(pub String);

/// The texts of a question, as they stand in a URL or on a command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// See [`Window::parse`].
    pub window: Option<&'a str>,
    /// Names, with commas between.
    pub by: Option<&'a str>,
    /// `NAME:VALUE`, with commas between; values of the same name are alternatives.
    pub filter: Option<&'a str>,
    /// Most groups.
    pub top: Option<&'a str>,
    /// Width of steps: `1h`, `1d`.
    pub step: Option<&'a str>,
}

impl CostQuery {
    /// All money of a window.
    pub fn of(window: Window) -> Self {
        Self { window, by: Vec::new(), filters: Vec::new(), top: TOP, step: None, calls_only: false }
    }

    /// Reads a question.
    ///
    /// # Errors
    /// Names that do not exist with those that do, and texts that cannot be read with what can be written.
    pub fn parse(asked: Asked<'_>, now: Time) -> Result<Self, QueryError> {
        let window = Window::parse(asked.window.unwrap_or("7d"), now).map_err(QueryError)?;
        let by = names(asked.by.unwrap_or_default())?;
        let filters = filters(asked.filter.unwrap_or_default())?;
        let top = asked.top.map(top).transpose()?.unwrap_or(TOP);
        let step = asked.step.map(|text| step(text, window)).transpose()?;
        let query = Self { window, by, filters, top, step, calls_only: false };
        if query.reads() == (false, false) {
            return Err(QueryError(format!(
                "no row knows all the names of the filter ({}): requests know outcome and saved_by, calls know target, upstream and purpose",
                query.filters.iter().map(|filter| filter.by.to_string()).collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(query)
    }

    /// Whether requests and calls know all names of the filter; a table that does not is not read.
    pub fn reads(&self) -> (bool, bool) {
        let known = self.filters.iter().map(|filter| filter.by.known_in());
        known.fold((!self.calls_only, true), |(requests, calls), (in_requests, in_calls)| (requests && in_requests, calls && in_calls))
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn name(text: &str, what: &str) -> Result<Dimension, QueryError> {
    Dimension::parse(text).ok_or_else(|| QueryError(format!("{what}: there is no name `{text}`; use {}", Dimension::known())))
}

fn names(text: &str) -> Result<Vec<Dimension>, QueryError> {
    let mut by: Vec<Dimension> = Vec::new();
    for part in parts(text) {
        let dimension = name(part, "aggregate")?;
        if !by.contains(&dimension) {
            by.push(dimension);
        }
    }
    if by.len() > MOST_NAMES {
        return Err(QueryError(format!("aggregate: {} names; use at most {MOST_NAMES}", by.len())));
    }
    Ok(by)
}

fn filters(text: &str) -> Result<Vec<Filter>, QueryError> {
    let mut found: BTreeMap<Dimension, Vec<Arc<str>>> = BTreeMap::new();
    for part in parts(text) {
        // The name of a tag has a colon of its own.
        let colon = part.strip_prefix("tag:").map_or_else(|| part.find(':'), |rest| rest.find(':').map(|at| at + 4));
        let Some((by, value)) = colon.map(|at| (&part[..at], &part[at + 1..])) else {
            return Err(QueryError(format!("filter: `{part}` is not NAME:VALUE; names are {}", Dimension::known())));
        };
        found.entry(name(by, "filter")?).or_default().push(value.into());
    }
    Ok(found.into_iter().map(|(by, values)| Filter { by, values }).collect())
}

fn top(text: &str) -> Result<usize, QueryError> {
    let count = text.parse().ok().filter(|count| (1..=10_000).contains(count));
    count.ok_or_else(|| QueryError(format!("top: `{text}` is no number from 1 to 10000")))
}

fn step(text: &str, window: Window) -> Result<i64, QueryError> {
    let step = parse_span(text).ok_or_else(|| QueryError(format!("step: `{text}` is no time like 1h or 1d")))?;
    let steps = window.to.nanos().saturating_sub(window.from.nanos()) / step;
    if steps > MOST_STEPS {
        return Err(QueryError(format!("step: the window has {steps} steps of {text}; use at most {MOST_STEPS}, with a longer step")));
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::window::parse_time;

    fn now() -> Time {
        parse_time("2026-11-26T12:00:00Z").unwrap()
    }

    #[test]
    fn a_question_is_read() {
        let asked = Asked {
            window: Some("24h"),
            by: Some("team, route,team"),
            filter: Some("provider:openai,tenant:acme,provider:anthropic,tag:city:x:y,team:"),
            top: Some("20"),
            step: Some("1h"),
        };
        let query = CostQuery::parse(asked, now()).unwrap();
        assert_eq!(query.by, [Dimension::Team, Dimension::Route]);
        let told: Vec<_> = query.filters.iter().map(|f| format!("{}={}", f.by, f.values.join("|"))).collect();
        assert_eq!(told, ["tenant=acme", "team=", "provider=openai|anthropic", "tag:city=x:y"]);
        assert_eq!((query.top, query.step, query.reads()), (20, Some(3_600_000_000_000), (true, true)));
        assert_eq!(CostQuery::parse(Asked::default(), now()).unwrap(), CostQuery::of(Window::parse("7d", now()).unwrap()));
    }

    #[test]
    fn what_cannot_be_asked_is_answered_with_what_can() {
        for (asked, told) in [
            (Asked { by: Some("model"), ..Asked::default() }, "no name `model`; use tenant, team"),
            (Asked { filter: Some("model:x"), ..Asked::default() }, "no name `model`; use tenant, team"),
            (Asked { filter: Some("openai"), ..Asked::default() }, "not NAME:VALUE"),
            (Asked { filter: Some("outcome:hit,purpose:user"), ..Asked::default() }, "no row knows all the names"),
            (Asked { by: Some("tenant,team,service,route,provider,target,upstream"), ..Asked::default() }, "at most 6"),
            (Asked { top: Some("0"), ..Asked::default() }, "1 to 10000"),
            (Asked { step: Some("1"), ..Asked::default() }, "1h or 1d"),
            (Asked { step: Some("1s"), ..Asked::default() }, "604800 steps"),
            (Asked { window: Some("soon"), ..Asked::default() }, "write 7d"),
        ] {
            let error = CostQuery::parse(asked, now()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn a_filter_leaves_out_the_table_that_does_not_know_it() {
        let reads = |filter| CostQuery::parse(Asked { filter: Some(filter), ..Asked::default() }, now()).unwrap().reads();
        assert_eq!((reads("purpose:prefetch"), reads("outcome:hit"), reads("route:geo")), ((false, true), (true, false), (true, true)));
    }
}
