//! Routes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::status::Totals;

/// The configured routes.
pub trait RoutesView: Send + Sync {
    /// In the order in which they are tried.
    fn routes(&self) -> Vec<RouteInfo>;
}

/// One route: configuration and totals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteInfo {
    /// Its name.
    pub name: String,
    /// The provider.
    pub provider: String,
    /// Where requests go.
    pub base_url: String,
    /// Hosts it takes; empty means any.
    pub hosts: Vec<String>,
    /// The path prefix it takes.
    pub path_prefix: String,
    /// Methods it takes; empty means any.
    pub methods: Vec<String>,
    /// `respect`, `learned`, `override` or `observe`.
    pub mode: String,
    /// One cache for all principals.
    pub shared: bool,
    /// Whether answers are cached.
    pub cache: bool,
    /// Whether running calls are shared.
    pub dedupe: bool,
    /// Who chooses the TTL.
    pub ttl: String,
    /// Share of answers that may be stale.
    pub stale_budget: f64,
    /// The experiment that runs on it.
    pub experiment: Option<String>,
    /// Totals since start.
    pub totals: Totals,
}
