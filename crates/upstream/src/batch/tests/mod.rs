//! The decorator under a paused clock, in front of a provider in memory.

mod faults;
mod formats;
mod graphql;
mod provider;
mod random;
mod waiting;
