//! Money under watch: what is unusual, where a period will end, and who is told (J5). Pure: time, rows and seeds are arguments.
//!
//! - [`Watcher`] takes the calls of each hour by tenant, provider and route, and finds changes of spend and of the cost of a call,
//!   sudden and slow. Its memory is bounded; it is made anew from the log at each start.
//! - [`forecast`] says what a period will have cost, with quantiles and the probability of exceeding an amount.
//! - [`Alert`] is what is told, [`Book`] sees to it that the same is not told again and again, and keeps what became of it.
//!
//! How well the detectors do is measured on simulated tenants: `docs/alerts.md` has the figures, `simulation.rs` the test.

mod alert;
mod book;
mod detect;
mod forecast;
mod history;
mod mix;
mod overrun;
mod random;
mod series;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod simulation;
mod stats;
mod watcher;

pub use alert::{Alert, AlertKind, BudgetLevel, BudgetLevels, Level, anomaly, billing_at_risk, budget, config_refused, overrun, unpriced};
pub use book::{Book, BookCounts, Delivery, Told, pause};
pub use forecast::{Forecast, forecast};
pub use history::{History, Hour};
pub use mix::Split;
pub use overrun::Overrun;
pub use random::Random;
pub use series::{Change, Found};
pub use watcher::{Anomaly, HourRow, SeriesKey, Watcher};
