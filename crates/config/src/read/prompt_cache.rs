//! `[routes.NAME.prompt_cache]`: prompts are marked for the provider's own cache.

use super::registry;
use super::section::Section;
use super::values as v;
use crate::{Dialect, PromptCacheConfig, PromptTtl, Provider, Route};

const LIFETIMES: &[(&str, PromptTtl)] = &[("5m", PromptTtl::FiveMinutes), ("1h", PromptTtl::Hour)];

/// Reads `prompt_cache`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("prompt_cache") else { return };
    let path = format!("{path}.prompt_cache");
    let s = Section::open(s.doc, table, &path, registry::PROMPT_CACHE);
    let mut config = PromptCacheConfig::default();
    s.set("ttl", v::word(LIFETIMES), &mut config.ttl);
    s.set("min_tokens", v::count(1..=1_000_000), &mut config.min_tokens);
    route.prompt_cache = Some(config);
}

/// Whether the provider of a route has a cache that can be told of.
pub(crate) fn obey(top: &Section<'_, '_>, route: &Route, provider: &Provider) {
    let Some(config) = route.prompt_cache else { return };
    let key = format!("routes.{}.prompt_cache", route.name);
    if route.routing.is_some() {
        top.doc.problem(None, &key, "on a route with `providers`", "take one of them out: who gets a call is chosen after it is marked");
    }
    match provider.dialect {
        Dialect::Anthropic => {}
        Dialect::OpenAi if config.ttl == PromptTtl::FiveMinutes => {}
        Dialect::OpenAi => {
            top.doc.problem(
                None,
                &format!("{key}.ttl"),
                "\"1h\" where the dialect is \"openai\"",
                "take it out: no lifetime can be asked for",
            );
        }
        _ => {
            let found = format!("\"{}\" speaks a dialect without marks in prompts", provider.name);
            top.doc.problem(None, &key, found, "take it out, or set the provider's dialect to \"anthropic\" or \"openai\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::read::{Flags, Surroundings};
    use crate::{Config, PromptCacheConfig, PromptTtl};

    struct Salted;
    impl Surroundings for Salted {
        fn var(&self, _name: &str) -> Option<String> {
            None
        }
        fn file(&self, _path: &str) -> std::io::Result<String> {
            Ok("x".repeat(64))
        }
    }

    fn read(provider: &str, route: &str) -> Result<Option<PromptCacheConfig>, String> {
        let text = format!("salt = {{ file = \"salt\" }}\n[providers.api]\nbase_url = \"https://api.test\"\n{provider}\n{route}");
        let config = Config::parse(&text, "f.toml", &Flags::default(), &Salted).map_err(|error| error.to_string())?;
        Ok(config.route("api").unwrap().prompt_cache)
    }

    #[test]
    fn an_empty_table_switches_it_on_and_none_leaves_it_off() {
        let anthropic = "dialect = \"anthropic\"";
        assert_eq!(read(anthropic, ""), Ok(None));
        assert_eq!(read(anthropic, "[routes.api.prompt_cache]"), Ok(Some(PromptCacheConfig::default())));
        let documented = read(anthropic, "[routes.api.prompt_cache]\nttl = \"5m\"\nmin_tokens = 1024");
        assert_eq!(documented, Ok(Some(PromptCacheConfig::default())));
        let told = read(anthropic, "[routes.api.prompt_cache]\nttl = \"1h\"\nmin_tokens = 4096");
        assert_eq!(told, Ok(Some(PromptCacheConfig { ttl: PromptTtl::Hour, min_tokens: 4_096 })));
        assert!(read("dialect = \"openai\"", "[routes.api.prompt_cache]").unwrap().is_some());
        let off = read(anthropic, "[routes.api.prompt_cache]\n[strategies]\nprompt_cache = false");
        assert_eq!(off, Ok(None));
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_remedy() {
        for (provider, route, wanted) in [
            ("dialect = \"anthropic\"", "[routes.api.prompt_cache]\nttl = \"2h\"", ["ttl", "\"5m\""]),
            ("dialect = \"anthropic\"", "[routes.api.prompt_cache]\nmin_tokens = 0", ["min_tokens", "1"]),
            ("dialect = \"anthropic\"", "[routes.api.prompt_cache]\nmarks = 4", ["marks", "min_tokens"]),
            ("dialect = \"openai\"", "[routes.api.prompt_cache]\nttl = \"1h\"", ["routes.api.prompt_cache.ttl", "take it out"]),
            ("", "[routes.api.prompt_cache]", ["routes.api.prompt_cache", "dialect"]),
        ] {
            let error = read(provider, route).unwrap_err();
            assert!(wanted.iter().all(|text| error.contains(text)), "{wanted:?}: {error}");
        }
        let several = "[[routes.api.providers]]\nprovider = \"api\"\n[routes.api.prompt_cache]";
        assert!(read("dialect = \"anthropic\"", several).unwrap_err().contains("on a route with `providers`"));
    }
}
