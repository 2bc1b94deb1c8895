//! The answer: groups in order, their sum, and what each strategy was worth.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Purpose, Time};

use super::query::CostQuery;
use super::scan::Part;
use super::sums::{CallSums, CostSums, RequestSums};
use super::window::Window;
use crate::cost::SavedBy;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostReport {
    /// Over what time.
    pub window: Window,
    /// Names of the groups.
    pub by: Vec<String>,
    /// Groups, dearest first.
    pub groups: Vec<CostGroup>,
    /// How many groups there are in all; those beyond `top` are one.
    pub groups_in_all: usize,
    /// All rows together.
    pub total: CostSums,
    /// All rows together, by steps of time; empty without a step.
    pub series: Vec<Point>,
    /// What saved money, and what was paid beside the calls that clients waited for.
    pub strategies: Vec<Strategy>,
    /// Rows that were taken.
    pub rows: u64,
    /// Files that were read.
    pub files: u64,
    /// What could not be read: the sums lack it.
    pub unreadable: Vec<String>,
}

/// Rows of the same names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostGroup {
    /// The names in the order asked for; `None` for rows without one. Empty for the group of all that are not among the dearest.
    pub names: Vec<Option<Arc<str>>>,
    /// Whether it is the group of all others.
    pub others: bool,
    /// Their sums.
    pub sums: CostSums,
    /// The same by steps of time; empty without a step.
    pub series: Vec<Point>,
}

/// Sums of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where the step begins. The first and the last may reach beyond the window, whose rows alone count.
    pub at: Time,
    /// Sums of its rows.
    pub sums: CostSums,
}

/// What a strategy was worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// The cause of savings, or the purpose of calls where no saving is credited to it.
    pub name: Arc<str>,
    /// Requests that it answered for less.
    pub requests: i128,
    /// Calls that were not made because of it.
    pub calls_avoided: i128,
    /// What it saved, nano-dollars.
    pub saved: i128,
    /// What its own calls cost, nano-dollars.
    pub bill: i128,
    /// Its own calls.
    pub calls: i128,
    /// Requests and calls of it without a known price.
    pub unpriced: i128,
}

impl Strategy {
    /// What remains of the saving.
    pub const fn net(&self) -> i128 {
        self.saved - self.bill
    }
}

/// The purpose whose calls a cause of savings has to pay for.
const OWN_CALLS: [(&str, &str); 2] = [("stale", "refresh"), ("prefetch", "prefetch")];
/// The causes whose requests are calls all the same, cheaper ones.
const CHEAPER_CALLS: [SavedBy; 5] = [SavedBy::Revalidated, SavedBy::Batch, SavedBy::Route, SavedBy::PromptCache, SavedBy::Defer];

type Names = Vec<Option<Arc<str>>>;

/// Sums of a group, and by the numbers of its steps.
#[derive(Clone)]
struct Gathered {
    /// Nothing, of the tables that are read: zero where a table has no row, `None` where it was not read.
    none: CostSums,
    sums: CostSums,
    steps: BTreeMap<i64, CostSums>,
}

impl Gathered {
    fn none(query: &CostQuery) -> Self {
        let none = CostSums::none(query.reads());
        Self { none, sums: none, steps: BTreeMap::new() }
    }

    fn add(&mut self, sums: CostSums, step: Option<i64>) {
        self.sums += sums;
        if let Some(step) = step {
            *self.steps.entry(step).or_insert(self.none) += sums;
        }
    }

    fn add_all(&mut self, other: Self) {
        self.sums += other.sums;
        let none = self.none;
        other.steps.into_iter().for_each(|(step, sums)| *self.steps.entry(step).or_insert(none) += sums);
    }

    fn series(self, query: &CostQuery) -> Vec<Point> {
        self.steps.into_iter().map(|(step, sums)| point(query, step, sums)).collect()
    }
}

pub(super) fn build(query: &CostQuery, part: Part) -> CostReport {
    let strategies = strategies(&part);
    let mut total = Gathered::none(query);
    let mut gathered: BTreeMap<Names, Gathered> = BTreeMap::new();
    for ((names, step), sums) in part.groups {
        let step = query.step.map(|_| step);
        total.add(sums, step);
        gathered.entry(names.into_vec()).or_insert_with(|| Gathered::none(query)).add(sums, step);
    }
    let groups_in_all = gathered.len();
    CostReport {
        window: query.window,
        by: query.by.iter().map(ToString::to_string).collect(),
        groups: dearest(query, gathered),
        groups_in_all,
        total: total.sums,
        series: total.series(query),
        strategies,
        rows: part.rows,
        files: part.files,
        unreadable: part.unreadable,
    }
}

/// The dearest groups in order, and the others as one.
fn dearest(query: &CostQuery, gathered: BTreeMap<Names, Gathered>) -> Vec<CostGroup> {
    let mut groups: Vec<(Names, Gathered)> = gathered.into_iter().collect();
    // Equal ones stay in the order of their names.
    groups.sort_by_key(|(_, of)| std::cmp::Reverse(of.sums.weight()));
    let rest = groups.split_off(query.top.min(groups.len()));
    let group = |(names, of): (Names, Gathered), others| CostGroup { names, others, sums: of.sums, series: of.series(query) };
    let mut told: Vec<CostGroup> = groups.into_iter().map(|of| group(of, false)).collect();
    let others = rest.into_iter().map(|(_, of)| of).reduce(|mut all, more| {
        all.add_all(more);
        all
    });
    told.extend(others.map(|of| group((vec![None; query.by.len()], of), true)));
    told
}

fn point(query: &CostQuery, step: i64, sums: CostSums) -> Point {
    Point { at: Time::from_nanos(step.saturating_mul(query.step.unwrap_or(1))), sums }
}

/// Causes with the calls that they have to pay for, then purposes that no saving is credited to.
fn strategies(part: &Part) -> Vec<Strategy> {
    let mut purposes: BTreeMap<Arc<str>, CallSums> = part
        .purposes
        .iter()
        .filter_map(|(name, sums)| Some((name.clone()?, *sums)))
        // Those that a client waited for are no strategy.
        .filter(|(name, _)| !Purpose::parse(name).is_some_and(Purpose::is_waited_for))
        .collect();
    let causes: BTreeMap<Arc<str>, RequestSums> = part.causes.iter().filter_map(|(name, sums)| Some((name.clone()?, *sums))).collect();
    let mut strategies: Vec<Strategy> = causes
        .into_iter()
        .map(|(name, sums)| {
            let own = OWN_CALLS.iter().find(|(cause, _)| *cause == &*name).and_then(|(_, purpose)| purposes.remove(*purpose));
            strategy(name, sums, own.unwrap_or_default())
        })
        .collect();
    strategies.extend(purposes.into_iter().map(|(name, calls)| strategy(name, RequestSums::default(), calls)));
    strategies.sort_by_key(|strategy| std::cmp::Reverse((strategy.net(), strategy.calls_avoided)));
    strategies
}

fn strategy(name: Arc<str>, requests: RequestSums, calls: CallSums) -> Strategy {
    let cheaper = CHEAPER_CALLS.iter().any(|cause| cause.as_str() == &*name);
    Strategy {
        requests: requests.requests,
        calls_avoided: if cheaper { 0 } else { requests.requests },
        saved: requests.saved,
        bill: calls.bill,
        calls: calls.calls,
        unpriced: requests.unpriced + calls.unpriced,
        name,
    }
}

impl CostReport {
    /// Paid for fetching ahead and not used: the bill of prefetched calls beyond what they saved. `None` where calls are not read.
    pub fn prefetch_waste(&self) -> Option<i128> {
        let bill = self.total.calls?.prefetch;
        let saved = self.strategies.iter().find(|strategy| &*strategy.name == "prefetch").map_or(0, |strategy| strategy.saved);
        Some((bill - saved).max(0))
    }
}
