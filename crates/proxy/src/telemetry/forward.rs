//! What clients did that take this process for their proxy.

use super::Family;
use crate::forward::{Forwarding, HostReport, Refused};

/// Families about what passed unobserved, and what was refused.
pub fn families<'a>(forwarding: &Forwarding, hosts: &'a [HostReport]) -> [Family<'a>; 3] {
    let mut calls = Family::counter(
        "forward_unobserved",
        "Tunnels opened and requests passed on, to hosts that no route leads to; what they cost is unknown",
    );
    let mut bytes = Family::counter("forward_unobserved_bytes", "Bytes of those, to the host and from it");
    for report in hosts {
        let host = &*report.host;
        calls.add(vec![("host", host), ("kind", "tunnel")], report.tunnels as f64);
        calls.add(vec![("host", host), ("kind", "passed")], report.passed as f64);
        bytes.add(vec![("host", host), ("way", "up")], report.up as f64);
        bytes.add(vec![("host", host), ("way", "down")], report.down as f64);
    }
    let mut refused = Family::counter("forward_refused", "Requests to the proxy that were not carried out, by reason");
    for why in Refused::ALL {
        refused.add(vec![("reason", why.as_str())], forwarding.refused(*why) as f64);
    }
    [calls, bytes, refused]
}
