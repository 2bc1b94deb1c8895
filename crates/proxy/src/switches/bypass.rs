//! The operator's bypass: everything passes by, on all routes or on one, for a time or until it is switched off. What is in force stands in
//! `state_dir/bypass.json`, so that a restart in the middle of trouble does not end it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_config::Config;
use farthing_ledger::costs::utc;
use farthing_types::{RouteName, Time};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::reason::{self, LONGEST_REASON};
use crate::route::RouteState;
use crate::state::State;

const FILE: &str = "bypass.json";

/// One order to let everything pass by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The route; all of them with `None`.
    pub route: Option<RouteName>,
    /// Since when, on the proxy's clock.
    pub since: Time,
    /// Until when; until it is switched off with `None`.
    pub until: Option<Time>,
    /// Why.
    pub reason: Arc<str>,
}

impl Order {
    /// Whether it is in force.
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn is_for(&self, route: &str) -> bool {
        self.route.as_deref().is_none_or(|of| of == route)
    }
}

/// Why an order was not carried out, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum BypassError {
    /// There is no such route.
    #[error("there is no route `{route}`; there are {}", known.join(", "))]
    NoRoute {
        /// What was given.
        route: String,
        /// The routes.
        known: Vec<String>,
    },
    /// The reason is missing or too long.
    #[error("reason: say why, in 1 to {LONGEST_REASON} bytes")]
    Reason,
    /// The time is over before it begins.
    #[error("seconds: more than 0; leave it out to bypass until it is switched off")]
    Time,
    /// It is in force, but a restart ends it.
    #[error("in force, but not written down, so a restart undoes it: {}: {source}", path.display())]
    Unwritten {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was written down cannot be read.
    #[error("{}: {reason}; correct the file, or remove it to start without a bypass", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// All orders; at most one for each route and one for all.
pub struct Bypass {
    path: Option<PathBuf>,
    orders: Mutex<Vec<Order>>,
}

impl Bypass {
    /// What the run before has left; blocks on a small file.
    ///
    /// # Errors
    /// [`BypassError::Damaged`]: to start without what an operator has ordered would be worse than not to start.
    pub fn open(config: &Config, now: Time) -> Result<Self, BypassError> {
        let path = files::of_instance(config, FILE);
        let mut orders = path.as_deref().map_or_else(|| Ok(Vec::new()), kept)?;
        // Routes that were taken out of the configuration take their orders with them.
        orders.retain(|order| order.holds(now) && order.route.as_ref().is_none_or(|name| config.routes.iter().any(|r| r.name == *name)));
        for order in &orders {
            tracing::warn!(route = order.route.as_deref(), reason = &*order.reason, "bypass is on, from before the restart");
        }
        Ok(Self { path, orders: Mutex::new(orders) })
    }

    /// What is in force.
    pub fn orders(&self, now: Time) -> Vec<Order> {
        self.orders.lock().iter().filter(|order| order.holds(now)).cloned().collect()
    }

    /// Writes what is in force. The lock is held, so that the last order is the one that stays written; no request waits for it.
    fn save(&self, orders: &[Order]) -> Result<(), BypassError> {
        let Some(path) = &self.path else { return Ok(()) };
        files::write_json(path, &orders).map_err(|source| BypassError::Unwritten { path: path.clone(), source })
    }
}

impl State {
    /// Puts the orders in force on the routes; of two the longer one.
    pub(crate) fn publish_bypass(&self, orders: &[Order]) {
        publish(orders, &self.live().routes);
    }

    /// Puts the orders in force on these routes; no other order is given meanwhile.
    pub(crate) fn bypass_routes(&self, routes: &[Arc<RouteState>]) {
        publish(&self.bypass.orders.lock(), routes);
    }

    /// Lets everything pass by from now on; blocks until that is written down.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] it is in force all the same.
    pub fn bypass_on(&self, order: Order) -> Result<(), BypassError> {
        self.knows(order.route.as_deref())?;
        said(&order.reason)?;
        if order.until.is_some_and(|until| until <= order.since) {
            return Err(BypassError::Time);
        }
        tracing::warn!(
            route = order.route.as_deref(),
            until = order.until.map(utc),
            reason = &*order.reason,
            "bypass is switched on: nothing is saved"
        );
        let mut orders = self.bypass.orders.lock();
        orders.retain(|other| other.route != order.route && other.holds(order.since));
        orders.push(order);
        self.publish_bypass(&orders);
        self.bypass.save(&orders)
    }

    /// Ends the bypass of a route, or every one; whether there was any. Blocks until that is written down.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] it has ended all the same.
    pub fn bypass_off(&self, route: Option<&str>, reason: &str) -> Result<bool, BypassError> {
        self.knows(route)?;
        self.bypass_end(reason, |of| route.is_none_or(|name| of == Some(name)))
    }

    /// Ends those bypasses of a route, or of all of them (`None`), for which `those` holds; whether there was any. Blocks until that is written down.
    ///
    /// # Errors
    /// As [`State::bypass_off`].
    pub(crate) fn bypass_end(&self, reason: &str, those: impl Fn(Option<&str>) -> bool) -> Result<bool, BypassError> {
        said(reason)?;
        let mut orders = self.bypass.orders.lock();
        let over: Vec<Order> = orders.extract_if(.., |order| those(order.route.as_deref())).collect();
        let ended = !over.is_empty();
        if ended {
            for order in &over {
                tracing::info!(route = order.route.as_deref(), reason, "bypass is switched off");
            }
            self.publish_bypass(&orders);
            self.bypass.save(&orders)?;
        }
        Ok(ended)
    }

    /// Takes out of force what has had its time. What is written down then ends by itself at the next start.
    pub fn expire_bypass(&self, now: Time) {
        let mut orders = self.bypass.orders.lock();
        if orders.iter().all(|order| order.holds(now)) {
            return;
        }
        for over in orders.extract_if(.., |order| !order.holds(now)) {
            tracing::info!(route = over.route.as_deref(), reason = &*over.reason, "the time of a bypass is over");
        }
        self.publish_bypass(&orders);
    }

    fn knows(&self, route: Option<&str>) -> Result<(), BypassError> {
        let Some(name) = route.filter(|name| !self.live().routes.iter().any(|known| *known.route.name == **name)) else { return Ok(()) };
        let known = self.live().routes.iter().take(20).map(|route| route.route.name.to_string()).collect();
        Err(BypassError::NoRoute { route: name.to_owned(), known })
    }
}

fn publish(orders: &[Order], routes: &[Arc<RouteState>]) {
    for route in routes {
        let of_route = orders.iter().filter(|order| order.is_for(&route.route.name));
        let longest = of_route.max_by_key(|order| order.until.unwrap_or(Time::from_nanos(i64::MAX)));
        route.switches.put_bypass(longest.cloned().map(Arc::new));
    }
}

/// What stands in the file.
fn kept(path: &Path) -> Result<Vec<Order>, BypassError> {
    let damaged = |reason: String| BypassError::Damaged { path: path.to_owned(), reason };
    let Some(text) = files::read(path).map_err(|e| damaged(e.to_string()))? else { return Ok(Vec::new()) };
    serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))
}

fn said(reason: &str) -> Result<(), BypassError> {
    reason::is_said(reason).then_some(()).ok_or(BypassError::Reason)
}
