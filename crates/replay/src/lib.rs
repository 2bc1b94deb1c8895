//! Discrete-event engine over the log tables, and the change-process worlds.
