//! Finds the route of a request among thousands: hosts by their digest, paths along a tree of segments. The answer is that of asking each
//! route in order.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use crate::matcher::{Matcher, Part, cut};

/// The matchers of all routes, in their order, made ready to be searched.
#[derive(Debug, Default)]
pub struct RouteIndex {
    matchers: Vec<Matcher>,
    by_host: HashMap<Arc<str>, Node>,
    any_host: Node,
}

/// A place in the tree: what may follow, and the routes that end here. Places of routes are in rising order.
#[derive(Debug)]
struct Node {
    fixed: HashMap<Arc<str>, Node>,
    any: Option<Box<Node>>,
    /// Take the path that ends here.
    whole: Vec<u32>,
    /// Take it and what lies below.
    below: Vec<u32>,
    /// Take only what lies below.
    rest: Vec<u32>,
    /// The first route in this part of the tree.
    first: u32,
}

impl Default for Node {
    fn default() -> Self {
        let none = Vec::new;
        Self { fixed: HashMap::new(), any: None, whole: none(), below: none(), rest: none(), first: u32::MAX }
    }
}

/// A search under way: the best so far, `u32::MAX` when there is none.
struct Search<'a> {
    matchers: &'a [Matcher],
    method: &'a Method,
    best: u32,
}

impl RouteIndex {
    /// An index of `matchers`, the first of them asked first.
    pub fn new(matchers: impl IntoIterator<Item = Matcher>) -> Self {
        let mut index = Self { matchers: matchers.into_iter().collect(), ..Self::default() };
        for (at, matcher) in index.matchers.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            if matcher.hosts.is_empty() {
                index.any_host.add(matcher, at);
            }
            for host in &matcher.hosts {
                index.by_host.entry(host.clone()).or_default().add(matcher, at);
            }
        }
        index
    }

    /// The first route that takes a request for `host` (lower case, without port) and `path`.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Option<usize> {
        let mut search = Search { matchers: &self.matchers, method, best: u32::MAX };
        let trees = [self.by_host.get(host), Some(&self.any_host)];
        for tree in trees.into_iter().flatten() {
            match path.strip_prefix('/') {
                Some(left) => search.at(tree, Some(left)),
                None if path.is_empty() => search.at(tree, None),
                None => {}
            }
        }
        (search.best != u32::MAX).then_some(search.best as usize)
    }
}

impl Node {
    fn add(&mut self, matcher: &Matcher, at: u32) {
        match &matcher.path {
            Some(template) => {
                let place = template.parts().iter().fold(&mut *self, |node, part| node.child(part, at));
                if template.parts().last() == Some(&Part::Rest) { &mut place.rest } else { &mut place.whole }.push(at);
                place.first = place.first.min(at);
            }
            None => {
                let prefix = matcher.path_prefix.strip_suffix('/').unwrap_or(&matcher.path_prefix);
                let segments = prefix.strip_prefix('/').into_iter().flat_map(|path| path.split('/'));
                let place = segments.fold(&mut *self, |node, segment| node.child(&Part::Fixed(segment.into()), at));
                place.below.push(at);
                place.first = place.first.min(at);
            }
        }
    }

    /// Where `part` leads; the rest of a path stays where it begins.
    fn child(&mut self, part: &Part, at: u32) -> &mut Self {
        self.first = self.first.min(at);
        match part {
            Part::Fixed(text) => self.fixed.entry(text.clone()).or_default(),
            Part::Any => self.any.get_or_insert_default(),
            Part::Rest => self,
        }
    }
}

impl Search<'_> {
    /// Looks at `node` and below it; `left` is what follows the slash after it, `None` when the path ends here.
    fn at(&mut self, node: &Node, left: Option<&str>) {
        if node.first >= self.best {
            return;
        }
        self.take(&node.below);
        let Some(left) = left else { return self.take(&node.whole) };
        if !left.is_empty() {
            self.take(&node.rest);
        }
        let (segment, after) = cut(left);
        if let Some(next) = node.fixed.get(segment) {
            self.at(next, after);
        }
        if let Some(next) = node.any.as_ref().filter(|_| !segment.is_empty()) {
            self.at(next, after);
        }
    }

    fn take(&mut self, routes: &[u32]) {
        let sooner = routes.iter().take_while(|route| **route < self.best);
        let takes = |route: &&u32| self.matchers.get(**route as usize).is_some_and(|matcher| matcher.takes_method(self.method));
        if let Some(route) = sooner.copied().find(|route| takes(&route)) {
            self.best = route;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PathTemplate;
    use proptest::prelude::*;

    fn paths() -> impl Strategy<Value = String> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("users"), Just(""), Just("7")];
        prop::collection::vec(segment, 0..5).prop_map(|segments| segments.iter().map(|s| format!("/{s}")).collect())
    }

    fn templates() -> impl Strategy<Value = PathTemplate> {
        let segment = prop_oneof![Just("a"), Just("b"), Just("users"), Just(""), Just("{x}"), Just("{y}")];
        let rest = prop_oneof![3 => Just(""), 1 => Just("/{*rest}")];
        (prop::collection::vec(segment, 0..4), rest).prop_map(|(segments, rest)| {
            let text: String = segments.iter().map(|s| format!("/{s}")).collect::<String>() + rest;
            PathTemplate::new(if text.is_empty() { "/" } else { &text }).unwrap()
        })
    }

    fn matchers() -> impl Strategy<Value = Matcher> {
        let hosts = prop::collection::vec(prop_oneof![Just("one"), Just("two")], 0..2);
        let methods = prop::collection::vec(prop_oneof![Just(Method::GET), Just(Method::POST)], 0..2);
        let prefix = paths().prop_map(|path| if path.is_empty() { "/".to_owned() } else { path });
        (hosts, prefix, prop::option::of(templates()), methods).prop_map(|(hosts, prefix, path, methods)| Matcher {
            hosts: hosts.into_iter().map(Into::into).collect(),
            path_prefix: prefix.into(),
            path,
            methods,
        })
    }

    proptest! {
        #[test]
        fn the_route_found_is_the_first_that_takes_the_request(
            matchers in prop::collection::vec(matchers(), 0..20),
            path in prop_oneof![9 => paths(), 1 => Just("*".to_owned())],
            host in prop_oneof![Just("one"), Just("two"), Just("three")],
            post in any::<bool>(),
        ) {
            let method = if post { Method::POST } else { Method::GET };
            let first = matchers.iter().position(|matcher| matcher.takes(host, &path, &method));
            prop_assert_eq!(RouteIndex::new(matchers).find(host, &path, &method), first, "{}", path);
        }
    }
}
