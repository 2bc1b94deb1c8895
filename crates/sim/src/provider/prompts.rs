//! A provider's prompt cache as Anthropic documents it: it keeps the prefixes of prompts that end at a mark, reads the longest that it has
//! within twenty blocks of a mark, forgets them some time after their last use, and bills plain, read and written input apart.

use std::collections::HashMap;

use farthing_types::{Money, Rate, Span, Time};

/// Most marks in a request.
pub const MOST_MARKS: usize = 4;
/// Blocks that are looked through before a mark, its own among them.
const LOOKBACK: usize = 20;

/// A block of a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptBlock {
    /// Stands for what it says.
    pub digest: u64,
    /// Its length.
    pub tokens: u64,
    /// The prefix that it ends is to be kept for so long.
    pub mark: Option<Span>,
}

/// What the provider charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptPrices {
    /// Per plain input token.
    pub input: Rate,
    /// Per input token that is read from the cache.
    pub read: Rate,
    /// Per input token that is written for five minutes.
    pub write: Rate,
    /// Per input token that is written for an hour.
    pub write_1h: Rate,
    /// Per output token.
    pub output: Rate,
}

/// Input as it is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptUsage {
    /// Plain tokens.
    pub input: u64,
    /// Read from the cache.
    pub read: u64,
    /// Written for five minutes.
    pub write: u64,
    /// Written for an hour.
    pub write_1h: u64,
}

impl PromptPrices {
    /// What a call costs: summed exactly, rounded once.
    pub fn cost(&self, usage: &PromptUsage, output: u64) -> Money {
        let input = self.input.exact(usage.input) + self.read.exact(usage.read);
        Rate::round(input + self.write.exact(usage.write) + self.write_1h.exact(usage.write_1h) + self.output.exact(output))
    }
}

/// The prefixes that a provider has kept.
#[derive(Debug)]
pub struct PromptKeeper {
    /// Shortest prefix that is kept, tokens.
    min_tokens: u64,
    kept: HashMap<u64, (Time, Span)>,
}

impl PromptKeeper {
    /// Nothing kept.
    pub fn new(min_tokens: u64) -> Self {
        Self { min_tokens, kept: HashMap::new() }
    }

    /// Takes a prompt of `owner` (who asks, and of which target) at `now`, and says how its input is billed.
    pub fn call(&mut self, now: Time, owner: u64, blocks: &[PromptBlock]) -> PromptUsage {
        let (mut digest, mut tokens) = (owner, 0);
        let one = |block: &PromptBlock| {
            // Splitmix: prefixes that differ anywhere differ from there on.
            digest = mixed(digest ^ mixed(block.digest));
            tokens += block.tokens;
            (digest, tokens, block.mark)
        };
        let prefixes: Vec<(u64, u64, Option<Span>)> = blocks.iter().map(one).collect();
        let alive = |digest: &u64, kept: &HashMap<u64, (Time, Span)>| kept.get(digest).is_some_and(|(used, ttl)| now.since(*used) <= *ttl);
        let marks = || prefixes.iter().enumerate().filter(|(_, prefix)| prefix.2.is_some()).map(|(place, _)| place);
        let within = |mark: usize| (mark.saturating_sub(LOOKBACK - 1)..=mark).rev();
        let found = marks().rev().flat_map(within).find(|place| prefixes.get(*place).is_some_and(|prefix| alive(&prefix.0, &self.kept)));
        let read = found.and_then(|place| prefixes.get(place)).map_or(0, |prefix| prefix.1);
        if let Some(used) = found.and_then(|place| prefixes.get(place)).and_then(|prefix| self.kept.get_mut(&prefix.0)) {
            used.0 = now;
        }
        let mut usage = PromptUsage { read, ..PromptUsage::default() };
        let mut written = read;
        for (digest, upto, mark) in &prefixes {
            let Some(ttl) = mark.filter(|_| *upto >= self.min_tokens) else { continue };
            self.kept.insert(*digest, (now, ttl));
            let more = upto.saturating_sub(written);
            written = written.max(*upto);
            if ttl > Span::from_secs(300) { usage.write_1h += more } else { usage.write += more }
        }
        usage.input = tokens - written;
        usage
    }
}

fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Span = Span::from_secs(300);

    fn prompt(blocks: &[(u64, bool)]) -> Vec<PromptBlock> {
        blocks.iter().map(|(digest, mark)| PromptBlock { digest: *digest, tokens: 1_000, mark: mark.then_some(TTL) }).collect()
    }

    fn call(keeper: &mut PromptKeeper, seconds: i64, blocks: &[(u64, bool)]) -> (u64, u64, u64) {
        let usage = keeper.call(Time::from_millis(seconds * 1_000), 7, &prompt(blocks));
        (usage.input, usage.read, usage.write)
    }

    #[test]
    fn prefixes_are_kept_at_marks_alone_and_as_long_as_they_are_used() {
        let mut keeper = PromptKeeper::new(1_024);
        assert_eq!(call(&mut keeper, 0, &[(1, false), (2, true), (3, false)]), (1_000, 0, 2_000));
        assert_eq!(call(&mut keeper, 200, &[(1, false), (2, true), (4, false)]), (1_000, 2_000, 0));
        assert_eq!(call(&mut keeper, 300, &[(1, true), (9, false)]), (2_000, 0, 0), "too short to be kept");
        assert_eq!(call(&mut keeper, 500, &[(1, false), (2, false), (5, true)]), (0, 2_000, 1_000), "found from a later mark");
        assert_eq!(call(&mut keeper, 801, &[(1, false), (2, true)]), (0, 0, 2_000), "forgotten");
        assert_eq!(call(&mut keeper, 802, &[(1, false), (2, false)]), (2_000, 0, 0), "not asked for");
        assert_eq!(call(&mut keeper, 803, &[(3, false), (2, true)]), (0, 0, 2_000), "another beginning");
    }

    #[test]
    fn what_is_further_back_than_twenty_blocks_is_not_found() {
        let long = |marks: &[usize], count: usize| (0..count).map(|n| (n as u64, marks.contains(&n))).collect::<Vec<_>>();
        let mut keeper = PromptKeeper::new(1);
        call(&mut keeper, 0, &long(&[3], 10));
        assert_eq!(call(&mut keeper, 1, &long(&[22], 30)).1, 4_000);
        let mut keeper = PromptKeeper::new(1);
        call(&mut keeper, 0, &long(&[3], 10));
        assert_eq!(call(&mut keeper, 1, &long(&[23], 30)).1, 0);
    }

    #[test]
    fn lifetimes_are_billed_apart() {
        let mut keeper = PromptKeeper::new(1);
        let mut blocks = prompt(&[(1, true), (2, true)]);
        blocks[0].mark = Some(Span::from_secs(3_600));
        let usage = keeper.call(Time::from_millis(0), 7, &blocks);
        assert_eq!((usage.write, usage.write_1h), (1_000, 1_000));
        let rate = |text: &str| text.parse().unwrap();
        let prices = PromptPrices {
            input: rate("0.000003"),
            read: rate("0.0000003"),
            write: rate("0.00000375"),
            write_1h: rate("0.000006"),
            output: rate("0.000015"),
        };
        assert_eq!(prices.cost(&usage, 10).nanos(), 3_750_000 + 6_000_000 + 150_000);
    }
}
