//! Tables of prices: of a provider, of a route, of one version among several.

use farthing_types::{Currency, Factor, LongContext, Meter, MeterSource, Money, Rate, Tier};
use toml::de::{DeTable, DeValue};

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{Prices, TokenRates};

/// `price = "0.002"`, the short form; it replaces what a preset charges, and excludes a table `prices`.
pub(crate) fn price(s: &Section<'_, '_>, into: &mut Option<Prices>) {
    let Some(price) = s.opt("price", v::money) else { return };
    if s.has("prices") {
        s.wrong("price", "stands beside a table `prices`", "keep one of them; `prices` can hold per_call");
    }
    *into = Some(flat(price));
}

/// One price per call; nothing at all when that is zero, which is an agreement.
pub(crate) fn flat(price: Money) -> Prices {
    if price == Money::ZERO { Prices { free: true, ..Prices::default() } } else { Prices::per_call(price) }
}

/// The table `prices`: its keys replace those that were there before (a preset's), its targets and meters those of the same name.
pub(crate) fn prices(s: &Section<'_, '_>, path: &str, into: &mut Option<Prices>) {
    let Some(table) = s.table("prices") else { return };
    let path = format!("{path}.prices");
    let s = Section::open(s.doc, table, &path, registry::PRICES);
    let mut prices = version(&s, &path, into.take());
    for table in s.array("versions") {
        let path = format!("{path}.versions");
        let s = Section::open(s.doc, table, &path, registry::PRICES);
        // Each begins as the one before it, without its versions.
        let before = prices.versions.last().unwrap_or(&prices).clone();
        let before = Prices { versions: Vec::new(), effective: None, ..before };
        if s.has("versions") {
            s.wrong("versions", "versions within a version", "write each as [[prices.versions]] of its own");
        }
        s.need("effective", v::instant, "write from when this version holds, such as effective = 2027-01-01");
        prices.versions.push(version(&s, &path, Some(before)));
    }
    *into = Some(prices);
}

/// One version of prices over what stood there before.
fn version(s: &Section<'_, '_>, path: &str, before: Option<Prices>) -> Prices {
    let rated = ["per_call", "per_kb", "per_unit", "minimum", "not_modified", "targets", "meters"].iter().any(|key| s.has(key));
    let free = s.opt("free", v::flag);
    if free == Some(true) && rated {
        s.wrong("free", "true beside rates", "keep one of them");
    }
    // What is free has no rates, and what has rates is not free, whatever stood there.
    let start = if free == Some(true) { None } else { before };
    let mut prices = Prices { free: false, ..start.unwrap_or_default() };
    s.set_opt("per_call", v::per_unit, &mut prices.per_call);
    s.set_opt("per_kb", v::per_unit, &mut prices.per_kb);
    s.set_opt("per_unit", v::per_unit, &mut prices.per_unit);
    s.set_opt("minimum", v::per_unit, &mut prices.minimum);
    s.set_opt("not_modified", v::per_unit, &mut prices.not_modified);
    s.set("errors_billed", v::flag, &mut prices.errors_billed);
    s.set_opt("effective", v::instant, &mut prices.effective);
    s.set_opt("read", v::day, &mut prices.read);
    s.set_opt("source", v::text, &mut prices.source);
    if let Some(table) = s.table("currency") {
        prices.currency = currency(&Section::open(s.doc, table, &format!("{path}.currency"), registry::CURRENCY));
    }
    for table in s.array("service") {
        let path = format!("{path}.service");
        let s = Section::open(s.doc, table, &path, registry::SERVICE);
        let name = s.need("name", v::text, "write the tier's name as requests or answers have it, such as \"batch\"");
        let factor = s.need("factor", factor, "write the factor on token rates, such as \"0.5\"");
        prices.service.extend(name.zip(factor));
    }
    meters(s, path, &mut prices.meters);
    targets(s, path, &mut prices);
    prices.free = free == Some(true);
    if !prices.free && !prices.is_priced() && prices.not_modified.is_none() {
        s.wrong("per_call", "prices without a rate", "write a rate, free = true, or no prices where they are not known");
    }
    prices
}

fn currency(s: &Section<'_, '_>) -> Option<Currency> {
    let code = s.need("code", v::text, "write the currency's code, such as code = \"EUR\"");
    let usd = s.need("usd", factor, "write dollars for one unit of the currency, such as usd = \"1.0823\"");
    let day = s.need("day", v::day, "write the day of the exchange rate, such as day = 2026-11-24");
    Some(Currency { code: code?, usd: usd?, day: day? })
}

fn factor(value: &DeValue<'_>) -> Result<Factor, Bad> {
    let remedy = "write a positive decimal as a text, such as \"0.5\", with at most nine digits after the point";
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| Bad { found: show(value), remedy: remedy.to_owned() })
}

fn targets(s: &Section<'_, '_>, path: &str, prices: &mut Prices) {
    for (target, table) in s.tables("targets") {
        let path = format!("{path}.targets.\"{target}\"");
        prices.targets.insert(target.to_owned(), token_rates(&Section::open(s.doc, table, &path, registry::TOKEN_RATES), &path));
        if target.trim_end_matches('*').trim().is_empty() {
            s.wrong("targets", format!("a target is called \"{target}\""), "name it as the provider does");
        }
    }
}

fn token_rates(s: &Section<'_, '_>, path: &str) -> TokenRates {
    let mut rates = six(s);
    rates.max_output = s.opt("max_output", v::count(1..=1_000_000_000));
    rates.long = long(s, path);
    for (service, table) in s.tables("service") {
        let path = format!("{path}.service.{service}");
        let s = Section::open(s.doc, table, &path, registry::SERVICE_RATES);
        rates.service.insert(service.to_owned(), TokenRates { long: long(&s, &path), ..six(&s) });
    }
    meters(s, path, &mut rates.meters);
    rates
}

fn long(s: &Section<'_, '_>, path: &str) -> Option<Box<LongContext>> {
    let path = format!("{path}.long");
    let s = Section::open(s.doc, s.table("long")?, &path, registry::LONG_RATES);
    let over = s.need("over", v::count(1..=1_000_000_000), "write the input tokens beyond which these rates hold, such as 200000");
    let rates = six(&s);
    Some(Box::new(LongContext { over: over?, rates }))
}

fn six(s: &Section<'_, '_>) -> TokenRates {
    TokenRates {
        input: s.opt("input_per_million", v::per_million),
        cached_input: s.opt("cached_input_per_million", v::per_million),
        cache_write: s.opt("cache_write_per_million", v::per_million),
        cache_write_1h: s.opt("cache_write_1h_per_million", v::per_million),
        output: s.opt("output_per_million", v::per_million),
        reasoning: s.opt("reasoning_per_million", v::per_million),
        ..TokenRates::default()
    }
}

/// The meters of a table; one of a name that is there already replaces it.
fn meters(s: &Section<'_, '_>, path: &str, into: &mut Vec<Meter>) {
    let path = format!("{path}.meters");
    let mut named: Vec<String> = Vec::new();
    for table in s.array("meters") {
        let Some(meter) = meter(&Section::open(s.doc, table, &path, registry::METER), &path) else { continue };
        if named.contains(&meter.name) {
            s.wrong("meters", format!("two meters are called \"{}\"", meter.name), "give each its own name");
        }
        named.push(meter.name.clone());
        match into.iter_mut().find(|known| known.name == meter.name) {
            Some(known) => *known = meter,
            None => into.push(meter),
        }
    }
}

fn meter(s: &Section<'_, '_>, path: &str) -> Option<Meter> {
    let name = s.need("name", v::name, "name the meter, such as name = \"credits\"");
    let discount = s.opt("discount", v::flag).unwrap_or(false);
    let source = source(s);
    let rate = rate(s, discount);
    let kilo = source.as_ref().is_some_and(|(_, kilo)| *kilo);
    let mut unit_size = if kilo { 1_024 } else { 1 };
    s.set("unit_size", v::count(1..=1_000_000_000), &mut unit_size);
    let round_up = s.opt("round_up", v::flag).unwrap_or(false);
    let required = s.opt("required", v::flag).unwrap_or(true);
    let free = s.opt("free", v::count(0..=1_000_000_000_000_000)).unwrap_or(0);
    let at_most = s.opt("at_most", v::count(1..=1_000_000_000_000));
    let tiers = s.array("tiers").into_iter().filter_map(|table| tier(s, table, path, discount)).collect();
    let ((source, _), name, rate) = (source?, name?, rate?);
    let meter = Meter { discount, required, unit_size, round_up, free, tiers, at_most, ..Meter::new(&name, source, rate) };
    check(s, &meter);
    Some(meter)
}

fn tier<'a>(s: &Section<'_, 'a>, table: &DeTable<'a>, path: &str, discount: bool) -> Option<Tier> {
    let path = format!("{path}.tiers");
    let s = Section::open(s.doc, table, &path, registry::TIER);
    let up_to = s.need("up_to", v::count(1..=1_000_000_000_000_000), "write the units of the month up to which the rate holds");
    let rate = rate(&s, discount);
    Some(Tier { up_to: up_to?, rate: rate? })
}

fn check(s: &Section<'_, '_>, meter: &Meter) {
    let rising = meter.tiers.windows(2).all(|pair| pair[0].up_to < pair[1].up_to);
    if !rising || meter.tiers.first().is_some_and(|tier| tier.up_to <= meter.free) {
        s.wrong("tiers", "tiers that do not rise", "make each `up_to` larger than the one before, and than `free`");
    }
}

/// Where the amount stands, and whether it is counted in KB.
fn source(s: &Section<'_, '_>) -> Option<(MeterSource, bool)> {
    const COUNTS: &[(&str, u8)] = &[("call", 0), ("byte", 1), ("kb", 2)];
    let given = ["pointer", "header", "count"].iter().filter(|key| s.has(key)).count();
    if given != 1 {
        let found = if given == 0 { "a meter without a source" } else { "a meter with several sources" };
        s.wrong(
            "pointer",
            found,
            "write one of pointer = \"/usage/credits\", header = \"x-credits\", count = \"call\", \"byte\" or \"kb\"",
        );
        return None;
    }
    let pointer = s.opt("pointer", v::pointer).map(|pointer| (MeterSource::Pointer(pointer.to_string()), false));
    let header = s.opt("header", v::header).map(|name| (MeterSource::Header(name.to_string()), false));
    let counted = |count| match count {
        0 => (MeterSource::Call, false),
        count => (MeterSource::Bytes, count == 2),
    };
    pointer.or(header).or_else(|| s.opt("count", v::word(COUNTS)).map(counted))
}

/// `rate` or `rate_per_million`; below zero exactly for discounts.
fn rate(s: &Section<'_, '_>, discount: bool) -> Option<Rate> {
    let remedy = if discount { "write a rate below zero, such as \"-0.001\"" } else { "write a rate, such as rate = \"0.001\"" };
    let of = |per: fn(Money) -> Rate| {
        move |value: &DeValue<'_>| {
            let amount = value.as_str().and_then(|text| text.parse::<Money>().ok());
            let fits = amount.filter(|amount| if discount { *amount <= Money::ZERO } else { *amount >= Money::ZERO });
            let remedy = format!("{remedy}, dollars as a text; below zero only with discount = true");
            fits.map(per).ok_or_else(|| Bad { found: show(value), remedy })
        }
    };
    match (s.has("rate"), s.has("rate_per_million")) {
        (true, false) => s.opt("rate", of(Rate::per_unit)),
        (false, true) => s.opt("rate_per_million", of(|amount| Rate::per_million(amount.nanos()))),
        (true, true) => {
            s.wrong("rate", "stands beside rate_per_million", "keep one of them");
            None
        }
        (false, false) => {
            s.wrong("rate", "missing", remedy);
            None
        }
    }
}
