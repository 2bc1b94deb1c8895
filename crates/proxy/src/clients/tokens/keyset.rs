//! The keys of an issuer: one that is configured, or a set that is read (JWKS, RFC 7517).

use farthing_config::{JwtFamily, JwtKeys};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize;
use serde_json::Value;

/// Longest set that is read.
pub const LONGEST: usize = 256 * 1024;
/// Most keys that are taken from a set.
const MOST: usize = 100;
/// Shorter RSA keys are broken.
const RSA_BYTES: usize = 256;

/// A key that signatures are checked with, bound to what it may check.
#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, where the set says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// What it was made of: equal sets are the same keys.
    made_of: Vec<Jwk>,
    /// Keys have no names: the only one is meant.
    nameless: bool,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.made_of == other.made_of
    }
}

impl KeySet {
    /// The configured key of an issuer; `None` where its keys are read from elsewhere.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn fixed(keys: &JwtKeys) -> Result<Option<Self>, String> {
        let key = match keys {
            JwtKeys::Secret(secret) => DecodingKey::from_secret(secret.expose().as_bytes()),
            JwtKeys::Public { family, pem } => public(*family, pem.as_bytes()).map_err(|error| error.to_string())?,
            JwtKeys::Set(_) => return Ok(None),
        };
        Ok(Some(Self { keys: vec![Key { id: None, algorithm: None, key }], nameless: true, ..Self::default() }))
    }

    /// Reads a set of public keys. What is not for signatures, or cannot be used, is left out; secrets are, too: whoever reads the set
    /// could sign.
    ///
    /// # Errors
    /// What is no set, or leaves nothing.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        if text.len() > LONGEST {
            return Err(format!("longer than {LONGEST} bytes"));
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| format!("no set of keys: {error}"))?;
        let jwks = set.keys.into_iter().take(MOST).filter_map(|value| serde_json::from_value::<Jwk>(value).ok());
        let usable: Vec<(Jwk, Key)> = jwks.filter_map(|jwk| usable(&jwk).map(|key| (jwk, key))).collect();
        if usable.is_empty() {
            return Err("a set without a public key for signatures that can be used".to_owned());
        }
        let (made_of, keys) = usable.into_iter().unzip();
        Ok(Self { keys, made_of, nameless: false })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys by which a token with this head may be signed: of the algorithm's kind, and of the name that it says. One without a name
    /// means the only key.
    pub fn candidates(&self, header: &Header) -> Vec<&DecodingKey> {
        let fits = |key: &&Key| key.key.family() == header.alg.family() && key.algorithm.is_none_or(|only| only == header.alg);
        let kind: Vec<&Key> = self.keys.iter().filter(fits).collect();
        let named: Vec<&Key> = match &header.kid {
            Some(id) if !self.nameless => kind.into_iter().filter(|key| key.id.as_ref() == Some(id)).collect(),
            _ if kind.len() == 1 => kind,
            _ => Vec::new(),
        };
        named.into_iter().map(|key| &key.key).collect()
    }
}

fn public(family: JwtFamily, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match family {
        JwtFamily::Rsa => DecodingKey::from_rsa_pem(pem),
        JwtFamily::Ec => DecodingKey::from_ec_pem(pem),
        JwtFamily::Ed => DecodingKey::from_ed_pem(pem),
        JwtFamily::Hmac => Err(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat.into()),
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common.key_operations.as_ref().is_none_or(|ops| ops.contains(&KeyOperations::Verify));
    if !signs || !verifies {
        return None;
    }
    let (key, of_curve) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (DecodingKey::from_jwk(jwk).ok().filter(long_enough)?, None),
        AlgorithmParameters::EllipticCurve(ec) => {
            let algorithm = match ec.curve {
                EllipticCurve::P256 => Algorithm::ES256,
                EllipticCurve::P384 => Algorithm::ES384,
                _ => return None,
            };
            (DecodingKey::from_jwk(jwk).ok()?, Some(algorithm))
        }
        AlgorithmParameters::OctetKeyPair(ed) if ed.curve == EllipticCurve::Ed25519 => {
            (DecodingKey::from_jwk(jwk).ok()?, Some(Algorithm::EdDSA))
        }
        _ => return None,
    };
    let said = match common.key_algorithm {
        Some(named) => Some(Algorithm::try_from(named).ok().filter(|algorithm| algorithm.family() == key.family())?),
        None => None,
    };
    if matches!((said, of_curve), (Some(said), Some(of_curve)) if said != of_curve) {
        return None;
    }
    Some(Key { id: common.key_id.clone(), algorithm: said.or(of_curve), key })
}

fn long_enough(key: &DecodingKey) -> bool {
    debug_assert_eq!(key.family(), AlgorithmFamily::Rsa);
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => n.iter().skip_while(|byte| **byte == 0).count() >= RSA_BYTES,
        jsonwebtoken::DecodingKeyKind::SecretOrDer(_) => true,
    }
}
