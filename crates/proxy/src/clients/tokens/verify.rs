//! Checks a token: pure, the time is an argument.

use farthing_config::{JwtAlgorithm, JwtIssuer};
use farthing_types::Time;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::Value;

use super::keyset::KeySet;
use crate::clients::IdentityRefusal;

/// Most keys of one name that a signature is tried with.
const MOST_TRIES: usize = 4;
/// Times beyond are taken for ever: the year 2200.
const FOR_EVER_S: f64 = 7.26e9;

/// What a good token says, and until when.
#[derive(Debug)]
pub struct Good {
    /// Its payload.
    pub payload: Value,
    /// It holds until then, leeway included.
    pub until: Time,
}

/// A refusal and what to do about it.
pub type Refused = (IdentityRefusal, String);

/// How a token's signature is checked, as it says itself, where the issuer allows that.
///
/// # Errors
/// It cannot be read, or uses what is not allowed.
pub fn head(issuer: &JwtIssuer, token: &str) -> Result<Header, Refused> {
    let malformed = |why: &str| (IdentityRefusal::TokenMalformed, format!("the token cannot be read: {why}"));
    let header = decode_header(token).map_err(|error| match error.kind() {
        // `none` among them: there is no such algorithm here.
        ErrorKind::Json(_) => (IdentityRefusal::TokenAlgorithm, not_allowed(issuer, "one that is unknown here")),
        _ => malformed("its head is no JSON in base64url"),
    })?;
    if header.crit.is_some() {
        return Err(malformed("it has critical fields (`crit`), and none is known here"));
    }
    if !issuer.algorithms.iter().any(|allowed| of(*allowed) == header.alg) {
        return Err((IdentityRefusal::TokenAlgorithm, not_allowed(issuer, &format!("{:?}", header.alg))));
    }
    Ok(header)
}

fn not_allowed(issuer: &JwtIssuer, found: &str) -> String {
    let allowed: Vec<&str> = issuer.algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
    format!("the token is signed by {found}; issuer `{}` may use {}", issuer.name, allowed.join(", "))
}

/// Checks signature, issuer, audience and times of a token whose head was allowed.
///
/// # Errors
/// Which of them is wrong.
pub fn verify(issuer: &JwtIssuer, keys: &KeySet, (token, header): (&str, &Header), now: Time) -> Result<Good, Refused> {
    let candidates = keys.candidates(header);
    let mut last =
        (IdentityRefusal::TokenUnknownKey, format!("issuer `{}` has no key of the name and kind that the token says", issuer.name));
    for key in candidates.into_iter().take(MOST_TRIES) {
        match signed(issuer, key, (token, header.alg)) {
            Ok(payload) => return times(issuer, &payload, now).map(|until| Good { payload, until }),
            Err(refused) => last = refused,
        }
    }
    Err(last)
}

fn signed(issuer: &JwtIssuer, key: &DecodingKey, (token, algorithm): (&str, Algorithm)) -> Result<Value, Refused> {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&issuer.audiences);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    // They are measured by the proxy's clock.
    (validation.validate_exp, validation.validate_nbf) = (false, false);
    decode::<Value>(token, key, &validation).map(|data| data.claims).map_err(|error| refusal(issuer, error.kind()))
}

fn refusal(issuer: &JwtIssuer, kind: &ErrorKind) -> Refused {
    let name = &issuer.name;
    match kind {
        ErrorKind::InvalidAudience => (
            IdentityRefusal::TokenAudience,
            format!("the token is meant for others (`aud`); issuer `{name}` is asked for {}", issuer.audiences.join(", ")),
        ),
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => (
            IdentityRefusal::TokenAudience,
            format!("the token does not say whom it is meant for (`aud`): {}", issuer.audiences.join(", ")),
        ),
        ErrorKind::InvalidIssuer | ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            (IdentityRefusal::TokenClaims, "the token does not say who issued it (`iss`) as one text".to_owned())
        }
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat | ErrorKind::UnsupportedAlgorithm => {
            (IdentityRefusal::TokenAlgorithm, format!("the token is signed by an algorithm that the key of issuer `{name}` is not for"))
        }
        ErrorKind::InvalidSignature | ErrorKind::Provider(_) | ErrorKind::InvalidEcdsaKey => {
            (IdentityRefusal::TokenSignature, format!("the token's signature is not by the key of issuer `{name}`"))
        }
        _ => (IdentityRefusal::TokenMalformed, "the token cannot be read".to_owned()),
    }
}

/// Until when the token holds.
fn times(issuer: &JwtIssuer, payload: &Value, now: Time) -> Result<Time, Refused> {
    let expired = |why: &str| (IdentityRefusal::TokenExpired, format!("the token {why}; get a new one from issuer `{}`", issuer.name));
    let Some(exp) = payload.get("exp").and_then(seconds) else { return Err(expired("does not say when it expires (`exp`)")) };
    let until = exp + issuer.leeway;
    if now >= until {
        return Err(expired("has expired"));
    }
    match payload.get("nbf").map(seconds) {
        Some(None) => Err((IdentityRefusal::TokenClaims, "the token's `nbf` is no time in seconds".to_owned())),
        Some(Some(nbf)) if now + issuer.leeway < nbf => Err((
            IdentityRefusal::TokenNotYet,
            format!("the token is not valid yet (`nbf`); is the clock of issuer `{}` right?", issuer.name),
        )),
        _ => Ok(until),
    }
}

/// A time in seconds since 1970, whole or not.
fn seconds(value: &Value) -> Option<Time> {
    if let Some(whole) = value.as_i64() {
        return (whole >= 0).then(|| Time::from_millis(whole.min(FOR_EVER_S as i64) * 1_000));
    }
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0)?;
    Some(Time::from_secs_f64(seconds.min(FOR_EVER_S)))
}

const fn of(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Rs384 => Algorithm::RS384,
        JwtAlgorithm::Rs512 => Algorithm::RS512,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Ps384 => Algorithm::PS384,
        JwtAlgorithm::Ps512 => Algorithm::PS512,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Es384 => Algorithm::ES384,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}
