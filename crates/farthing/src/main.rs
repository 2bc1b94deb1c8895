//! The binary `farthing`.
fn main() {}
