use std::collections::BTreeMap;

use farthing_types::{MeterSource, Money, Rate};

use super::*;
use crate::{Config, OnDisconnect, Prices};

const GEO: &str = "[providers.geo]\nbase_url = \"https://geo.test\"\n";

/// Files by name, and no environment.
#[derive(Default)]
struct Files(BTreeMap<String, String>);

impl Surroundings for Files {
    fn var(&self, _name: &str) -> Option<String> {
        None
    }
    fn file(&self, path: &str) -> std::io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str, files: &[(&str, &str)]) -> Result<Config, String> {
    let files = Files(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
    Config::parse(&format!("salt = {{ file = \"salt\" }}\n{text}"), "f.toml", &Flags::default(), &Salted(files))
        .map_err(|error| error.to_string())
}

/// The same with a salt.
struct Salted(Files);
impl Surroundings for Salted {
    fn var(&self, name: &str) -> Option<String> {
        self.0.var(name)
    }
    fn file(&self, path: &str) -> std::io::Result<String> {
        if path == "salt" { Ok("x".repeat(64)) } else { self.0.file(path) }
    }
}

fn prices(text: &str) -> Prices {
    read(&format!("{GEO}{text}"), &[]).unwrap().provider("geo").unwrap().prices.clone().unwrap()
}

fn problem(text: &str) -> String {
    read(&format!("{GEO}{text}"), &[]).unwrap_err()
}

fn per_unit(usd: &str) -> Rate {
    Rate::per_unit(usd.parse::<Money>().unwrap())
}

#[test]
fn meters_tiers_and_currencies_are_read() {
    let prices = prices(
        "[providers.geo.prices]\nminimum = \"0.001\"\ncurrency = { code = \"EUR\", usd = \"1.0823\", day = 2026-11-24 }\n\
         service = [{ name = \"batch\", factor = \"0.5\" }]\n\
         [[providers.geo.prices.meters]]\nname = \"lookups\"\ncount = \"call\"\nrate = \"0.004\"\nfree = 100\ntiers = [{ up_to = 1000, rate = \"0.005\" }]\n\
         [[providers.geo.prices.meters]]\nname = \"size\"\ncount = \"kb\"\nrate_per_million = \"1\"\nround_up = true\n\
         [[providers.geo.prices.meters]]\nname = \"rebate\"\nheader = \"X-Credits\"\nrate = \"-0.01\"\ndiscount = true\nrequired = false\nat_most = 5\n",
    );
    assert_eq!((prices.minimum, prices.currency.as_ref().unwrap().usd.parts()), (Some(per_unit("0.001")), (10_823, 10_000)));
    assert_eq!(prices.service["batch"].parts(), (1, 2));
    let [lookups, size, rebate] = &prices.meters[..] else { panic!("three meters") };
    assert_eq!((lookups.free, lookups.tiers[0].up_to, lookups.tiers[0].rate), (100, 1000, per_unit("0.005")));
    assert_eq!(
        (&size.source, size.unit_size, size.round_up, size.rate),
        (&MeterSource::Bytes, 1024, true, Rate::per_million(1_000_000_000))
    );
    assert_eq!((&rebate.source, rebate.required, rebate.at_most), (&MeterSource::Header("x-credits".to_owned()), false, Some(5)));
}

#[test]
fn targets_have_circumstances() {
    let prices = prices(
        "[providers.geo.prices.targets.m]\ninput_per_million = \"3\"\noutput_per_million = \"15\"\ncache_write_1h_per_million = \"6\"\nmax_output = 64000\n\
         long = { over = 200000, input_per_million = \"6\" }\n\
         service.priority = { input_per_million = \"5\", long = { over = 272000, input_per_million = \"9\" } }\n\
         [[providers.geo.prices.targets.m.meters]]\nname = \"images\"\npointer = \"/data\"\nrate = \"0.04\"\n",
    );
    let rates = &prices.targets["m"];
    assert_eq!((rates.max_output, rates.long.as_ref().unwrap().over), (Some(64_000), 200_000));
    assert_eq!(rates.service["priority"].long.as_ref().unwrap().rates.input, Some(Rate::per_million(9_000_000_000)));
    assert_eq!(rates.meters[0].source, MeterSource::Pointer("/data".to_owned()));
}

#[test]
fn a_version_says_what_changes() {
    let prices = prices(
        "[providers.geo.prices]\nper_call = \"1\"\nper_kb = \"2\"\n\
         [[providers.geo.prices.versions]]\neffective = 2027-01-01\nper_call = \"3\"\n\
         [[providers.geo.prices.versions]]\neffective = \"2027-02-01T00:00:00+01:00\"\nfree = true\n",
    );
    let [january, february] = &prices.versions[..] else { panic!("two versions") };
    assert_eq!((january.per_call, january.per_kb), (Some(per_unit("3")), Some(per_unit("2"))));
    assert_eq!(january.effective.as_deref(), Some("2027-01-01"));
    assert!(february.free && february.per_call.is_none() && february.versions.is_empty());
    assert!(problem("[[providers.geo.prices.versions]]\nper_call = \"3\"\n").contains("write from when this version holds"));
}

#[test]
fn what_cannot_be_meant_is_named_with_its_place() {
    for (text, parts) in [
        ("name = \"m\"\nrate = \"1\"\n", ["providers.geo.prices.meters.pointer", "a meter without a source"]),
        ("name = \"m\"\nrate = \"1\"\ncount = \"call\"\nheader = \"x\"\n", ["prices.meters.pointer", "several sources"]),
        ("name = \"m\"\nrate = \"-1\"\ncount = \"call\"\n", ["prices.meters.rate", "below zero only with discount"]),
        ("name = \"m\"\nrate = \"1\"\ncount = \"call\"\ndiscount = true\n", ["prices.meters.rate", "write a rate below zero"]),
        ("name = \"m\"\ncount = \"call\"\n", ["prices.meters.rate", "missing"]),
        ("name = \"m\"\nrate = \"1\"\ncount = \"pages\"\n", ["prices.meters.count", "\"call\", \"byte\", \"kb\""]),
        ("rate = \"1\"\ncount = \"call\"\n", ["prices.meters.name", "name the meter"]),
        (
            "name = \"m\"\nrate = \"1\"\ncount = \"call\"\nfree = 9\ntiers = [{ up_to = 9, rate = \"1\" }]\n",
            ["prices.meters.tiers", "than `free`"],
        ),
    ] {
        let problem = problem(&format!("[[providers.geo.prices.meters]]\n{text}"));
        assert!(parts.iter().all(|part| problem.contains(part)), "{problem}");
    }
    let problem =
        problem("[providers.geo.prices]\nper_call = \"1\"\neffective = \"2027-13-01\"\ncurrency = { code = \"EUR\", usd = \"0\" }\n");
    for part in ["f.toml:6: ", "midnight UTC", "currency.usd", "currency.day"] {
        assert!(problem.contains(part), "{problem}");
    }
}

#[test]
fn imported_prices_lie_between_preset_and_configuration() {
    const IMPORTED: &str = "[providers.openai.prices]\nread = 2026-11-26\nsource = \"price map\"\n\
         [providers.openai.prices.targets.\"gpt-4o\"]\ninput_per_million = \"9\"\n\
         [providers.openai.prices.targets.\"gpt-9\"]\ninput_per_million = \"1\"\n\
         [providers.unused.prices]\nper_call = \"1\"\n";
    let files = [("map.toml", IMPORTED)];
    let config =
        read("[prices]\nimport = [\"map.toml\"]\n[providers.openai.prices.targets.\"gpt-9\"]\ninput_per_million = \"2\"\n", &files)
            .unwrap();
    let prices = config.provider("openai").unwrap().prices.clone().unwrap();
    let input = |target: &str| prices.targets[target].input.map(Rate::nanos_per_million);
    assert_eq!((input("gpt-4o"), input("gpt-9"), input("gpt-4o-mini")), (Some(9_000_000_000), Some(2_000_000_000), Some(150_000_000)));
    assert_eq!(prices.read.as_deref(), Some("2026-11-26"));

    let missing = read("[prices]\nimport = [\"gone.toml\"]\n[providers.openai]\n", &files).unwrap_err();
    assert!(missing.contains("prices.import") && missing.contains("\"gone.toml\" cannot be read"), "{missing}");
    let wrong = [("map.toml", "[providers.openai.prices.targets.m]\ninput_per_milion = \"9\"\n")];
    let wrong = read("[prices]\nimport = [\"map.toml\"]\n[providers.openai]\n", &wrong).unwrap_err();
    assert!(wrong.contains("map.toml:2") && wrong.contains("did you mean `input_per_million`?"), "{wrong}");
}

#[test]
fn routes_say_what_becomes_of_calls_and_usage() {
    let route = |text: &str| (**read(&format!("{GEO}[routes.geo]\n{text}"), &[]).unwrap().route("geo").unwrap()).clone();
    let (finish, plain) = (route("on_disconnect = \"finish\"\ninclude_usage = false\n"), route(""));
    assert_eq!((finish.on_disconnect, finish.include_usage), (Some(OnDisconnect::Finish), Some(false)));
    assert_eq!((plain.on_disconnect, plain.include_usage), (None, None));
    assert!(problem("[routes.geo]\non_disconnect = \"drain\"\n").contains("\"finish\", \"cancel\""));
}
