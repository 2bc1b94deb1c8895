//! Requests for WebSockets.

use http::header::{HOST, ORIGIN, UPGRADE};
use http::{HeaderValue, StatusCode, Version, request};

use super::Received;
use crate::problem::Problem;
use crate::route::RouteState;

/// Whether the client asks for a WebSocket. An offer of HTTP/2 may be ignored (RFC 9110 section 7.8).
///
/// # Errors
/// 501 where the route tunnels none, and for any other protocol.
pub(super) fn wanted(head: &request::Parts, route: &RouteState) -> Result<bool, Problem> {
    let protocol = head.headers.get(UPGRADE).map(HeaderValue::as_bytes).filter(|_| head.version < Version::HTTP_2);
    let Some(protocol) = protocol.filter(|protocol| !protocol.eq_ignore_ascii_case(b"h2c")) else { return Ok(false) };
    if route.route.upgrade.is_none() || !protocol.eq_ignore_ascii_case(b"websocket") {
        let name = &route.route.name;
        let detail = format!("route {name} does not tunnel WebSockets: give it a table `upgrade`, or connect to the provider directly");
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "upgrade", detail));
    }
    Ok(true)
}

impl Received {
    /// Whether its page, if it comes from one, may open a WebSocket here: a browser lets any page ask, and gives it what comes.
    ///
    /// # Errors
    /// 403 for a page of another site.
    pub(super) fn may_tunnel(&self) -> Result<(), Problem> {
        let Some(upgrade) = self.route.route.upgrade.as_ref().filter(|_| self.tunnel) else { return Ok(()) };
        let Some(origin) = self.head.headers.get(ORIGIN) else { return Ok(()) };
        let (origin, host) = (origin.as_bytes(), self.head.headers.get(HOST).map_or(&b""[..], HeaderValue::as_bytes));
        let site = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| origin.strip_prefix(scheme));
        let own = site.is_some_and(|site| site.eq_ignore_ascii_case(host));
        if own || upgrade.origins.iter().any(|one| &**one == "*" || one.as_bytes().eq_ignore_ascii_case(origin)) {
            return Ok(());
        }
        let detail = format!("pages of this site may not open WebSockets of route {}: name it in `upgrade.origins`", self.route.route.name);
        Err(Problem::new(StatusCode::FORBIDDEN, "origin", detail))
    }
}
