//! The tables `[[jwt]]`.

use std::path::Path;
use std::sync::Arc;

use farthing_types::Span;
use http::Uri;
use jsonwebtoken::DecodingKey;
use toml::de::DeValue;

use super::instance::secret;
use super::registry;
use super::rights::{rights, tenant};
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{JwksPlace, JwksSource, JwtAlgorithm, JwtClaims, JwtFamily, JwtIssuer, JwtKeys};

const ALGORITHMS: &[(&str, JwtAlgorithm)] = &[
    ("HS256", JwtAlgorithm::Hs256),
    ("HS384", JwtAlgorithm::Hs384),
    ("HS512", JwtAlgorithm::Hs512),
    ("RS256", JwtAlgorithm::Rs256),
    ("RS384", JwtAlgorithm::Rs384),
    ("RS512", JwtAlgorithm::Rs512),
    ("PS256", JwtAlgorithm::Ps256),
    ("PS384", JwtAlgorithm::Ps384),
    ("PS512", JwtAlgorithm::Ps512),
    ("ES256", JwtAlgorithm::Es256),
    ("ES384", JwtAlgorithm::Es384),
    ("EdDSA", JwtAlgorithm::EdDsa),
];
/// The keys of which an issuer has exactly one.
const KEYS: [&str; 4] = ["secret", "public_key", "jwks_url", "jwks_file"];
/// Beyond, a token that has expired would live on for longer than most live.
const MOST_LEEWAY: Span = Span::from_secs(300);
const LEEWAY: Span = Span::from_secs(10);
const REFRESH: Span = Span::from_secs(300);
/// Below, the issuer would be asked as if under attack.
const SHORTEST_REFRESH: Span = Span::from_secs(10);
const KEEP: Span = Span::from_secs(24 * 3_600);

/// Reads every issuer.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<JwtIssuer> {
    top.array("jwt").into_iter().filter_map(|table| issuer(&Section::open(top.doc, table, "jwt", registry::JWT))).collect()
}

fn issuer(s: &Section<'_, '_>) -> Option<JwtIssuer> {
    let name = s.need("name", v::name, "name the issuer: it stands in metrics and status");
    let issuer = s.need("issuer", v::arc_text, "write the `iss` of its tokens, byte by byte");
    let audiences =
        s.need("audience", audience, "write what its tokens are meant for (`aud`): without it, tokens for others would be taken");
    let keys = keys(s);
    let algorithms = algorithms(s, keys.as_ref());
    let mut leeway = LEEWAY;
    s.set("leeway", v::span, &mut leeway);
    if leeway > MOST_LEEWAY {
        s.wrong("leeway", "longer than 5m", "make it shorter: tokens live on for so long after they expired");
    }
    let claims = s.table("claims").map(|table| claims(&Section::open(s.doc, table, "jwt.claims", registry::JWT_CLAIMS)));
    let default_tenant = s.opt("default_tenant", tenant);
    let rights = rights(s);
    Some(JwtIssuer {
        name: name?,
        issuer: issuer?,
        audiences: audiences?,
        algorithms,
        keys: keys?,
        leeway,
        claims: claims.unwrap_or_default(),
        default_tenant,
        rights,
    })
}

/// One, or a list of them.
fn audience(value: &DeValue<'_>) -> Result<Vec<Arc<str>>, Bad> {
    if value.as_str().is_some() {
        return v::arc_text(value).map(|one| vec![one]);
    }
    match v::list(v::arc_text)(value) {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(Bad { found: show(value), remedy: "write a text, or a list of texts that is not empty".to_owned() }),
    }
}

fn claims(s: &Section<'_, '_>) -> JwtClaims {
    let mut claims = JwtClaims::default();
    s.set("tenant", v::pointer, &mut claims.tenant);
    let others = [
        ("team", &mut claims.team),
        ("service", &mut claims.service),
        ("priority", &mut claims.priority),
        ("tags", &mut claims.tags),
        ("routes", &mut claims.routes),
    ];
    for (name, into) in others {
        s.set_opt(name, v::pointer, into);
    }
    claims
}

/// What signatures are checked with: exactly one of the four.
fn keys(s: &Section<'_, '_>) -> Option<JwtKeys> {
    let read = [
        secret(s, "secret").map(JwtKeys::Secret),
        s.opt("public_key", v::path).and_then(|path| public_key(s, &path)),
        s.opt("jwks_url", jwks_url).map(|url| set(s, JwksPlace::Url(url))),
        s.opt("jwks_file", v::path).map(|path| set(s, JwksPlace::File(path))),
    ];
    if !read.iter().any(|found| matches!(found, Some(JwtKeys::Set(_)))) {
        let _ = times(s);
        for key in ["jwks_refresh", "jwks_keep"].iter().filter(|key| s.has(key)) {
            s.wrong(key, "no set of keys is read", "remove it, or set jwks_url or jwks_file");
        }
    }
    let given: Vec<&str> = KEYS.into_iter().filter(|key| s.has(key)).collect();
    match given[..] {
        [] => s.wrong("secret", "nothing to check signatures with", "set one of jwks_url, jwks_file, public_key and secret"),
        [_] => {}
        [_, second, ..] => {
            s.wrong(second, format!("{} together", given.join(", ")), "keep one of them: a key belongs to one algorithm family")
        }
    }
    read.into_iter().flatten().next()
}

/// PEM alone does not tell all: what the text can be read as, it is.
fn public_key(s: &Section<'_, '_>, path: &Path) -> Option<JwtKeys> {
    let text = match s.doc.surroundings.file(&path.to_string_lossy()) {
        Ok(text) => text,
        Err(error) => {
            s.wrong("public_key", format!("{} cannot be read: {error}", path.display()), "name a file with a public key (PEM)");
            return None;
        }
    };
    let bytes = text.as_bytes();
    let read = [
        (JwtFamily::Rsa, DecodingKey::from_rsa_pem(bytes).is_ok()),
        (JwtFamily::Ec, DecodingKey::from_ec_pem(bytes).is_ok()),
        (JwtFamily::Ed, DecodingKey::from_ed_pem(bytes).is_ok()),
    ];
    // Not shown, and not said to be good: a private key has no business here.
    let private = text.contains("PRIVATE");
    match read.iter().find(|(_, ok)| *ok && !private) {
        Some((family, _)) => Some(JwtKeys::Public { family: *family, pem: text.into() }),
        None => {
            let remedy = "name a file with an RSA, EC (P-256, P-384) or Ed25519 public key: openssl pkey -in KEY.pem -pubout";
            s.wrong("public_key", format!("{} holds no public key", path.display()), remedy);
            None
        }
    }
}

/// Keys that came unencrypted over a network would be anybody's.
fn jwks_url(value: &DeValue<'_>) -> Result<Uri, Bad> {
    let url = value.as_str().and_then(|text| text.parse::<Uri>().ok());
    let secure = |url: &Uri| {
        let host = url.host().unwrap_or_default();
        let local = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        let plain = url.scheme_str() == Some("http") && local;
        !host.is_empty() && (url.scheme_str() == Some("https") || plain) && !url.authority().is_some_and(|a| a.as_str().contains('@'))
    };
    url.filter(secure).ok_or_else(|| Bad {
        found: show(value),
        remedy: "write an https URL such as \"https://idp.example.com/.well-known/jwks.json\"; http is for loopback alone".to_owned(),
    })
}

fn times(s: &Section<'_, '_>) -> (Span, Span) {
    let (mut refresh, mut keep) = (REFRESH, KEEP);
    s.set("jwks_refresh", v::positive_span, &mut refresh);
    s.set("jwks_keep", v::span, &mut keep);
    (refresh, keep)
}

fn set(s: &Section<'_, '_>, place: JwksPlace) -> JwtKeys {
    let (refresh, keep) = times(s);
    if refresh < SHORTEST_REFRESH {
        s.wrong("jwks_refresh", "shorter than 10s", "make it longer; an unknown key is asked for at once anyway");
    }
    JwtKeys::Set(JwksSource { place, refresh, keep })
}

/// The algorithms that are allowed: only such as the keys are made for.
fn algorithms(s: &Section<'_, '_>, keys: Option<&JwtKeys>) -> Vec<JwtAlgorithm> {
    let usual: &[JwtAlgorithm] = match keys {
        Some(JwtKeys::Secret(_)) => &[JwtAlgorithm::Hs256],
        Some(JwtKeys::Public { family: JwtFamily::Ec, .. }) => &[JwtAlgorithm::Es256, JwtAlgorithm::Es384],
        Some(JwtKeys::Public { family: JwtFamily::Ed, .. }) => &[JwtAlgorithm::EdDsa],
        Some(JwtKeys::Public { .. }) => &[JwtAlgorithm::Rs256],
        _ => &[JwtAlgorithm::Rs256, JwtAlgorithm::Es256],
    };
    let algorithms = s.opt("algorithms", v::list(v::word(ALGORITHMS))).unwrap_or_else(|| usual.to_vec());
    if algorithms.is_empty() {
        s.wrong("algorithms", "an empty list: no token could be taken", "name algorithms, or remove the key");
    }
    for algorithm in &algorithms {
        let fits = match keys {
            Some(JwtKeys::Secret(_)) => algorithm.family() == JwtFamily::Hmac,
            Some(JwtKeys::Public { family, .. }) => algorithm.family() == *family,
            Some(JwtKeys::Set(_)) => algorithm.family() != JwtFamily::Hmac,
            None => true,
        };
        if !fits {
            let remedy = "HS needs `secret`; RS, PS, ES and EdDSA need a public key of their kind";
            s.wrong("algorithms", format!("{algorithm} is not for this kind of key"), remedy);
        }
    }
    if let Some(JwtKeys::Secret(secret)) = keys {
        let shortest = algorithms.iter().map(|algorithm| algorithm.shortest_secret()).max().unwrap_or_default();
        if secret.expose().len() < shortest {
            s.wrong("secret", format!("a secret of fewer than {shortest} characters"), "make one with `openssl rand -hex 64`");
        }
    }
    algorithms
}
