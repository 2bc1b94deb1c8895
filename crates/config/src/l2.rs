//! The tier outside of memory.

use std::path::PathBuf;

use farthing_types::Span;

use crate::Secret;

/// Where answers are kept beside memory.
#[derive(Clone, Debug, PartialEq)]
pub struct L2Config {
    /// The store.
    pub store: L2Store,
    /// How long a look may take; then it is a miss.
    pub deadline: Span,
    /// Largest value, bytes.
    pub max_value: u64,
    /// Most bytes of entries that wait to be written; more are dropped and counted.
    pub queue_bytes: u64,
    /// Encrypts all values, when given.
    pub encrypt: Option<Secret>,
}

/// The store of L2.
#[derive(Clone, Debug, PartialEq)]
pub enum L2Store {
    /// A directory of this instance's own.
    Disk {
        /// The directory.
        dir: PathBuf,
        /// Most bytes of its files.
        max_bytes: u64,
    },
    /// A Redis server or Cluster, shared by instances with the same salt.
    Redis(L2Redis),
}

/// How to reach Redis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct L2Redis {
    /// `redis://host:port`, with TLS `rediss://host:port`; several for a Cluster.
    pub addresses: Vec<String>,
    /// Whether it is a Cluster.
    pub cluster: bool,
    /// The ACL user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// Certificates of authorities, PEM, in place of the public ones.
    pub authorities: Option<String>,
}
