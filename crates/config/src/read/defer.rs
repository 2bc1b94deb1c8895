//! `[routes.NAME.defer]`: calls that can wait go to the provider's batch endpoint.

use super::registry;
use super::section::Section;
use super::values as v;
use crate::{CredentialMode, DeferConfig, Dialect, Provider, Route};

/// Reads `defer`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("defer") else { return };
    let path = format!("{path}.defer");
    let s = Section::open(s.doc, table, &path, registry::DEFER);
    let mut config = DeferConfig::default();
    s.set("window", v::span, &mut config.window);
    s.set("min_deadline", v::positive_span, &mut config.min_deadline);
    s.set("max_size", v::count(1..=50_000), &mut config.max_size);
    s.set("max_waiting", v::count(1..=1_000_000), &mut config.max_waiting);
    s.set("max_bytes", v::size(1_000..=200_000_000), &mut config.max_bytes);
    s.set("max_answer", v::size(1_000..=2_000_000_000), &mut config.max_answer);
    s.set("batch_time", v::positive_span, &mut config.batch_time);
    s.set("direct_time", v::positive_span, &mut config.direct_time);
    s.set("margin", v::span, &mut config.margin);
    route.defer = Some(config);
}

/// Whether the provider of a route has batches, and the route the time for them.
pub(crate) fn obey(top: &Section<'_, '_>, route: &Route, provider: &Provider) {
    let Some(config) = route.defer else { return };
    let key = format!("routes.{}.defer", route.name);
    let problem = |key: &str, found: String, remedy: &str| top.doc.problem(None, key, found, remedy);
    if route.routing.is_some() {
        problem(&key, "on a route with `providers`".to_owned(), "take one of them out: a batch is made at one provider");
    }
    if !matches!(provider.dialect, Dialect::OpenAi | Dialect::Anthropic) {
        let found = format!("\"{}\" does not speak a dialect whose batches are known", provider.name);
        problem(&key, found, "take it out, or set the provider's dialect to \"openai\" or \"anthropic\"");
    }
    if provider.credential.is_none() {
        let found = format!("\"{}\" has no credential of its own", provider.name);
        problem(&key, found, "set the provider's `credential`: a batch is made for all clients, and looked up after a restart");
    }
    if provider.credential.is_some() && route.credential != CredentialMode::Swap {
        problem(
            &key,
            "on a route that passes clients' credentials on".to_owned(),
            "take it out, or set the route's `credential` to \"swap\"",
        );
    }
    if route.deadline < config.min_deadline {
        let found = format!("{:?} is more than the route's deadline of {:?}", config.min_deadline, route.deadline);
        problem(&format!("{key}.min_deadline"), found, "make the route's `deadline` as long as its clients may wait, such as \"24h\"");
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::Span;

    use crate::read::{Flags, Surroundings};
    use crate::{Config, DeferConfig};

    struct Salted;
    impl Surroundings for Salted {
        fn var(&self, _name: &str) -> Option<String> {
            Some("sk-123".to_owned())
        }
        fn file(&self, _path: &str) -> std::io::Result<String> {
            Ok("x".repeat(64))
        }
    }

    const OPENAI: &str = "dialect = \"openai\"\ncredential = { env = \"KEY\" }\ncredential_place = \"bearer\"";

    fn read(provider: &str, route: &str) -> Result<Option<DeferConfig>, String> {
        let text = format!("salt = {{ file = \"salt\" }}\n[providers.api]\nbase_url = \"https://api.test\"\n{provider}\n{route}");
        let config = Config::parse(&text, "f.toml", &Flags::default(), &Salted).map_err(|error| error.to_string())?;
        Ok(config.route("api").unwrap().defer)
    }

    #[test]
    fn an_empty_table_switches_it_on_and_none_leaves_it_off() {
        assert_eq!(read(OPENAI, ""), Ok(None));
        let day = "[routes.api]\ncredential = \"swap\"\ndeadline = \"24h\"\n[routes.api.defer]\n";
        assert_eq!(read(OPENAI, day), Ok(Some(DeferConfig::default())));
        let defaults: String = crate::read::registry::DEFER.iter().map(|key| format!("{} = {}\n", key.name, key.default)).collect();
        assert_eq!(read(OPENAI, &format!("{day}{defaults}")), Ok(Some(DeferConfig::default())));
        let told = read(OPENAI, &format!("{day}window = \"1m\"\nmax_size = 7"));
        assert_eq!(told, Ok(Some(DeferConfig { window: Span::from_secs(60), max_size: 7, ..DeferConfig::default() })));
        assert_eq!(read(&OPENAI.replace("openai", "anthropic"), day), Ok(Some(DeferConfig::default())));
        assert_eq!(read(OPENAI, &format!("{day}[strategies]\ndefer = false")), Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_remedy() {
        let day = "[routes.api]\ncredential = \"swap\"\ndeadline = \"24h\"\n";
        for (provider, route, wanted) in [
            (OPENAI, "[routes.api.defer]".to_owned(), ["routes.api.defer.min_deadline", "`deadline`"]),
            (OPENAI, format!("{day}[routes.api.defer]\nmax_size = 0"), ["max_size", "1"]),
            (OPENAI, format!("{day}[routes.api.defer]\nwait = 4"), ["wait", "window"]),
            ("dialect = \"openai\"", format!("{day}[routes.api.defer]"), ["routes.api.defer", "credential"]),
            (
                "credential = { env = \"KEY\" }\ncredential_place = \"bearer\"",
                format!("{day}[routes.api.defer]"),
                ["routes.api.defer", "dialect"],
            ),
            (OPENAI, "[routes.api]\ndeadline = \"24h\"\n[routes.api.defer]".to_owned(), ["routes.api.defer", "\"swap\""]),
            (OPENAI, format!("{day}[[routes.api.providers]]\nprovider = \"api\"\n[routes.api.defer]"), ["routes.api.defer", "`providers`"]),
        ] {
            let error = read(provider, &route).unwrap_err();
            assert!(wanted.iter().all(|text| error.contains(text)), "{wanted:?}: {error}");
        }
    }
}
