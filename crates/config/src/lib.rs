//! Raw TOML to checked configuration.
