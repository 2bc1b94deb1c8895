//! Simulated paid APIs over loopback, traces, and a load driver that knows the truth.

pub mod driver;
pub mod provider;
pub mod trace;
pub mod truth;

pub use driver::histogram::Histogram;
pub use driver::{Counts, Driver, DriverSpec, Planned, Tally, Target};
pub use provider::{ApiSpec, ChatPrices, Provider, Reading, messages, prompts};
pub use trace::{Event, Trace, TraceError};
pub use truth::{ListedChanges, Truth};
