//! Reads the price map that LiteLLM publishes (one JSON object, a model for each key), and writes it as prices of ours.
//!
//! Numbers are taken by their text, so that no digit is lost. What has no place in our prices is listed, never guessed.

use std::collections::BTreeMap;
use std::fmt::Write;

use farthing_types::{LongContext, Meter, MeterSource, Money, Rate, TokenRates};
use serde_json::value::RawValue;

use crate::decimal::decimal;

/// What was read of a price map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Targets by our name of their provider.
    pub providers: BTreeMap<String, BTreeMap<String, TokenRates>>,
    /// What was left out, and why.
    pub left_out: Vec<LeftOut>,
}

/// Something of a price map that our prices have no place for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The model.
    pub target: String,
    /// The key; empty: the whole model.
    pub key: String,
    /// Why.
    pub why: &'static str,
}

/// A text that is no price map.
#[derive(Debug, thiserror::Error)]
#[error("not a price map: {0}; it is one JSON object with an object for each model")]
pub struct NotAMap(#[from] serde_json::Error);

/// Parts of the names of fields that say what something costs.
const OF_PRICES: [&str; 5] = ["cost", "price", "pricing", "multiplier", "uplift"];
/// Factors on the rates of a model for what stands for a service tier.
const FACTORS: &str = "provider_specific_entry";
/// The tier of answers with images, which are dearer than text.
const IMAGE: &str = "image";

type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// Reads the models whose `litellm_provider` is the first of a pair, as targets of the provider that the second names.
///
/// # Errors
/// A text that is no price map.
pub fn litellm(text: &str, providers: &[(String, String)]) -> Result<Imported, NotAMap> {
    let models: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
    let mut imported = Imported::default();
    for (model, fields) in models {
        let fields: Fields<'_> = serde_json::from_str(fields.get())?;
        let provider = text_of(&fields, "litellm_provider").unwrap_or_default();
        let Some((_, name)) = providers.iter().find(|(theirs, _)| *theirs == provider) else { continue };
        let target = model.strip_prefix(&format!("{provider}/")).unwrap_or(&model).to_owned();
        if let Some(rates) = one(&target, &fields, &mut imported.left_out) {
            imported.providers.entry(name.clone()).or_default().insert(target, rates);
        }
    }
    imported.left_out.sort();
    Ok(imported)
}

fn text_of(fields: &Fields<'_>, key: &str) -> Option<String> {
    serde_json::from_str(fields.get(key)?.get()).ok()
}

/// One model; `None` when nothing of it has a price.
fn one(target: &str, fields: &Fields<'_>, left_out: &mut Vec<LeftOut>) -> Option<TokenRates> {
    let mode = text_of(fields, "mode").unwrap_or_default();
    let mut rates = TokenRates { max_output: fields.get("max_output_tokens").and_then(|v| v.get().parse().ok()), ..TokenRates::default() };
    let (mut priced, mut zero) = (false, false);
    for (key, value) in fields {
        if !OF_PRICES.iter().any(|part| key.contains(part)) {
            continue;
        }
        let mut leave = |why| left_out.push(LeftOut { target: target.to_owned(), key: key.clone(), why });
        match rate(value.get()) {
            // What costs nothing here need not be said, and may as well not be known.
            Some(rate) if rate.nanos_per_million() == 0 => zero |= key.ends_with("cost_per_token"),
            Some(rate) => match put(&mut rates, key, (rate, &mode), fields) {
                Ok(()) => priced = true,
                Err(why) => leave(why),
            },
            None if value.get() == "null" => {}
            None => leave("is no price that can be held exactly"),
        }
    }
    think_as_text(&mut rates);
    if priced {
        factors(target, fields, &mut rates, left_out);
    }
    if zero && !priced {
        left_out.push(LeftOut {
            target: target.to_owned(),
            key: String::new(),
            why: "has a price of zero: write it yourself if it is free",
        });
    }
    priced.then_some(rates)
}

/// Thoughts beside an image cost what they cost beside text.
fn think_as_text(rates: &mut TokenRates) {
    let usual = rates.reasoning.or(rates.output);
    if let Some(image) = rates.service.get_mut(IMAGE) {
        image.reasoning = usual;
    }
}

/// Takes over what is a factor on all rates of a model.
fn factors(target: &str, fields: &Fields<'_>, rates: &mut TokenRates, left_out: &mut Vec<LeftOut>) {
    let Some(text) = fields.get(FACTORS).filter(|text| text.get() != "null") else { return };
    let mut leave = |key: String, why| left_out.push(LeftOut { target: target.to_owned(), key, why });
    let Ok(all) = serde_json::from_str::<Fields<'_>>(text.get()) else {
        return leave(FACTORS.to_owned(), "has no place in our prices");
    };
    for (name, factor) in all {
        let key = format!("{FACTORS}.{name}");
        match name.as_str() {
            "fast" | "us" => match scaled(rates, factor.get()) {
                Some(own) => _ = rates.service.insert(name, own),
                None => leave(key, "is no factor that gives rates which can be held exactly"),
            },
            _ => leave(key, "has no place in our prices"),
        }
    }
}

/// The six rates, usual and of long inputs, each times a factor; `None` where one is not exact then.
fn scaled(rates: &TokenRates, factor: &str) -> Option<TokenRates> {
    let (factor, exact) = decimal(factor, 9)?;
    let factor = Some(factor).filter(|factor| exact && *factor > 0)?;
    let times = |rate: Option<Rate>| -> Option<Option<Rate>> {
        let Some(rate) = rate else { return Some(None) };
        let product = i128::from(rate.nanos_per_million()).checked_mul(factor)?;
        let whole = Some(product / 1_000_000_000).filter(|_| product % 1_000_000_000 == 0)?;
        Some(Some(Rate::per_million(i64::try_from(whole).ok()?)))
    };
    let six = |rates: &TokenRates| {
        Some(TokenRates {
            input: times(rates.input)?,
            cached_input: times(rates.cached_input)?,
            cache_write: times(rates.cache_write)?,
            cache_write_1h: times(rates.cache_write_1h)?,
            output: times(rates.output)?,
            reasoning: times(rates.reasoning)?,
            ..TokenRates::default()
        })
    };
    let long = match &rates.long {
        Some(long) => Some(Box::new(LongContext { over: long.over, rates: six(&long.rates)? })),
        None => None,
    };
    Some(TokenRates { long, ..six(rates)? })
}

/// Puts one rate in its place.
fn put(rates: &mut TokenRates, key: &str, (rate, mode): (Rate, &str), fields: &Fields<'_>) -> Result<(), &'static str> {
    match key {
        "input_cost_per_image" | "output_cost_per_image" if mode == "image_generation" => {
            let alike =
                |other: &str| fields.get(other).is_some_and(|value| self::rate(value.get()).is_some_and(|r| r.nanos_per_million() > 0));
            if ["input_cost_per_token", "output_cost_per_token", "output_cost_per_image_token"].into_iter().any(alike) {
                return Err("stands beside prices of tokens, which tell the same more exactly");
            }
            if key == "input_cost_per_image" && alike("output_cost_per_image") {
                return Err("stands beside a price of each image that comes");
            }
            return meter(rates, "images", "/data", rate);
        }
        "input_cost_per_second" if mode == "audio_transcription" => return meter(rates, "seconds", "/usage/seconds", rate),
        "output_cost_per_second" if mode == "audio_transcription" => return Err("the same seconds as those that go in"),
        "output_cost_per_image_token" => {
            rates.service.entry(IMAGE.to_owned()).or_default().output = Some(rate);
            return Ok(());
        }
        "input_cost_per_character" => return Err("answers do not say how many characters were sent"),
        _ => {}
    }
    let (key, service) = suffixed(key);
    let (key, over) = beyond(key)?;
    // Nothing is made for a rate that then has no place: a tier without rates would have the usual ones.
    let slot: fn(&mut TokenRates) -> &mut Option<Rate> = match key {
        "input_cost_per_token" => |rates| &mut rates.input,
        "output_cost_per_token" => |rates| &mut rates.output,
        "cache_read_input_token_cost" => |rates| &mut rates.cached_input,
        "cache_creation_input_token_cost" => |rates| &mut rates.cache_write,
        "cache_creation_input_token_cost_above_1hr" => |rates| &mut rates.cache_write_1h,
        "output_cost_per_reasoning_token" => |rates| &mut rates.reasoning,
        _ => return Err("has no place in our prices"),
    };
    let place = match service {
        Some(service) => rates.service.entry(service.to_owned()).or_default(),
        None => rates,
    };
    let place = match over {
        None => place,
        Some(over) => {
            let long = place.long.get_or_insert_with(|| Box::new(LongContext { over, rates: TokenRates::default() }));
            if long.over != over {
                return Err("a second threshold of long inputs");
            }
            &mut long.rates
        }
    };
    *slot(place) = Some(rate);
    Ok(())
}

fn meter(rates: &mut TokenRates, name: &str, pointer: &str, rate: Rate) -> Result<(), &'static str> {
    rates.meters.push(Meter::new(name, MeterSource::Pointer(pointer.to_owned()), rate));
    Ok(())
}

/// A key without the suffix that names a service tier.
fn suffixed(key: &str) -> (&str, Option<&'static str>) {
    let found = [("_batches", "batch"), ("_priority", "priority"), ("_flex", "flex")];
    found.into_iter().find_map(|(suffix, service)| Some((key.strip_suffix(suffix)?, Some(service)))).unwrap_or((key, None))
}

/// A key without `_above_200k_tokens`, and the threshold.
fn beyond(key: &str) -> Result<(&str, Option<u64>), &'static str> {
    let Some((rest, threshold)) = key.strip_suffix("k_tokens").and_then(|key| key.rsplit_once("_above_")) else { return Ok((key, None)) };
    let thousands: u64 = threshold.parse().map_err(|_| "a threshold that is no number")?;
    Ok((rest, Some(thousands.saturating_mul(1_000))))
}

/// A number of dollars per unit, exactly; `None` when it is negative or has more digits than a rate holds.
fn rate(text: &str) -> Option<Rate> {
    let (femto, exact) = decimal(text, 15)?;
    i64::try_from(femto).ok().filter(|_| exact).map(Rate::per_million)
}

impl Imported {
    /// The file of prices that a configuration imports; `day` is when the map was read, `source` where it comes from.
    pub fn to_toml(&self, day: &str, source: &str) -> String {
        let mut text = String::from("# Imported by `farthing prices import`. Prices of the configuration itself beat these.\n");
        for (provider, targets) in &self.providers {
            let _ = writeln!(text, "\n[providers.{}.prices]\nread = {day}\nsource = {}", quoted(provider), quoted(source));
            for (target, rates) in targets {
                let path = format!("providers.{}.prices.targets.{}", quoted(provider), quoted(target));
                write_target(&mut text, &path, rates);
            }
        }
        text
    }
}

fn write_target(text: &mut String, path: &str, rates: &TokenRates) {
    let _ = writeln!(text, "\n[{path}]");
    write_six(text, rates);
    if let Some(most) = rates.max_output {
        let _ = writeln!(text, "max_output = {most}");
    }
    write_long(text, path, rates);
    for (service, own) in &rates.service {
        let path = format!("{path}.service.{service}");
        let _ = writeln!(text, "[{path}]");
        write_six(text, own);
        write_long(text, &path, own);
    }
    for meter in &rates.meters {
        let MeterSource::Pointer(pointer) = &meter.source else { continue };
        let _ = writeln!(text, "[[{path}.meters]]\nname = {}\npointer = {}", quoted(&meter.name), quoted(pointer));
        let _ = writeln!(text, "rate_per_million = {}", quoted(&million(meter.rate)));
    }
}

fn write_long(text: &mut String, path: &str, rates: &TokenRates) {
    if let Some(long) = &rates.long {
        let _ = writeln!(text, "[{path}.long]\nover = {}", long.over);
        write_six(text, &long.rates);
    }
}

fn write_six(text: &mut String, rates: &TokenRates) {
    for (name, rate) in rates.buckets() {
        if let Some(rate) = rate {
            let _ = writeln!(text, "{name}_per_million = {}", quoted(&million(rate)));
        }
    }
}

fn million(rate: Rate) -> String {
    Money::from_nanos(rate.nanos_per_million()).to_string()
}

/// A TOML text: what JSON writes is one, too, for names without control characters.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = r#"{
        "sample_spec": {"litellm_provider": "one of them", "input_cost_per_token": 0.0},
        "gpt-x": {"litellm_provider": "openai", "mode": "chat", "max_output_tokens": 16384, "max_tokens": 9, "input_cost_per_token": 2.5e-06,
            "output_cost_per_token": 1e-05, "cache_read_input_token_cost": 1.25e-06, "input_cost_per_token_batches": 1.25e-06,
            "input_cost_per_token_priority": 4.25e-06, "input_cost_per_token_above_272k_tokens_priority": 8.5e-06,
            "input_cost_per_audio_token": 4e-05, "search_context_cost_per_query": {"low": 0.03}, "supports_vision": true},
        "openai/free": {"litellm_provider": "openai", "input_cost_per_token": 0.0, "output_cost_per_token": 0},
        "fine": {"litellm_provider": "openai", "input_cost_per_token": 1.23456789012e-06},
        "dall": {"litellm_provider": "openai", "mode": "image_generation", "output_cost_per_image": 0.04},
        "whisper": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001},
        "tts": {"litellm_provider": "openai", "mode": "audio_speech", "input_cost_per_character": 1.5e-05},
        "claude": {"litellm_provider": "anthropic", "input_cost_per_token": 3e-06, "input_cost_per_token_above_200k_tokens": 6e-06,
            "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
            "input_cost_per_audio_token_priority": 1e-06,
            "provider_specific_entry": {"us": 1.1, "fast": 6.0, "eu": 1.1}},
        "odd": {"litellm_provider": "anthropic", "input_cost_per_token": 1e-15, "provider_specific_entry": {"us": 1.1}},
        "steps": {"litellm_provider": "anthropic", "tiered_pricing": [{"range": [0, 128000], "input_cost_per_token": 1e-06}]},
        "picture": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 3e-07, "output_cost_per_token": 2.5e-06,
            "output_cost_per_image": 0.039, "output_cost_per_image_token": 3e-05},
        "other": {"litellm_provider": "elsewhere", "input_cost_per_token": 1}
    }"#;

    fn imported() -> Imported {
        litellm(MAP, &[("openai".to_owned(), "openai".to_owned()), ("anthropic".to_owned(), "claude".to_owned())]).unwrap()
    }

    fn per_million(usd: &str) -> Option<Rate> {
        Some(Rate::per_million(usd.parse::<Money>().unwrap().nanos()))
    }

    #[test]
    fn what_has_a_place_is_put_there() {
        let imported = imported();
        let openai = &imported.providers["openai"];
        let x = &openai["gpt-x"];
        assert_eq!(
            (x.input, x.output, x.cached_input, x.max_output),
            (per_million("2.5"), per_million("10"), per_million("1.25"), Some(16_384))
        );
        assert_eq!((x.service["batch"].input, x.service["priority"].input), (per_million("1.25"), per_million("4.25")));
        let long = x.service["priority"].long.as_ref().unwrap();
        assert_eq!((long.over, long.rates.input), (272_000, per_million("8.5")));
        assert_eq!(openai["dall"].meters[0].source, MeterSource::Pointer("/data".to_owned()));
        assert_eq!(openai["whisper"].meters[0].rate, "0.0001".parse().unwrap());
        let claude = &imported.providers["claude"]["claude"];
        assert_eq!(
            (claude.cache_write, claude.cache_write_1h, claude.long.as_ref().unwrap().over),
            (per_million("3.75"), per_million("6"), 200_000)
        );
        let own =
            |service: &str| (claude.service[service].input, claude.service[service].cache_write, claude.service[service].long.as_ref());
        let (input, written, long) = own("us");
        assert_eq!((input, written, long.unwrap().rates.input), (per_million("3.3"), per_million("4.125"), per_million("6.6")));
        assert_eq!((own("fast").0, own("fast").2.unwrap().over), (per_million("18"), 200_000));
        assert!(!claude.service.contains_key("priority"), "no rate of it has a place");
        let picture = &openai["picture"];
        let image = &picture.service["image"];
        assert_eq!((image.output, image.input, image.reasoning), (per_million("30"), None, per_million("2.5")));
        assert_eq!(picture.meters, [], "its images are in its tokens");
        assert_eq!(imported.providers.len(), 2);
    }

    #[test]
    fn what_has_none_is_listed_and_never_guessed() {
        let imported = imported();
        let told: Vec<(&str, &str)> = imported.left_out.iter().map(|left| (left.target.as_str(), left.key.as_str())).collect();
        let expected = [
            ("claude", "input_cost_per_audio_token_priority"),
            ("claude", "provider_specific_entry.eu"),
            ("fine", "input_cost_per_token"),
            ("free", ""),
            ("gpt-x", "input_cost_per_audio_token"),
            ("gpt-x", "search_context_cost_per_query"),
            ("odd", "provider_specific_entry.us"),
            ("picture", "output_cost_per_image"),
            ("steps", "tiered_pricing"),
            ("tts", "input_cost_per_character"),
            ("whisper", "output_cost_per_second"),
        ];
        assert_eq!(told, expected);
        for target in ["fine", "free", "tts"] {
            assert!(!imported.providers["openai"].contains_key(target), "{target}");
        }
        assert!(litellm("[]", &[]).unwrap_err().to_string().contains("not a price map"));
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (text, nanos) in [
            ("2.5e-06", Some(2_500_000_000)),
            ("0.0000000375", Some(37_500_000)),
            ("1", Some(1_000_000_000_000_000)),
            ("1e-15", Some(1)),
            ("1.50e-14", Some(15)),
            ("1e-16", None),
            ("-1", None),
            ("0.0", Some(0)),
        ] {
            assert_eq!(rate(text).map(Rate::nanos_per_million), nanos, "{text}");
        }
    }
}
