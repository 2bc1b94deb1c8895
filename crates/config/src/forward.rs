//! What is done for clients that take Farthing for their proxy.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use farthing_types::{Network, Span};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardConfig {
    /// Requests for the URLs of providers take the routes to them.
    pub providers: bool,
    /// Hosts to which other requests for `http://` URLs may pass.
    pub pass: Vec<HostRule>,
    /// Hosts to which CONNECT may open a tunnel.
    pub tunnel: Vec<HostRule>,
    /// Ports of rules that name none.
    pub ports: Vec<u16>,
    /// Networks that may be reached though they are not of the public Internet.
    pub networks: Vec<Network>,
    /// Names of this proxy, in lower case.
    pub names: Vec<Arc<str>>,
    /// Clients must show a key or a token.
    pub auth: bool,
    /// Time to find the address of a host and to connect to it.
    pub connect_timeout: Span,
    /// Time that a host has to begin its answer.
    pub deadline: Span,
    /// Longest time in which nothing comes.
    pub idle: Span,
    /// Longest life of a tunnel.
    pub longest: Span,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            providers: true,
            pass: Vec::new(),
            tunnel: Vec::new(),
            ports: vec![80, 443],
            networks: Vec::new(),
            names: Vec::new(),
            auth: false,
            connect_timeout: Span::from_secs(5),
            deadline: Span::from_secs(60),
            idle: Span::from_secs(300),
            longest: Span::from_secs(86_400),
        }
    }
}

impl ForwardConfig {
    /// Whether one of `rules` takes a host, written in lower case and without brackets.
    pub fn takes(&self, rules: &[HostRule], (host, port): (&str, u16)) -> bool {
        rules.iter().any(|rule| rule.takes(host) && rule.port.map_or_else(|| self.ports.contains(&port), |own| own == port))
    }
}

/// Hosts by name: `api.example.com`, `*.example.com` (what is below it), `*`; and a port.
#[derive(Clone, PartialEq, Eq)]
pub struct HostRule {
    host: HostIs,
    port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq)]
enum HostIs {
    Any,
    /// This one.
    Named(Arc<str>),
    /// Those that end so; the text begins with a dot.
    Below(Arc<str>),
}

/// A text that names no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no host: write a name or address, *.NAME or *, with a port after a colon or none")]
pub struct BadHostRule;

impl HostRule {
    fn takes(&self, host: &str) -> bool {
        match &self.host {
            HostIs::Any => true,
            HostIs::Named(name) => **name == *host,
            HostIs::Below(end) => host.len() > end.len() && host.ends_with(&**end),
        }
    }
}

/// Whether a text may be the name of a host.
fn is_name(text: &str) -> bool {
    let label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    text.len() <= 253 && text.split('.').all(label)
}

impl FromStr for HostRule {
    type Err = BadHostRule;

    fn from_str(text: &str) -> Result<Self, BadHostRule> {
        let text = text.to_ascii_lowercase();
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                // Written as an address is: two texts of one address shall not be two hosts.
                let address: std::net::Ipv6Addr = address.parse().map_err(|_| BadHostRule)?;
                (address.to_string(), if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(BadHostRule)?.to_owned()) })
            }
            None => text.split_once(':').map_or((text.clone(), None), |(host, port)| (host.to_owned(), Some(port.to_owned()))),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or(BadHostRule)).transpose()?;
        let host = match &*host {
            "*" => HostIs::Any,
            host if host.parse::<std::net::Ipv6Addr>().is_ok() => HostIs::Named(host.into()),
            host => match host.strip_prefix('*') {
                Some(end) if end.strip_prefix('.').is_some_and(is_name) => HostIs::Below(end.into()),
                None if is_name(host) => HostIs::Named(host.into()),
                _ => return Err(BadHostRule),
            },
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostIs::Any => f.write_str("*")?,
            HostIs::Named(name) if name.contains(':') => write!(f, "[{name}]")?,
            HostIs::Named(name) => f.write_str(name)?,
            HostIs::Below(end) => write!(f, "*{end}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_takes_hosts_by_name_and_port() {
        let config = ForwardConfig::default();
        for (rule, host, port, takes) in [
            ("api.example.com", "api.example.com", 443, true),
            ("API.example.com", "api.example.com", 80, true),
            ("api.example.com", "api.example.com", 8080, false),
            ("api.example.com:8080", "api.example.com", 8080, true),
            ("api.example.com:8080", "api.example.com", 443, false),
            ("api.example.com", "xapi.example.com", 443, false),
            ("*.example.com", "api.example.com", 443, true),
            ("*.example.com", "a.b.example.com", 443, true),
            ("*.example.com", "example.com", 443, false),
            ("*.example.com", "badexample.com", 443, false),
            ("*", "anything.test", 443, true),
            ("*", "anything.test", 22, false),
            ("*:22", "anything.test", 22, true),
            ("[::1]:9000", "::1", 9000, true),
            ("[0:0::1]", "::1", 443, true),
            ("127.0.0.1", "127.0.0.1", 443, true),
        ] {
            let rules = [rule.parse::<HostRule>().unwrap()];
            assert_eq!(config.takes(&rules, (host, port)), takes, "{rule} {host}:{port}");
            assert_eq!(rules[0].to_string().parse::<HostRule>().unwrap(), rules[0]);
        }
        for text in ["", "*example.com", "a.*.com", "a..b", "https://a", "a:0", "a:x", "a:70000", "a/b", "[::1", "[::1]x", "a b", "*."] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }
}
