//! Experiments and proofs of savings: assignment, unit-windows, intervals that stay valid under peeking, guardrails, holdout.
//!
//! Pure: time, draws and money are arguments; nothing here knows a runtime, a file or a socket. The formulas and their public
//! sources stand in docs/proving.md.
//!
//! A composer holds an [`Experiment`] (immutable snapshot) on the request path and a [`Trial`] beside the ledger:
//! [`Experiment::assign`] gives the variant of a key now; each settled request goes to [`Trial::record`]; [`Trial::report`] is the
//! read-out and [`Trial::switch_off`] the guardrail's orders. [`Holdout`] and [`Savings`] do the same for the proven saving.

pub mod betting;
pub mod effect;
pub mod guard;
pub mod offpolicy;
pub mod ratio;
pub mod report;
pub mod savings;
pub mod spec;
pub mod trial;

pub use betting::{EProcess, Sides};
pub use effect::{Effect, Estimate, Scaled};
pub use guard::{GUARD_ALPHA, Guard, GuardKind, SwitchOff};
pub use offpolicy::{Estimated, Logged, OffPolicy, Refusal, off_policy};
pub use ratio::{RATIO_ALPHA, RatioTest};
pub use report::{Comparison, Dropped, Interval, Report, SavingReport, VariantReport};
pub use savings::{Holdout, SavingSums, Savings};
pub use spec::{Assigned, Experiment, ExperimentSpec, MAX_VARIANTS, SpecError, UnitKind, Variant};
pub use trial::{Observation, Trial};
