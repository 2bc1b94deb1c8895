//! The binary `farthing-train`.
fn main() {}
