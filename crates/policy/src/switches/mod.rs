//! When a strategy switches itself off on a route, and when it is tried again: one that adds waiting where it breaks promises (`waits`, SPEC
//! C7), the cache where it costs more than it saves (`worth`, SPEC C6, R5), marks in prompts where writes are not made up for by reads (`marks`),
//! what is not needed where Farthing's own time is above its limit (`overhead`, SPEC R5).
//!
//! The first two compare with a small slice, drawn by whoever asks; they and marks look at all times, and their evidence is valid at all times
//! (`detector`). The last one looks at windows of time.

mod detector;
mod marks;
pub mod overhead;
#[cfg(test)]
mod overhead_tests;
pub mod waits;
#[cfg(test)]
mod waits_tests;
pub mod worth;
#[cfg(test)]
mod worth_tests;

use farthing_types::{Span, reasons};

pub use detector::Detector;
pub use marks::MarkWorth;
pub use overhead::Overhead;
pub use waits::{Slice, Waits};
pub use worth::{Worth, WorthTurn};

reasons! {
    /// How a strategy that can switch itself off stands on a route.
    Standing {
        /// In force, but for the slice that it is compared with.
        On = "on",
        /// Switched off.
        Off = "off",
        /// In force for a short time, to see whether it still does harm.
        Trial = "trial",
    }
}

/// How long something rests that was switched off so often before: twice as long each time, up to the longest rest.
fn rest((first, longest): (Span, Span), before: u32) -> Span {
    first.saturating_mul(1 << before.min(8)).min(longest)
}
