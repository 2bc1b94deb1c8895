//! Farthing keys: `fth-<12 character id>-<secret>`. Only the SHA-256 of the whole key is ever stored.

use std::sync::Arc;

use farthing_types::{Tenant, Time};
use rand::TryRngCore;
use sha2::{Digest, Sha256};

use crate::secret::same_bytes;
use crate::{ConfigError, Rights, Secret};

/// Characters of a key's id.
pub const ID_LEN: usize = 12;

/// A key that clients present in place of a provider's credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FarthingKey {
    /// The public part: finds the key, may be logged.
    pub id: Arc<str>,
    /// SHA-256 of the whole key's text.
    pub sha256: [u8; 32],
    /// Who pays.
    pub tenant: Tenant,
    /// Free attribution.
    pub team: Option<Arc<str>>,
    /// Free attribution.
    pub service: Option<Arc<str>>,
    /// Free tags of its requests.
    pub tags: Option<Arc<str>>,
    /// Whether its holder may purge everybody's entries of routes with `purge_by = "key"`.
    pub purge: bool,
    /// From then on it is refused.
    pub expires: Option<Time>,
    /// It is refused.
    pub disabled: bool,
    /// What its holder may do.
    pub rights: Rights,
}

impl FarthingKey {
    /// The id inside a presented key, when it has the shape of one.
    pub fn id_of(presented: &str) -> Option<&str> {
        let (id, secret) = presented.strip_prefix("fth-")?.split_once('-')?;
        (id.len() == ID_LEN && !secret.is_empty()).then_some(id)
    }

    /// Whether `presented` is this key, in constant time.
    pub fn accepts(&self, presented: &str) -> bool {
        Self::id_of(presented) == Some(&*self.id) && same_bytes(&self.sha256, &Sha256::digest(presented.as_bytes()))
    }

    /// Draws a new key for `tenant`; its text is returned once and kept nowhere.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate(tenant: &str) -> Result<(Secret, Self), ConfigError> {
        let mut bytes = [0u8; 30];
        rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| ConfigError::Random(e.to_string()))?;
        let text = hex::encode(bytes);
        let (id, secret) = text.split_at(ID_LEN);
        let text = format!("fth-{id}-{secret}");
        let key = Self {
            id: id.into(),
            sha256: Sha256::digest(text.as_bytes()).into(),
            tenant: tenant.into(),
            team: None,
            service: None,
            tags: None,
            purge: false,
            expires: None,
            disabled: false,
            rights: Rights::default(),
        };
        Ok((Secret::new(text), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_for_its_own_text_only() {
        let (text, key) = FarthingKey::generate("acme").unwrap();
        let (other, _) = FarthingKey::generate("acme").unwrap();
        assert!(key.accepts(text.expose()));
        assert!(!key.accepts(other.expose()));
        assert!(!key.accepts(&format!("{}0", text.expose())));
        assert_eq!(FarthingKey::id_of(text.expose()), Some(&*key.id));
        for bad in ["", "fth-", "sk-abc", "fth-short-x", "fth-123456789012-", "fth-123456789012"] {
            assert_eq!(FarthingKey::id_of(bad), None, "{bad}");
        }
    }
}
