//! Connections: to one server, or to the nodes of a Cluster.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, TlsCertificates, Value};

use crate::config::{ConfigError, RedisConfig};

/// How often a Cluster's redirections and broken connections are followed up within one operation; the deadline ends it earlier.
const RETRIES: u32 = 4;

/// Makes connections; checked once, at the start.
pub(crate) enum Connector {
    Single(Box<Client>, AsyncConnectionConfig),
    Cluster(Box<ClusterClient>),
}

impl Connector {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, ConfigError> {
        let mut nodes = config.nodes()?;
        // The client asks for the process's provider of cryptography; another one may have been named already, which is as good.
        let _named = rustls::crypto::ring::default_provider().install_default();
        let certificates = TlsCertificates { client_tls: None, root_cert: config.tls.authorities.clone() };
        let authorities = |e: RedisError| ConfigError::Authorities(e.to_string());
        if config.cluster {
            let mut builder = ClusterClient::builder(nodes)
                .connection_timeout(config.connect_timeout)
                .response_timeout(config.connect_timeout)
                .retries(RETRIES)
                .max_retry_wait(20)
                .min_retry_wait(1);
            if config.tls.authorities.is_some() {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build().map_err(|e| ConfigError::Nodes(e.to_string()))?)));
        }
        let node = nodes.pop().ok_or(ConfigError::NoAddress)?;
        let client = if config.tls.authorities.is_some() {
            Client::build_with_tls(node, certificates).map_err(authorities)?
        } else {
            Client::open(node).map_err(|e| ConfigError::Nodes(e.to_string()))?
        };
        // The handle has a deadline of its own; these bound what is left behind by operations that it gave up.
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.connect_timeout));
        Ok(Self::Single(Box::new(client), timeouts))
    }

    pub(crate) async fn connect(&self) -> Result<Link, RedisError> {
        match self {
            Self::Single(client, timeouts) => Ok(Link::Single(client.get_multiplexed_async_connection_with_config(timeouts).await?)),
            Self::Cluster(client) => Ok(Link::Cluster(client.get_async_connection().await?)),
        }
    }
}

/// Connections that are there. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(crate) async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        }
    }
}
