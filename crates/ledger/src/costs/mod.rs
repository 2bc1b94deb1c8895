//! Questions about money, answered from the log: grouped by any names, over any time, to the nano-dollar (J3).
//!
//! A [`CostQuery`] says which rows and by what names; [`CostStore::answer`] reads only the columns and the hours that it needs, from the
//! Parquet files and from rows that are in no file yet. Money is summed as integers: the totals of a question are the sums of its rows,
//! and what has no price is counted beside them, never as zero.
//!
//! The bill comes from `calls`, to whom each call was charged; requests, what they would have cost and what was saved come from
//! `requests`. A name that one of the two tables does not know is `None` in the groups of its rows. A filter by such a name leaves that
//! table out, and its sums are `None` then: unknown, not zero.

mod axis;
mod dimension;
mod groups;
mod query;
mod recent;
mod report;
mod scan;
mod self_cost;
mod store;
mod sums;
#[cfg(test)]
mod tests;
mod window;

pub use dimension::Dimension;
pub use query::{Asked, CostQuery, Filter, QueryError};
pub use recent::OpenLog;
pub use report::{CostGroup, CostReport, Point, Strategy};
pub use self_cost::{Net, SelfCost};
pub use store::{CostError, CostStore, Limits, Reads, Recent, RecentRows};
pub use sums::{CallSums, CostSums, RequestSums, money};
pub use window::{Window, parse_time, utc};
