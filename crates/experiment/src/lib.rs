//! Assignment, intervals, e-processes; pure.
