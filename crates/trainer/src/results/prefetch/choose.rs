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

/// How nearly a wish is met by the part of it that is met worst (one: all of it), and the standard error of that.
#[derive(Clone, Copy, Debug)]
struct Met {
    share: f64,
    error: f64,
}

impl Wanted {
    fn met(&self, books: &Books) -> Met {
        let binomial = |share: f64, of: u64| (share * (1.0 - share).max(0.0) / of.max(1) as f64).sqrt();
        let (precision, removed, calls) = (books.precision(), books.removed(), books.more_calls().max(1e-9));
        // Calls that were not needed are counted events.
        let unneeded = (calls * books.base_misses as f64).max(1.0);
        let parts = [
            Met { share: precision / self.precision, error: binomial(precision, books.prefetches) / self.precision },
            Met { share: removed / self.removed, error: binomial(removed, books.base_misses) / self.removed },
            Met { share: self.more_calls / calls, error: self.more_calls / calls / unneeded.sqrt() },
        ];
        let [first, rest @ ..] = parts;
        rest.into_iter().fold(first, |worst, part| if part.share < worst.share { part } else { worst })
    }
}

/// Of the settings that come as near as the nearest, within its standard error, the one that makes the fewest calls (the rule of one standard error:
/// Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984). What folds of some hundred misses cannot tell apart must not
/// be paid for.
fn best(found: &[Books], wish: Wanted) -> Option<i64> {
    let near: Vec<_> = found.iter().zip(WORTHS).map(|(books, milli)| (wish.met(books), books.more_calls(), milli)).collect();
    let nearest = near.iter().map(|(met, ..)| met).filter(|met| met.share >= NEAR).max_by(|a, b| a.share.total_cmp(&b.share))?;
    let enough = (nearest.share - nearest.error).max(NEAR);
    let fewest = near.iter().filter(|(met, ..)| met.share >= enough).min_by(|a, b| a.1.total_cmp(&b.1));
    fewest.map(|(_, _, milli)| *milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_nearest_to_the_whole_wish_is_taken() {
        let books = |prefetches, useful| Books { base_misses: 1_000, misses: 1_000 - useful, prefetches, useful, ..Books::default() };
        let found = [(100, 95), (300, 275), (380, 330), (480, 400), (700, 480)].map(|(all, used)| books(all, used));
        let wish = |precision, removed, more_calls| best(&found, Wanted { precision, removed, more_calls });
        assert_eq!(wish(0.8, 0.4, 0.14), Some(WORTHS[3]));
        assert_eq!(wish(0.9, 0.3, 0.05), Some(WORTHS[1]));
        assert_eq!(wish(0.99, 0.9, 0.01), None);
        assert_eq!(
            best(&[Books::default()], Wanted { precision: 0.1, removed: 0.1, more_calls: 1.0 }),
            None,
            "what was never done meets nothing"
        );
    }

    #[test]
    fn what_cannot_be_told_apart_is_not_paid_for() {
        let books = |prefetches, useful| Books { base_misses: 1_000, misses: 1_000 - useful, prefetches, useful, ..Books::default() };
        let found = [(430, 350), (500, 385), (540, 395)].map(|(all, used)| books(all, used));
        let wish = Wanted { precision: 0.75, removed: 0.4, more_calls: 0.2 };
        // 395 of 1,000 is nearest to 400, and no further from 385 than chance; 350 is.
        assert_eq!(best(&found, wish), Some(WORTHS[1]));
    }
}
