use super::tests::{GEO, good, problems};
use crate::*;

#[test]
fn routes_are_tried_from_special_to_general() {
    let text = format!(
        "{GEO}[routes.all]\nprovider = \"geo\"\npath_prefix = \"/\"\n[routes.deep]\nprovider = \"geo\"\npath_prefix = \"/a/b\"\n\
         [routes.host]\nprovider = \"geo\"\nhosts = [\"API.example.com\"]\n[routes.post]\nprovider = \"geo\"\npath_prefix = \"/\"\nmethods = [\"POST\"]\n"
    );
    let config = good(&text);
    assert_eq!(config.routes.iter().map(|r| &*r.name).collect::<Vec<_>>(), ["host", "deep", "post", "all"]);
    let host = config.route("host").unwrap();
    assert_eq!((&*host.matcher.hosts[0], &*host.matcher.path_prefix, &*host.strip_prefix), ("api.example.com", "/", ""));
    assert_eq!(&*config.route("deep").unwrap().strip_prefix, "/a/b");
    let twice = problems(&format!("{text}[routes.again]\nprovider = \"geo\"\npath_prefix = \"/a/b/\"\n"));
    assert!(twice[0].contains("takes the same requests as route"), "{twice:?}");
}

#[test]
fn a_route_may_be_a_whole_path_with_names() {
    let text = format!(
        "{GEO}[routes.orders]\nprovider = \"geo\"\npath = \"/api/users/{{id}}/orders\"\nstrip_prefix = \"/api\"\n\
         [routes.users]\nprovider = \"geo\"\npath_prefix = \"/api/users\"\n[routes.files]\nprovider = \"geo\"\npath = \"/api/{{*rest}}\"\n"
    );
    let config = good(&text);
    let order: Vec<&str> = config.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(order, ["orders", "users", "files"], "the more special first");
    let orders = config.route("orders").unwrap();
    assert_eq!((orders.matcher.to_string().as_str(), &*orders.strip_prefix), ("/api/users/{id}/orders", "/api"));
    assert_eq!(&*config.route("files").unwrap().strip_prefix, "", "nothing is cut off where nothing is said");
    let index = RouteIndex::new(config.routes.iter().map(|route| route.matcher.clone()));
    for (path, route) in [("/api/users/7/orders", Some(0)), ("/api/users/7", Some(1)), ("/api/a/b", Some(2)), ("/apis", None)] {
        assert_eq!(index.find("h", path, &http::Method::GET), route, "{path}");
    }
    let wrong = |key: &str, lines: &str| {
        let found = problems(&format!("{GEO}[routes.wrong]\nprovider = \"geo\"\n{lines}"));
        assert!(found.iter().any(|problem| problem.contains(key)), "{found:?}");
    };
    wrong("routes.wrong.path", "path = \"/users/{id\"\n");
    wrong("leave one of them out", "path = \"/users/{id}\"\npath_prefix = \"/users\"\n");
    wrong("is no part of \"/users\"", "path = \"/users/{id}\"\nstrip_prefix = \"/users/a\"\n");
    let twice = problems(&format!("{text}[routes.again]\nprovider = \"geo\"\npath = \"/api/users/{{key}}/orders\"\n"));
    assert!(twice.iter().any(|problem| problem.contains("takes the same requests as route")), "{twice:?}");
}

#[test]
fn targeted_fields_are_named_in_their_order() {
    let with = |line: &str| good(&format!("{GEO}[routes.a]\nprovider = \"geo\"\n{line}\n")).route("a").unwrap().targeted.clone();
    assert_eq!(with(""), None);
    assert_eq!(with("targeted = []"), Some(vec![]));
    let both = with("targeted = [\"cdn-cache-control\", \"farthing-cache-control\"]");
    assert_eq!(both, Some(vec![TargetedField::Cdn, TargetedField::Farthing]));
    let found = problems(&format!("{GEO}[routes.a]\nprovider = \"geo\"\ntargeted = [\"surrogate-control\"]\n"));
    assert!(found[0].contains("routes.a.targeted") && found[0].contains("\"cdn-cache-control\""), "{found:?}");
}
