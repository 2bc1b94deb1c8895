//! Usage that nobody reported, estimated by the bytes.

use farthing_types::Usage;

use super::UsageReading;

/// Bytes of text per token, where nothing better is known.
const USUAL: u64 = 4;
/// Tokens that must have been seen before their bytes say something.
const ENOUGH: u64 = 1_000;

/// Bytes of requests and the input tokens that providers counted in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of the bodies.
    pub bytes: u64,
    /// Input tokens, cached and written ones included.
    pub tokens: u64,
}

impl Seen {
    /// Counts one more request; halves both counts now and then, so that the ratio follows.
    pub fn add(&mut self, bytes: u64, usage: &Usage) {
        let input = [usage.input, usage.cached_input, usage.cache_write, usage.cache_write_1h];
        let tokens = input.into_iter().flatten().fold(0u64, u64::saturating_add);
        if tokens == 0 || bytes == 0 {
            return;
        }
        (self.bytes, self.tokens) = (self.bytes.saturating_add(bytes), self.tokens.saturating_add(tokens));
        if self.tokens > 1 << 32 {
            (self.bytes, self.tokens) = (self.bytes / 2, self.tokens / 2);
        }
    }

    /// Tokens in so many bytes of a request, rounded up.
    fn tokens(self, bytes: u64) -> u64 {
        let (per, tokens) = if self.tokens >= ENOUGH { (self.bytes.max(1), self.tokens) } else { (USUAL, 1) };
        let exact = (u128::from(bytes) * u128::from(tokens)).div_ceil(u128::from(per));
        u64::try_from(exact).unwrap_or(u64::MAX)
    }
}

/// The usage of a call that reported none, or none of its output: input by the request's bytes at the ratio of what was `seen`, output by
/// the bytes of generated text.
///
/// What was reported (a stream that broke off may have told its input) is kept.
pub fn estimate(reading: &UsageReading, request_bytes: u64, seen: Seen) -> Usage {
    let known = reading.usage.unwrap_or_default();
    let told = known.input.is_some() || known.cached_input.is_some();
    let output = reading.text_bytes.div_ceil(USUAL);
    Usage {
        input: if told { known.input } else { Some(seen.tokens(request_bytes)) },
        // What was counted before the text came is the less.
        output: Some(known.output.unwrap_or(0).max(output)),
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_tokens_until_the_ratio_is_known() {
        let mut seen = Seen::default();
        let reading = UsageReading { text_bytes: 9, ..UsageReading::default() };
        assert_eq!((estimate(&reading, 401, seen).input, estimate(&reading, 401, seen).output), (Some(101), Some(3)));
        seen.add(6_000, &Usage { input: Some(900), cached_input: Some(100), ..Usage::default() });
        assert_eq!(estimate(&reading, 401, seen).input, Some(67));
    }

    #[test]
    fn what_was_told_is_kept() {
        let usage = Usage { input: Some(25), cached_input: Some(7), output: Some(1), ..Usage::default() };
        let reading = UsageReading { usage: Some(usage), text_bytes: 40, ..UsageReading::default() };
        let estimated = estimate(&reading, 4_000, Seen::default());
        assert_eq!(estimated, Usage { output: Some(10), ..usage });
        assert_eq!(estimate(&UsageReading { text_bytes: 0, ..reading }, 0, Seen::default()), usage);
    }
}
