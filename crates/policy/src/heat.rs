//! How much a route is asked: classes of its measured rate (D7).

/// Requests a second beyond which a route is hot.
const HOT: f64 = 100.0;
/// Requests a second beyond which it is warm.
const WARM: f64 = 10.0;
/// It stays in its class until the rate has fallen to this share of what took it there: a rate that wavers about a bound changes nothing.
const STAYS: f64 = 0.8;

/// A class of rates, from the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heat {
    /// Up to ten requests a second.
    #[default]
    Cold,
    /// More.
    Warm,
    /// More than a hundred.
    Hot,
}

impl Heat {
    /// Every value, in order.
    pub const ALL: [Self; 3] = [Self::Cold, Self::Warm, Self::Hot];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
            Self::Hot => "hot",
        }
    }

    /// The class at `rate` requests a second, coming from this one.
    pub fn at(self, rate: f64) -> Self {
        let beyond = |bound: f64, class: Self| rate > if self >= class { STAYS * bound } else { bound };
        if beyond(HOT, Self::Hot) {
            Self::Hot
        } else if beyond(WARM, Self::Warm) {
            Self::Warm
        } else {
            Self::Cold
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn heat() -> impl Strategy<Value = Heat> {
        proptest::sample::select(Heat::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_class_is_that_of_its_rate_or_holds_on_just_below(from in heat(), rate in 0.0..300.0_f64) {
            let found = from.at(rate);
            let plain = Heat::Cold.at(rate);
            prop_assert!(found >= plain, "nobody falls below the class of the rate");
            prop_assert!(found == plain || (found <= from && Heat::Cold.at(rate / STAYS) >= found), "above it only who was there, and is near");
            prop_assert_eq!(found.at(rate), found, "the same rate changes nothing more");
        }

        #[test]
        fn more_requests_are_never_a_lower_class(from in heat(), to in heat(), rate in 0.0..300.0_f64, more in 0.0..300.0_f64) {
            prop_assert!(from.at(rate + more) >= from.at(rate));
            prop_assert!(from.max(to).at(rate) >= from.at(rate));
        }

        #[test]
        fn a_rate_that_wavers_changes_the_class_once(from in heat(), middle in 1.0..300.0_f64, wavers in proptest::collection::vec(0.9..1.1_f64, 1..200)) {
            let classes: Vec<Heat> = wavers.iter().scan(from, |heat, waver| {
                *heat = heat.at(middle * waver);
                Some(*heat)
            }).collect();
            // A tenth up and down is less than from 1 to 0.8.
            prop_assert!(classes.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 1, "{:?}", classes);
        }
    }

    #[test]
    fn no_rate_is_cold() {
        assert_eq!((Heat::Hot.at(0.0), Heat::Hot.at(f64::NAN)), (Heat::Cold, Heat::Cold));
        assert_eq!(
            (Heat::Cold.at(100.1), Heat::Cold.at(100.0), Heat::Hot.at(80.1), Heat::Hot.at(80.0)),
            (Heat::Hot, Heat::Warm, Heat::Hot, Heat::Warm)
        );
    }
}
