//! The rule of the strategy decision: needs no model, no price and no training.

use super::decide::Ask;
use super::mix::Mix;

/// Requests per second from which a batch is worth waiting for.
pub const BATCH_RATE: f64 = 10.0;

/// GET is cached, what is idempotent is joined, and what has a batch format is batched where the promised latency is more than twice the
/// window and at least [`BATCH_RATE`] requests come in a second; where the batcher asks for both at each call, it is left to that.
pub fn mix(ask: &Ask<'_>) -> Mix {
    let room = |window: farthing_types::Span| ask.terms.sla.is_none_or(|sla| sla > window * 2);
    let busy = ask.input.stats.rate_fast(ask.input.now) >= BATCH_RATE;
    let asked = !ask.params.rule_asks_traffic;
    let batch = ask.allowed.batch && ask.terms.batch.is_some_and(|b| asked || busy && room(b.window.window));
    Mix::of(ask.allowed.cache, ask.allowed.dedupe, batch)
}
