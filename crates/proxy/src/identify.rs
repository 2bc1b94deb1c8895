//! Who asks: the tenant, and whose private cache the request sees.

use std::sync::{Arc, LazyLock};

use farthing_config::{CredentialMode, CredentialPlace, FarthingKey, Provider, Route};
use farthing_freshness::key::Credentials;
use farthing_types::Tenant;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::problem::Problem;

/// Header for a key of ours beside the client's own credential.
pub const KEY_HEADER: HeaderName = HeaderName::from_static("x-farthing-key");
/// Header that names the tenant where no key does.
const TENANT_HEADER: HeaderName = HeaderName::from_static("x-farthing-tenant");
/// Places where client libraries put a credential.
static CREDENTIAL_HEADERS: [HeaderName; 4] =
    [AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("x-goog-api-key"), HeaderName::from_static("api-key")];
/// Tenant of requests without any credential.
const ANONYMOUS: &str = "anonymous";

/// The identified client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who pays and is counted.
    pub tenant: Tenant,
    /// Team of the key.
    pub team: Option<Arc<str>>,
    /// Service of the key.
    pub service: Option<Arc<str>>,
    /// Public id of the Farthing key.
    pub key: Option<Arc<str>>,
    /// Whose entries the request may see: the tenant together with the digest of a credential that passes through.
    pub principal: Arc<str>,
    /// The provider's credential goes out in place of the client's.
    pub swap: bool,
    /// Its Farthing key may purge everybody's entries.
    pub may_purge: bool,
}

impl Identity {
    /// Of a request that was refused before its client was known.
    pub fn unknown() -> Self {
        static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| "unknown".into());
        Self { tenant: UNKNOWN.clone(), team: None, service: None, key: None, principal: UNKNOWN.clone(), swap: false, may_purge: false }
    }
}

/// What identification needs to know of the deployment.
#[derive(Clone, Copy, Debug)]
pub struct Deployment<'a> {
    /// Keys of ours.
    pub keys: &'a [FarthingKey],
    /// Key of the digests of passed-through credentials.
    pub salt: &'a [u8; 32],
}

/// What identification needs to know of the route.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The route.
    pub route: &'a Route,
    /// Its provider.
    pub provider: &'a Provider,
    /// Query parameters that are left out of keys because the principal stands for them.
    pub credentials: &'a Credentials,
}

/// Identifies the client of a request.
///
/// # Errors
/// 401 when a key of ours is needed and missing or wrong, or when a key of ours was presented and the provider has no credential.
pub fn identify(deployment: Deployment<'_>, asked: Asked<'_>, headers: &HeaderMap, query: Option<&str>) -> Result<Identity, Problem> {
    let route = asked.route;
    let headers = telling(headers, asked.provider);
    let own = own_key(headers);
    let key = own.map(|presented| find(deployment.keys, presented)).transpose()?;
    let presented_as_credential = credential_headers(headers).any(|c| FarthingKey::id_of(c).is_some());
    if presented_as_credential || (route.credential == CredentialMode::Swap && (key.is_some() || deployment.keys.is_empty())) {
        return swapped(deployment, asked, key, (headers, query));
    }
    if route.credential == CredentialMode::Swap {
        return Err(unauthorized(format!(
            "route `{}` takes a Farthing key: send `Authorization: Bearer fth-...` (make one with `farthing keys new`)",
            route.name
        )));
    }
    Ok(passed(deployment, asked, key, (headers, query)))
}

/// `headers` where one of them tells who asks, else none: one look at the names costs less than a search for each.
fn telling<'a>(headers: &'a HeaderMap, provider: &Provider) -> &'a HeaderMap {
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    let place = |name: &HeaderName| matches!(&provider.credential_place, CredentialPlace::Header(place) if place == name);
    let tells = |name: &HeaderName| name.as_str().starts_with("x-farthing-") || CREDENTIAL_HEADERS.contains(name) || place(name);
    if headers.keys().any(tells) { headers } else { &NONE }
}

fn unauthorized(detail: String) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

fn swapped(
    deployment: Deployment<'_>,
    asked: Asked<'_>,
    key: Option<&FarthingKey>,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Result<Identity, Problem> {
    let Asked { route, provider, .. } = asked;
    if provider.credential.is_none() && provider.credential_place != CredentialPlace::None {
        return Err(unauthorized(format!(
            "a Farthing key was presented for route `{}`, but provider `{}` has no `credential` to send instead: configure one, or send \
             your own",
            route.name, provider.name
        )));
    }
    let tenant = key.map_or_else(|| named_tenant(headers), |k| k.tenant.clone());
    let (team, service) = key.map_or((None, None), |k| (k.team.clone(), k.service.clone()));
    // What looks like a credential but goes out as it came (`token` may be a page's name) is in no key, so it is in the principal.
    let mut digest = Digest::new(deployment.salt);
    digest.query(asked.credentials, query);
    Ok(Identity {
        principal: principal(&tenant, digest.text().as_ref()),
        tenant,
        team,
        service,
        key: key.map(|k| k.id.clone()),
        swap: true,
        may_purge: key.is_some_and(|k| k.purge),
    })
}

fn passed(
    deployment: Deployment<'_>,
    asked: Asked<'_>,
    key: Option<&FarthingKey>,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Identity {
    let mut digest = Digest::new(deployment.salt);
    digest.headers(asked.provider, headers);
    digest.query(asked.credentials, query);
    let digest = digest.text();
    let tenant = match (key, &digest) {
        (Some(key), _) => key.tenant.clone(),
        (None, Some(digest)) => digest.clone(),
        (None, None) => named_tenant(headers),
    };
    let principal = principal(&tenant, digest.as_ref());
    let (team, service) = key.map_or((None, None), |k| (k.team.clone(), k.service.clone()));
    Identity { tenant, team, service, key: key.map(|k| k.id.clone()), principal, swap: false, may_purge: key.is_some_and(|k| k.purge) }
}

fn principal(tenant: &Tenant, digest: Option<&Arc<str>>) -> Arc<str> {
    match digest {
        Some(digest) if digest != tenant => format!("{tenant}/{digest}").into(),
        _ => tenant.clone(),
    }
}

/// A tenant that the request names itself: attribution among clients without keys, never a way into another's cache, because
/// the name is marked.
fn named_tenant(headers: &HeaderMap) -> Tenant {
    match headers.get(TENANT_HEADER).and_then(|v| v.to_str().ok()) {
        Some(name) if !name.is_empty() && name.len() <= 64 => format!("named-{name}").into(),
        _ => anonymous(),
    }
}

fn anonymous() -> Tenant {
    thread_local! {
        // One for each thread: a count that all of them change at every request would cost more than the text.
        static NAME: Tenant = ANONYMOUS.into();
    }
    NAME.with(Tenant::clone)
}

fn credential_headers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    CREDENTIAL_HEADERS
        .iter()
        .filter_map(|name| headers.get(name))
        .filter_map(|value| value.to_str().ok())
        .map(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).unwrap_or(value).trim())
}

fn own_key(headers: &HeaderMap) -> Option<&str> {
    let named = headers.get(KEY_HEADER).and_then(|v| v.to_str().ok());
    named.or_else(|| credential_headers(headers).find(|c| FarthingKey::id_of(c).is_some()))
}

fn find<'a>(keys: &'a [FarthingKey], presented: &str) -> Result<&'a FarthingKey, Problem> {
    keys.iter().find(|key| key.accepts(presented)).ok_or_else(|| {
        let id = FarthingKey::id_of(presented).unwrap_or("without the shape fth-<id>-<secret>");
        unauthorized(format!("unknown Farthing key {id}: list it under [[keys]], or make one with `farthing keys new`"))
    })
}

/// Keyed digest of every credential that a request carries.
struct Digest<'a> {
    salt: &'a [u8; 32],
    hasher: Option<blake3::Hasher>,
}

impl<'a> Digest<'a> {
    const fn new(salt: &'a [u8; 32]) -> Self {
        Self { salt, hasher: None }
    }

    fn headers(&mut self, provider: &Provider, headers: &HeaderMap) {
        let place = match &provider.credential_place {
            CredentialPlace::Header(name) => Some(name),
            _ => None,
        };
        for name in CREDENTIAL_HEADERS.iter().chain(place) {
            for value in headers.get_all(name) {
                self.add(name.as_str(), value.as_bytes());
            }
        }
    }

    /// The very pairs that a key leaves out, so that none of them is lost between the two.
    fn query(&mut self, credentials: &Credentials, query: Option<&str>) {
        for pair in query.into_iter().flat_map(|query| credentials.pairs(query)) {
            let (name, value) = pair.split_once('=').unwrap_or(("", pair));
            self.add(name, value.as_bytes());
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        let hasher = self.hasher.get_or_insert_with(|| blake3::Hasher::new_keyed(self.salt));
        for part in [name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }

    /// `p-` and 16 hexadecimal digits; `None` without any credential.
    fn text(self) -> Option<Arc<str>> {
        self.hasher.map(|hasher| format!("p-{}", &hasher.finalize().to_hex()[..16]).into())
    }
}

#[cfg(test)]
mod tests {
    use farthing_config::Secret;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    fn run(keys: &[FarthingKey], route: &Route, provider: &Provider, pairs: &[(&'static str, &str)]) -> Result<Identity, Problem> {
        let asked = Asked { route, provider, credentials: &Credentials::default() };
        identify(Deployment { keys, salt: &[7; 32] }, asked, &headers(pairs), None)
    }

    #[test]
    fn two_credentials_are_two_principals() {
        let (route, provider) = (Route::default(), Provider::default());
        let a = run(&[], &route, &provider, &[("authorization", "Bearer sk-a")]).unwrap();
        let b = run(&[], &route, &provider, &[("authorization", "Bearer sk-b")]).unwrap();
        assert_ne!(a.principal, b.principal);
        assert_eq!(a, run(&[], &route, &provider, &[("authorization", "Bearer sk-a")]).unwrap());
        assert!(!a.swap && !a.principal.contains("sk-a"));
        let none = run(&[], &route, &provider, &[]).unwrap();
        assert_eq!(&*none.tenant, ANONYMOUS);
    }

    #[test]
    fn a_query_credential_is_a_principal_too() {
        let (route, provider, credentials) = (Route::default(), Provider::default(), Credentials::new(["key", "our-place"]));
        let asked = Asked { route: &route, provider: &provider, credentials: &credentials };
        let run = |query: &str| identify(Deployment { keys: &[], salt: &[7; 32] }, asked, &HeaderMap::new(), Some(query)).unwrap();
        assert_ne!(run("q=1&key=A").principal, run("q=1&key=B").principal);
        assert_eq!(run("q=1&key=A").principal, run("q=2&key=A").principal);
        // However it is spelled: the key leaves it out all the same.
        for spelled in ["KEY", "%6Bey", "Our-Place"] {
            assert_ne!(run(&format!("{spelled}=A")).principal, run(&format!("{spelled}=B")).principal, "{spelled}");
            assert_ne!(run(spelled).principal, run("q=1").principal, "{spelled}");
        }
    }

    #[test]
    fn a_farthing_key_swaps_and_never_passes() {
        let (secret, key) = FarthingKey::generate("acme").unwrap();
        let bearer = format!("Bearer {}", secret.expose());
        let place = CredentialPlace::Bearer;
        let with = Provider { credential: Some(Secret::new("sk-real")), credential_place: place.clone(), ..Provider::default() };
        let without = Provider { credential_place: place, ..Provider::default() };
        let route = Route::default();
        let identity = run(std::slice::from_ref(&key), &route, &with, &[("authorization", &bearer)]).unwrap();
        assert!(identity.swap);
        assert_eq!((&*identity.tenant, &*identity.principal), ("acme", "acme"));
        let asked = Asked { route: &route, provider: &with, credentials: &Credentials::default() };
        let page = |query| {
            let deployment = Deployment { keys: std::slice::from_ref(&key), salt: &[7; 32] };
            identify(deployment, asked, &headers(&[("authorization", &bearer)]), Some(query)).unwrap()
        };
        assert_ne!(page("token=1").principal, page("token=2").principal, "what may be data is told apart");
        assert_eq!((page("token=1").principal, page("q=1").tenant), (page("token=1&q=2").principal, page("token=2").tenant));
        assert_eq!(
            run(std::slice::from_ref(&key), &route, &without, &[("authorization", &bearer)]).unwrap_err().status,
            StatusCode::UNAUTHORIZED
        );
        assert_eq!(run(&[], &route, &with, &[("authorization", &bearer)]).unwrap_err().status, StatusCode::UNAUTHORIZED);
    }

    #[test]
    fn a_swap_route_with_keys_wants_one() {
        let (_, key) = FarthingKey::generate("acme").unwrap();
        let route = Route { credential: CredentialMode::Swap, ..Route::default() };
        let provider = Provider::default();
        assert!(run(&[key], &route, &provider, &[("authorization", "Bearer sk-a")]).is_err());
        assert!(run(&[], &route, &provider, &[]).unwrap().swap);
    }

    #[test]
    fn a_claimed_name_never_equals_a_real_tenant() {
        let (route, provider) = (Route::default(), Provider::default());
        let identity = run(&[], &route, &provider, &[("x-farthing-tenant", "acme")]).unwrap();
        assert_eq!(&*identity.tenant, "named-acme");
    }
}
