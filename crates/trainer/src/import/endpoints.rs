//! Endpoint templates and routes, found from the paths of the first rows: `/v1/users/7/orders` is `/v1/users/{id}/orders` of the route
//! `v1-users`. What looks like a value becomes a placeholder, and so does a word that few rows have or that is one of very many. The
//! tree is learned once and then stands: later paths find their place in it or end in `{rest}`. Nothing of a path but words that many
//! rows share gets into the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::segments::{extension, is_file, placeholder};

/// Deepest segment that is told apart.
const DEPTH: usize = 12;
/// Words that are kept below one segment; the others are values.
const WORDS: usize = 64;
/// Fewest rows of a word, absolutely and as a share of the rows of its parent.
const FEWEST: (u64, u64) = (2, 500);
/// Most routes.
const ROUTES: usize = 32;
/// Fewest rows of a route, as a share of all.
const ROUTE_SHARE: u64 = 200;
/// Most hosts that are told apart.
const HOSTS: usize = 64;
/// Most templates of a host.
const TEMPLATES: usize = 1_000;

/// Where a request belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the route.
    pub route: Arc<str>,
    /// Path template.
    pub endpoint: Arc<str>,
    /// Who bills: the host, or `imported`.
    pub provider: Arc<str>,
}

/// Learns from paths.
#[derive(Default)]
pub struct Learning {
    hosts: BTreeMap<String, Node>,
}

#[derive(Clone, Default)]
struct Node {
    rows: u64,
    /// Rows whose path ends here.
    ends: u64,
    /// The log itself names these templates: their words are kept.
    given: bool,
    children: BTreeMap<Box<str>, Node>,
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split_once('?').map_or(path, |(p, _)| p).split('/').filter(|s| !s.is_empty()).take(DEPTH)
}

/// The template's segment for one of a path, by its looks alone.
fn token(segment: &str) -> Box<str> {
    if is_file(segment) {
        return named_file(extension(segment));
    }
    let name = segment.rsplit_once('.').filter(|_| extension(segment).is_some()).map_or(segment, |(name, _)| name);
    match (placeholder(segment), placeholder(name)) {
        (Some(_), Some(stem)) if name.len() < segment.len() => format!("{stem}.{}", extension(segment).unwrap_or_default()).into(),
        (Some(value), _) => value.into(),
        (None, _) => segment.into(),
    }
}

fn named_file(extension: Option<&str>) -> Box<str> {
    extension.map_or_else(|| "{name}".into(), |e| format!("{{name}}.{}", e.to_ascii_lowercase()).into())
}

fn is_value(token: &str) -> bool {
    token.starts_with(['{', '*', ':'])
}

impl Learning {
    /// A request's host and path; `given` when the path is a template of the log itself.
    pub fn see(&mut self, host: &str, path: &str, given: bool) {
        if self.hosts.len() >= HOSTS && !self.hosts.contains_key(host) {
            return;
        }
        let mut node = self.hosts.entry(host.to_owned()).or_default();
        node.rows += 1;
        for segment in segments(path) {
            let token = if given { segment.into() } else { token(segment) };
            node = node.children.entry(token).or_default();
            node.rows += 1;
            node.given |= given;
        }
        node.ends += 1;
    }

    /// Settles templates and routes.
    pub fn freeze(mut self) -> Endpoints {
        for root in self.hosts.values_mut() {
            let mut words = WORDS;
            root.prune(words);
            while root.size() > TEMPLATES && words > 1 {
                words /= 2;
                root.prune(words);
            }
        }
        let routes = Routes::of(&self.hosts);
        let frozen = |(host, root): (&String, &Node)| (host.clone(), root.freeze(host, "", &routes));
        let hosts = self.hosts.iter().map(frozen).collect();
        Endpoints { hosts, other: Arc::new(Place { route: "other".into(), endpoint: "/{rest}".into(), provider: "other".into() }) }
    }
}

impl Node {
    fn size(&self) -> usize {
        1 + self.children.values().map(Self::size).sum::<usize>()
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.ends += other.ends;
        self.given |= other.given;
        for (token, child) in other.children {
            self.children.entry(token).or_default().merge(child);
        }
    }

    /// Makes values of the words that are rare or one of too many.
    fn prune(&mut self, most: usize) {
        let (fewest, share) = FEWEST;
        let fewest = fewest.max(self.rows / share);
        let mut words: Vec<(u64, Box<str>)> =
            self.children.iter().filter(|(token, _)| !is_value(token)).map(|(token, node)| (node.rows, token.clone())).collect();
        words.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (rank, (rows, word)) in words.into_iter().enumerate() {
            let Some(node) = self.children.get(&word) else { continue };
            if rank < most && (node.given || rows >= fewest) {
                continue;
            }
            if let Some(node) = self.children.remove(&word) {
                self.children.entry(named_file(extension(&word))).or_default().merge(node);
            }
        }
        self.children.values_mut().for_each(|child| child.prune(most));
    }

    fn freeze(&self, host: &str, prefix: &str, routes: &Routes) -> Frozen {
        let place =
            |endpoint: &str| Arc::new(Place { route: routes.name(host, prefix), endpoint: endpoint.into(), provider: provider(host) });
        let mut children = HashMap::with_capacity(self.children.len());
        for (token, node) in &self.children {
            children.insert(token.clone(), node.freeze(host, &format!("{prefix}/{token}"), routes));
        }
        Frozen { here: place(if prefix.is_empty() { "/" } else { prefix }), below: place(&format!("{prefix}/{{rest}}")), children }
    }
}

fn provider(host: &str) -> Arc<str> {
    if host.is_empty() { "imported".into() } else { host.to_ascii_lowercase().into() }
}

/// Routes: words at the beginning of paths.
struct Routes {
    names: BTreeMap<(String, String), Arc<str>>,
}

impl Routes {
    fn of(hosts: &BTreeMap<String, Node>) -> Self {
        let mut rows = BTreeMap::new();
        for (host, root) in hosts {
            count(host, "", root, &mut rows);
        }
        let all: u64 = rows.values().sum();
        loop {
            // The smallest route that is too small, or one too many, goes to the one above it.
            let smallest = rows.iter().filter(|((_, prefix), _)| !prefix.is_empty()).min_by_key(|(key, rows)| (**rows, (*key).clone()));
            let Some((key, own)) = smallest.map(|(key, own)| (key.clone(), *own)) else { break };
            if rows.len() <= ROUTES.max(hosts.len()) && own.saturating_mul(ROUTE_SHARE) >= all {
                break;
            }
            rows.remove(&key);
            let parent = key.1.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
            *rows.entry((key.0, parent)).or_insert(0) += own;
        }
        Self { names: named(rows.into_keys().collect(), hosts.len() > 1) }
    }

    /// The route of the longest prefix.
    fn name(&self, host: &str, mut prefix: &str) -> Arc<str> {
        loop {
            if let Some(name) = self.names.get(&(host.to_owned(), prefix.to_owned())) {
                return Arc::clone(name);
            }
            let Some((parent, _)) = prefix.rsplit_once('/') else { break };
            prefix = parent;
        }
        named_route(host, "", !host.is_empty()).into()
    }
}

/// Rows by the words at the beginning of their paths.
fn count(host: &str, prefix: &str, node: &Node, into: &mut BTreeMap<(String, String), u64>) {
    let values: u64 = node.children.iter().filter(|(token, _)| is_value(token)).map(|(_, child)| child.rows).sum();
    let own = node.ends + values;
    if own > 0 {
        into.insert((host.to_owned(), prefix.to_owned()), own);
    }
    for (token, child) in node.children.iter().filter(|(token, _)| !is_value(token)) {
        count(host, &format!("{prefix}/{token}"), child, into);
    }
}

fn named(keys: Vec<(String, String)>, with_host: bool) -> BTreeMap<(String, String), Arc<str>> {
    let mut taken = std::collections::BTreeSet::new();
    let mut names = BTreeMap::new();
    for key in keys {
        let plain = named_route(&key.0, &key.1, with_host);
        let tries = (1..).map(|n| if n == 1 { plain.clone() } else { format!("{plain}-{n}") });
        for name in tries {
            if taken.insert(name.clone()) {
                names.insert(key, name.into());
                break;
            }
        }
    }
    names
}

/// A route's name: what the configuration allows in one.
fn named_route(host: &str, prefix: &str, with_host: bool) -> String {
    let host = if with_host { host.split_once(':').map_or(host, |(h, _)| h) } else { "" };
    let text: String =
        format!("{host}{prefix}").chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' }).collect();
    let text = text.trim_matches(['-', '.', '_']);
    if text.is_empty() { "root".to_owned() } else { text.to_owned() }
}

struct Frozen {
    here: Arc<Place>,
    below: Arc<Place>,
    children: HashMap<Box<str>, Frozen>,
}

/// Settled templates and routes.
pub struct Endpoints {
    hosts: BTreeMap<String, Frozen>,
    other: Arc<Place>,
}

impl Endpoints {
    /// Where a request belongs.
    pub fn place(&self, host: &str, path: &str) -> &Arc<Place> {
        let Some(mut node) = self.hosts.get(host) else { return &self.other };
        for segment in segments(path) {
            let by_looks = || node.children.get(&token(segment));
            let value = || node.children.get(&named_file(extension(segment))).or_else(|| node.children.get("{name}"));
            match node.children.get(segment).or_else(by_looks).or_else(value) {
                Some(child) => node = child,
                None => return &node.below,
            }
        }
        &node.here
    }

    /// How many templates there are.
    pub fn templates(&self) -> usize {
        fn size(node: &Frozen) -> usize {
            1 + node.children.values().map(size).sum::<usize>()
        }
        self.hosts.values().map(size).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn learn(paths: impl IntoIterator<Item = String>) -> Endpoints {
        let mut learning = Learning::default();
        paths.into_iter().for_each(|path| learning.see("", &path, false));
        learning.freeze()
    }

    fn at<'e>(endpoints: &'e Endpoints, path: &str) -> (&'e str, &'e str) {
        let place = endpoints.place("", path);
        (&place.endpoint, &place.route)
    }

    #[test]
    fn an_api_is_seen_through_its_values() {
        let paths = (0..400).flat_map(|n| {
            [
                format!("/v1/users/{n}/orders?x={n}"),
                format!("/v1/users/{n}"),
                format!("/v1/geo/u{}", n * 7),
                "/v1/rates".to_owned(),
                format!("/img/logo{n}.gif"),
            ]
        });
        let endpoints = learn(paths);
        assert_eq!(at(&endpoints, "/v1/users/7/orders"), ("/v1/users/{id}/orders", "v1-users"));
        assert_eq!(at(&endpoints, "/v1/users/99999999"), ("/v1/users/{id}", "v1-users"));
        assert_eq!(at(&endpoints, "/v1/geo/u14"), ("/v1/geo/{name}", "v1-geo"));
        assert_eq!(at(&endpoints, "/v1/rates?day=1"), ("/v1/rates", "v1-rates"));
        assert_eq!(at(&endpoints, "/img/other.GIF"), ("/img/{name}.gif", "img"));
        assert_eq!(at(&endpoints, "/v1/users/7/secret-word"), ("/v1/users/{id}/{rest}", "v1-users"));
        assert_eq!(at(&endpoints, "/never/seen"), ("/{rest}", "root"));
        assert!(endpoints.templates() < 20);
    }

    #[test]
    fn a_rare_word_never_gets_into_the_log() {
        let paths = (0..1_000).map(|n| format!("/files/{}", if n == 7 { "alice-secret" } else { "report" }));
        let endpoints = learn(paths);
        assert_eq!(at(&endpoints, "/files/alice-secret").0, "/files/{name}");
        assert_eq!(at(&learn(["/alice".to_owned()]), "/alice").0, "/{name}");
    }

    #[test]
    fn hosts_are_routes_of_their_own() {
        let mut learning = Learning::default();
        for host in ["api.test:443", "maps.test"] {
            (0..50).for_each(|n| learning.see(host, &format!("/v1/x/{n}"), false));
        }
        let endpoints = learning.freeze();
        let place = endpoints.place("maps.test", "/v1/x/3");
        assert_eq!((&*place.route, &*place.provider), ("maps.test-v1-x", "maps.test"));
        assert_eq!(&*endpoints.place("else.test", "/").route, "other");
    }

    #[test]
    fn templates_of_the_log_itself_are_kept() {
        let mut learning = Learning::default();
        for template in ["/images/*.gif", "/calfire/incident/{id}", "/rare"] {
            learning.see("", template, true);
        }
        (0..5_000).for_each(|_| learning.see("", "/images/*.gif", true));
        let endpoints = learning.freeze();
        assert_eq!(at(&endpoints, "/calfire/incident/{id}").0, "/calfire/incident/{id}");
        assert_eq!(at(&endpoints, "/rare").0, "/rare");
        assert_eq!(at(&endpoints, "/images/*.gif"), ("/images/*.gif", "images"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn routes_and_templates_stay_few(paths in proptest::collection::vec("(/[a-z]{1,3}){1,5}", 1..600)) {
            let endpoints = learn(paths.iter().cloned());
            let routes: BTreeSet<_> = paths.iter().map(|p| endpoints.place("", p).route.clone()).collect();
            prop_assert!(routes.len() <= ROUTES && endpoints.templates() <= TEMPLATES);
            prop_assert!(routes.iter().all(|r| !r.is_empty() && r.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))));
        }
    }
}
