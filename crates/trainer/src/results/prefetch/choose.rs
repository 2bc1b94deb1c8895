//! Which setting a trace asks for, found on its training part alone.

use farthing_policy::prefetch::PrefetchParams;
use farthing_replay::prefetch::{Books, Sessions};
use farthing_types::{Money, Span};

use crate::error::TrainError;
use crate::learn::Setting;
use crate::predictor::Trees;
use crate::prefetch::{judge, learn};

/// What a wait may be said to be worth, in thousandths of a call: each is a probability above which fetching ahead pays.
const WORTHS: [i64; 11] = [250, 300, 350, 430, 540, 700, 850, 1_000, 1_150, 1_300, 1_500];
/// Shares of the training part that are learned from; what follows, up to the next, judges.
const FOLDS: [f64; 4] = [0.5, 0.6, 0.7, 0.8];

/// What is asked of a setting.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Least share of the fetched things that are used.
    pub precision: f64,
    /// Least share of the misses that are gone.
    pub removed: f64,
    /// Most calls beyond those without prefetch.
    pub more_calls: f64,
}

/// Terms at the price of a call with a wait worth so many thousandths of `price`.
pub fn waiting(milli: i64, price: Money) -> PrefetchParams {
    PrefetchParams { latency: Money::from_nanos(price.nanos() * milli / 1_000), ..PrefetchParams::default() }
}

/// For each wish the worth of a wait, in thousandths of a call, that comes nearest to all of it; `None` when none comes near.
/// Judged on `sessions`, which end where the test part begins, by learning on a first share and replaying what follows, four times.
pub fn choose(
    sessions: &Sessions,
    wishes: &[Wanted],
    price: Money,
    (horizon, setting): (Span, &Setting<'_>),
) -> Result<Vec<Option<i64>>, TrainError> {
    let mut found = [Books::default(); WORTHS.len()];
    for (n, share) in FOLDS.iter().enumerate() {
        let (cut, end) = (sessions.split(*share), FOLDS.get(n + 1).map_or(sessions.visits.len(), |next| sessions.split(*next)));
        let fold = Sessions { routes: sessions.routes.clone(), visits: sessions.visits[..end].to_vec() };
        let levels = match learn(&fold, cut, horizon, setting) {
            Ok(learned) => Trees::levels(&learned.model),
            Err(TrainError::TooLittle(_)) => continue,
            Err(error) => return Err(error),
        };
        for (books, milli) in found.iter_mut().zip(WORTHS) {
            *books += judge(&fold, cut, &levels, waiting(milli, price), horizon).0;
        }
    }
    Ok(wishes.iter().map(|wish| best(&found, *wish)).collect())
}

/// How near a wish has to be met on the training part: folds learn from less than what is judged in the end.
const NEAR: f64 = 0.75;

impl Wanted {
    /// What is reached of the part of the wish that is met worst; one: all of it.
    fn met(&self, books: &Books) -> f64 {
        let calls = self.more_calls / books.more_calls().max(1e-9);
        (books.precision() / self.precision).min(books.removed() / self.removed).min(calls)
    }
}

fn best(found: &[Books], wish: Wanted) -> Option<i64> {
    let near = found.iter().map(|books| wish.met(books)).zip(WORTHS).filter(|(met, _)| *met >= NEAR);
    near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, milli)| milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_nearest_to_the_whole_wish_is_taken() {
        let books = |prefetches, useful| Books { base_misses: 1_000, misses: 1_000 - useful, prefetches, useful, ..Books::default() };
        let found = [(100, 95), (300, 275), (480, 400), (700, 480)].map(|(all, used)| books(all, used));
        let wish = |precision, removed, more_calls| best(&found, Wanted { precision, removed, more_calls });
        assert_eq!(wish(0.8, 0.4, 0.14), Some(WORTHS[2]));
        assert_eq!(wish(0.9, 0.3, 0.05), Some(WORTHS[1]));
        assert_eq!(wish(0.99, 0.9, 0.01), None);
        assert_eq!(
            best(&[Books::default()], Wanted { precision: 0.1, removed: 0.1, more_calls: 1.0 }),
            None,
            "what was never done meets nothing"
        );
    }
}
