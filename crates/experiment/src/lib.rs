//! Experiments and proofs of savings: assignment, unit-windows, intervals that stay valid under peeking, guardrails, holdout.
//!
//! Pure: time, draws and money are arguments; nothing here knows a runtime, a file or a socket. The formulas and their public
//! sources stand in docs/proving.md.
//!
//! A composer holds an [`Experiment`] (immutable snapshot) on the request path and a [`Trial`] beside the ledger:
//! [`Experiment::assign`] gives the variant of a unit now; each settled request goes to [`Trial::record`]; [`steer()`] is one turn of the
//! control loop over its [`Life`], and [`answers`] the read-out. [`Holdout`] and [`Savings`] do the same for the proven saving.

pub mod allocation;
pub mod answer;
pub mod assign;
pub mod betting;
pub mod conserve;
pub mod contextual;
pub mod ebh;
pub mod effect;
pub mod fleet;
pub mod guard;
pub mod layers;
pub mod life;
pub mod offpolicy;
pub mod power;
pub mod ratio;
pub mod report;
pub mod savings;
pub mod spec;
pub mod steer;
pub mod trial;
pub mod tuning;
pub mod unit;

pub use allocation::{Allocation, AllocationKind, MIN_ADAPTIVE, SharedContexts, phi};
pub use answer::{Answer, Verdict, answers};
pub use assign::{Assigned, Experiment};
pub use betting::{EProcess, Haste};
pub use conserve::Conservative;
pub use contextual::Contextual;
pub use ebh::discoveries;
pub use effect::{Effect, Estimate, Scaled};
pub use guard::{GUARD_ALPHA, Guard, GuardKind, SwitchOff};
pub use layers::{Claim, Conflict, compatible};
pub use life::{Life, Order, OrderError, Ramp, Stage};
pub use offpolicy::{Estimated, Logged, OffPolicy, Refusal, off_policy};
pub use ratio::{RATIO_ALPHA, RatioTest};
pub use report::{Comparison, Dropped, Interval, Learned, LearnedVariant, Report, SavingReport, VariantReport};
pub use savings::{Holdout, SavingSums, Savings};
pub use spec::{ExperimentSpec, MAX_VARIANTS, Metric, Slot, SpecError, Variant};
pub use steer::{Note, Steered, Turn, steer};
pub use trial::{COLUMNS, Counts, Observation, Trial, UnitWindow, WholeWindow};
pub use unit::UnitKind;
