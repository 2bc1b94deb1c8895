//! Issuers of tokens (JWT, RFC 7519) that clients may present in place of a Farthing key.

use std::path::PathBuf;
use std::sync::Arc;

use farthing_types::{Span, Tenant, reasons};
use http::Uri;

use crate::{Rights, Secret};

reasons! {
    /// How a token is signed. There is no value for `none`.
    JwtAlgorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA, PKCS #1 v1.5, with SHA-256.
        Rs256 = "RS256",
        /// RSA, PKCS #1 v1.5, with SHA-384.
        Rs384 = "RS384",
        /// RSA, PKCS #1 v1.5, with SHA-512.
        Rs512 = "RS512",
        /// RSA, PSS, with SHA-256.
        Ps256 = "PS256",
        /// RSA, PSS, with SHA-384.
        Ps384 = "PS384",
        /// RSA, PSS, with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

/// The kinds of keys that algorithms need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtFamily {
    /// A secret that issuer and Farthing share.
    Hmac,
    /// An RSA public key.
    Rsa,
    /// A public key on an elliptic curve.
    Ec,
    /// An Ed25519 public key.
    Ed,
}

impl JwtAlgorithm {
    /// The kind of key that it needs.
    pub const fn family(self) -> JwtFamily {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => JwtFamily::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => JwtFamily::Rsa,
            Self::Es256 | Self::Es384 => JwtFamily::Ec,
            Self::EdDsa => JwtFamily::Ed,
        }
    }

    /// The shortest secret that it is as strong as, in bytes (RFC 7518 section 3.2); 0 where it takes none.
    pub const fn shortest_secret(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
            _ => 0,
        }
    }
}

/// An issuer whose tokens are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtIssuer {
    /// Its name here: in metrics, log and status.
    pub name: Arc<str>,
    /// The `iss` of its tokens.
    pub issuer: Arc<str>,
    /// A token must be meant for one of these (`aud`).
    pub audiences: Vec<Arc<str>>,
    /// How its tokens may be signed.
    pub algorithms: Vec<JwtAlgorithm>,
    /// What its signatures are checked with.
    pub keys: JwtKeys,
    /// How far its clock may be off.
    pub leeway: Span,
    /// Where its tokens say what.
    pub claims: JwtClaims,
    /// Who pays where a token names no tenant; `None`: such a token is refused.
    pub default_tenant: Option<Tenant>,
    /// What holders of its tokens may do.
    pub rights: Rights,
}

/// What signatures are checked with.
#[derive(Clone, Debug, PartialEq)]
pub enum JwtKeys {
    /// A secret that issuer and Farthing share.
    Secret(Secret),
    /// A public key.
    Public {
        /// Its kind.
        family: JwtFamily,
        /// Its text (PEM).
        pem: Arc<str>,
    },
    /// A set of public keys (JWKS, RFC 7517) that changes with time.
    Set(JwksSource),
}

/// A set of keys that is read again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct JwksSource {
    /// Where it is.
    pub place: JwksPlace,
    /// Longest time between two readings; the answer's `max-age` may shorten it.
    pub refresh: Span,
    /// How long the last known keys are used when it cannot be read.
    pub keep: Span,
}

/// Where a set of keys is.
#[derive(Clone, Debug, PartialEq)]
pub enum JwksPlace {
    /// At this URL.
    Url(Uri),
    /// In this file.
    File(PathBuf),
}

/// JSON pointers into the payload of a token; `None`: not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtClaims {
    /// Who pays.
    pub tenant: Arc<str>,
    /// Team of the tenant.
    pub team: Option<Arc<str>>,
    /// Service of the tenant.
    pub service: Option<Arc<str>>,
    /// How much its requests matter where they do not say.
    pub priority: Option<Arc<str>>,
    /// Free tags `a=b,c=d`.
    pub tags: Option<Arc<str>>,
    /// The only routes that may be called: a list, or names with spaces between. A token without it may call none.
    pub routes: Option<Arc<str>>,
}

impl Default for JwtClaims {
    fn default() -> Self {
        Self { tenant: "/tenant".into(), team: None, service: None, priority: None, tags: None, routes: None }
    }
}
