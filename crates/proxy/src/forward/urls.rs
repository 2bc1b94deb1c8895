//! Which route leads to a URL: by the base URL of its provider.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_types::Body;
use http::{Request, Uri};

use super::Destination;
use crate::live::Live;
use crate::route::RouteState;

/// The port of a scheme.
pub fn own_port(scheme: Option<&str>) -> Option<u16> {
    match scheme {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

/// The base URLs of providers that have routes without hosts.
#[derive(Debug, Default)]
pub struct Urls(HashMap<Arc<str>, Vec<Base>>);

/// What a route makes of a provider's URLs.
#[derive(Debug)]
struct Base {
    port: u16,
    tls: bool,
    /// Path of the provider's base URL, without a slash at its end.
    path: Box<str>,
    /// What the route cuts off, without a slash at its end.
    prefix: Arc<str>,
    route: Arc<str>,
    /// Where the route's paths start.
    start: Arc<str>,
}

impl Urls {
    /// Those of `routes` with the base URLs of their providers.
    pub fn new<'a>(routes: impl Iterator<Item = (&'a Arc<RouteState>, Uri)>) -> Self {
        let mut urls: HashMap<Arc<str>, Vec<Base>> = HashMap::new();
        for (state, url) in routes {
            let route = &state.route;
            let Some(to) = Destination::of(&url).filter(|_| route.matcher.hosts.is_empty()) else { continue };
            let base = Base {
                port: to.port,
                tls: url.scheme_str() == Some("https"),
                path: url.path().trim_end_matches('/').into(),
                prefix: route.strip_prefix.clone(),
                route: route.name.clone(),
                start: route.matcher.path_prefix.clone(),
            };
            urls.entry(to.host).or_default().push(base);
        }
        // The more of a path a base URL says, the more surely it is meant; routes in their order otherwise.
        urls.values_mut().for_each(|bases| bases.sort_by_key(|base| std::cmp::Reverse(base.path.len())));
        Self(urls)
    }

    /// Path and query as the route to the request's URL takes them; `None` where none does. A route counts only where it is the one that would be found.
    pub fn find(&self, live: &Live, request: &Request<Body>) -> Option<String> {
        let to = Destination::of(request.uri())?;
        let (path, query) = (request.uri().path(), request.uri().query());
        let plain = request.uri().scheme_str() == Some("http") && to.port == 80;
        self.0.get(&to.host)?.iter().find_map(|base| {
            // Who writes http:// for a provider behind TLS means that one. Who writes https:// is never sent on without.
            let open = request.uri().scheme_str() != Some("https");
            let same = (base.port == to.port && (base.tls || open)) || (plain && base.port == 443);
            let rest = path.strip_prefix(&*base.path).filter(|rest| same && (rest.is_empty() || rest.starts_with('/')))?;
            let rest = if rest.is_empty() && base.prefix.is_empty() { "/" } else { rest };
            let path = format!("{}{rest}", base.prefix);
            let found = live.route("", &path, request.method())?;
            (found.route.name == base.route).then(|| query.map_or(path.clone(), |query| format!("{path}?{query}")))
        })
    }

    /// The path at Farthing that stands for a provider's base URL.
    pub(super) fn instead(&self, to: &Destination) -> Option<String> {
        let base = self.0.get(&to.host)?.iter().find(|base| base.port == to.port)?;
        Some(base.start.trim_end_matches('/').to_owned())
    }
}
