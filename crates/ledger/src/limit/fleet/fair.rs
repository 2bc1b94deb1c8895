//! What is fair: everyone has what it wants, up to a level that is the same for all; what nobody wants is shared alike.

/// The fair share of the one at `me` among those who want so much of `all`, each with a word to tell it from others that want as much.
pub(super) fn share(all: i64, wants: &mut [(i64, &str)], me: &str) -> i64 {
    wants.sort_unstable();
    let count = i64::try_from(wants.len()).unwrap_or(i64::MAX).max(1);
    let (mut left, mut open, mut mine) = (all.max(0), count, 0);
    for (want, id) in &*wants {
        let given = (*want).min(left / open.max(1));
        if *id == me {
            mine = given;
        }
        (left, open) = (left - given, open - 1);
    }
    mine + left / count
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_wants_little_has_it_and_the_others_share_alike() {
        let of = |me, all| share(all, &mut [(100, "a"), (10, "b"), (60, "c"), (0, "d")], me);
        assert_eq!(["a", "b", "c", "d"].map(|me| of(me, 100)), [45, 10, 45, 0]);
        assert_eq!(["a", "b", "c", "d"].map(|me| of(me, 250)), [120, 30, 80, 20], "what nobody wants is shared alike");
    }

    proptest! {
        /// No more than there is, and nobody lacks some while another has more than it wants.
        #[test]
        fn all_of_it_and_no_more(all in 0..2_000i64, wants in proptest::collection::vec(0..1_500i64, 1..8)) {
            let names: Vec<String> = (0..wants.len()).map(|n| n.to_string()).collect();
            let with = |me: &str| share(all, &mut wants.iter().copied().zip(names.iter().map(String::as_str)).collect::<Vec<_>>(), me);
            let shares: Vec<i64> = names.iter().map(|name| with(name)).collect();
            let sum: i64 = shares.iter().sum();
            prop_assert!(sum <= all && sum + i64::try_from(wants.len()).unwrap() > all, "{shares:?}");
            for (share, want) in shares.iter().zip(&wants) {
                let short = share < want;
                prop_assert!(!short || shares.iter().zip(&wants).all(|(other, _)| *other <= share + 1), "{shares:?}");
            }
        }
    }
}
