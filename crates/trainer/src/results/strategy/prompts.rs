//! What the provider's prompt cache makes of a bill of chats.

use std::path::Path;

use farthing_policy::cost::Meters;
use farthing_policy::prompt_cache::{PromptBill, PromptCache, PromptCacheTerms};
use farthing_types::{Money, Rate, Span, Time};
use serde::Serialize;

use super::setup::TOKEN_NANOS;
use crate::error::TrainError;
use crate::read::{PublicTrace, read_public};
use crate::results::section::{Bar, Found, Ground, Measured, Section};

/// Lifetimes, and the share of the bill that is known to remain in the last 40 % of the time.
const KNOWN: [(u64, f64); 2] = [(300, 0.862), (3_600, 0.820)];

/// One lifetime.
#[derive(Clone, Debug, Serialize)]
struct Prompts {
    ttl_s: u64,
    /// Bill / bill without, last 40 % of the time.
    share: f64,
    /// The same over the whole trace, whose beginning finds an empty cache.
    whole_share: f64,
    /// Input tokens that were kept, over all, last 40 % of the time.
    cached: f64,
}

/// See the module.
pub struct PromptCaches;

impl Section for PromptCaches {
    fn name(&self) -> &'static str {
        "prompt_cache"
    }
    fn title(&self) -> &'static str {
        "The provider's prompt cache, accounted"
    }
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError> {
        match ground.trace("llm_mooncake_conv.parquet") {
            Ok(path) => measure(&path).map(Found::Measured),
            Err(why) => Ok(Found::Absent(why)),
        }
    }
}

fn measure(path: &Path) -> Result<Measured, TrainError> {
    let trace = read_public(path)?;
    let (mut bars, mut found) = (Vec::new(), Vec::new());
    for (ttl_s, known) in KNOWN {
        let (whole, late) = account(&trace, Span::from_secs(ttl_s));
        let off = (late.share() / known - 1.0).abs();
        bars.push(Bar::at_most(format!("prompt cache of {} min: bill share {:.4}, off {known} by", ttl_s / 60, late.share()), off, 0.01));
        let cached = late.cached as f64 / late.input.max(1) as f64;
        found.push(Prompts { ttl_s, share: late.share(), whole_share: whole.share(), cached });
    }
    let text = "Chats with the blocks (512 tokens) of their prompts: what the provider bills when it keeps blocks for a time after their last use \
        and sells kept input at half the price, over what it bills without. Judged on the last 40 % of the time, when its cache is warm; over the \
        whole trace, whose first calls find it empty, the share is higher (`whole_share`)."
        .to_owned();
    Ok(Measured { text, bars, figures: serde_json::json!({ "lifetimes": found }) })
}

/// Bills of the whole trace and of the last 40 % of its time: blocks of 512 tokens, cached input at half the price.
fn account(trace: &PublicTrace, ttl: Span) -> (PromptBill, PromptBill) {
    let meters = Meters {
        call: Money::ZERO,
        input: Rate::per_million(TOKEN_NANOS.0 * 1_000_000),
        cached_input: Rate::per_million(TOKEN_NANOS.0 * 500_000),
        output: Rate::per_million(TOKEN_NANOS.1 * 1_000_000),
    };
    let mut cache = PromptCache::new(PromptCacheTerms { ttl, block: 512, capacity: 1_000_000 });
    let (first, last) = (trace.rows.first().map_or(0, |r| r.at_ms), trace.rows.last().map_or(0, |r| r.at_ms));
    let cut = first + (last - first) * 6 / 10;
    let (mut whole, mut late) = (PromptBill::default(), PromptBill::default());
    for row in &trace.rows {
        let (input, output) = (row.tokens_in.unwrap_or(0), row.tokens_out.unwrap_or(0));
        let cached = cache.call(Time::from_millis(row.at_ms), &row.prefix, input);
        whole.add(&meters, (input, cached), output);
        if row.at_ms >= cut {
            late.add(&meters, (input, cached), output);
        }
    }
    (whole, late)
}
