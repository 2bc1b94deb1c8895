//! Admin API over small traits that the proxy implements.
