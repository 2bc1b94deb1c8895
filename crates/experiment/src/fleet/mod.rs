//! One experiment over the instances of a fleet: one published record that all assign by, parts of unit-windows that each instance reports, and what becomes of
//! a window when all have.
//!
//! Pure. Who composes it moves three things through a place that all reach: [`Published`] with a version that grows by one with each change, the evidence
//! (a [`Trial`](crate::Trial)) that belongs to it, and for each window who has been there and what it [reports](Part).
//! The holder of a lease [folds](Folding) windows into the evidence; a window counts once, because the record that says so and the evidence change in one step.

mod collect;
mod fold;
mod part;
mod published;
#[cfg(test)]
mod simulation;

pub use collect::{Collected, FLEET_ALPHA, local_alpha};
pub use fold::{Absent, Due, Folding, KEPT_WINDOWS, LeftOut, ahead, attends, due};
pub use part::{Foreign, MOST_PART_BYTES, Part, Sum};
pub use published::{AbsentWindow, FleetNote, Published, after_loss, is_older};
