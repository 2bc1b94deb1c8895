//! Who is told when money goes wrong, and what Farthing itself costs.

use farthing_types::{Money, Span};
use http::Uri;

use crate::SigningKey;

/// Alerts about money.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsConfig {
    /// Where alerts are posted to; `None`: log, metric and admin API alone.
    pub webhook: Option<Uri>,
    /// Signs what is posted.
    pub webhook_key: Option<SigningKey>,
    /// How long the same alert is not told again.
    pub repeat: Span,
    /// How long a delivery is tried.
    pub deadline: Span,
    /// Smallest excess of an anomaly that is told.
    pub floor: Money,
    /// What a month may cost; told as soon as it is likely to cost more.
    pub per_month: Option<Money>,
    /// Bytes of the memory of spend by tenant, provider and route.
    pub memory_bytes: u64,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            webhook: None,
            webhook_key: None,
            repeat: Span::from_secs(24 * 3_600),
            deadline: Span::from_secs(3_600),
            floor: Money::from_nanos(5_000_000_000),
            per_month: None,
            memory_bytes: 32_000_000,
        }
    }
}

/// What Farthing itself costs, to be set against what it saves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfCostConfig {
    /// For a month: machines, people, licences.
    pub per_month: Money,
    /// For a million requests.
    pub per_million_requests: Money,
}
