//! `[routes.NAME.upgrade]`: WebSockets are tunnelled.

use super::registry;
use super::section::Section;
use super::values as v;
use crate::{HttpProtocol, Provider, Route, UpgradeConfig};

/// Reads `upgrade`, over what `route` holds.
pub(crate) fn fill(s: &Section<'_, '_>, path: &str, route: &mut Route) {
    let Some(table) = s.table("upgrade") else { return };
    let path = format!("{path}.upgrade");
    let s = Section::open(s.doc, table, &path, registry::UPGRADE);
    let mut config = UpgradeConfig::default();
    s.set("idle", v::positive_span, &mut config.idle);
    s.set("longest", v::positive_span, &mut config.longest);
    s.set("origins", v::list(v::arc_text), &mut config.origins);
    route.upgrade = Some(config);
}

/// Whether the provider of a route can be asked for a tunnel.
pub(crate) fn obey(top: &Section<'_, '_>, route: &Route, provider: &Provider) {
    if route.upgrade.is_none() {
        return;
    }
    let key = format!("routes.{}.upgrade", route.name);
    if route.routing.is_some() {
        top.doc.problem(None, &key, "on a route with `providers`".to_owned(), "take one of them out: a tunnel leads to one provider");
    }
    if provider.upstream.protocol == HttpProtocol::Http2 {
        let found = format!("\"{}\" is spoken to in HTTP/2 alone, which has no upgrades", provider.name);
        top.doc.problem(None, &key, found, "take it out, or set the provider's upstream `protocol` to \"auto\" or \"http1\"");
    }
}

#[cfg(test)]
mod tests {
    use crate::read::tests::{good, problems};

    #[test]
    fn a_tunnel_needs_one_provider_that_speaks_http1() {
        let with = |upstream: &str, keys: &str| {
            format!(
                "[providers.ws]\nbase_url = \"http://127.0.0.1:1\"\n{upstream}[routes.ws]\nprovider = \"ws\"\n[routes.ws.upgrade]\n{keys}"
            )
        };
        let config = good(&with("", "idle = \"1m\"\norigins = [\"https://a.example\"]\n"));
        let upgrade = config.route("ws").unwrap().upgrade.clone().unwrap();
        assert_eq!((upgrade.idle.as_secs(), upgrade.longest.as_secs(), &*upgrade.origins[0]), (60, 86_400, "https://a.example"));
        let found = problems(&with("[providers.ws.upstream]\nprotocol = \"http2\"\n", ""));
        assert!(found.len() == 1 && found[0].contains("routes.ws.upgrade") && found[0].contains("http1"), "{found:?}");
        let text = with("", "").replace("[routes.ws.upgrade]", "[[routes.ws.providers]]\nprovider = \"ws\"\n[routes.ws.upgrade]");
        assert!(problems(&text).iter().any(|found| found.contains("routes.ws.upgrade") && found.contains("`providers`")));
    }
}
