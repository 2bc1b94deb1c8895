//! Why a client is not let in; each is counted.

use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::reasons;
use http::StatusCode;

use crate::problem::Problem;

reasons! {
    /// Why a client is not let in.
    IdentityRefusal {
        /// The route takes keys or tokens, and there was none.
        NoCredential = "no-credential",
        /// A key that is not listed, or with another secret.
        UnknownKey = "unknown-key",
        /// A key past its time.
        KeyExpired = "key-expired",
        /// A key that was switched off.
        KeyDisabled = "key-disabled",
        /// A key or token in the query, where everybody on the way logs it.
        InQuery = "credential-in-query",
        /// A key or token was presented, and the provider has no credential to send instead.
        NothingToSend = "no-provider-credential",
        /// A token that cannot be read.
        TokenMalformed = "token-malformed",
        /// A token too long to be looked at.
        TokenTooLong = "token-too-long",
        /// Signed by an algorithm that the issuer or the key is not allowed.
        TokenAlgorithm = "token-algorithm",
        /// Signed by a key that the issuer does not name.
        TokenUnknownKey = "token-unknown-key",
        /// The signature is wrong.
        TokenSignature = "token-signature",
        /// A token past its time, or without one.
        TokenExpired = "token-expired",
        /// A token before its time.
        TokenNotYet = "token-not-yet-valid",
        /// A token that is meant for others.
        TokenAudience = "token-audience",
        /// A token that does not say what it must, or says what cannot be taken.
        TokenClaims = "token-claims",
        /// The keys of the issuer are not known at present.
        KeysUnavailable = "token-keys-unavailable",
        /// The client is known and may not call the route.
        Route = "route-forbidden",
    }
}

impl IdentityRefusal {
    const fn status(self) -> StatusCode {
        match self {
            Self::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Route => StatusCode::FORBIDDEN,
            _ => StatusCode::UNAUTHORIZED,
        }
    }
}

/// The refusal as the client is told it; `detail` names the remedy and holds no secrets.
pub fn refused(reason: IdentityRefusal, detail: impl Into<String>) -> Problem {
    let mut problem = Problem::new(reason.status(), reason.as_str(), detail);
    problem.retry_after = (reason == IdentityRefusal::KeysUnavailable).then_some(1);
    problem
}

/// Refusals since start, by reason.
#[derive(Debug)]
pub struct IdentityCounts([AtomicU64; IdentityRefusal::ALL.len()]);

impl Default for IdentityCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl IdentityCounts {
    /// Counts a refusal, where it is one of these.
    pub fn note(&self, problem: &Problem) {
        if let Some(reason) = IdentityRefusal::parse(problem.kind) {
            self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All reasons with their counts.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        IdentityRefusal::ALL.iter().map(|reason| (reason.as_str(), self.0[*reason as usize].load(Ordering::Relaxed)))
    }
}
