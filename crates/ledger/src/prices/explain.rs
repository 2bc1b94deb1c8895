//! Prices in words, for `farthing prices show`.

use farthing_types::{Meter, MeterSource, PriceSpec, Rate, Time, TokenRates};
use serde::Serialize;

use super::{PriceBook, Unpriced};

/// One component of a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceLine {
    /// The target; empty where the price is for any.
    pub target: String,
    /// What is charged: `call`, `input`, a meter's name ...
    pub component: String,
    /// So much, as a decimal in the currency.
    pub rate: String,
    /// For so much: `call`, `1,000,000 tokens`, `unit of 60` ...
    pub per: String,
    /// Conditions: tiers, free amounts, where the amount stands.
    pub notes: String,
}

impl PriceBook {
    /// The components of the prices in force at `at`; of one target only where that is given.
    ///
    /// # Errors
    /// Why there are none.
    pub fn lines(&self, (route, provider): (&str, &str), target: Option<&str>, at: Time) -> Result<Vec<PriceLine>, Unpriced> {
        let schedule = self.schedule((route, provider), at)?;
        let spec = &schedule.spec;
        let mut lines = flat(spec);
        lines.extend(spec.meters.iter().map(|one| meter("", one)));
        match target {
            None => spec.targets.iter().for_each(|(name, rates)| tokens(name, rates, &mut lines)),
            Some(name) if !spec.targets.is_empty() => {
                tokens(name, schedule.targets.find(name).ok_or(Unpriced::UnknownTarget)?, &mut lines);
            }
            Some(_) => {}
        }
        lines.extend(spec.service.iter().map(|(name, factor)| line("", &format!("service {name}"), factor.to_string(), "x token rates")));
        if let Some(currency) = &spec.currency {
            lines.push(line("", "exchange", currency.usd.to_string(), &format!("USD for 1 {} ({})", currency.code, currency.day)));
        }
        Ok(lines)
    }
}

fn line(target: &str, component: &str, rate: String, per: &str) -> PriceLine {
    PriceLine { target: target.to_owned(), component: component.to_owned(), rate, per: per.to_owned(), notes: String::new() }
}

fn flat(spec: &PriceSpec) -> Vec<PriceLine> {
    if spec.free {
        return vec![line("", "call", "0".to_owned(), "free by agreement")];
    }
    let all = [
        ("call", spec.per_call, "call"),
        ("answer", spec.per_kb, "1,024 bytes, by the byte"),
        ("units", spec.per_unit, "unit"),
        ("minimum", spec.minimum, "billed call, at least"),
        ("not modified", spec.not_modified, "answer 304"),
    ];
    all.into_iter().filter_map(|(name, rate, per)| Some(line("", name, rate?.to_string(), per))).collect()
}

fn tokens(name: &str, rates: &TokenRates, lines: &mut Vec<PriceLine>) {
    six(name, "", rates, lines);
    if let Some(long) = &rates.long {
        six(name, &format!(" (input over {} tokens)", long.over), &long.rates, lines);
    }
    for (service, own) in &rates.service {
        six(name, &format!(" ({service})"), own, lines);
        if let Some(long) = &own.long {
            six(name, &format!(" ({service}, input over {} tokens)", long.over), &long.rates, lines);
        }
    }
    lines.extend(rates.meters.iter().map(|one| meter(name, one)));
}

fn six(target: &str, when: &str, rates: &TokenRates, lines: &mut Vec<PriceLine>) {
    let all = [
        ("input", rates.input),
        ("cached input", rates.cached_input),
        ("cache write", rates.cache_write),
        ("cache write, 1 hour", rates.cache_write_1h),
        ("output", rates.output),
        ("reasoning", rates.reasoning),
    ];
    let million = |rate: Rate| farthing_types::Money::from_nanos(rate.nanos_per_million()).to_string();
    lines.extend(
        all.into_iter().filter_map(|(name, rate)| Some(line(target, &format!("{name}{when}"), million(rate?), "1,000,000 tokens"))),
    );
}

fn meter(target: &str, meter: &Meter) -> PriceLine {
    let mut notes = vec![match &meter.source {
        MeterSource::Call => "each call".to_owned(),
        MeterSource::Bytes => "bytes of the answer".to_owned(),
        MeterSource::Header(name) => format!("header {name}"),
        MeterSource::Pointer(pointer) => format!("answer at {pointer}"),
    }];
    if meter.free > 0 {
        notes.push(format!("{} a month free", meter.free));
    }
    notes.extend(meter.tiers.iter().map(|tier| format!("{} up to {}", tier.rate, tier.up_to)));
    if !meter.required {
        notes.push("0 when absent".to_owned());
    }
    let per = match (meter.unit_size, meter.round_up) {
        (1, false) => "unit".to_owned(),
        (1, true) => "started unit".to_owned(),
        (size, false) => format!("unit of {size}"),
        (size, true) => format!("started unit of {size}"),
    };
    PriceLine { notes: notes.join("; "), ..line(target, &meter.name, meter.rate.to_string(), &per) }
}
