//! An item's part in the settlement of its list.

use std::sync::Arc;

use farthing_ledger::{Paid, Served};
use farthing_types::{Money, Outcome};

use crate::settle::Settled;

/// Which part of a list's account an item stands for. A list that is not split would have been one call: what is charged for a call itself would
/// have been charged once, so it is counted once.
#[derive(Clone, Debug)]
pub struct Part {
    /// What of an answer's price is charged for the call itself.
    of_call: Money,
    /// What of that each of its places bears.
    bears: Arc<[Money]>,
}

impl Part {
    /// An item that stands in so many places of its list, where a call costs `of_call` whatever it brings. It bears nothing of that yet.
    pub fn new(places: usize, of_call: Money) -> Self {
        Self { of_call, bears: std::iter::repeat_n(Money::ZERO, places).collect() }
    }

    /// What is charged for a call itself, where `bearers` say how many places of each item bear it: split exactly, zero for the others.
    pub fn share<'a>(parts: impl Iterator<Item = &'a mut Self>, bearers: &[usize]) {
        let mut parts = parts.peekable();
        let of_call = parts.peek().map_or(Money::ZERO, |part| part.of_call);
        let mut shares = of_call.split(bearers.iter().sum()).into_iter();
        for (part, bearing) in parts.zip(bearers) {
            let bears = (0..part.bears.len()).map(|place| if place < *bearing { shares.next().unwrap_or_default() } else { Money::ZERO });
            part.bears = bears.collect();
        }
    }

    /// How often the item stands in its list.
    pub fn places(&self) -> usize {
        self.bears.len()
    }

    /// The settlement of each of its places: the first as it was answered, the others by the same answer.
    pub fn settlements<'a>(&'a self, settled: &'a Settled) -> impl Iterator<Item = Settled> + 'a {
        self.bears.iter().enumerate().map(|(nth, bears)| {
            let full = settled.paid.full.map(|full| (full - self.of_call).max(Money::ZERO) + *bears);
            let one = Settled { paid: Paid { full, ..settled.paid }, ..settled.clone() };
            if nth == 0 { one } else { again(one) }
        })
    }
}

/// The same answer once more: nothing is bought for it.
fn again(settled: Settled) -> Settled {
    let (outcome, served) = match settled.served {
        Served::Lead | Served::Marked | Served::Deferred | Served::Batched | Served::Revalidated | Served::Ahead | Served::Follower => {
            (Outcome::Follow, Served::Follower)
        }
        served => (settled.outcome, served),
    };
    let attempts = if served == Served::Failed { Some(Money::ZERO) } else { settled.paid.attempts };
    Settled { outcome, served, paid: Paid { attempts, ..settled.paid }, ..settled }
}

#[cfg(test)]
mod tests {
    use farthing_ledger::CostRecord;
    use farthing_types::Span;
    use http::StatusCode;

    use super::*;
    use crate::reply::settled;

    fn money(nanos: i64) -> Money {
        Money::from_nanos(nanos)
    }

    /// Base and cost of all places, for items that stand so often, of which the first `called` are bought for `attempts` in all.
    fn told(of_call: i64, items: &[(usize, i64)], called: usize, attempts: i64) -> (i64, i64) {
        let mut parts: Vec<Part> = items.iter().map(|(places, _)| Part::new(*places, money(of_call))).collect();
        let bearers: Vec<usize> = (0..items.len()).map(|item| usize::from(item < called)).collect();
        Part::share(parts.iter_mut(), &bearers);
        let (mut base, mut cost) = (0, 0);
        let shares = money(attempts).split(called);
        for (item, part) in parts.iter().enumerate() {
            let outcome = if item < called { Outcome::Lead } else { Outcome::Hit };
            let paid = Paid { full: Some(money(items[item].1)), attempts: shares.get(item).copied() };
            let settled = Settled { paid, ..settled(outcome, None, (StatusCode::OK, Span::ZERO), None) };
            for one in part.settlements(&settled) {
                let record = CostRecord::settle(one.served, one.paid);
                base += record.base.unwrap().nanos();
                cost += record.cost.unwrap().nanos();
            }
        }
        (base, cost)
    }

    #[test]
    fn a_flat_price_is_the_base_of_the_list_once() {
        assert_eq!(told(100, &[(1, 100), (2, 100), (1, 100)], 2, 100), (100, 100), "a call was made: nothing is saved");
        assert_eq!(
            told(0, &[(1, 70), (2, 30), (1, 11)], 2, 100),
            (70 + 30 * 2 + 11, 100),
            "by tokens: a repeated and a known one are saved"
        );
        assert_eq!(
            told(5, &[(1, 75), (1, 35), (3, 16)], 2, 105),
            (70 + 30 + 11 * 3 + 5, 105),
            "what is charged for the call is counted once"
        );
    }
}
