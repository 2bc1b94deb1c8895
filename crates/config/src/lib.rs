//! Raw TOML to checked configuration.
//!
//! A file is read key by key against one registry of keys, which also prints the reference page; only the checked
//! [`Config`] reaches the rest of Farthing. All problems of a file are reported together, each with file, line, key,
//! what was found and the remedy.

mod admin_token;
mod alerts;
mod batch;
mod changes;
mod checked;
mod content;
mod defer;
mod error;
mod events;
mod fleet;
mod forward;
mod hints;
mod jwt;
mod key;
mod l2;
mod limits;
mod matcher;
mod prompt_cache;
mod provider;
mod purges;
mod read;
mod remedy;
mod retention;
mod rights;
mod route;
mod route_index;
mod routing;
mod salt;
mod secret;
mod sinks;
mod strategies;
mod telemetry;
mod tls;
mod tune;
mod upgrade;
mod warm;

pub use admin_token::{AdminToken, Role};
pub use alerts::{AlertsConfig, SelfCostConfig};
pub use batch::{BatchConfig, BatchFormat, BatchWindow, IdListConfig};
pub use changes::Change;
pub use checked::{
    AdminConfig, AuditConfig, CacheConfig, Config, ContextualConfig, ExperimentConfig, HoldoutConfig, ListenConfig, LogConfig,
    ModelsConfig, PrefetchConfig, Salt, VariantConfig,
};
pub use content::{CacheableIf, PersonalField};
pub use defer::DeferConfig;
pub use error::{ConfigError, Problem};
pub use events::{EventRule, EventsConfig, EventsFrom, SigningKey};
pub use fleet::FleetConfig;
pub use forward::{ForwardConfig, HostRule};
pub use jwt::{JwksPlace, JwksSource, JwtAlgorithm, JwtClaims, JwtFamily, JwtIssuer, JwtKeys};
pub use key::FarthingKey;
pub use l2::{L2Config, L2Redis, L2Store};
pub use limits::{OverloadConfig, TierConfig};
pub use matcher::{Matcher, PathTemplate, PathTemplateError};
pub use prompt_cache::{PromptCacheConfig, PromptTtl};
pub use provider::{CompressRequests, CredentialPlace, Dialect, HttpProtocol, Prices, Provider, Terms, TokenRates, UpstreamConfig};
pub use purges::{Field, FilledBy, Purges, Template, WriteRule};
pub use read::{Flags, Surroundings, System, parse_span, presets, reference};
pub use remedy::{Remedy, remedy};
pub use retention::{RetentionConfig, TenantRetention};
pub use rights::{Rights, TenantRights, is_reserved_tenant};
pub use route::{CredentialMode, Mode, OnDisconnect, Prefetch, Profile, PurgeBy, Route, StrategyBy, TargetedField, TtlBy, TtlByError};
pub use route_index::RouteIndex;
pub use routing::{AdapterConfig, ErrorIfConfig, LegConfig, RoutingConfig};
pub use secret::Secret;
pub use sinks::{ClickhouseConfig, LOG_TABLES, ModelStoreConfig, PostgresConfig, S3Config, S3Key, SinkConfig, SinkTarget};
pub use strategies::{OverheadConfig, PlanConfig, StrategyFlags};
pub use telemetry::{OtlpConfig, TelemetryConfig};
pub use tls::{CertificateFiles, ReadFile, TlsConfig, TlsFault, TlsMaterial};
pub use tune::TuneConfig;
pub use upgrade::UpgradeConfig;
pub use warm::WarmConfig;
