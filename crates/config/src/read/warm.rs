//! `[routes.NAME.warm]`: copies are warmed by the clock.

use farthing_types::{Money, Span};
use toml::de::DeValue;

use super::budgets::zone;
use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{CredentialMode, CredentialPlace, Provider, Route, WarmConfig};

/// Reads `warm`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("warm") else { return };
    let path = format!("{path}.warm");
    let s = Section::open(s.doc, table, &path, registry::WARM);
    let at = s.need("at", v::list(minute), "write the times of the day, such as at = [\"06:30\"]");
    let limit = s.need("limit", v::money, "write what one time may cost at most, such as limit = \"0.50\"");
    let mut config = WarmConfig {
        at: at.clone().unwrap_or_default(),
        zone: "UTC".into(),
        limit: limit.unwrap_or(Money::ZERO),
        keys: 1_000,
        rate: 10.0,
        within: Span::from_secs(600),
    };
    if at.is_some_and(|at| at.is_empty()) {
        s.wrong("at", "no time", "name one, or take the table out");
    }
    s.set("time_zone", zone, &mut config.zone);
    s.set("keys", v::count(1..=100_000), &mut config.keys);
    s.set("rate", v::share(0.01..=1_000.0), &mut config.rate);
    s.set("within", v::positive_span, &mut config.within);
    route.warm = Some(config);
}

/// `HH:MM`, as minutes since midnight.
fn minute(value: &DeValue<'_>) -> Result<u16, Bad> {
    let read = || {
        let (hour, minute) = value.as_str()?.split_once(':')?;
        let is_number = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str, below: u16| text.parse::<u16>().ok().filter(|number| is_number(text) && *number < below);
        Some(60 * number(hour, 24)? + number(minute, 60)?)
    };
    read().ok_or_else(|| Bad { found: show(value), remedy: "write a time of the day as \"HH:MM\", from \"00:00\" to \"23:59\"".to_owned() })
}

/// Whether there is anything that may be warmed without a client.
pub(crate) fn obey(top: &Section<'_, '_>, route: &Route, provider: &Provider) {
    if route.warm.is_none() {
        return;
    }
    let key = format!("routes.{}.warm", route.name);
    let wrong = |found: String, remedy: &str| top.doc.problem(None, &key, found, remedy);
    if !route.shared {
        wrong(
            "the route's copies are each client's own".to_owned(),
            "take it out, or set shared = true where all clients may have the same answers",
        );
    }
    let own = route.credential == CredentialMode::Swap && provider.credential.is_some();
    if provider.credential_place != CredentialPlace::None && !own {
        wrong(
            "the route passes its clients' credentials, and there is none to warm with".to_owned(),
            "set credential = \"swap\" and the provider's credential, or credential_place = \"none\" where it needs none",
        );
    }
}

/// The terms of each provider that the route may ask must allow it.
pub(crate) fn obey_terms(top: &Section<'_, '_>, route: &Route, provider: &Provider) {
    if route.warm.is_some() && !provider.terms.prefetch {
        let found = format!("the terms of \"{}\" forbid to fetch ahead", provider.name);
        top.doc.problem(None, &format!("routes.{}.warm", route.name), found, "take it out");
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::WARM;
    use crate::read::tests::{good, problems};

    fn with(route: &str, lines: &str) -> String {
        format!(
            "[providers.geo]\nbase_url = \"http://127.0.0.1:1\"\ncredential_place = \"none\"\n[routes.geo]\nprovider = \"geo\"\n{route}\n[routes.geo.warm]\n{lines}\n"
        )
    }

    const PLAIN: &str = "at = [\"06:30\", \"17:05\"]\nlimit = \"0.5\"";

    #[test]
    fn times_are_read() {
        let config = good(&with("shared = true", &format!("{PLAIN}\ntime_zone = \"Europe/Berlin\"\nkeys = 50\nrate = 2.5")));
        let warm = config.route("geo").unwrap().warm.clone().unwrap();
        assert_eq!((&*warm.at, &*warm.zone, warm.keys, warm.rate), (&[390, 1_025][..], "Europe/Berlin", 50, 2.5));
        for key in WARM.iter().filter(|key| !key.default.is_empty()) {
            let said = with("shared = true", &format!("{PLAIN}\n{} = {}", key.name, key.default));
            assert_eq!(good(&said), good(&with("shared = true", PLAIN)), "{}", key.name);
        }
    }

    #[test]
    fn each_provider_of_the_route_must_allow_it() {
        let text = with("shared = true", PLAIN);
        let second = "[providers.two]\nbase_url = \"http://127.0.0.1:2\"\ncredential_place = \"none\"\nterms = { prefetch = false }\n";
        let several = "providers = [{ provider = \"geo\" }, { provider = \"two\" }]";
        let found = problems(&format!("{second}{}", text.replace("provider = \"geo\"", several))).join("\n");
        assert!(found.contains("routes.geo.warm: the terms of \"two\" forbid to fetch ahead"), "{found}");
        good(&format!("{second}{text}"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        let shared = "shared = true";
        for (text, says) in [
            (with(shared, "at = [\"6:30\"]\nlimit = \"1\""), "routes.geo.warm.at: found \"6:30\"; write a time of the day as \"HH:MM\""),
            (with(shared, "at = [\"+6:+5\"]\nlimit = \"1\""), "found \"+6:+5\""),
            (with(shared, "at = [\"24:00\"]\nlimit = \"1\""), "found \"24:00\""),
            (with(shared, "at = []\nlimit = \"1\""), "routes.geo.warm.at: no time"),
            (with(shared, "at = [\"06:30\"]"), "routes.geo.warm.limit: missing"),
            (with(shared, &format!("{PLAIN}\ntime_zone = \"Berlin\"")), "write an IANA name"),
            (with("", PLAIN), "routes.geo.warm: the route's copies are each client's own"),
            (with(shared, PLAIN).replace("\"none\"", "\"bearer\""), "there is none to warm with; set credential = \"swap\""),
        ] {
            let found = problems(&text).join("\n");
            assert!(found.contains(says), "{text}: {found}");
        }
    }
}
