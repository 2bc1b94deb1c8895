//! From text to [`Config`]: reads table by table, then checks what tables say about each other.

mod adapter;
mod alerts;
mod batch;
mod budgets;
mod content;
mod defer;
mod events;
mod experiments;
mod flags;
mod fleet;
mod forward;
mod imports;
mod instance;
mod jwt;
mod l2;
mod limits;
mod presets;
mod prices;
mod prompt_cache;
mod providers;
mod purges;
mod reference;
pub(crate) mod registry;
mod registry_batch;
mod registry_events;
mod registry_fleet;
mod registry_identity;
mod registry_limits;
mod registry_listen;
mod registry_money;
mod registry_providers;
mod registry_routing;
mod registry_sinks;
mod registry_tables;
mod registry_telemetry;
mod resolve;
mod retention;
mod rights;
mod routes;
mod routing;
pub(crate) mod section;
mod shared;
mod sinks;
mod sinks_clickhouse;
mod sinks_s3;
mod telemetry;
mod tls;
mod tune;
mod upgrade;
pub(crate) mod values;
mod warm;

#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod l2_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod prices_tests;
#[cfg(test)]
mod route_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;

use std::path::Path;

use toml::de::DeTable;

pub use flags::Flags;
pub use presets::presets;
pub use reference::reference;
pub(crate) use resolve::seed_of;
pub use section::{Surroundings, System};
pub use values::parse_span;

use crate::{Config, ConfigError};
use resolve::Draft;
use section::{Document, Section};

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Read`] when it cannot be read, [`ConfigError::Problems`] with everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::build(Some(path), &Flags::default(), &System)
    }

    /// A configuration from command-line flags alone.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong in them.
    pub fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        Self::build(None, flags, &System)
    }

    /// The file at `path`, if any, with `flags` laid over it.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn build(path: Option<&Path>, flags: &Flags, surroundings: &dyn Surroundings) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Self::parse("", "flags", flags, surroundings) };
        let file = path.to_string_lossy();
        let text = surroundings.file(&file).map_err(|e| ConfigError::Read { file: path.to_owned(), reason: e.to_string() })?;
        Self::parse(&text, &file, flags, surroundings)
    }

    /// The TOML `text`, called `file` in errors, with `flags` laid over it.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong.
    pub fn parse(text: &str, file: &str, flags: &Flags, surroundings: &dyn Surroundings) -> Result<Self, ConfigError> {
        let doc = Document::new(file, text, surroundings);
        let table = doc.parse();
        Self::read(doc, &table, flags)
    }

    fn read(doc: Document<'_>, table: &DeTable<'_>, flags: &Flags) -> Result<Self, ConfigError> {
        let top = Section::open(&doc, table, "", registry::TOP);
        let mut draft = Draft::default();
        instance::read(&top, &mut draft.config);
        draft.config.alerts = alerts::alerts(&top);
        draft.config.self_cost = alerts::self_cost(&top);
        draft.providers = providers::read(&top, &imports::read(&top));
        draft.config.experiments = experiments::read(&top);
        draft.config.events = events::read(&top);
        draft.config.sinks = sinks::read(&top, &draft.config.log);
        draft.config.telemetry = telemetry::read(&top);
        draft.config.budgets = budgets::read(&top);
        draft.config.limits = limits::read(&top);
        draft.config.overload = limits::overload(&top);
        draft.config.jwt = jwt::read(&top);
        draft.config.tenants = rights::tenants(&top);
        flags.apply(&doc, &mut draft);
        draft.config.forward = forward::read(&top, &draft.config);
        draft.routes = routes::read(&top, &draft.providers);
        let config = resolve::finish(&top, draft, flags);
        match doc.into_problems() {
            problems if problems.is_empty() => config,
            problems => Err(ConfigError::Problems(problems)),
        }
    }
}
