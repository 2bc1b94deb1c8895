//! The log as `advise` sees it: each request of a client with what the origin answered it, where it was asked.

use std::collections::HashMap;
use std::path::Path;

use farthing_contract::log::{CallRow, Request, Row, Table};
use farthing_types::UncachedReason;
use polars::prelude::PolarsError;

use super::columns::Columns;
use super::files::{self, Opened, Wanted};
use crate::error::TrainError;
use crate::write::HOUR_NS;

/// A request of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ask {
    /// When it came, ns.
    pub at_ns: i64,
    /// Cache key.
    pub key: u64,
    /// Index in [`Observed::routes`].
    pub route: u32,
    /// Requests that the row stands for.
    pub weight: u32,
    /// GET.
    pub is_get: bool,
    /// Status that the client got.
    pub status: i32,
    /// What it would have cost without Farthing, nano-dollars.
    pub cost: Option<i64>,
    /// Time to the answer, microseconds.
    pub latency_us: Option<i64>,
    /// A call was made for it.
    pub called: bool,
    /// Digest of the canonical body that the origin answered.
    pub hash: Option<u64>,
    /// Body bytes.
    pub bytes: Option<i64>,
    /// Explicit freshness lifetime, seconds.
    pub origin_ttl_s: Option<i64>,
    /// Why the answer was not to be kept.
    pub forbidden: Option<UncachedReason>,
}

/// A route of the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservedRoute {
    /// Its name.
    pub name: String,
    /// Who bills.
    pub provider: String,
    /// Path templates, where the log has them; bounded.
    pub endpoints: Vec<String>,
    /// Whether one key was asked for by several tenants: the cache that the log counts repeats for is shared.
    pub shared: bool,
}

/// A log, by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Routes.
    pub routes: Vec<ObservedRoute>,
    /// Requests.
    pub asks: Vec<Ask>,
    /// Files read.
    pub files: usize,
    /// Older requests that were left out because there is room for so many only.
    pub left_out: u64,
}

/// Templates that are kept of a route.
const ENDPOINTS: usize = 64;

const REQUESTS: &[&str] = &[
    "ts_ns",
    "request_id",
    "weight",
    "tenant",
    "route",
    "endpoint",
    "method",
    "key_hash",
    "outcome",
    "status",
    "bytes_out",
    "call_id",
    "base_nanousd",
    "latency_us",
];
const CALLS: &[&str] = &[
    "ts_ns",
    "call_id",
    "attempt",
    "route",
    "provider",
    "status",
    "latency_us",
    "bytes_in",
    "canonical_hash",
    "prev_canonical_hash",
    "origin_ttl_s",
    "not_stored_reason",
];

/// Reads the newest `most` requests among the files that `pattern` matches.
///
/// # Errors
/// Names the file, and for foreign ones the column, with what to do about it.
pub fn read_observed(pattern: &str, most: usize) -> Result<Observed, TrainError> {
    let files = files::find(pattern)?;
    let mut reading = Reading { observed: Observed { files: files.len(), ..Observed::default() }, most, ..Reading::default() };
    // Newest first, by the partition in the path.
    for path in files.iter().rev() {
        reading.add(path)?;
    }
    Ok(reading.finish())
}

/// What is needed of a call.
#[derive(Clone, Copy, Default)]
struct Called {
    latency_us: i64,
    bytes: Option<i64>,
    hash: Option<u64>,
    origin_ttl_s: Option<i64>,
    forbidden: Option<UncachedReason>,
    attempt: i32,
}

#[derive(Default)]
struct Reading {
    observed: Observed,
    most: usize,
    /// Call of each request, in the order of `observed.asks`.
    call_ids: Vec<Option<u64>>,
    calls: HashMap<u64, Called>,
    places: HashMap<String, u32>,
    /// First tenant of each key.
    tenants: HashMap<u64, u64>,
}

fn wanted(table: &'static Table, names: &[&'static str]) -> Vec<Wanted> {
    let of =
        |name: &&'static str| table.columns.iter().find(|c| c.name == *name).map(|c| Wanted { name: c.name, ty: c.ty, since: c.since });
    names.iter().filter_map(of).collect()
}

const REMEDY: &str = "the file says it is of this log but was changed by another program: restore or remove it";

impl Reading {
    fn add(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        let bad = |e: PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
        if table.name == CallRow::TABLE.name {
            let frame = file.columns(&wanted(table, CALLS), files::exact, REMEDY)?;
            self.take_calls(&Columns(&frame)).map_err(bad)?;
        } else if table.name == Request::TABLE.name {
            if self.observed.asks.len() >= self.most {
                let frame = file.columns(&wanted(table, &["ts_ns"]), files::exact, REMEDY)?;
                self.observed.left_out += frame.height() as u64;
                return Ok(());
            }
            let frame = file.columns(&wanted(table, REQUESTS), files::exact, REMEDY)?;
            self.take_requests(&Columns(&frame)).map_err(bad)?;
        }
        Ok(())
    }

    fn route(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.observed.routes.len() as u32;
        self.observed.routes.push(ObservedRoute { name: name.to_owned(), ..ObservedRoute::default() });
        self.places.insert(name.to_owned(), place);
        place
    }

    fn take_requests(&mut self, columns: &Columns<'_>) -> Result<(), PolarsError> {
        let (at, key, weight) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?, columns.i64s("weight")?);
        let (routes, route) = columns.texts("route")?;
        let (methods, method) = columns.texts("method")?;
        let (outcomes, outcome) = columns.texts("outcome")?;
        let (endpoints, endpoint) = columns.texts("endpoint")?;
        let (tenants, tenant) = columns.texts("tenant")?;
        let (status, bytes, call) = (columns.i64s("status")?, columns.i64s("bytes_out")?, columns.u64s("call_id")?);
        let (cost, latency) = (columns.i64s("base_nanousd")?, columns.i64s("latency_us")?);
        let routes: Vec<u32> = routes.iter().map(|name| self.route(name)).collect();
        let is_get: Vec<bool> = methods.iter().map(|m| m == "GET").collect();
        let refused: Vec<bool> = outcomes.iter().map(|o| o == "refused").collect();
        let tenants: Vec<u64> = tenants.iter().map(|t| crate::import::fingerprint::of(t.as_bytes())).collect();
        for i in 0..at.len() {
            let (Some(at_ns), Some(key), Some(route)) = (at[i], key[i], route[i]) else { continue };
            if outcome[i].is_some_and(|o| refused[o as usize]) {
                continue;
            }
            let route = routes[route as usize];
            self.note_route(route, key, endpoint[i].map(|e| &endpoints[e as usize]), tenant[i].map(|t| tenants[t as usize]));
            self.observed.asks.push(Ask {
                at_ns,
                key,
                route,
                weight: weight[i].and_then(|w| u32::try_from(w).ok()).unwrap_or(1).max(1),
                is_get: method[i].is_some_and(|m| is_get[m as usize]),
                status: status[i].and_then(|s| i32::try_from(s).ok()).unwrap_or(200),
                cost: cost[i],
                latency_us: latency[i],
                bytes: bytes[i],
                ..Ask::default()
            });
            self.call_ids.push(call[i]);
        }
        Ok(())
    }

    fn note_route(&mut self, route: u32, key: u64, endpoint: Option<&String>, tenant: Option<u64>) {
        let Some(known) = self.observed.routes.get_mut(route as usize) else { return };
        if let Some(endpoint) = endpoint
            && known.endpoints.len() < ENDPOINTS
            && !known.endpoints.contains(endpoint)
        {
            known.endpoints.push(endpoint.clone());
        }
        if let Some(tenant) = tenant.filter(|_| !known.shared) {
            known.shared = *self.tenants.entry(key).or_insert(tenant) != tenant;
        }
    }

    fn take_calls(&mut self, columns: &Columns<'_>) -> Result<(), PolarsError> {
        let (id, attempt, latency) = (columns.u64s("call_id")?, columns.i64s("attempt")?, columns.i64s("latency_us")?);
        let at = columns.i64s("ts_ns")?;
        // Paths are read from the last: requests before calls, so that it is known how far back calls are needed.
        let oldest =
            if self.observed.left_out > 0 { self.observed.asks.iter().map(|a| a.at_ns).min().unwrap_or(0) - HOUR_NS } else { i64::MIN };
        let (routes, route) = columns.texts("route")?;
        let (providers, provider) = columns.texts("provider")?;
        let (status, bytes, ttl) = (columns.i64s("status")?, columns.i64s("bytes_in")?, columns.i64s("origin_ttl_s")?);
        let (hash, before) = (columns.u64s("canonical_hash")?, columns.u64s("prev_canonical_hash")?);
        let (reasons, reason) = columns.texts("not_stored_reason")?;
        let routes: Vec<u32> = routes.iter().map(|name| self.route(name)).collect();
        let reasons: Vec<Option<UncachedReason>> = reasons.iter().map(|r| UncachedReason::parse(r)).collect();
        for i in 0..id.len() {
            let Some(id) = id[i].filter(|_| at[i].is_none_or(|at| at >= oldest)) else { continue };
            if let (Some(route), Some(provider)) = (route[i], provider[i])
                && let Some(known) = self.observed.routes.get_mut(routes[route as usize] as usize)
                && known.provider.is_empty()
            {
                known.provider.clone_from(&providers[provider as usize]);
            }
            let called = Called {
                latency_us: latency[i].unwrap_or(0),
                bytes: bytes[i],
                // 304: what it was before.
                hash: hash[i].or(before[i].filter(|_| status[i] == Some(304))),
                origin_ttl_s: ttl[i].filter(|s| *s >= 0),
                forbidden: reason[i].and_then(|r| reasons[r as usize]),
                attempt: attempt[i].and_then(|a| i32::try_from(a).ok()).unwrap_or(0),
            };
            let slot = self.calls.entry(id).or_insert(called);
            if called.attempt >= slot.attempt {
                *slot = called;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Observed {
        for (ask, call) in self.observed.asks.iter_mut().zip(&self.call_ids) {
            let Some(called) = call.and_then(|id| self.calls.get(&id)) else { continue };
            ask.called = true;
            ask.hash = called.hash;
            ask.bytes = called.bytes.or(ask.bytes);
            ask.origin_ttl_s = called.origin_ttl_s;
            ask.forbidden = called.forbidden;
            ask.latency_us = Some(called.latency_us).filter(|l| *l > 0).or(ask.latency_us);
        }
        self.observed.asks.sort_by_key(|ask| (ask.at_ns, ask.key));
        self.observed.routes.iter_mut().for_each(|route| route.endpoints.sort());
        self.observed
    }
}
