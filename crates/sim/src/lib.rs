//! Simulated providers over loopback and the load driver.
