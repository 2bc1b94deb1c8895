//! L1 and waiting on tickets.
