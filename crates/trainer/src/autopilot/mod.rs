//! Closes the loop without an operator (SPEC M7): what the log has gained is learned from, judged by the gate, published, and named challenger. Whether it becomes champion is the
//! proxy's matter, which has to see it do well first. Time is an argument; one turn is [`Looper::turn`].

mod kept;
mod kinds;
mod lock;
mod partitions;
mod recipe;
mod turn;

pub use kept::KEPT_FILE;
pub use lock::Lock;
pub use recipe::Recipe;
pub use turn::{Looper, Outcome, Told};
