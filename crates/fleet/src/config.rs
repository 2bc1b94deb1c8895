//! How to reach Redis.

use std::fmt;

use farthing_types::Span;
use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// A password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// Wraps a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Whom to trust where addresses begin with `rediss://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities, PEM, instead of the public ones.
    pub authorities: Option<Vec<u8>>,
}

/// How to reach a Redis server or a Cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisConfig {
    /// Addresses `redis://host:port` or, with TLS, `rediss://host:port`; a single server has one, a Cluster some of its nodes. A user, password or
    /// database number may stand in them as usual.
    pub addresses: Vec<String>,
    /// Whether it is a Cluster.
    pub cluster: bool,
    /// The ACL user; the default user when not given.
    pub user: Option<String>,
    /// Goes before one in the address.
    pub password: Option<Password>,
    /// For `rediss://`.
    pub tls: Tls,
    /// How long one operation that somebody waits for may take.
    pub deadline: Span,
    /// How long a write may take: nobody waits, and a large value needs its time on the wire.
    pub write_deadline: Span,
    /// How long connecting may take.
    pub connect_timeout: Span,
    /// Operations under way at once; more are refused.
    pub max_in_flight: usize,
}

impl RedisConfig {
    /// A single server at an address: 5 ms an operation, 50 ms a write, a second to connect, 1,024 operations at once.
    pub fn single(address: impl Into<String>) -> Self {
        Self {
            addresses: vec![address.into()],
            cluster: false,
            user: None,
            password: None,
            tls: Tls::default(),
            deadline: Span::from_millis(5),
            write_deadline: Span::from_millis(50),
            connect_timeout: Span::from_secs(1),
            max_in_flight: 1024,
        }
    }

    /// A Cluster, of which some nodes are known.
    pub fn cluster(addresses: Vec<String>) -> Self {
        Self { addresses, cluster: true, ..Self::single("") }
    }

    /// The addresses, read.
    pub(crate) fn nodes(&self) -> Result<Vec<ConnectionInfo>, ConfigError> {
        match self.addresses.len() {
            0 => return Err(ConfigError::NoAddress),
            n if n > 1 && !self.cluster => return Err(ConfigError::OneServer(n)),
            _ => {}
        }
        self.addresses.iter().enumerate().map(|(at, address)| self.node(at, address)).collect()
    }

    fn node(&self, at: usize, address: &str) -> Result<ConnectionInfo, ConfigError> {
        // What the client says of an address might contain its password.
        let info = address.into_connection_info().map_err(|_| ConfigError::Address(at + 1))?;
        if matches!(info.addr(), ConnectionAddr::Unix(_)) {
            return Err(ConfigError::Address(at + 1));
        }
        let mut redis = info.redis_settings().clone().set_skip_set_lib_name();
        if let Some(user) = &self.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password.expose());
        }
        // Without it small writes wait for the peer's acknowledgements.
        Ok(info.set_redis_settings(redis).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no address.
    #[error("no address is given; write redis://host:6379, or rediss://host:6379 for TLS")]
    NoAddress,
    /// An address, counted from 1, cannot be read. It is not repeated: it may contain a password.
    #[error("address {0} is not of the form redis://host:port or rediss://host:port")]
    Address(usize),
    /// Several addresses of a single server.
    #[error("{0} addresses are given for one server; say that it is a cluster, or give one")]
    OneServer(usize),
    /// The certificates cannot be read.
    #[error("the certificates of authorities cannot be read: {0}")]
    Authorities(String),
    /// What the client says of the nodes.
    #[error("the nodes do not fit together: {0}")]
    Nodes(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_passwords_never_shown() {
        let error = |config: RedisConfig| config.nodes().unwrap_err();
        assert_eq!(error(RedisConfig::cluster(vec![])), ConfigError::NoAddress);
        for bad in ["", "localhost:6379", "http://secret@x", "redis://secret@", "unix:///secret"] {
            let error = error(RedisConfig::single(bad));
            assert_eq!(error, ConfigError::Address(1), "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
        let two = RedisConfig { cluster: false, ..RedisConfig::cluster(vec!["redis://a".into(), "redis://b".into()]) };
        assert_eq!(error(two), ConfigError::OneServer(2));
        let config = RedisConfig { password: Some(Password::new("secret")), ..RedisConfig::single("redis://host:7000") };
        assert_eq!(config.nodes().unwrap().len(), 1);
        assert!(!format!("{config:?}").contains("secret"));
    }
}
