//! The state of a flight.
