//! Tokens of the admin API: who they are for and what they may do. Only the SHA-256 of a token is ever stored.

use std::sync::Arc;

use farthing_types::reasons;
use rand::TryRngCore;
use sha2::{Digest, Sha256};

use crate::secret::same_bytes;
use crate::{AdminConfig, ConfigError, Secret};

reasons! {
    /// What a token of the admin API may do; each may do what those before it may.
    Role {
        /// Look.
        Viewer = "viewer",
        /// Give the orders of the day: purge, warm, bypass, freeze, raise budgets, experiments, predictors, prices; see who changed what.
        Operator = "operator",
        /// Everything: also forget tenants, and change the configuration.
        Admin = "admin",
    }
}

/// A token of the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// Whose it is; stands in the audit log.
    pub name: Arc<str>,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
}

/// Names that the audit log has for other rights.
const TAKEN: [&str; 4] = ["token", "loopback", "signal", "fleet"];

impl AdminToken {
    /// Whether the audit log has the name for another right.
    pub fn is_taken(name: &str) -> bool {
        TAKEN.contains(&name)
    }

    /// Draws a new token; its text is returned once and kept nowhere.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate(name: &str, role: Role) -> Result<(Secret, Self), ConfigError> {
        let mut bytes = [0u8; 30];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| ConfigError::Random(e.to_string()))?;
        let text = format!("fta-{}", hex::encode(bytes));
        let sha256 = Sha256::digest(text.as_bytes()).into();
        Ok((Secret::new(text), Self { name: name.into(), role, sha256 }))
    }
}

impl AdminConfig {
    /// Whether nobody needs a token.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.tokens.is_empty()
    }

    /// Whose token was presented, and what it may do: the time that this takes tells nothing of it.
    pub fn holder(&self, presented: &str) -> Option<(Arc<str>, Role)> {
        let digest: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        // Each is looked at, whichever fits.
        let found = self
            .tokens
            .iter()
            .fold(None, |found, token| if same_bytes(&token.sha256, &digest) { Some((token.name.clone(), token.role)) } else { found });
        let single = self.token.as_ref().is_some_and(|token| token.matches(presented));
        if single { Some(("token".into(), Role::Admin)) } else { found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_own_text_only_and_roles_are_in_order() {
        let (text, token) = AdminToken::generate("ci", Role::Operator).unwrap();
        let (other, _) = AdminToken::generate("ci", Role::Admin).unwrap();
        let admin = AdminConfig { tokens: vec![token], token: Some(Secret::new("the one token")), ..AdminConfig::default() };
        let holder = |text: &str| admin.holder(text).map(|(name, role)| (name.to_string(), role));
        assert_eq!(holder(text.expose()), Some(("ci".to_owned(), Role::Operator)));
        assert_eq!(holder("the one token"), Some(("token".to_owned(), Role::Admin)));
        assert_eq!((holder(other.expose()), holder(""), holder("fta-")), (None, None, None));
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        assert!(!admin.is_open() && AdminConfig::default().is_open());
    }
}
