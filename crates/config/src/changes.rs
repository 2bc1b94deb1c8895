//! What differs between two configurations, key by key, and what of it a running instance can take over.
//!
//! Every field is named here, so that a new one does not compile before it is decided whether it may change while an instance runs.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use farthing_types::{BudgetSpec, LimitSpec, Money};

use crate::{
    AdminConfig, AlertsConfig, AuditConfig, CacheConfig, Config, ForwardConfig, HoldoutConfig, ListenConfig, LogConfig, ModelsConfig,
    OverheadConfig, PlanConfig, PrefetchConfig, Provider, Route, StrategyFlags, TlsConfig,
};

/// Longest text of a value that is shown.
const LONGEST: usize = 120;
/// What stands for a value that must not be shown, or is too long to be.
const UNSHOWN: &str = "(not shown)";
/// What stands for a table that is not there.
const NONE: &str = "(none)";

const OPENED: &str = "it is opened, or its memory taken, at the start";
const LISTED: &str = "connections and tasks for it are made at the start";
const COUNTED: &str = "what was counted under it would mean something else";
const MOVED: &str = "values that experiments move begin with it at the start";
const WAITED: &str = "calls that wait in batches of the provider belong to it";
const PROVED: &str = "a proof under way would mix two settings";

/// A difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, such as `routes.geo.max_ttl`; a table that came or went is named as a whole.
    pub key: String,
    /// The value before, for people; secrets are never shown.
    pub from: String,
    /// The value after.
    pub to: String,
    /// Why a running instance cannot take it over; `None` where it can.
    pub restart: Option<&'static str>,
}

impl Config {
    /// What differs in `next`, by key.
    pub fn changes_to(&self, next: &Self) -> Vec<Change> {
        let mut out = Changes::default();
        out.instance(self, next);
        out.money(self, next);
        out.traffic(self, next);
        out.0
    }

    /// Takes over the salt of a configuration in force, and the seed that follows from it, where this one had to make a salt up: the one in force could
    /// not be kept.
    pub fn keep_salt_of(&mut self, running: &Self) {
        if self.salt.fresh && running.salt.file == self.salt.file {
            if self.seed == crate::read::seed_of(&self.salt) {
                self.seed = crate::read::seed_of(&running.salt);
            }
            self.salt = running.salt.clone();
        }
    }
}

/// What becomes of a table that is not in both.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Comes,
    Goes,
}

/// Tables by name.
type ByName<'c, T> = BTreeMap<Arc<str>, &'c T>;

#[derive(Default)]
struct Changes(Vec<Change>);

/// The name of a field's key: its own, or the one that is said.
macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// Compares two values of a type field by field; each field is named, and what cannot change in place gives its reason.
macro_rules! fields {
    ($out:expr, $type:ident, $path:expr, $old:expr, $new:expr;
     live: $($live:ident $(= $live_key:literal)?),*;
     $(restart $why:expr => $($fixed:ident $(= $fixed_key:literal)?),*;)*
     apart: $($apart:ident),*) => {{
        let $type { $($live: _,)* $($($fixed: _,)*)* $($apart: _,)* } = $old;
        $($out.value(&path($path, key!($live $($live_key)?)), (&$old.$live, &$new.$live), None);)*
        $($($out.value(&path($path, key!($fixed $($fixed_key)?)), (&$old.$fixed, &$new.$fixed), Some($why));)*)*
    }};
}

fn path(above: &str, key: &str) -> String {
    if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") }
}

/// A value for people.
fn shown(value: &impl Debug) -> String {
    let text = in_dollars(&format!("{value:?}"));
    let text = text.strip_prefix("Some(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(&text);
    match text {
        "None" => NONE.to_owned(),
        text if text.chars().count() > LONGEST => UNSHOWN.to_owned(),
        text => text.to_owned(),
    }
}

/// Amounts of money as they are written in a configuration.
fn in_dollars(text: &str) -> String {
    let mut parts = text.split("Money(");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| match part.split_once(')').and_then(|(nanos, rest)| Some((nanos.parse().ok()?, rest))) {
        Some((nanos, rest)) => format!("{out}{}{rest}", Money::from_nanos(nanos)),
        None => format!("{out}Money({part}"),
    })
}

impl Changes {
    fn value<T: PartialEq + Debug>(&mut self, key: &str, (old, new): (&T, &T), restart: Option<&'static str>) {
        if old == new {
            return;
        }
        let (mut from, mut to) = (shown(old), shown(new));
        if from == to {
            // A secret, or too long.
            (from, to) = (UNSHOWN.to_owned(), UNSHOWN.to_owned());
        }
        self.0.push(Change { key: key.to_owned(), from, to, restart });
    }

    /// A value that must not be shown although its type shows it.
    fn private<T: PartialEq>(&mut self, key: &str, (old, new): (&T, &T), restart: Option<&'static str>) {
        if old != new {
            self.0.push(Change { key: key.to_owned(), from: UNSHOWN.to_owned(), to: UNSHOWN.to_owned(), restart });
        }
    }

    /// Tables by name: those that came and went, and what changed in the others.
    fn named<'c, T: PartialEq + 'c>(
        &mut self,
        key: &str,
        (old, new): (ByName<'c, T>, ByName<'c, T>),
        restart: impl Fn(&T, Way) -> Option<&'static str>,
        mut each: impl FnMut(&mut Self, &str, (&T, &T)),
    ) {
        let change = |name: &str, one: &T, way: Way| {
            let (from, to) = if way == Way::Goes { ("there", NONE) } else { (NONE, "there") };
            Change { key: path(key, name), from: from.into(), to: to.into(), restart: restart(one, way) }
        };
        let gone = old.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(name, one)| change(name, one, Way::Goes));
        let come = new.iter().filter(|(name, _)| !old.contains_key(*name)).map(|(name, one)| change(name, one, Way::Comes));
        self.0.extend(gone.chain(come));
        for (name, before) in &old {
            if let Some(after) = new.get(name).filter(|after| *after != before) {
                each(self, &path(key, name), (before, after));
            }
        }
    }

    /// Tables by name whose keys are not told apart.
    fn whole<'c, T: PartialEq + 'c>(&mut self, key: &str, tables: (ByName<'c, T>, ByName<'c, T>), restart: Option<&'static str>) {
        self.named(
            key,
            tables,
            |_, _| restart,
            |out, key, _| {
                out.0.push(Change { key: key.to_owned(), from: "one".into(), to: "another".into(), restart });
            },
        );
    }

    /// What is done for clients may change at any time; whether the listener lets CONNECT pass is decided at the start.
    fn forward(&mut self, both: (Option<&ForwardConfig>, Option<&ForwardConfig>)) {
        match both {
            (Some(old), Some(new)) => fields!(self, ForwardConfig, "forward", old, new;
                live: providers, pass, tunnel, ports, networks, names, auth, connect_timeout, deadline, idle, longest;
                apart: ),
            (None, None) => {}
            (old, _) => {
                let (from, to) = if old.is_some() { ("there", NONE) } else { (NONE, "there") };
                self.0.push(Change { key: "forward".into(), from: from.into(), to: to.into(), restart: Some(OPENED) });
            }
        }
    }

    /// Other files may be read at any time; whether TLS is spoken at all belongs to the listener.
    fn tls(&mut self, key: &str, (old, new): (&Option<TlsConfig>, &Option<TlsConfig>)) {
        self.value(key, (old, new), (old.is_some() != new.is_some()).then_some(OPENED));
    }

    /// What belongs to the process.
    fn instance(&mut self, old: &Config, new: &Config) {
        self.value("state_dir", (&old.state_dir, &new.state_dir), Some(OPENED));
        self.value("salt", (&old.salt.secret, &new.salt.secret), Some("all digests would be others"));
        self.value("seed", (&old.seed, &new.seed), Some("all draws would be others"));
        fields!(self, ListenConfig, "data", &old.data, &new.data;
            live: compress, compress_min;
            restart OPENED => addr = "listen", header_timeout, body_rate, body_grace, idle_timeout, max_connections, max_header_bytes, max_headers, max_body,
                drain_delay, drain, interim;
            apart: tls);
        self.tls("data.tls", (&old.data.tls, &new.data.tls));
        self.forward((old.forward.as_ref(), new.forward.as_ref()));
        fields!(self, AdminConfig, "admin", &old.admin, &new.admin;
            live: token;
            restart OPENED => addr = "listen", max_body;
            apart: tokens, tls);
        self.tls("admin.tls", (&old.admin.tls, &new.admin.tls));
        self.whole("admin.tokens", (by(&old.admin.tokens, |one| &one.name), by(&new.admin.tokens, |one| &one.name)), None);
        fields!(self, CacheConfig, "cache", &old.cache, &new.cache;
            live: ;
            restart OPENED => l1_bytes, share_buffer, in_flight_bytes, max_followers, reader_grace, max_handovers, statistics_bytes;
            apart: );
        fields!(self, LogConfig, "log", &old.log, &new.log;
            live: ;
            restart OPENED => enabled, dir, flush, flush_bytes, queue_bytes, row_rate, journal, journal_sync, journal_reserve;
            apart: );
        fields!(self, ModelsConfig, "models", &old.models, &new.models;
            live: ;
            restart OPENED => dir, store, onnxruntime, deadline, control_interval, canary_share, shadow_labels, drift_acts, autopilot, autopilot_margin,
                autopilot_within, trusted_keys;
            apart: );
        self.value("l2", (&old.l2, &new.l2), Some(OPENED));
        self.value("fleet", (&old.fleet, &new.fleet), Some(LISTED));
        self.value("overload", (&old.overload, &new.overload), Some(OPENED));
        self.value("retention", (&old.retention, &new.retention), Some(LISTED));
        self.whole("events", (by(&old.events, |one| &one.name), by(&new.events, |one| &one.name)), Some(LISTED));
        self.whole("sinks", (by(&old.sinks, |one| &one.name), by(&new.sinks, |one| &one.name)), Some(LISTED));
        self.value("telemetry", (&old.telemetry, &new.telemetry), Some(LISTED));
        self.whole("jwt", (by(&old.jwt, |one| &one.name), by(&new.jwt, |one| &one.name)), Some(LISTED));
        self.whole("experiments", (by(&old.experiments, |one| &one.name), by(&new.experiments, |one| &one.name)), Some(PROVED));
        fields!(self, HoldoutConfig, "holdout", &old.holdout, &new.holdout;
            live: ;
            restart PROVED => share, window, max_cost;
            apart: );
        fields!(self, AuditConfig, "audit", &old.audit, &new.audit;
            live: ;
            restart LISTED => share, per_day;
            apart: );
        fields!(self, PrefetchConfig, "prefetch", &old.prefetch, &new.prefetch;
            live: ;
            restart OPENED => horizon, explore, at_once;
            apart: );
    }

    /// What counts and bounds money and calls.
    fn money(&mut self, old: &Config, new: &Config) {
        fields!(self, StrategyFlags, "strategies", &old.strategies, &new.strategies;
            live: cache, dedupe, batch, prefetch, prompt_cache, defer;
            apart: );
        fields!(self, PlanConfig, "strategies", &old.plans, &new.plans;
            live: interval, cache_threshold, batch_threshold, batch_min_sla;
            apart: );
        fields!(self, OverheadConfig, "overhead", &old.overhead, &new.overhead;
            live: limit;
            apart: );
        self.value("self_cost", (&old.self_cost, &new.self_cost), None);
        fields!(self, AlertsConfig, "alerts", &old.alerts, &new.alerts;
            live: repeat, per_month;
            restart LISTED => webhook_key, deadline, floor, memory_bytes;
            apart: webhook);
        // Who has the URL may write there.
        self.private("alerts.webhook", (&old.alerts.webhook, &new.alerts.webhook), Some(LISTED));
        // The first one starts what keeps them, the last one ends it.
        let budgets = (old.budgets.is_empty() != new.budgets.is_empty()).then_some(LISTED);
        self.named(
            "budgets",
            (by(&old.budgets, |one| &one.name), by(&new.budgets, |one| &one.name)),
            |_, _| budgets,
            |out, key, (old, new)| {
                fields!(out, BudgetSpec, key, old, new;
                live: limit, warn_at, enforce, on_exceeded, unpriced_ok = "unpriced", fault_ok = "on_fault";
                restart COUNTED => window, zone = "time_zone", scope, per;
                apart: name);
            },
        );
        let limits = (old.limits.is_empty() != new.limits.is_empty()).then_some(LISTED);
        self.named(
            "limits",
            (by(&old.limits, |one| &one.name), by(&new.limits, |one| &one.name)),
            |_, _| limits,
            |out, key, (old, new)| {
                fields!(out, LimitSpec, key, old, new;
                live: names = "match", requests, tokens, concurrency, on_limit;
                restart COUNTED => scope, shared;
                apart: name);
            },
        );
        self.whole("keys", (by(&old.keys, |one| &one.id), by(&new.keys, |one| &one.id)), None);
        self.whole("tenants", (by(&old.tenants, |one| &one.tenant), by(&new.tenants, |one| &one.tenant)), None);
    }

    /// Routes and those whom they ask.
    fn traffic(&mut self, old: &Config, new: &Config) {
        let providers = |of: &'_ [Arc<Provider>]| of.iter().map(|one| (one.name.clone(), one.clone())).collect::<BTreeMap<_, _>>();
        let (before, after) = (providers(&old.providers), providers(&new.providers));
        self.named(
            "providers",
            (lent(&before), lent(&after)),
            |_, _| None,
            |out, key, (old, new)| {
                fields!(out, Provider, key, &**old, &**new;
                live: base_url, credential_place, credential, dialect, prices, terms, volatile, upstream, refill, refill_wait;
                apart: name);
            },
        );
        let routes = |of: &'_ [Arc<Route>]| of.iter().map(|one| (Arc::from(&*one.name), one.clone())).collect::<BTreeMap<_, _>>();
        let (before, after) = (routes(&old.routes), routes(&new.routes));
        self.named("routes", (lent(&before), lent(&after)), bound_to_the_start, |out, key, (old, new)| route(out, key, (old, new)));
        if old.routes.iter().all(|route| route.upgrade.is_none()) {
            for route in new.routes.iter().filter(|route| route.upgrade.is_some()) {
                let (key, to) = (format!("routes.{}.upgrade", route.name), shown(&route.upgrade));
                self.0.retain(|change| change.key != key);
                self.0.push(Change {
                    key,
                    from: NONE.into(),
                    to,
                    restart: Some("tunnels are made ready at the start, for the first route that has one"),
                });
            }
        }
    }
}

/// Why a route cannot come or go while an instance runs: something that is made ready at the start, or promised, belongs to it.
fn bound_to_the_start(route: &Arc<Route>, way: Way) -> Option<&'static str> {
    let waits = way == Way::Goes && route.defer.is_some();
    if route.tune.is_some() { Some(MOVED) } else { waits.then_some(WAITED) }
}

fn route(out: &mut Changes, key: &str, (old, new): (&Route, &Route)) {
    fields!(out, Route, key, old, new;
        live: provider, routing, matcher = "path", strip_prefix, mode, profile, shared, credential, purge_by, tenants, teams, sla, max_priority,
            trace_context, cache, dedupe, fill_lease, batch, prompt_cache, upgrade, warm, strategy, realtime, personalised, sensitive, idempotent, key_body,
            compress, strip_query, targeted, volatile, pii, cacheable_if, purges, events, ttl_when_down, ttl, trust_shipped, base_ttl, min_ttl, max_ttl,
            stale_budget, stale_while_revalidate, refresh_ahead, prefetch, audit, price_wait, prefetch_confidence, prefetch_budget, stale_if_error,
            max_store, max_body, buffer_limit, deadline, on_disconnect, include_usage, prices, price_stale, priority, max_call_cost;
        apart: name, defer, tune);
    out.value(&path(key, "tune"), (&old.tune, &new.tune), Some(MOVED));
    if old.tune.is_some() {
        let moved = ["batch", "refresh_ahead", "prefetch_confidence"].map(|name| path(key, name));
        out.0.iter_mut().filter(|change| moved.contains(&change.key)).for_each(|change| change.restart = Some(MOVED));
    }
    // Calls that wait for a batch were promised to by what held then.
    let under_way = old.defer.is_some().then_some(WAITED);
    out.value(&path(key, "defer"), (&old.defer, &new.defer), under_way);
}

fn by<T>(all: &[T], name: impl Fn(&T) -> &Arc<str>) -> ByName<'_, T> {
    all.iter().map(|one| (name(one).clone(), one)).collect()
}

fn lent<T>(all: &BTreeMap<Arc<str>, T>) -> ByName<'_, T> {
    all.iter().map(|(name, one)| (name.clone(), one)).collect()
}

#[cfg(test)]
mod tests {
    use crate::{Flags, Surroundings};

    use super::*;

    struct Secrets(&'static str);
    impl Surroundings for Secrets {
        fn var(&self, _name: &str) -> Option<String> {
            Some(self.0.to_owned())
        }
        fn file(&self, _path: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    const FILE: &str =
        "salt = { env = \"S\" }\n[providers.geo]\nbase_url = \"http://geo.test\"\nprice = \"0.001\"\n[routes.geo]\nprovider = \"geo\"\n";

    fn config(text: &str) -> Config {
        Config::parse(text, "f.toml", &Flags::default(), &Secrets("a secret of some length")).unwrap()
    }

    fn changes(more: &str) -> Vec<(String, bool)> {
        let found = config(FILE).changes_to(&config(&format!("{FILE}{more}")));
        found.into_iter().map(|change| (change.key, change.restart.is_some())).collect()
    }

    #[test]
    fn nothing_changes_between_equals_and_each_key_is_named() {
        assert!(changes("").is_empty());
        assert_eq!(changes("base_ttl = \"90s\"\n"), [("routes.geo.base_ttl".to_owned(), false)]);
        let more = "[data]\nlisten = \"127.0.0.1:1\"\ncompress = [\"gzip\"]\n[cache]\nl1_bytes = \"1MB\"\n[log]\ndir = \"other\"\n";
        let wanted = [("data.compress", false), ("data.listen", true), ("cache.l1_bytes", true), ("log.dir", true)];
        assert_eq!(changes(more), wanted.map(|(key, restart)| (key.to_owned(), restart)));
        let added = changes("[routes.b]\nprovider = \"geo\"\npath_prefix = \"/b\"\n[overhead]\nlimit = \"9ms\"\n");
        assert_eq!(added, [("overhead.limit".to_owned(), false), ("routes.b".to_owned(), false)]);
    }

    #[test]
    fn where_alerts_go_is_not_shown() {
        let to = |path: &str| config(&format!("{FILE}[alerts]\nwebhook = \"https://hooks.test/{path}\"\n"));
        for found in [to("T0").changes_to(&to("T1")), config(FILE).changes_to(&to("T1")), to("T0").changes_to(&config(FILE))] {
            assert!(found.len() == 1 && found[0].key == "alerts.webhook" && found[0].restart.is_some(), "{found:?}");
            assert!(!format!("{found:?}").contains("hooks.test"), "{found:?}");
        }
    }

    #[test]
    fn a_route_that_is_bound_to_the_start_neither_comes_nor_goes() {
        let moved = "[routes.b]\nprovider = \"geo\"\nprice_wait = \"0.001\"\n[routes.b.tune]\nrefresh_ahead = [\"0s\", \"9s\"]\n";
        assert_eq!(changes(moved), [("routes.b".to_owned(), true)]);
        let (with, without) = (config(&format!("{FILE}{moved}")), config(FILE));
        assert!(with.changes_to(&without).iter().all(|change| change.key == "routes.b" && change.restart.is_some()));
        let mut waits = config(&format!("{FILE}[routes.b]\nprovider = \"geo\"\n"));
        let last = Arc::make_mut(waits.routes.last_mut().unwrap());
        last.defer = Some(crate::DeferConfig::default());
        assert_eq!(waits.changes_to(&without)[0].restart, Some(WAITED));
        assert_eq!(without.changes_to(&waits)[0].restart, None, "nothing waits yet");
    }

    #[test]
    fn what_experiments_move_needs_a_restart() {
        let tune = "price_wait = \"0.001\"\n[routes.geo.tune]\nrefresh_ahead = [\"0s\", \"9s\"]\n";
        assert!(changes(tune).contains(&("routes.geo.tune".to_owned(), true)));
        let (old, new) = (format!("{FILE}{tune}"), format!("{FILE}refresh_ahead = \"2s\"\n{tune}"));
        let found = config(&old).changes_to(&config(&new));
        assert!(found.len() == 1 && found[0].key == "routes.geo.refresh_ahead" && found[0].restart.is_some(), "{found:?}");
    }

    #[test]
    fn the_first_budget_needs_a_restart_and_another_limit_of_it_does_not() {
        let budget = |name: &str, usd: &str, window: &str| format!("[budgets.{name}]\nlimit = \"{usd}\"\nwindow = \"{window}\"\n");
        let (one, more) = (budget("a", "1", "day"), budget("a", "2", "day"));
        assert_eq!(changes(&one), [("budgets.a".to_owned(), true)]);
        let between = |old: &str, new: &str| {
            let found = config(&format!("{FILE}{old}")).changes_to(&config(&format!("{FILE}{new}")));
            found.into_iter().map(|change| (change.key, change.restart.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(between(&one, &more), [("budgets.a.limit".to_owned(), false)]);
        let told = config(&format!("{FILE}{one}")).changes_to(&config(&format!("{FILE}{more}")));
        assert_eq!((&*told[0].from, &*told[0].to), ("1", "2"), "dollars");
        assert_eq!(between(&one, &format!("{one}{}", budget("b", "3", "day"))), [("budgets.b".to_owned(), false)]);
        assert!(between(&one, &budget("a", "1", "month")).contains(&("budgets.a.window".to_owned(), true)));
    }

    #[test]
    fn a_secret_is_not_shown_and_its_change_is() {
        let text = "salt = { env = \"S\" }\n[providers.openai]\ncredential = { env = \"S\" }\n";
        let read = |secret| Config::parse(text, "f.toml", &Flags::default(), &Secrets(secret)).unwrap();
        let found = read("one secret of some length").changes_to(&read("another secret of some length"));
        let of = |key: &str| found.iter().find(|change| change.key == key).unwrap();
        assert_eq!((of("providers.openai.credential").restart, &*of("providers.openai.credential").to), (None, UNSHOWN));
        assert!(of("salt").restart.is_some() && !format!("{found:?}").contains("another secret"), "{found:?}");
    }

    #[test]
    fn a_salt_that_could_not_be_kept_is_the_one_in_force() {
        let read = || Config::parse("[providers.openai]\n", "f.toml", &Flags::default(), &Secrets("")).unwrap();
        let (running, mut next) = (read(), read());
        assert!(running.salt.fresh && !running.changes_to(&next).is_empty(), "each is drawn anew");
        next.keep_salt_of(&running);
        assert_eq!(running.changes_to(&next), []);
    }
}
