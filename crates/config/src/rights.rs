//! What a client may do beyond who it is: what tables of keys, of issuers of tokens and of tenants share.

use farthing_types::{Priority, RouteName, Span};

/// What is said of a client; `None`: nothing is said, the next one decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// The only routes that it may call.
    pub routes: Option<Vec<RouteName>>,
    /// How much its requests matter where they do not say.
    pub priority: Option<Priority>,
    /// The most that its requests may say that they matter.
    pub max_priority: Option<Priority>,
    /// Within what time its requests are promised to be answered.
    pub sla: Option<Span>,
}

/// What is said of a tenant, however it shows who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantRights {
    /// The tenant.
    pub tenant: farthing_types::Tenant,
    /// What it may do.
    pub rights: Rights,
}

/// Whether a tenant of this name could be taken for one that nobody vouches for: those that clients name themselves, the digests of credentials
/// that pass through, and who says nothing.
pub fn is_reserved_tenant(name: &str) -> bool {
    let digest = |rest: &str| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(name, "anonymous" | "unknown") || name.starts_with("named-") || name.strip_prefix("p-").is_some_and(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nobody_vouches_for_are_nobodys() {
        for name in ["anonymous", "unknown", "named-acme", "named-", "p-0123456789abcdef"] {
            assert!(is_reserved_tenant(name), "{name}");
        }
        for name in ["acme", "names-acme", "p-team", "p-0123456789abcdeg", "p-0123456789abcdef0"] {
            assert!(!is_reserved_tenant(name), "{name}");
        }
    }
}
