//! Clients that show who they are: by a Farthing key, or by a token of a known issuer; and what they may do.

mod grant;
mod keys;
mod refusal;
pub mod tokens;

use farthing_config::{Config, Rights, TenantRights};
use farthing_types::{Priority, RouteName, Tenant};

pub use grant::{Grant, Validity};
pub use keys::KeyBook;
pub use refusal::{IdentityCounts, IdentityRefusal, refused};
pub use tokens::Tokens;

use std::collections::HashMap;
use std::sync::Arc;

/// Everybody who can show who it is.
pub struct Clients {
    /// Farthing keys.
    pub keys: KeyBook,
    /// Issuers of tokens.
    pub tokens: Arc<Tokens>,
    /// Refusals since start.
    pub counts: Arc<IdentityCounts>,
}

impl Clients {
    /// Those of a configuration.
    ///
    /// # Errors
    /// A key of an issuer that cannot be read.
    pub fn new(config: &Config, salt: &[u8; 32]) -> Result<Self, crate::StartError> {
        let tenants = Arc::new(Tenants::new(&config.tenants));
        Ok(Self {
            keys: KeyBook::new(&config.keys, &tenants),
            tokens: Arc::new(Tokens::new(&config.jwt, tenants, salt)?),
            counts: Arc::default(),
        })
    }

    /// Those of another configuration with the same issuers. Where tenants may do something else, who was known by a token is judged anew.
    #[must_use]
    pub fn under(&self, (old, new): (&Config, &Config)) -> Self {
        let tenants = Arc::new(Tenants::new(&new.tenants));
        let keys = KeyBook::new(&new.keys, &tenants);
        let tokens = if old.tenants == new.tenants { self.tokens.clone() } else { Arc::new(self.tokens.under(tenants)) };
        Self { keys, tokens, counts: self.counts.clone() }
    }

    /// Whether nobody can show who it is.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.tokens.is_empty()
    }
}

/// What tenants may do, by name.
#[derive(Debug, Default)]
pub struct Tenants(HashMap<Tenant, Rights>);

impl Tenants {
    fn new(tenants: &[TenantRights]) -> Self {
        Self(tenants.iter().map(|of| (of.tenant.clone(), of.rights.clone())).collect())
    }

    /// What a client of `tenant` may do of which its key or issuer says `own`: what is said for the one client comes first, but routes and the
    /// highest priority are bounded by both.
    pub fn rights(&self, tenant: &Tenant, own: &Rights) -> Rights {
        let Some(all) = self.0.get(tenant) else { return own.clone() };
        Rights {
            routes: both(own.routes.as_deref(), all.routes.as_deref()),
            priority: own.priority.or(all.priority),
            max_priority: least(own.max_priority, all.max_priority),
            sla: own.sla.or(all.sla),
        }
    }
}

/// The routes that both lists name; a missing list names all.
pub fn both(a: Option<&[RouteName]>, b: Option<&[RouteName]>) -> Option<Vec<RouteName>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.iter().filter(|name| b.contains(name)).cloned().collect()),
        (one, other) => one.or(other).map(<[RouteName]>::to_vec),
    }
}

/// The lower of two priorities; a missing one bounds nothing. The order of [`Priority`] begins with the highest.
fn least(a: Option<Priority>, b: Option<Priority>) -> Option<Priority> {
    a.max(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_word_comes_first_and_bounds_hold_together() {
        let names = |list: &[&str]| Some(list.iter().map(|name| RouteName::from(*name)).collect::<Vec<_>>());
        let all = Rights {
            routes: names(&["a", "b"]),
            priority: Some(Priority::Low),
            max_priority: Some(Priority::Medium),
            sla: Some(farthing_types::Span::from_secs(1)),
        };
        let tenants = Tenants::new(&[TenantRights { tenant: "acme".into(), rights: all.clone() }]);
        let own = Rights { routes: names(&["b", "c"]), priority: Some(Priority::High), max_priority: Some(Priority::High), sla: None };
        let both = tenants.rights(&"acme".into(), &own);
        assert_eq!((both.routes, both.priority), (names(&["b"]), Some(Priority::High)));
        assert_eq!((both.max_priority, both.sla), (Some(Priority::Medium), all.sla));
        assert_eq!(tenants.rights(&"other".into(), &own), own);
        assert_eq!(tenants.rights(&"acme".into(), &Rights::default()), all);
    }
}
