//! The request path over a log, in virtual time.
//!
//! [`Log`] is what a deployment logged: requests, calls, entries that ended. [`Policy`] is a configuration compiled as the proxy compiles
//! it. [`replay`] asks for each request what the proxy would have done with it: the plan of its variant, the holdout, `verdict` on the
//! copy, joining of the call under way, the TTL that [`farthing_policy::Guarded`] chooses when an answer lands. What the provider would
//! have answered comes from the log ([`provider`]): a call that was made is answered as it was; another one by what the key's fetches
//! tell.
//!
//! A log that was written in virtual time is reproduced exactly under its own configuration. What a log of real time cannot show (the
//! order of events within microseconds, memory that ran out) is counted by cause in [`Fidelity`].

mod calls;
mod compare;
mod engine;
mod landing;
mod policy;
mod provider;
mod rows;
mod tally;
mod trace;

pub use compare::{Cause, Fidelity};
pub use engine::{Settings, replay};
pub use policy::{Acting, Policy, RoutePolicy, Running};
pub use rows::{AskedRow, CalledRow, EndedRow, Log, LoggedChoice, RequestClass};
pub use tally::{RouteTally, Tally};
pub use trace::trace_of;
