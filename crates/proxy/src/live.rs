//! What a configuration comes to: replaced as a whole when it changes. A request goes on with what it began with.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_config::{Config, RouteIndex};
use http::Method;

use crate::clients::Clients;
use crate::compile::{Compiled, WaysBy};
use crate::forward::Urls;
use crate::limits::Limits;
use crate::route::RouteState;

/// See the module.
pub struct Live {
    /// The configuration.
    pub config: Arc<Config>,
    /// Who can show who it is.
    pub clients: Clients,
    /// Routes in the order in which they are tried.
    pub routes: Vec<Arc<RouteState>>,
    /// The ways to providers, by name.
    pub ways: WaysBy,
    /// The limits, as no route sees them.
    pub limits: Limits,
    /// Which of them lead to a provider's URL.
    pub urls: Urls,
    /// Finds the one that takes a request.
    route_index: RouteIndex,
    /// Places of the routes by name.
    names: HashMap<Arc<str>, usize>,
    /// Numbers of all routes that there were since the start, by name: tables that last go by them.
    pub numbers: HashMap<Arc<str>, u16>,
    /// Places of the routes by number.
    numbered: HashMap<u16, usize>,
}

impl Live {
    /// Of compiled routes.
    pub fn new(config: Arc<Config>, clients: Clients, compiled: Compiled) -> Self {
        let Compiled { routes, ways, limits, numbers } = compiled;
        Self {
            urls: Urls::new(routes.iter().flat_map(|state| {
                let urls = state.route.providers().filter_map(|name| config.provider(name));
                urls.map(move |provider| (state, provider.base_url.clone()))
            })),
            route_index: RouteIndex::new(routes.iter().map(|state| state.route.matcher.clone())),
            names: routes.iter().map(|state| state.route.name.clone()).zip(0..).collect(),
            // Those that share the last number are in no table.
            numbered: routes.iter().map(|state| state.index).zip(0..).collect(),
            config,
            clients,
            routes,
            ways,
            limits,
            numbers,
        }
    }

    /// The route of a request: the first that takes it.
    pub fn route(&self, host: &str, path: &str, method: &Method) -> Option<&Arc<RouteState>> {
        self.routes.get(self.route_index.find(host, path, method)?)
    }

    /// The route of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<RouteState>> {
        self.routes.get(*self.names.get(name)?)
    }

    /// The route of that number; `None` also where it is no more.
    pub fn numbered(&self, number: u16) -> Option<&Arc<RouteState>> {
        self.routes.get(*self.numbered.get(&number)?)
    }
}
