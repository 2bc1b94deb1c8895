//! When fetching ahead pays (docs/prefetch.md): iff `p > (c_p + e c) / (c + v)`.

use farthing_types::Money;

/// What is at stake with one prefetch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stakes {
    /// Price of the call that a hit saves.
    pub call: Money,
    /// Price of fetching ahead.
    pub ahead: Money,
    /// What it is worth that the client does not wait.
    pub latency: Money,
    /// Share of a still good lifetime that is thrown away by fetching now, 0 to 1.
    pub thrown: f64,
}

impl Stakes {
    /// The probability of use above which fetching ahead pays; infinite where it cannot pay.
    pub fn threshold(&self) -> f64 {
        let nanos = |money: Money| money.nanos().max(0) as f64;
        let gain = nanos(self.call) + nanos(self.latency);
        let cost = nanos(self.ahead) + self.thrown.clamp(0.0, 1.0) * nanos(self.call);
        if gain > 0.0 { cost / gain } else { f64::INFINITY }
    }

    /// Whether it pays at probability `p`; never for NaN.
    pub fn pays(&self, p: f64) -> bool {
        p > self.threshold()
    }
}

/// How a provider bills what is fetched ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tariff {
    /// Like any call. Then prefetch never saves money: it buys latency, or nothing.
    #[default]
    PerCall,
    /// At a share of the price: an asynchronous batch at half price is 0.5, an off-peak tariff what it says.
    Share(f64),
    /// An endpoint that answers up to this many things, of any of the provider's routes, for the price of one call.
    Batch(u16),
    /// Calls that are paid already and lapse unused.
    Quota(Quota),
}

/// What is left of a free or prepaid quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quota {
    /// Calls left until it is reset.
    pub left: f64,
    /// Calls that our own clients will need until then.
    pub demand: f64,
    /// The uncertainty of `demand`: as many calls are kept back.
    pub reserve: f64,
}

impl Tariff {
    /// Price of one thing fetched ahead, alone or in a full batch.
    pub fn ahead(&self, call: Money) -> Money {
        match *self {
            Self::PerCall => call,
            Self::Share(share) => times(call, share),
            Self::Batch(size) => divided(call, size.max(1)),
            // What clients will need anyway is worth what they would have to pay without it.
            Self::Quota(quota) => {
                if quota.left - quota.reserve >= quota.demand + 1.0 {
                    Money::ZERO
                } else {
                    call
                }
            }
        }
    }

    /// Most things in one billed call.
    pub fn places(&self) -> usize {
        if let Self::Batch(size) = self { usize::from(*size).max(1) } else { 1 }
    }

    /// Whether fetching ahead can save money at all.
    pub fn can_save(&self, call: Money) -> bool {
        self.ahead(call) < call
    }
}

/// A share of a price, rounded up: a prefetch never looks cheaper than it is.
fn times(money: Money, share: f64) -> Money {
    if !share.is_finite() || share >= 1.0 {
        return money;
    }
    let millionths = (share.max(0.0) * 1e6).ceil() as i128;
    Money::from_nanos(i64::try_from((i128::from(money.nanos()) * millionths + 999_999) / 1_000_000).unwrap_or(money.nanos()))
}

fn divided(money: Money, by: u16) -> Money {
    let by = i64::from(by);
    Money::from_nanos(money.nanos().saturating_add(by - 1) / by)
}

/// A thing that may take a place in a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rider {
    /// Probability of use.
    pub p: f64,
    /// See [`Stakes::thrown`].
    pub thrown: f64,
}

/// What one billed batch call is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    /// Price of the batch call, and of a call that a hit saves.
    pub call: Money,
    /// See [`Stakes::latency`].
    pub latency: Money,
    /// Places in it.
    pub places: usize,
    /// A client's miss pays for the call anyway and takes one place: the others ride for nothing.
    pub opened: bool,
    /// Least probability of a rider, out of consideration for the provider.
    pub least: f64,
}

impl Batch {
    /// How many of `riders`, sorted by falling net worth `p (c + v) − e c`, to take; zero when the call does not pay.
    ///
    /// Whoever misses first pays for a call that would have been paid anyway, and the others ride with it for nothing. So a call made
    /// before anybody missed only spares the first of them the wait: the first rider has to bear it alone.
    pub fn fill(&self, riders: &[Rider]) -> usize {
        let (call, latency) = (self.call.nanos().max(0) as f64, self.latency.nanos().max(0) as f64);
        let worth = |rider: &Rider| rider.p * (call + latency) - rider.thrown.clamp(0.0, 1.0) * call;
        if !self.opened && riders.first().is_none_or(|first| worth(first) <= call) {
            return 0;
        }
        let room = self.places.saturating_sub(usize::from(self.opened));
        riders.iter().take(room).take_while(|r| r.p >= self.least && worth(r) > 0.0).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cents(n: i64) -> Money {
        Money::from_nanos(n * 10_000_000)
    }

    proptest! {
        #[test]
        fn the_threshold_rises_with_costs_and_falls_with_gains(
            call in 1..1_000_000i64, ahead in 0..1_000_000i64, more in 1..1_000_000i64, latency in 0..1_000_000i64, thrown in 0.0..1.0f64,
        ) {
            let stakes = |call, ahead, latency, thrown| {
                let money = Money::from_nanos;
                Stakes { call: money(call), ahead: money(ahead), latency: money(latency), thrown }
            };
            let here = stakes(call, ahead, latency, thrown);
            prop_assert!(here.threshold() >= 0.0);
            prop_assert!(stakes(call, ahead + more, latency, thrown).threshold() > here.threshold());
            prop_assert!(stakes(call, ahead, latency + more, thrown).threshold() <= here.threshold());
            prop_assert!(stakes(call, ahead, latency, (thrown + 0.1).min(1.0)).threshold() >= here.threshold());
            prop_assert!(!here.pays(here.threshold()) && !here.pays(f64::NAN));
        }

        #[test]
        fn a_larger_batch_is_never_dearer(call in 1..1_000_000i64, size in 1..100u16) {
            let call = Money::from_nanos(call);
            prop_assert!(Tariff::Batch(size + 1).ahead(call) <= Tariff::Batch(size).ahead(call));
            prop_assert!(Tariff::Share(0.3).ahead(call) <= Tariff::Share(0.6).ahead(call));
        }

        #[test]
        fn a_batch_never_expects_a_loss_and_keeps_its_places(
            mut ps in proptest::collection::vec(0.0..1.0f64, 0..30), places in 1..12usize, opened in any::<bool>(), wait in 0..4i64,
        ) {
            ps.sort_by(|a, b| b.total_cmp(a));
            let riders: Vec<Rider> = ps.iter().map(|p| Rider { p: *p, thrown: 0.0 }).collect();
            let batch = Batch { call: cents(1), latency: cents(wait), places, opened, least: 0.05 };
            let taken = batch.fill(&riders);
            prop_assert!(taken + usize::from(opened) <= places);
            prop_assert!(opened || taken == 0 || ps[0] * (1 + wait) as f64 > 1.0, "the first rider bears the call");
            prop_assert!(opened || taken == 0 || wait > 0, "for money alone the first miss opens the call");
        }
    }

    #[test]
    fn at_the_price_of_a_call_nothing_is_saved() {
        let stakes = Stakes { call: cents(1), ahead: Tariff::PerCall.ahead(cents(1)), latency: Money::ZERO, thrown: 0.0 };
        assert!(!stakes.pays(1.0), "not even what is certain to be used");
        assert!(!Tariff::PerCall.can_save(cents(1)) && Tariff::Batch(10).can_save(cents(1)) && !Tariff::Batch(1).can_save(cents(1)));
        let batch = Stakes { ahead: Tariff::Batch(10).ahead(cents(1)), ..stakes };
        assert!(batch.pays(0.11) && !batch.pays(0.1));
        let free = Stakes { call: Money::ZERO, ..stakes };
        assert_eq!(free.threshold(), f64::INFINITY);
    }

    #[test]
    fn a_quota_is_free_only_beyond_our_own_demand() {
        let quota = |left, demand| Tariff::Quota(Quota { left, demand, reserve: 10.0 }).ahead(cents(1));
        assert_eq!((quota(100.0, 50.0), quota(100.0, 89.5)), (Money::ZERO, cents(1)));
    }
}
