//! The configuration that does what is advised: complete where there is none yet, else the present one with its routes changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use farthing_config::{Config, ConfigError, Flags, HoldoutConfig, Mode, Problem, System, TtlBy};
use farthing_policy::{TtlParams, TtlSource};
use toml::{Table, Value};

use super::field::Setting;
use super::ways::{Choice, Way, seconds};
use crate::error::TrainError;
use crate::read::{Observed, ObservedRoute};

/// What the advice is written into.
#[derive(Clone, Debug, Default)]
pub struct Base {
    /// The present configuration: its file and text.
    pub present: Option<(PathBuf, String)>,
    /// Folder of the bundles, where the advice relies on one.
    pub models: PathBuf,
}

impl Base {
    /// Reads the present configuration.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path, models: PathBuf) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Ok(Self { present: Some((path.to_path_buf(), text)), models })
    }
}

/// The configuration as text.
pub(super) fn render(observed: &Observed, chosen: &[Choice], base: &Base, stale_budget: f64) -> Result<String, TrainError> {
    let routes = observed.routes.iter().zip(chosen);
    match &base.present {
        Some((path, text)) => merged((path, text), routes, (base, stale_budget)),
        None => {
            let text = whole(routes, (base, stale_budget));
            // What is advised is what `farthing check` accepts.
            Config::parse(&text, "advice", &Flags::default(), &System)
                .map_err(|e| TrainError::Config { path: "advice".into(), reason: e.to_string() })?;
            Ok(text)
        }
    }
}

/// Keys of a route that the advice sets.
fn keys(route: &ObservedRoute, choice: &Choice, stale_budget: f64) -> Vec<(&'static str, Value)> {
    let text = |t: &str| Value::String(t.to_owned());
    let Some(ttl) = &choice.setting.ttl else {
        let mode = if choice.setting == Setting::OBSERVE { "observe" } else { "respect" };
        let mut keys = vec![("mode", text(mode)), ("dedupe", Value::Boolean(true)), ("stale_budget", Value::Float(stale_budget))];
        if mode == "respect" {
            keys.push(("cache", Value::Boolean(true)));
            keys.extend(route.shared.then_some(("shared", Value::Boolean(true))));
        }
        return keys;
    };
    let mut keys = vec![("mode", text("learned")), ("cache", Value::Boolean(true)), ("dedupe", Value::Boolean(true))];
    if route.shared {
        keys.push(("shared", Value::Boolean(true)));
    }
    match ttl.source {
        TtlSource::Fixed(span) => keys.push(("ttl", text(&format!("fixed:{}", seconds(span.as_secs()))))),
        TtlSource::Rule => keys.push(("ttl", text("rule"))),
        TtlSource::Table | TtlSource::Model => {
            keys.push(("ttl", text(if ttl.source == TtlSource::Table { "table" } else { "model" })));
            keys.push(("trust_shipped", Value::Boolean(true)));
        }
    }
    keys.push(("base_ttl", text(&seconds(ttl.base.as_secs()))));
    keys.push(("max_ttl", text(&seconds(ttl.max.as_secs()))));
    keys.push(("stale_budget", Value::Float(stale_budget)));
    keys
}

/// Bounds of TTLs under which a choice was counted; where a route has its own, these take their place. What changes nothing has none.
fn bounds(choice: &Choice) -> Vec<(&'static str, Value)> {
    if choice.setting == Setting::OBSERVE {
        return Vec::new();
    }
    let ttl = choice.setting.ttl.unwrap_or_default();
    let bounds = [("min_ttl", ttl.min), ("base_ttl", ttl.base), ("max_ttl", ttl.max)];
    bounds.map(|(key, span)| (key, Value::String(seconds(span.as_secs())))).to_vec()
}

/// The table of a name within another one.
fn within<'t>(table: &'t mut Table, name: &str, path: &str) -> Result<&'t mut Table, String> {
    let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
    inner.as_table_mut().ok_or_else(|| format!("{path}: not a table"))
}

fn merged<'a>(
    (path, text): (&Path, &str),
    routes: impl Iterator<Item = (&'a ObservedRoute, &'a Choice)>,
    (base, stale_budget): (&Base, f64),
) -> Result<String, TrainError> {
    let wrong = |reason: String| TrainError::Config { path: path.to_path_buf(), reason };
    let mut all: Table = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let routes: Vec<_> = routes.collect();
    for (route, choice) in &routes {
        let tables = within(&mut all, "routes", "routes").map_err(wrong)?;
        let known = tables.contains_key(&route.name);
        let entry = within(tables, &route.name, &format!("routes.{}", route.name)).map_err(wrong)?;
        for (key, value) in bounds(choice) {
            if entry.contains_key(key) {
                entry.insert(key.to_owned(), value);
            }
        }
        for (key, value) in keys(route, choice, stale_budget) {
            entry.insert(key.to_owned(), value);
        }
        if !known {
            entry.extend(place(route).into_iter().map(|(key, value)| (key.to_owned(), value)));
            let provider = provider(route);
            let known = within(&mut all, "providers", "providers").map_err(wrong)?;
            let made = || Value::Table(Table::from_iter([("base_url".to_owned(), Value::String(address(provider)))]));
            known.entry(plain(provider)).or_insert_with(made);
        }
    }
    if routes.iter().any(|(_, choice)| choice.way == Way::Table) {
        let models = within(&mut all, "models", "models").map_err(wrong)?;
        models.entry("dir").or_insert_with(|| Value::String(base.models.display().to_string()));
    }
    let advised = toml::to_string_pretty(&all).map_err(|e| wrong(e.to_string()))?;
    let new = new_problems((path, text), &advised);
    if !new.is_empty() {
        return Err(wrong(format!("what is advised does not fit in there: {}", new.join("; "))));
    }
    Ok(told(&advised, &routes) + &advised)
}

/// What is wrong in the advised text and was not in the present one. What that lacks on this machine, like a credential in the
/// environment, is no matter of the advice.
fn new_problems((path, present): (&Path, &str), advised: &str) -> Vec<String> {
    let problems = |text: &str| match Config::parse(text, &path.to_string_lossy(), &Flags::default(), &System) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Problems(problems)) => problems,
        // No matter of the text.
        Err(_) => Vec::new(),
    };
    let before = problems(present);
    let was = |new: &Problem| before.iter().any(|old| (&old.key, &old.found) == (&new.key, &new.found));
    problems(advised).iter().filter(|new| !was(new)).map(|p| format!("{}: {}; {}", p.key, p.found, p.remedy)).collect()
}

/// A comment on routes where the configuration does something else than what was counted: the terms of a provider bound what is kept.
fn told(advised: &str, routes: &[(&ObservedRoute, &Choice)]) -> String {
    let Ok(config) = Config::parse(advised, "advice", &Flags::default(), &System) else { return String::new() };
    let observed: Vec<ObservedRoute> = routes.iter().map(|(route, _)| (*route).clone()).collect();
    let what = |s: &Setting| (s.ttl.map(|t| (t.source, t.base, t.min, t.max)), s.dedupe, s.origin);
    let settings = settings_of(&config, &observed, &|_| None);
    let other =
        routes.iter().zip(&settings).filter(|((_, choice), is)| choice.setting != Setting::OBSERVE && what(&choice.setting) != what(is));
    let names: Vec<String> = other.map(|((route, _), _)| name(&route.name)).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("# Saves less than was counted, for the provider's terms bound what is kept: {}.\n", names.join(", "))
}

/// Provider and place of a route that the configuration does not know yet.
fn place(route: &ObservedRoute) -> Vec<(&'static str, Value)> {
    let text = |t: &str| Value::String(t.to_owned());
    let mut keys = vec![("provider", text(&plain(provider(route))))];
    if let Some(host) = host(&route.provider) {
        keys.push(("hosts", Value::Array(vec![text(host.split(':').next().unwrap_or(host))])));
    }
    if let Some(prefix) = prefix(&route.endpoints) {
        keys.extend([("path_prefix", text(&prefix)), ("strip_prefix", text("/"))]);
    }
    keys
}

/// The address of a provider that is called by it.
fn address(provider: &str) -> String {
    host(provider).map_or_else(|| "https://example.invalid".to_owned(), |host| format!("https://{host}"))
}

fn whole<'a>(routes: impl Iterator<Item = (&'a ObservedRoute, &'a Choice)>, (base, stale_budget): (&Base, f64)) -> String {
    let routes: Vec<_> = routes.collect();
    let mut out = String::from("# Advised by `farthing-train advise`. Check it with `farthing check --config FILE`.\n");
    let _ = writeln!(out, "\n[holdout] # never optimised, to prove the saving\nshare = {}", HoldoutConfig::default().share);
    if routes.iter().any(|(_, choice)| choice.way == Way::Table) {
        let _ = writeln!(out, "\n[models]\ndir = {}", quoted(&base.models.display().to_string()));
    }
    let mut providers: Vec<&str> = routes.iter().map(|(route, _)| provider(route)).collect();
    providers.sort_unstable();
    providers.dedup();
    for provider in providers {
        let _ = writeln!(out, "\n[providers.{}]", name(&plain(provider)));
        let hint = if host(provider).is_none() { " # put the provider's address here" } else { "" };
        let _ = writeln!(out, "base_url = {}{hint}", quoted(&address(provider)));
    }
    for (route, choice) in routes {
        let _ = writeln!(out, "\n[routes.{}]", name(&route.name));
        for (key, value) in place(route) {
            let _ = writeln!(out, "{key} = {value}");
        }
        for (key, value) in keys(route, choice, stale_budget) {
            let _ = writeln!(out, "{key} = {value}");
        }
    }
    out
}

fn provider(route: &ObservedRoute) -> &str {
    if route.provider.is_empty() { &route.name } else { &route.provider }
}

/// The host of a provider that is called by it, as imports do.
fn host(provider: &str) -> Option<&str> {
    let name = provider.split(':').next().unwrap_or(provider);
    (name.contains('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))).then_some(provider)
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect()
}

/// A key of a table: quoted where it must be.
fn name(text: &str) -> String {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if bare { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// The words at the beginning that all templates share; none without templates, or where nothing is known of the paths.
fn prefix(endpoints: &[String]) -> Option<String> {
    let words = |template: &str| -> Vec<String> {
        template.split('/').filter(|s| !s.is_empty()).take_while(|s| !s.starts_with(['{', '*', ':'])).map(str::to_owned).collect()
    };
    let mut shared = words(endpoints.first()?);
    for endpoint in endpoints {
        let other = words(endpoint);
        let same = shared.iter().zip(&other).take_while(|(a, b)| a == b).count();
        shared.truncate(same);
    }
    let text = format!("/{}", shared.join("/"));
    let usable = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~'));
    (usable && endpoints != ["/{rest}"]).then_some(text)
}

/// The settings that a configuration stands for, for routes by name: what the proxy compiles from it. Routes that it does not know
/// change nothing. `kappa` gives the operating point of a budget.
pub fn settings_of(config: &Config, routes: &[ObservedRoute], kappa: &dyn Fn(f64) -> Option<f64>) -> Vec<Setting> {
    let setting = |observed: &ObservedRoute| {
        let Some(route) = config.route(&observed.name) else { return Setting::OBSERVE };
        let source = match route.ttl {
            TtlBy::Model => TtlSource::Model,
            TtlBy::Table => TtlSource::Table,
            TtlBy::Rule => TtlSource::Rule,
            TtlBy::Fixed(ttl) => TtlSource::Fixed(ttl),
        };
        let learned = matches!(source, TtlSource::Model | TtlSource::Table);
        let params = TtlParams {
            source,
            base: route.base_ttl,
            min: route.min_ttl,
            max: route.max_ttl,
            stale_budget: route.stale_budget,
            kappa: kappa(route.stale_budget).filter(|_| learned),
            ..TtlParams::default()
        };
        match route.mode {
            Mode::Observe => Setting::OBSERVE,
            Mode::Respect => Setting { ttl: None, dedupe: route.dedupe, origin: route.cache },
            Mode::Learned | Mode::Override => Setting { ttl: route.cache.then_some(params), dedupe: route.dedupe, origin: route.cache },
        }
    };
    routes.iter().map(setting).collect()
}

#[cfg(test)]
mod tests {
    use farthing_types::Span;

    use super::super::ways::fixed;
    use super::*;

    fn route(name: &str, provider: &str, endpoints: &[&str]) -> ObservedRoute {
        ObservedRoute {
            name: name.into(),
            provider: provider.into(),
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            shared: true,
        }
    }

    #[test]
    fn a_whole_configuration_is_accepted_and_means_what_was_chosen() {
        let routes = vec![
            route("v1-geo", "api.test:8443", &["/v1/geo/{id}", "/v1/geo"]),
            route("root", "imported", &["/", "/{name}"]),
            route("weather", "weather", &[]),
            route("other", "other", &["/{rest}"]),
        ];
        let observed = Observed { routes: routes.clone(), ..Observed::default() };
        let respect = Choice { way: Way::Respect, setting: Setting::RESPECT, name: "respect".into() };
        let chosen = [fixed(Span::from_secs(300)), Choice::observe(), fixed(Span::from_secs(45)), respect];
        let text = render(&observed, &chosen, &Base::default(), 0.001).unwrap();
        let config = Config::parse(&text, "t", &Flags::default(), &System).unwrap();
        let settings = settings_of(&config, &routes, &|_| None);
        for (setting, choice) in settings.iter().zip(&chosen) {
            let source = |s: &Setting| s.ttl.map(|t| t.source);
            assert_eq!((source(setting), setting.origin), (source(&choice.setting), choice.setting.origin), "{text}");
        }
        let geo = config.route("v1-geo").unwrap();
        assert_eq!((&*geo.matcher.path_prefix, &*geo.matcher.hosts[0], geo.shared, geo.stale_budget), ("/v1/geo", "api.test", true, 0.001));
    }

    #[test]
    fn a_present_configuration_keeps_what_is_not_advised() {
        let text = "[providers.geo]\nbase_url = \"https://maps.test\"\nprice = \"0.002\"\ncredential = { env = \"X\" }\n[routes.geo]\nmax_body = \"1MB\"\nmode = \"observe\"\n";
        let observed = Observed { routes: vec![route("geo", "geo", &[])], ..Observed::default() };
        let base = Base { present: Some(("f.toml".into(), text.into())), models: "models".into() };
        let merged = render(&observed, &[fixed(Span::from_secs(60))], &base, 0.01).unwrap();
        for part in ["max_body = \"1MB\"", "env = \"X\"", "ttl = \"fixed:1m\"", "mode = \"learned\"", "price = \"0.002\""] {
            assert!(merged.contains(part), "{part}: {merged}");
        }
        let broken = Base { present: Some(("f.toml".into(), "[[".into())), ..base };
        assert!(render(&observed, &[Choice::observe()], &broken, 0.01).unwrap_err().to_string().contains("f.toml"));
    }

    const PRESENT: &str = "[providers.geo]\nbase_url = \"https://maps.test\"\nprice = \"0.002\"\n";

    fn into(text: &str, route: ObservedRoute, choice: Choice) -> Result<String, TrainError> {
        let observed = Observed { routes: vec![route], ..Observed::default() };
        render(&observed, &[choice], &Base { present: Some(("f.toml".into(), text.into())), models: "models".into() }, 0.01)
    }

    fn respect() -> Choice {
        Choice { way: Way::Respect, setting: Setting::RESPECT, name: "respect".into() }
    }

    #[test]
    fn what_a_route_has_of_its_own_does_not_undo_the_advice() {
        for own in [
            "",
            "cache = false\n",
            "min_ttl = \"10m\"\n",
            "min_ttl = \"2d\"\nbase_ttl = \"2d\"\nmax_ttl = \"3d\"\n",
            "max_ttl = \"30s\"\ndedupe = false\n",
        ] {
            for choice in [fixed(Span::from_secs(15)), fixed(Span::from_secs(450)), respect()] {
                let text = format!("{PRESENT}[routes.geo]\n{own}");
                let advised = into(&text, route("geo", "geo", &[]), choice.clone()).unwrap();
                let config = Config::parse(&advised, "t", &Flags::default(), &System).unwrap();
                let setting = settings_of(&config, &[route("geo", "geo", &[])], &|_| None)[0];
                let what = |s: Setting| (s.ttl.map(|t| (t.source, t.base, t.min, t.max)), s.dedupe, s.origin);
                assert_eq!(what(setting), what(choice.setting), "{own}: {advised}");
                assert_eq!(
                    config.route("geo").unwrap().max_ttl,
                    choice.setting.ttl.unwrap_or_default().max,
                    "what the origin says is bounded by it"
                );
                assert!(!advised.starts_with('#'), "{advised}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_into_the_present_configuration_is_told() {
        let terms = "terms = { share = false }\n[routes.geo]\n";
        let told = into(&format!("{PRESENT}{terms}"), route("geo", "geo", &[]), fixed(Span::from_secs(60))).unwrap_err().to_string();
        assert!(told.contains("f.toml") && told.contains("routes.geo.shared") && told.contains("set it to false"), "{told}");
        // What is wrong already, as a credential that is not in this environment, does not matter.
        let absent = format!("{PRESENT}credential = {{ env = \"FARTHING_TEST_ABSENT\" }}\n[routes.geo]\n");
        assert!(into(&absent, route("geo", "geo", &[]), fixed(Span::from_secs(60))).is_ok());
        let bounded = format!("{PRESENT}terms = {{ max_store = \"1h\" }}\n[routes.geo]\n");
        let advised = into(&bounded, route("geo", "geo", &[]), fixed(Span::from_secs(60))).unwrap();
        assert!(advised.starts_with("# Saves less than was counted") && advised.contains(": geo.\n"), "{advised}");
    }

    #[test]
    fn routes_that_are_new_get_their_place() {
        let present = format!("{PRESENT}[routes.geo]\n");
        let advised = into(&present, route("v1-rates", "api.test:8443", &["/v1/rates/{id}"]), fixed(Span::from_secs(60))).unwrap();
        let config = Config::parse(&advised, "t", &Flags::default(), &System).unwrap();
        let rates = config.route("v1-rates").unwrap();
        assert_eq!((&*rates.provider, &*rates.matcher.path_prefix, &*rates.matcher.hosts[0]), ("api.test-8443", "/v1/rates", "api.test"));
        assert!(config.route("geo").is_some());
    }

    #[test]
    fn prefixes_are_the_words_that_all_templates_share() {
        let of = |endpoints: &[&str]| prefix(&endpoints.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["/a/b/{id}", "/a/c"]).as_deref(), Some("/a"));
        assert_eq!(of(&["/a/b"]).as_deref(), Some("/a/b"));
        assert_eq!(of(&["/{name}.gif"]).as_deref(), Some("/"));
        assert_eq!((of(&[]), of(&["/{rest}"])), (None, None));
    }
}
