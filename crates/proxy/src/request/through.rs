//! Who answers a call.

use std::sync::Arc;

use farthing_upstream::Origin;

use crate::route::RouteState;

/// Who answers a call that is one of several for a list.
pub struct Through {
    /// Its seat among them.
    pub origin: Arc<dyn Origin>,
    /// Whether it stands for all of them in the line in front of the provider.
    pub paces: bool,
}

impl Through {
    /// Who answers a call of a route: whoever stands in for that, or the route itself.
    pub fn or_route(through: Option<Self>, route: &RouteState, swap: bool) -> Self {
        through.unwrap_or_else(|| Self { origin: route.origin(swap), paces: true })
    }
}
