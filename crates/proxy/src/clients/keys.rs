//! Farthing keys by their public ids.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_config::FarthingKey;
use farthing_types::Time;

use super::{Grant, IdentityRefusal, Tenants, Validity, refused};
use crate::problem::Problem;

/// A key with what its holder may do.
pub struct Listed {
    /// The key.
    pub key: FarthingKey,
    /// What its holder may do.
    pub grant: Arc<Grant>,
}

/// Farthing keys, found by id: how many there are does not matter to a request.
#[derive(Default)]
pub struct KeyBook(HashMap<Arc<str>, Listed>);

impl KeyBook {
    /// A book of `keys`.
    pub fn new(keys: &[FarthingKey], tenants: &Tenants) -> Self {
        let listed = |key: &FarthingKey| {
            let validity = Validity { until: key.expires, keys: None };
            let grant = Grant { tags: key.tags.clone(), rights: tenants.rights(&key.tenant, &key.rights), validity };
            (key.id.clone(), Listed { key: key.clone(), grant: Arc::new(grant) })
        };
        Self(keys.iter().map(listed).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that was presented.
    ///
    /// # Errors
    /// It is not listed, or is not taken any more. Only its holder is told which.
    pub fn find(&self, presented: &str, now: Time) -> Result<&Listed, Problem> {
        let id = FarthingKey::id_of(presented);
        let Some(listed) = id.and_then(|id| self.0.get(id)).filter(|listed| listed.key.accepts(presented)) else {
            let id = id.unwrap_or("without the shape fth-<id>-<secret>");
            let detail = format!("unknown Farthing key {id}: list it under [[keys]], or make one with `farthing keys new`");
            return Err(refused(IdentityRefusal::UnknownKey, detail));
        };
        let id = &listed.key.id;
        if listed.key.disabled {
            return Err(refused(IdentityRefusal::KeyDisabled, format!("the Farthing key {id} is disabled; ask for another")));
        }
        if !listed.grant.validity.holds(now) {
            return Err(refused(IdentityRefusal::KeyExpired, format!("the Farthing key {id} has expired; ask for another")));
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_id_and_taken_while_it_may_be() {
        let (old, mut first) = FarthingKey::generate("acme").unwrap();
        let (new, second) = FarthingKey::generate("acme").unwrap();
        let (off, mut third) = FarthingKey::generate("acme").unwrap();
        first.expires = Some(Time::from_millis(1_000));
        third.disabled = true;
        let book = KeyBook::new(&[first, second, third], &Tenants::default());
        let find = |text: &str, ms| book.find(text, Time::from_millis(ms)).map(|listed| listed.key.tenant.clone()).map_err(|p| p.kind);
        // Rotation: both are taken until the old one is over.
        assert_eq!((find(old.expose(), 999), find(new.expose(), 999)), (Ok("acme".into()), Ok("acme".into())));
        assert_eq!((find(old.expose(), 1_000), find(new.expose(), 1_000)), (Err("key-expired"), Ok("acme".into())));
        assert_eq!(find(off.expose(), 0), Err("key-disabled"));
        // Who does not hold it is not told what became of it.
        assert_eq!(find(&format!("{}0", off.expose()), 0), Err("unknown-key"));
        assert_eq!(find("fth-000000000000-00", 0), Err("unknown-key"));
    }
}
