//! The decorator under a paused clock, in front of a provider in memory.

mod faults;
mod formats;
mod provider;
mod random;
mod waiting;
