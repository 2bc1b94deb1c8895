//! One compiled version of a price spec, and the arithmetic.
//!
//! All products are integers over one common denominator, which is fixed when the schedule is compiled: rates count femto-units of
//! currency (1e-15) and meters billionths, so a call's cost is `sum(amount x rate x scale) x exchange`, divided and rounded once.

use std::sync::Arc;

use farthing_types::{Factor, Meter, MeterSource, Money, PriceSpec, Rate, Time};

use super::amount::{Amount, NANO};
use super::names::TargetRates;
use super::volumes::{Month, VolumeKey, Volumes};
use super::{Billable, Priced, Unpriced, tokens};

/// Bytes in the KB of [`PriceSpec::per_kb`].
const KB: u64 = 1024;
/// [`Rate`] counts millionths of a nano-dollar.
const MILLION: i128 = 1_000_000;
/// Largest common denominator: beyond it, sums of some ten thousand dollars would not fit.
const MAX_DENOMINATOR: i128 = 10_000_000_000_000_000_000;

/// One version of somebody's prices.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) owner: Arc<str>,
    /// From when it holds; `None`: ever since.
    pub(super) from: Option<Time>,
    pub(super) spec: PriceSpec,
    pub(super) targets: TargetRates,
    /// Common denominator of meters, KB and service factors; the exchange rate's is not in it.
    denominator: i128,
    /// Numerator and denominator of the exchange rate.
    exchange: (i128, i128),
    meters: Vec<Arc<str>>,
}

/// A sum in femto-units over the schedule's denominator; `None` is beyond all bounds.
#[derive(Clone, Copy)]
struct Sum(Option<i128>);

impl Sum {
    fn add(&mut self, product: Option<i128>) {
        self.0 = self.0.zip(product).and_then(|(sum, more)| sum.checked_add(more));
    }
}

impl Schedule {
    /// Compiles a checked spec.
    ///
    /// # Errors
    /// Unit sizes and factors whose common denominator is too large to stay exact.
    pub(super) fn new(owner: Arc<str>, from: Option<Time>, spec: &PriceSpec) -> Result<Self, String> {
        let mut parts: Vec<u64> = spec.service.values().map(|factor| factor.parts().1).collect();
        parts.extend(spec.per_kb.map(|_| KB));
        let of_targets = spec.targets.values().flat_map(|rates| &rates.meters);
        parts.extend(spec.meters.iter().chain(of_targets).map(|meter| if meter.round_up { 1 } else { meter.unit_size }));
        let metered = !spec.meters.is_empty() || spec.targets.values().any(|rates| !rates.meters.is_empty());
        let start = if metered { NANO as i128 } else { 1 };
        // Meters count billionths: their unit sizes multiply that, the others only have to divide the whole.
        let sizes = parts.iter().try_fold(1i128, |all, part| lcm(all, i128::from(*part)));
        let (usd, per) = spec.currency.as_ref().map_or(Factor::ONE, |currency| currency.usd).parts();
        let denominator = sizes.and_then(|sizes| sizes.checked_mul(start));
        let fits = denominator.and_then(|d| d.checked_mul(i128::from(per))).is_some_and(|d| d <= MAX_DENOMINATOR);
        let Some(denominator) = denominator.filter(|_| fits) else {
            return Err("the unit sizes, factors and the exchange rate together are too fine to be exact: use rounder ones".to_owned());
        };
        let meters = spec.meters.iter().map(|meter| Arc::from(meter.name.as_str())).collect();
        let targets = TargetRates::new(&spec.targets);
        Ok(Self { owner, from, spec: spec.clone(), targets, denominator, exchange: (i128::from(usd), i128::from(per)), meters })
    }

    /// What `call` costs after `volumes` were used.
    pub(super) fn price(&self, call: &Billable<'_>, volumes: &Volumes) -> Result<Priced, Unpriced> {
        let spec = &self.spec;
        if spec.free {
            return Ok(Priced::default());
        }
        if !spec.is_priced() && spec.not_modified.is_none() {
            return Err(Unpriced::NoPrices);
        }
        match call.status {
            Some(200..=299) => self.metered(call, volumes),
            Some(304) => match spec.not_modified {
                Some(rate) => Ok(Priced::of(self.money(Sum(self.flat_product(rate))))),
                None => self.by_call(call, volumes),
            },
            // Of a tunnel nothing is read but its bytes: what is billed by more than the call is not known.
            Some(101) if self.is_by_call() => self.by_call(call, volumes),
            Some(101) => Err(Unpriced::NoUsage),
            _ if !spec.errors_billed => Ok(Priced::of(Money::ZERO)),
            // No body to meter: what is flat is charged.
            None => self.by_call(call, volumes),
            Some(_) => self.metered(call, volumes),
        }
    }

    /// Whether nothing but the call itself is charged.
    fn is_by_call(&self) -> bool {
        let spec = &self.spec;
        let other = spec.meters.iter().any(|meter| meter.source != MeterSource::Call);
        spec.per_unit.is_none() && spec.per_kb.is_none() && self.targets.is_empty() && !other
    }

    /// What is charged for the call itself; unpriced where nothing is.
    fn by_call(&self, call: &Billable<'_>, volumes: &Volumes) -> Result<Priced, Unpriced> {
        let spec = &self.spec;
        let by_call = |meter: &&Meter| meter.source == MeterSource::Call;
        if spec.per_call.is_none() && !spec.meters.iter().any(|meter| by_call(&meter)) {
            return Err(Unpriced::NoUsage);
        }
        let mut priced = Priced::default();
        let mut sum = Sum(spec.per_call.map_or(Some(0), |rate| self.flat_product(rate)));
        for (meter, name) in spec.meters.iter().zip(&self.meters).filter(|(meter, _)| by_call(meter)) {
            self.meter((meter, name), Some(Amount::units(1)), (call, volumes), (&mut sum, &mut priced))?;
        }
        priced.cost = self.settle(sum);
        Ok(priced)
    }

    fn metered(&self, call: &Billable<'_>, volumes: &Volumes) -> Result<Priced, Unpriced> {
        let spec = &self.spec;
        if !spec.is_priced() {
            return Err(Unpriced::NoPrices);
        }
        let mut priced = Priced::default();
        let mut sum = Sum(spec.per_call.map_or(Some(0), |rate| self.flat_product(rate)));
        if let Some(rate) = spec.per_unit {
            sum.add(self.scaled(rate.exact(call.usage.units.ok_or(Unpriced::NoUsage)?)));
        }
        if let Some(rate) = spec.per_kb {
            let exact = rate.exact(call.bytes.ok_or(Unpriced::NoBytes)?);
            sum.add(exact.checked_mul(self.denominator / i128::from(KB)));
        }
        for (meter, name) in spec.meters.iter().zip(&self.meters) {
            self.meter((meter, name), amount(meter, call)?, (call, volumes), (&mut sum, &mut priced))?;
        }
        if !self.targets.is_empty() && !call.unbilled {
            let rates = self.targets.find(call.target.ok_or(Unpriced::NoTarget)?).ok_or(Unpriced::UnknownTarget)?;
            let by_token = tokens::has_rates(rates);
            if by_token {
                let (exact, factor) = tokens::exact(rates, &spec.service, call)?;
                let (times, over) = factor.parts();
                let scale = i128::from(times).checked_mul(self.denominator / i128::from(over));
                sum.add(scale.and_then(|scale| exact.checked_mul(scale)));
            }
            for meter in &rates.meters {
                let name = meter.name.as_str().into();
                self.meter((meter, &name), amount(meter, call)?, (call, volumes), (&mut sum, &mut priced))?;
            }
        }
        priced.cost = self.settle(sum);
        Ok(priced)
    }

    /// Adds one meter's part to sum and volumes.
    fn meter(
        &self,
        (meter, name): (&Meter, &Arc<str>),
        found: Option<Amount>,
        (call, volumes): (&Billable<'_>, &Volumes),
        (sum, priced): (&mut Sum, &mut Priced),
    ) -> Result<(), Unpriced> {
        let Some(found) = found else {
            return if meter.required { Err(Unpriced::NoAmount) } else { Ok(()) };
        };
        let counted = counted(meter, found);
        let key = VolumeKey { owner: self.owner.clone(), meter: name.clone(), month: Month::of(call.at) };
        if meter.is_monthly() {
            sum.add(self.graduated(meter, volumes.get(&key), counted));
        } else {
            sum.add(self.product(meter, counted.nano(), meter.rate));
        }
        // Also where no rate depends on it: prices that are loaded within the month may have tiers.
        priced.volumes.push((key, counted));
        priced.metered.push((name.clone(), counted));
        Ok(())
    }

    /// The part of `added` that falls on each tier, after `before`.
    fn graduated(&self, meter: &Meter, before: Amount, added: Amount) -> Option<i128> {
        let mut sum = 0i128;
        let (mut at, end) = (before.nano(), before.plus(added).nano());
        let per_unit = NANO * u128::from(size(meter));
        let free = Some((u128::from(meter.free), None)).filter(|(free, _)| *free > 0);
        let tiers = meter.tiers.iter().map(|tier| (u128::from(tier.up_to), Some(tier.rate)));
        for (up_to, rate) in free.into_iter().chain(tiers) {
            let until = up_to.saturating_mul(per_unit).min(end);
            if until > at {
                let part = rate.map_or(Some(0), |rate| self.product(meter, until - at, rate))?;
                sum = sum.checked_add(part)?;
                at = until;
            }
        }
        sum.checked_add(self.product(meter, end - at.min(end), meter.rate)?)
    }

    /// `nano` billionths of what the meter counts, at `rate`.
    fn product(&self, meter: &Meter, nano: u128, rate: Rate) -> Option<i128> {
        let scale = self.denominator / (NANO as i128) / i128::from(size(meter));
        i128::try_from(nano).ok()?.checked_mul(i128::from(rate.nanos_per_million()))?.checked_mul(scale)
    }

    fn scaled(&self, exact: i128) -> Option<i128> {
        exact.checked_mul(self.denominator)
    }

    fn flat_product(&self, rate: Rate) -> Option<i128> {
        self.scaled(rate.exact(1))
    }

    /// The money of a billed call: no discount makes it less than nothing, and the minimum holds.
    fn settle(&self, sum: Sum) -> Money {
        let least = self.spec.minimum.map_or(Some(0), |rate| self.flat_product(rate));
        self.money(Sum(sum.0.zip(least).map(|(sum, least)| sum.max(least).max(0))))
    }

    /// Exchanged into dollars and rounded, once, half away from zero.
    fn money(&self, Sum(sum): Sum) -> Money {
        let (usd, per) = self.exchange;
        let unit = self.denominator * per * MILLION;
        let rounded = sum.and_then(|sum| sum.checked_mul(usd)).and_then(|exact| {
            let half = if exact < 0 { -unit / 2 } else { unit / 2 };
            i64::try_from(exact.checked_add(half)? / unit).ok()
        });
        // Beyond all bounds is the most there is, never less.
        Money::from_nanos(rounded.unwrap_or(i64::MAX))
    }

    /// The price of a call whose parts are all known before it: nothing in it depends on the answer.
    pub(super) fn flat(&self) -> Option<Money> {
        let spec = &self.spec;
        let known = spec.per_kb.is_none() && spec.per_unit.is_none() && spec.targets.is_empty();
        let fixed = |meter: &Meter| meter.source == MeterSource::Call && !meter.is_monthly();
        if spec.free {
            return Some(Money::ZERO);
        }
        if !known || !spec.is_priced() || !spec.meters.iter().all(fixed) {
            return None;
        }
        Some(self.of_call())
    }

    /// What is charged for a call itself, at least the minimum; meters whose rate hangs on the month's volume are left out.
    pub(super) fn of_call(&self) -> Money {
        let spec = &self.spec;
        if spec.free {
            return Money::ZERO;
        }
        let mut sum = Sum(spec.per_call.map_or(Some(0), |rate| self.flat_product(rate)));
        for meter in spec.meters.iter().filter(|meter| meter.source == MeterSource::Call && !meter.is_monthly()) {
            sum.add(self.product(meter, counted(meter, Amount::units(1)).nano(), meter.rate));
        }
        self.settle(sum)
    }

    /// The money of these products of amounts (in billionths) and rates, together with what `tokens` cost and `calls` are charged: for
    /// bounds, which take the dearest of everything.
    pub(super) fn at_most(&self, meters: &[(&Meter, u128)], tokens: i128, factor: Factor) -> Money {
        let mut sum = Sum(self.spec.per_call.map_or(Some(0), |rate| self.flat_product(rate)));
        for (meter, nano) in meters {
            let dearest = meter.tiers.iter().map(|tier| tier.rate).chain([meter.rate]).max().unwrap_or_default();
            sum.add(self.product(meter, *nano, dearest).map(|part| part.max(0)));
        }
        let (times, over) = factor.parts();
        let scale = i128::from(times).checked_mul(self.denominator / i128::from(over));
        sum.add(scale.and_then(|scale| tokens.checked_mul(scale)));
        self.settle(sum)
    }
}

/// What the source counts, of a meter's call; `None` when it is not there.
fn amount(meter: &Meter, call: &Billable<'_>) -> Result<Option<Amount>, Unpriced> {
    Ok(match &meter.source {
        MeterSource::Call => Some(Amount::units(1)),
        MeterSource::Bytes => match call.bytes {
            Some(bytes) => Some(Amount::units(bytes)),
            None if meter.required => return Err(Unpriced::NoBytes),
            None => None,
        },
        MeterSource::Header(place) | MeterSource::Pointer(place) => call.amounts.get(place),
    })
}

/// What counts for the volume: started units where they are charged whole, else the amount as it is.
pub(super) fn counted(meter: &Meter, found: Amount) -> Amount {
    if !meter.round_up {
        return found;
    }
    let unit = NANO * u128::from(meter.unit_size);
    Amount::from_nano(found.nano().div_ceil(unit).saturating_mul(NANO))
}

/// What one billed unit is in counted ones.
fn size(meter: &Meter) -> u64 {
    if meter.round_up { 1 } else { meter.unit_size }
}

fn lcm(a: i128, b: i128) -> Option<i128> {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).checked_mul(b).filter(|all| *all <= MAX_DENOMINATOR)
}

impl Schedule {
    /// What an answer 304 at this rate costs.
    pub(super) fn confirmed(&self, rate: Rate) -> Money {
        self.money(Sum(self.flat_product(rate)))
    }
}
