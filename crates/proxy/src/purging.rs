//! The method `PURGE` on the data port, where the route's configuration lets somebody use it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::{Purge, Purged};
use farthing_config::{Field, PurgeBy, Purges};
use farthing_freshness::semantics::cache_status::CacheStatus;
use farthing_freshness::{KeyParts, Profile};
use farthing_types::{Body, KeyHash, RequestId, RouteName};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, Uri};

use crate::answer::{self, Notes};
use crate::problem::Problem;
use crate::request::{Identified, owner};
use crate::route::RouteState;
use crate::state::State;
use crate::tags;

const METHOD: &str = "PURGE";
/// `soft` makes entries stale, `dry-run` counts them.
const HOW: HeaderName = HeaderName::from_static("x-farthing-purge");

/// Whether a request of this method on this route is for us.
pub fn takes(route: &RouteState, method: &Method) -> bool {
    route.route.purge_by != PurgeBy::Nobody && method.as_str() == METHOD
}

/// Purges what the request names, and answers with counts. It costs nothing and is no request to a provider: it is in no total.
pub async fn answer(state: Arc<State>, identified: Identified) -> Response<Body> {
    state.counters.purge_requests.fetch_add(1, Ordering::Relaxed);
    let wanted = wanted(&state, &identified);
    let (id, dialect) = (identified.received.id, identified.received.route.dialect);
    drop(identified);
    let Wanted { purges, soft, dry_run } = match wanted {
        Ok(wanted) => wanted,
        Err(problem) => return annotated(problem.response(dialect), id, problem.kind),
    };
    let (sum, told) = apart(move || {
        let sum = purges.iter().fold(Purged::default(), |sum, purge| {
            let done =
                if dry_run { Purged { entries: state.cache.purge_dry_run(purge), ..Purged::default() } } else { state.purge(purge, soft) };
            Purged { entries: sum.entries + done.entries, flights: sum.flights + done.flights, ..done }
        });
        (sum, if dry_run { None } else { state.is_told() })
    })
    .await;
    let fleet = told.map_or_else(String::new, |told| format!(",\"fleet\":\"{}\"", if told { "told" } else { "untold" }));
    let document = format!("{{\"entries\":{},\"flights\":{},\"dry_run\":{dry_run}{fleet}}}", sum.entries, sum.flights);
    let mut response = Response::new(Body::full(document));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    annotated(response, id, "purged")
}

/// Does what may go through the whole memory on a thread that nobody else waits for. Once begun it is done, also when whoever waits leaves.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(broken) => match broken.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is ending, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn annotated(mut response: Response<Body>, id: RequestId, detail: &'static str) -> Response<Body> {
    let status = CacheStatus { detail: Some(detail), ..CacheStatus::default() };
    answer::annotate(response.headers_mut(), id, &Notes { status, ..Notes::default() });
    response
}

/// What a request wants to be purged.
struct Wanted {
    purges: Vec<Purge>,
    soft: bool,
    dry_run: bool,
}

fn wanted(state: &State, identified: &Identified) -> Result<Wanted, Problem> {
    let Identified { received, identity } = identified;
    let route = &received.route;
    let everybody = route.route.purge_by == PurgeBy::Key;
    if everybody && !identity.may_purge {
        let detail =
            format!("route `{}` takes PURGE with a Farthing key that has `purge = true`; send it as x-farthing-key", route.route.name);
        return Err(Problem::new(StatusCode::FORBIDDEN, "purge-forbidden", detail));
    }
    let (soft, dry_run) = how(&received.head.headers)?;
    let whose = if everybody { None } else { Some(owner(route, identity)) };
    Ok(Wanted { purges: named(state, received, whose)?, soft, dry_run })
}

fn how(headers: &HeaderMap) -> Result<(bool, bool), Problem> {
    match headers.get(HOW).map(HeaderValue::as_bytes) {
        None => Ok((false, false)),
        Some(b"soft") => Ok((true, false)),
        Some(b"dry-run") => Ok((false, true)),
        Some(_) => Err(bad("x-farthing-purge: write `soft` or `dry-run`, or leave it away")),
    }
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-purge", detail)
}

/// By the tags where the request names some, else its target.
fn named(state: &State, received: &crate::request::Received, whose: Option<&str>) -> Result<Vec<Purge>, Problem> {
    let (route, headers) = (&received.route, &received.head.headers);
    let within = |path, tag| Purge::Within { route: route.route.name.clone(), tenant: whose.map(Into::into), path, tag };
    if tags::are_named(headers) {
        let tags = tags::read(headers).map_err(|_| bad("more than 256 tags, 16 KiB of them, or 1 KiB of one: send several requests"))?;
        return if tags.is_empty() {
            Err(bad("the header of tags is empty"))
        } else {
            Ok(tags.into_iter().map(|tag| within(None, Some(tag))).collect())
        };
    }
    let target = route.target(&received.head.uri).ok_or_else(|| bad("the path below the route's prefix is not a valid target"))?;
    // Everybody's entries are under as many keys as there are principals.
    Ok(vec![match whose.or(route.route.shared.then_some("")) {
        Some(owner) => of_target(state, route, owner, &target),
        None => within(Some(target.path().into()), None),
    }])
}

/// What the templates of a rule have become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    tags: Vec<Arc<str>>,
    paths: Vec<Arc<str>>,
    prefixes: Vec<Arc<str>>,
    keys: Vec<KeyHash>,
    soft: bool,
    /// Templates that a field left without a value.
    pub missing: u64,
}

impl Filled {
    /// Fills the templates in; `value` is told whether the field stands in a path.
    pub fn new(purges: &Purges, value: impl Fn(&Field, bool) -> Option<String>) -> Self {
        let mut out = Self { soft: purges.soft, ..Self::default() };
        for (templates, into, in_path) in
            [(&purges.tags, &mut out.tags, false), (&purges.paths, &mut out.paths, true), (&purges.prefixes, &mut out.prefixes, true)]
        {
            for template in templates {
                match template.fill(|field| value(field, in_path)) {
                    Some(text) => into.push(text.into()),
                    None => out.missing += 1,
                }
            }
        }
        for template in &purges.keys {
            match template.fill(|field| value(field, false)).and_then(|text| text.parse().ok()) {
                Some(key) => out.keys.push(key),
                None => out.missing += 1,
            }
        }
        out
    }

    /// What is to be purged of the routes, of everybody, each with whether it is soft; counted as done.
    pub fn purges(&self, state: &State, routes: &[RouteName]) -> Vec<(Purge, bool)> {
        state.counters.unfilled.fetch_add(self.missing, Ordering::Relaxed);
        let within = |route: &RouteName, path, tag| Purge::Within { route: route.clone(), tenant: None, path, tag };
        let mut purges: Vec<Purge> = self.keys.iter().copied().map(Purge::Key).collect();
        for route in routes {
            purges.extend(self.tags.iter().map(|tag| within(route, None, Some(tag.clone()))));
            purges.extend(self.paths.iter().map(|path| within(route, Some(path.clone()), None)));
            purges.extend(self.prefixes.iter().map(|path| Purge::Prefix { route: Some(route.clone()), path: path.clone() }));
        }
        state.counters.ruled.fetch_add(purges.len() as u64, Ordering::Relaxed);
        purges.into_iter().map(|purge| (purge, self.soft)).collect()
    }
}

/// What a GET of `target` by `owner` would be answered from. Where keys hold more than the target tells (the reader's headers, a body), everything of its
/// path.
pub fn of_target(state: &State, route: &Arc<RouteState>, owner: &str, target: &Uri) -> Purge {
    if route.key_spec.profile == Profile::Api || route.rules.any_method {
        return Purge::Path { route: route.route.name.clone(), tenant: owner.into(), path: target.path().into() };
    }
    Purge::Key(key_of_get(state, route, (owner, target), &HeaderMap::new()))
}

/// The key of a GET of `target` by `owner` with these headers.
pub fn key_of_get(state: &State, route: &RouteState, (owner, target): (&str, &Uri), headers: &HeaderMap) -> KeyHash {
    let parts =
        KeyParts { tenant: owner, route: &route.route.name, method: &Method::GET, authority: &route.place, target, headers, body: &[] };
    state.keyer.primary(&route.key_spec, &parts)
}
