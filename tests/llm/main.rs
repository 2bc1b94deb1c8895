//! What Farthing saves of a language model's bill with its provider's own means, measured by the provider's own count in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test, and a long run tells its figures"
)]

mod defer;
mod defer_messages;
mod deferred;
mod mooncake;
mod openai;
mod prompt_cache;
mod world;
