//! What all requests share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use farthing_cache::Cache;
use farthing_config::Config;
use farthing_experiment::{Holdout, Savings};
use farthing_freshness::Keyer;
use farthing_ledger::{Aggregates, LogHandle, PriceBook};
use farthing_policy::Guarded;
use farthing_types::{Clock, Draw, RealClock, Time};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::experiments::Trials;
use crate::ids::Ids;
use crate::predictors::Predictors;
use crate::route::RouteState;

/// What all requests share.
pub struct State {
    /// The configuration.
    pub config: Arc<Config>,
    /// The proxy's time: decisions, ages, log.
    pub clock: Arc<dyn Clock>,
    /// Real time: how long our own work takes.
    pub real: Arc<RealClock>,
    /// The source of draws.
    pub draw: Draw,
    /// Computes keys.
    pub keyer: Keyer,
    /// Key of credential digests.
    pub salt: [u8; 32],
    /// Routes in the order in which they are tried.
    pub routes: Vec<Arc<RouteState>>,
    /// L1 and flights.
    pub cache: Cache,
    /// Totals since start.
    pub totals: Aggregates,
    /// The Parquet log.
    pub log: Option<LogHandle>,
    /// Prices.
    pub prices: PriceBook,
    /// Predictors in force.
    pub predictors: Predictors,
    /// Where predictors meet rules.
    pub guarded: Guarded,
    /// Records of experiments.
    pub trials: Trials,
    /// Which keys are held out.
    pub holdout: Holdout,
    /// What was saved, against the holdout.
    pub savings: Mutex<Savings>,
    /// Ids.
    pub ids: Ids,
    /// Hash of the features that this build computes.
    pub spec_hash: Arc<str>,
    /// Fills, refreshes and other work that outlives a request.
    pub tasks: TaskTracker,
    /// Events without a route.
    pub counters: Counters,
}

/// Events without a route.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that no route took.
    pub unrouted: AtomicU64,
    /// Fills that panicked.
    pub panics: AtomicU64,
    /// Background refreshes started.
    pub refreshes: AtomicU64,
    /// Requests that wait for a call now.
    pub waiting: AtomicU64,
}

impl State {
    /// Real time, for latencies.
    pub fn real_now(&self) -> Time {
        self.real.now()
    }
}
