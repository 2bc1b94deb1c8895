//! Where the finished files of the log are shipped to.

use std::sync::Arc;

use farthing_types::Span;

use crate::Secret;

/// A sink of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkConfig {
    /// Its name, in metrics and errors.
    pub name: Arc<str>,
    /// Names of the tables that go there.
    pub tables: Vec<&'static str>,
    /// How long one operation may take.
    pub deadline: Span,
    /// How often the log is looked at.
    pub interval: Span,
    /// How long rows stay there, in whole days; `None`: its owner decides.
    pub retention: Option<Span>,
    /// Where it is.
    pub target: SinkTarget,
}

/// Where a sink is.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkTarget {
    /// A PostgreSQL database.
    Postgres(PostgresConfig),
    /// A bucket of S3, or of what speaks it.
    S3(S3Config),
    /// A ClickHouse server.
    Clickhouse(ClickhouseConfig),
}

/// How to reach a ClickHouse server.
#[derive(Clone, PartialEq)]
pub struct ClickhouseConfig {
    /// `https://host:8443`, or `http://host:8123`.
    pub url: String,
    /// Who asks.
    pub user: String,
    /// The password.
    pub password: Option<Secret>,
    /// Certificates of authorities, PEM, in place of the public ones.
    pub authorities: Option<String>,
    /// The database of the tables.
    pub database: String,
}

impl std::fmt::Debug for ClickhouseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickhouseConfig").field("url", &self.url).field("database", &self.database).finish_non_exhaustive()
    }
}

/// How to reach a PostgreSQL database.
#[derive(Clone, PartialEq)]
pub struct PostgresConfig {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// The password.
    pub password: Option<Secret>,
    /// Certificates of authorities, PEM, in place of the public ones.
    pub authorities: Option<String>,
    /// The schema of the tables.
    pub schema: String,
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig").field("url", &self.url).field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// How to reach a bucket.
#[derive(Clone, PartialEq)]
pub struct S3Config {
    /// Its name.
    pub bucket: String,
    /// What names of objects begin with; may be empty.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// `https://host:port`; `None`: AWS's own of the region.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path of requests, and not in the host.
    pub path_style: bool,
    /// The key of an account; `None`: the identity of the machine.
    pub key: Option<S3Key>,
    /// What the platform says about that identity: variables of the environment that are set, and their values.
    pub machine: Vec<(&'static str, String)>,
    /// Certificates of authorities, PEM, in place of the public ones.
    pub authorities: Option<String>,
}

/// An object store that instances share predictors in.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelStoreConfig {
    /// The bucket.
    pub bucket: S3Config,
    /// How long one operation may take.
    pub deadline: Span,
}

/// A key of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Key {
    /// Its id.
    pub id: Secret,
    /// Its secret.
    pub secret: Secret,
    /// What comes with keys that end by themselves.
    pub session_token: Option<Secret>,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The tables of the log, those first that others need to be forgotten: which decisions and outcomes are a tenant's is known by its requests and calls.
pub const LOG_TABLES: [&str; 4] = ["requests", "calls", "decisions", "outcomes"];
