//! How long rows of the log stay.

use std::sync::Arc;

use farthing_types::Span;

/// By kind; `None`: for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// Rows of `requests`.
    pub requests: Option<Span>,
    /// Rows of `calls`.
    pub calls: Option<Span>,
    /// Rows of `decisions`.
    pub decisions: Option<Span>,
    /// Rows of `outcomes`.
    pub outcomes: Option<Span>,
    /// Tenants whose requests and calls stay for another time.
    pub tenants: Vec<TenantRetention>,
}

/// How long a tenant's rows stay, where that is not what is said for all; `None`: as for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantRetention {
    /// The tenant.
    pub tenant: Arc<str>,
    /// Its rows of `requests`.
    pub requests: Option<Span>,
    /// Its rows of `calls`.
    pub calls: Option<Span>,
}

impl RetentionConfig {
    /// Whether anything is ever removed.
    pub fn removes(&self) -> bool {
        let all = [self.requests, self.calls, self.decisions, self.outcomes];
        all.iter().any(Option::is_some) || self.tenants.iter().any(|own| own.requests.is_some() || own.calls.is_some())
    }
}
