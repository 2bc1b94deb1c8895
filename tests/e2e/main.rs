//! The whole proxy over loopback. A test belongs here when it needs real sockets, real clients or real processes; everything that a pure
//! core or one crate can show is tested there.

mod answers;
mod clients;
mod durability;
mod fidelity;
mod stampede;
