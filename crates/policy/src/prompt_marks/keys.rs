//! Which key a prompt is given for a provider that keeps prompts by itself and sends those with the same beginning and key to the same place
//! (OpenAI): alike prompts one, but no more in a minute than one place takes.

use std::collections::HashMap;

use farthing_types::{Span, Time};

/// Requests a minute of one beginning and key above which the provider spreads them over several places; it documents about fifteen.
const MOST: f64 = 12.0;
/// Time constant of the rate.
const MINUTE: Span = Span::from_secs(60);

/// Rates of the beginnings of prompts. Bounded by its capacity.
#[derive(Clone, Debug)]
pub struct PromptKeys {
    rates: HashMap<u64, (Time, f64)>,
    capacity: usize,
}

impl PromptKeys {
    /// Nothing known.
    pub fn new(capacity: usize) -> Self {
        Self { rates: HashMap::new(), capacity }
    }

    /// The key of a prompt that came at `now`: that of its `head` (tools and system prompt, where these are long enough to be kept), or of its
    /// `talk`, the head with the first turn, where too many have the same head.
    pub fn choose(&mut self, now: Time, head: Option<u64>, talk: u64) -> u64 {
        let Some(head) = head else { return talk };
        if self.rates.len() >= self.capacity && !self.rates.contains_key(&head) {
            self.forget(now);
        }
        let (at, rate) = self.rates.entry(head).or_insert((now, 0.0));
        *rate = *rate * (-(now.since(*at).as_secs_f64() / MINUTE.as_secs_f64())).exp() + 1.0;
        *at = now;
        if *rate <= MOST { head } else { talk }
    }

    /// Beginnings that are remembered.
    pub fn remembered(&self) -> usize {
        self.rates.len()
    }

    fn forget(&mut self, now: Time) {
        self.rates.retain(|_, (at, _)| now.since(*at) <= MINUTE * 3);
        if self.rates.len() >= self.capacity {
            self.rates.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    #[test]
    fn alike_prompts_share_a_key_until_there_are_too_many_of_them() {
        let mut keys = PromptKeys::new(100);
        for call in 0..40 {
            assert_eq!(keys.choose(at(call * 10), Some(1), 100 + call.unsigned_abs()), 1, "six a minute");
        }
        let busy: Vec<bool> = (0..100).map(|call| keys.choose(at(500 + call), Some(1), 7) == 7).collect();
        assert!(!busy[0] && busy[50..].iter().all(|by_talk| *by_talk), "sixty a minute");
        assert_eq!(keys.choose(at(2_000), Some(1), 7), 1);
        assert_eq!(keys.choose(at(2_000), None, 7), 7);
    }

    #[test]
    fn memory_is_bounded() {
        let mut keys = PromptKeys::new(10);
        for call in 0..1_000u64 {
            keys.choose(at(i64::try_from(call / 100).unwrap()), Some(call), 0);
            assert!(keys.remembered() <= 10);
        }
    }
}
