//! Replay of sessions with fetching ahead: what it costs, what it saves, what is wasted.
//!
//! [`Sessions`] are client requests in the order of time; [`Engine`] answers them from a cache with the routes' lifetimes, learns
//! associations, asks the real decision code (`farthing_policy::prefetch`) for each candidate and books its prefetches with their own
//! prices. Beside it runs the same cache without prefetch: savings are differences between the two.

mod books;
mod engine;
mod sessions;
mod worlds;

pub use books::{Books, Reliability};
pub use engine::{Engine, PrefetchRow, Setup};
pub use sessions::{SessionRoute, Sessions, Visited};
pub use worlds::{SessionRecipe, SessionWorld, WorldShape};
