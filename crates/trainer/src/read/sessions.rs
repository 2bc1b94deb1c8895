//! Client requests by session, from traces and from the log.

use std::path::Path;

use farthing_contract::features::{session_of, thing_of};
use farthing_contract::log::{ColumnType, Request, Row};
use farthing_policy::prefetch::PrefetchParams;
use farthing_replay::prefetch::{SessionRoute, Sessions, Visited};
use farthing_types::{Money, Span, Time};
use polars::prelude::{DataFrame, PolarsError};

use super::asked::is_visit;
use super::columns::Columns;
use super::files::{self, Files, Opened, Wanted};
use crate::error::TrainError;

/// Sessions with where they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionLog {
    /// The requests.
    pub sessions: Sessions,
    /// Digest of the files.
    pub digest: String,
    /// How many files were read.
    pub files: usize,
    /// Requests without anything that tells clients apart.
    pub anonymous: usize,
}

/// Price of a call where none is known: what counts is its ratio to the other prices.
const PRICE: Money = Money::from_nanos(1_000_000);
/// Lifetime of a copy where none is known.
const TTL: Span = Span::from_secs(60);

const TRACE: [Wanted; 5] = [
    Wanted { name: "ts_ms", ty: ColumnType::I64, since: 1 },
    Wanted { name: "client", ty: ColumnType::U64, since: 1 },
    Wanted { name: "key", ty: ColumnType::U64, since: 1 },
    Wanted { name: "endpoint", ty: ColumnType::Text, since: 1 },
    Wanted { name: "is_write", ty: ColumnType::Bool, since: 1 },
];

const LOG: [&str; 13] = [
    "ts_ns",
    "request_id",
    "tenant",
    "team",
    "service",
    "tags",
    "route",
    "endpoint",
    "method",
    "key_hash",
    "uncached_reason",
    "ttl_ms",
    "base_nanousd",
];

/// Reads a trace with a column `client`; writes are left out.
///
/// # Errors
/// Names the column that is missing or of another type.
pub fn read_session_trace(path: &Path) -> Result<SessionLog, TrainError> {
    let remedy =
        "a trace of sessions has the columns ts_ms (integer), client (integer), key (integer), endpoint (text), is_write (boolean)";
    let frame = Opened::open(path)?.columns(&TRACE, files::roughly, remedy)?;
    let place = |e: PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
    let mut log = SessionLog { digest: files::digest(&[path.to_path_buf()])?, files: 1, ..SessionLog::default() };
    log.take_trace(&frame).map_err(place)?;
    log.sort();
    Ok(log)
}

/// Reads the requests that `pattern` matches and that a prefetcher sees: GETs that a cache may answer. A session is a tenant with its team, service and tags.
///
/// # Errors
/// When no file matches, or one is not of the log.
pub fn read_session_log(from: &(impl Files + ?Sized)) -> Result<SessionLog, TrainError> {
    let paths = from.files()?;
    let mut log = SessionLog { digest: files::digest(&paths)?, files: paths.len(), ..SessionLog::default() };
    for path in &paths {
        log.take_file(path)?;
    }
    log.sort();
    if log.sessions.visits.is_empty() {
        return Err(TrainError::TooLittle("the log holds no request".to_owned()));
    }
    Ok(log)
}

impl SessionLog {
    fn take_file(&mut self, path: &Path) -> Result<(), TrainError> {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        if table.name != Request::TABLE.name {
            return Ok(());
        }
        let find = |name: &&str| table.columns.iter().find(|c| c.name == *name);
        let wanted: Vec<Wanted> = LOG.iter().filter_map(find).map(|c| Wanted { name: c.name, ty: c.ty, since: c.since }).collect();
        let remedy = "the file says it is of this log but was changed by another program: restore or remove it";
        let frame = file.columns(&wanted, files::exact, remedy)?;
        self.take_log(&frame).map_err(|e| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() })
    }

    fn take_trace(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (at, client, key) = (columns.i64s("ts_ms")?, columns.u64s("client")?, columns.u64s("key")?);
        let writes = columns.bools("is_write")?;
        let (names, routes) = columns.texts("endpoint")?;
        let places: Vec<Option<u16>> = names.iter().map(|name| self.route(name)).collect();
        for i in 0..frame.height() {
            let route = routes[i].and_then(|r| places.get(r as usize).copied().flatten());
            let (Some(at), Some(key), Some(route)) = (at[i], key[i], route) else { continue };
            if writes[i].unwrap_or(false) {
                continue;
            }
            let session = client[i].map_or(0, |c| c.wrapping_add(1).max(1));
            self.push(Visited { at: Time::from_millis(at), session, thing: thing_of(0, key), route, params: 0 });
        }
        Ok(())
    }

    fn take_log(&mut self, frame: &DataFrame) -> Result<(), PolarsError> {
        let columns = Columns(frame);
        let (at, key) = (columns.i64s("ts_ns")?, columns.u64s("key_hash")?);
        let (ttl, price) = (columns.i64s("ttl_ms")?, columns.i64s("base_nanousd")?);
        let (names, routes) = columns.texts("route")?;
        let places: Vec<Option<u16>> = names.iter().map(|name| self.route(name)).collect();
        let visits = is_visit(&columns.texts("method")?, &columns.texts("uncached_reason")?);
        let who = ["tenant", "team", "service", "tags"].map(|name| columns.texts(name));
        let who = who.into_iter().collect::<Result<Vec<_>, _>>()?;
        for i in 0..frame.height() {
            let route = routes[i].and_then(|r| places.get(r as usize).copied().flatten());
            let (Some(at), Some(key), Some(route)) = (at[i], key[i], route) else { continue };
            if !visits[i] {
                continue;
            }
            let session = session(&who, i);
            self.push(Visited { at: Time::from_nanos(at), session, thing: thing_of(0, key), route, params: 0 });
            if let Some(terms) = self.sessions.routes.get_mut(usize::from(route)) {
                if let Some(nanos) = price[i].filter(|n| *n > 0) {
                    terms.price = Money::from_nanos(nanos);
                }
                if let Some(ms) = ttl[i].and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0) {
                    terms.ttl = Span::from_millis(ms);
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, visit: Visited) {
        self.anonymous += usize::from(visit.session == 0);
        self.sessions.visits.push(visit);
    }

    /// The place of a route; `None` beyond 65,535 of them.
    fn route(&mut self, name: &str) -> Option<u16> {
        let routes = &mut self.sessions.routes;
        let place = routes.iter().position(|r| r.name == name).unwrap_or_else(|| {
            routes.push(SessionRoute { name: name.to_owned(), price: PRICE, ttl: TTL, params: PrefetchParams::default(), provider: 0 });
            routes.len() - 1
        });
        u16::try_from(place).ok()
    }

    /// By time; at equal times in the order of the file.
    fn sort(&mut self) {
        self.sessions.visits.sort_by_key(|v| v.at);
    }
}

/// Hash of whatever tells clients apart.
fn session(who: &[(Vec<String>, Vec<Option<u32>>)], row: usize) -> u64 {
    let text = |column: usize| {
        let (names, rows) = who.get(column)?;
        rows.get(row).copied().flatten().and_then(|place| names.get(place as usize)).map(String::as_str)
    };
    session_of(text(0).unwrap_or_default(), text(1), text(2), text(3))
}
