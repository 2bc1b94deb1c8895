//! The one Redis handle: single server or Cluster, with a deadline for each operation and a breaker.
//!
//! [`Handle::start`] returns at once and connects in the background. Each operation ends within its configured deadline, whatever the
//! peer does: a server that is frozen, killed or slow costs its callers a few deadlines, then its breaker opens and they are told
//! [`Fault::Unavailable`] without waiting. Only the background task tries again, at most once a second, and closes the breaker when the
//! peer answers in time. In a Cluster there is a breaker for each sixteenth of the slots, so that one node that is away does not take
//! the others with it.
//!
//! No type of the Redis client crosses this crate's border; it is the only one in the workspace that talks to Redis.

mod board;
mod breaker;
mod bus;
mod config;
mod handle;
mod keeper;
pub mod lease;
mod link;
mod script;
mod shelf;
mod slot;
mod stats;
mod stream;

pub use board::{Board, BoardDocument, BoardNews, BoardPlace, BoardSaid, BoardWrite};
pub use bus::{
    Bus, BusAsked, BusFlag, BusHeard, BusListener, BusMember, BusMessage, BusNews, BusPlace, BusPosition, BusSaid, BusServer, BusTold,
    BusTurn, LONGEST_MESSAGE,
};
pub use config::{ConfigError, Password, RedisConfig, Tls};
pub use handle::Handle;
pub use script::{Answer, Script};
pub use shelf::{Shelf, ShelfFront, ShelfMember, ShelfPut, ShelfSaid};
pub use stats::{Fault, HandleStats};
pub use stream::{EntryId, Position, PositionError, StreamEntry, StreamNews, StreamReader};
