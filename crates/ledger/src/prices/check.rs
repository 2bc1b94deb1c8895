//! Refuses prices that cannot be meant.

use std::collections::BTreeMap;

use farthing_types::price::effective_from;
use farthing_types::{Meter, MeterSource, PriceSpec, Rate, Time, TokenRates};

use super::tokens::has_rates;

/// Checks one version of a spec by itself.
pub(super) fn check(spec: &PriceSpec) -> Result<(), String> {
    let flat = [
        ("per_call", spec.per_call),
        ("per_kb", spec.per_kb),
        ("per_unit", spec.per_unit),
        ("minimum", spec.minimum),
        ("not_modified", spec.not_modified),
    ];
    for (key, rate) in flat {
        not_negative(key, rate)?;
    }
    for (name, rates) in &spec.targets {
        if name.trim_end_matches('*').trim().is_empty() {
            return Err("`targets` holds a nameless target: name it as the provider does".to_owned());
        }
        let place = format!("targets.\"{name}\"");
        target(&place, rates)?;
        if !has_rates(rates) && rates.meters.is_empty() {
            return Err(format!("`{place}` has neither a rate nor a meter, so that its calls would cost nothing: write one"));
        }
    }
    meters("meters", &spec.meters)?;
    shared(spec)?;
    let priced = flat.iter().any(|(_, rate)| rate.is_some()) || !spec.targets.is_empty() || !spec.meters.is_empty();
    if spec.free && priced {
        return Err("`free = true` stands beside rates: keep one of them".to_owned());
    }
    match &spec.effective {
        Some(text) => from(text).map(|_| ()),
        None => Ok(()),
    }
}

fn target(place: &str, rates: &TokenRates) -> Result<(), String> {
    for (key, rate) in rates.buckets() {
        not_negative(&format!("{place}.{key}"), rate)?;
    }
    if let Some(long) = &rates.long {
        target(&format!("{place}.long"), &long.rates)?;
    }
    for (service, own) in &rates.service {
        target(&format!("{place}.service.{service}"), own)?;
    }
    meters(&format!("{place}.meters"), &rates.meters)
}

fn meters(place: &str, all: &[Meter]) -> Result<(), String> {
    for (index, one) in all.iter().enumerate() {
        let place = format!("{place}.{}", one.name);
        let named = !one.name.is_empty() && one.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !named {
            return Err(format!("`{place}`: name the meter with letters, digits, '-', '_' and '.'"));
        }
        if all.get(..index).is_some_and(|before| before.iter().any(|other| other.name == one.name)) {
            return Err(format!("`{place}` stands twice: give each meter its own name"));
        }
        meter(&place, one)?;
    }
    Ok(())
}

/// Meters of the same name count one volume of the month, so that they must be one and the same; and a target's stands beside the spec's own.
fn shared(spec: &PriceSpec) -> Result<(), String> {
    let mut first: BTreeMap<&str, (&str, &Meter)> = BTreeMap::new();
    for (target, meter) in spec.targets.iter().flat_map(|(target, rates)| rates.meters.iter().map(move |meter| (target.as_str(), meter))) {
        let (name, place) = (meter.name.as_str(), format!("targets.\"{target}\".meters.{}", meter.name));
        if spec.meters.iter().any(|own| own.name == meter.name) {
            return Err(format!("`{place}` and `meters.{name}` count each call twice under one name: give one of them another"));
        }
        let (other, before) = *first.entry(name).or_insert((target, meter));
        if before != meter && (before.is_monthly() || meter.is_monthly()) {
            return Err(format!(
                "`{place}` shares the month's volume with that of `{other}` and differs from it: make them equal, or give them two names"
            ));
        }
    }
    Ok(())
}

fn meter(place: &str, meter: &Meter) -> Result<(), String> {
    let rates = || meter.tiers.iter().map(|tier| tier.rate).chain([meter.rate]);
    if meter.discount && rates().any(|rate| rate.nanos_per_million() > 0) {
        return Err(format!("`{place}` is a discount with a positive rate: write it negative"));
    }
    if !meter.discount && rates().any(|rate| rate.nanos_per_million() < 0) {
        return Err(format!("`{place}` has a negative rate: a price is at least 0; mark a discount with discount = true"));
    }
    if meter.unit_size == 0 {
        return Err(format!("`{place}.unit_size = 0`: a unit holds at least one"));
    }
    let rising = meter.tiers.windows(2).all(|pair| pair[0].up_to < pair[1].up_to);
    if !rising || meter.tiers.first().is_some_and(|tier| tier.up_to <= meter.free) {
        return Err(format!("`{place}.tiers`: each `up_to` must be larger than the one before, and than `free`"));
    }
    match &meter.source {
        MeterSource::Pointer(pointer) if !pointer.starts_with('/') => Err(format!("`{place}.pointer`: a JSON pointer begins with \"/\"")),
        MeterSource::Header(name) if name.is_empty() || name.starts_with('/') => Err(format!("`{place}.header`: name a header")),
        _ => Ok(()),
    }
}

fn not_negative(key: &str, rate: Option<Rate>) -> Result<(), String> {
    match rate {
        Some(rate) if rate.nanos_per_million() < 0 => Err(format!("`{key} = \"{rate}\"` is negative: a price is at least 0")),
        _ => Ok(()),
    }
}

/// The instant of an `effective`: a day begins at midnight UTC; a day and time names its own offset.
pub(super) fn from(text: &str) -> Result<Time, String> {
    effective_from(text).ok_or_else(|| {
        format!(
            "`effective = \"{text}\"` is no date: write YYYY-MM-DD (midnight UTC), or with an offset, such as 2027-01-01T00:00:00+01:00"
        )
    })
}
