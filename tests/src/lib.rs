//! Support for the end-to-end tests: start a proxy and an origin on free ports, speak HTTP to them, run programs.
