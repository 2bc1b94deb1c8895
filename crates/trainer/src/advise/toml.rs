//! The configuration that does what is advised: complete where there is none yet, else the present one with its routes changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use farthing_config::{Config, Flags, HoldoutConfig, Mode, System, TtlBy};
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
        if route.shared && mode != "observe" {
            keys.push(("shared", Value::Boolean(true)));
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

fn merged<'a>(
    (path, text): (&Path, &str),
    routes: impl Iterator<Item = (&'a ObservedRoute, &'a Choice)>,
    (base, stale_budget): (&Base, f64),
) -> Result<String, TrainError> {
    let wrong = |reason: String| TrainError::Config { path: path.to_path_buf(), reason };
    let mut all: Table = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let mut table_used = false;
    for (route, choice) in routes {
        let tables = all.entry("routes").or_insert_with(|| Value::Table(Table::new()));
        let tables = tables.as_table_mut().ok_or_else(|| wrong("routes: not a table".to_owned()))?;
        let known = tables.contains_key(&route.name);
        let entry = tables.entry(route.name.as_str()).or_insert_with(|| Value::Table(Table::new()));
        let entry = entry.as_table_mut().ok_or_else(|| wrong(format!("routes.{}: not a table", route.name)))?;
        if !known && !route.provider.is_empty() {
            entry.insert("provider".to_owned(), Value::String(route.provider.clone()));
        }
        for (key, value) in keys(route, choice, stale_budget) {
            entry.insert(key.to_owned(), value);
        }
        table_used |= choice.way == Way::Table;
    }
    if table_used {
        let models = all.entry("models").or_insert_with(|| Value::Table(Table::new()));
        if let Some(models) = models.as_table_mut() {
            models.entry("dir").or_insert_with(|| Value::String(base.models.display().to_string()));
        }
    }
    toml::to_string_pretty(&all).map_err(|e| wrong(e.to_string()))
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
        match host(provider) {
            Some(host) => out.push_str(&format!("base_url = {}\n", quoted(&format!("https://{host}")))),
            None => out.push_str("base_url = \"https://example.invalid\" # put the provider's address here\n"),
        }
    }
    for (route, choice) in routes {
        let _ = writeln!(out, "\n[routes.{}]\nprovider = {}", name(&route.name), quoted(&plain(provider(route))));
        if let Some(host) = host(&route.provider) {
            let _ = writeln!(out, "hosts = [{}]", quoted(host.split(':').next().unwrap_or(host)));
        }
        if let Some(prefix) = prefix(&route.endpoints) {
            let _ = writeln!(out, "path_prefix = {}\nstrip_prefix = \"/\"", quoted(&prefix));
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

    #[test]
    fn prefixes_are_the_words_that_all_templates_share() {
        let of = |endpoints: &[&str]| prefix(&endpoints.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["/a/b/{id}", "/a/c"]).as_deref(), Some("/a"));
        assert_eq!(of(&["/a/b"]).as_deref(), Some("/a/b"));
        assert_eq!(of(&["/{name}.gif"]).as_deref(), Some("/"));
        assert_eq!((of(&[]), of(&["/{rest}"])), (None, None));
    }
}
