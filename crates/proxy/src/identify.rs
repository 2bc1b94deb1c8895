//! Who asks: the tenant, and whose private cache the request sees.

mod telling;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use farthing_config::{CredentialMode, CredentialPlace, FarthingKey, Provider, Route, is_reserved_tenant};
use farthing_freshness::key::Credentials;
use farthing_types::{Tenant, Time};
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clients::{Clients, Grant, IdentityRefusal, refused};
use crate::problem::Problem;
use telling::{Digest, in_words, tells_who};

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
    /// What it may do; `None` where nobody vouches for it.
    pub grant: Option<Arc<Grant>>,
}

impl Identity {
    /// Of a request that was refused before its client was known.
    pub fn unknown() -> Self {
        static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| "unknown".into());
        Self::plain(UNKNOWN.clone(), UNKNOWN.clone(), false)
    }

    /// Of somebody for whom nobody vouches.
    pub fn plain(tenant: Tenant, principal: Arc<str>, swap: bool) -> Self {
        Self { tenant, team: None, service: None, key: None, principal, swap, may_purge: false, grant: None }
    }

    /// Whether what it has shown still holds.
    pub fn holds(&self, now: Time) -> bool {
        self.grant.as_ref().is_none_or(|grant| grant.validity.holds(now))
    }
}

/// What identification needs to know of the deployment.
#[derive(Clone, Copy)]
pub struct Deployment<'a> {
    /// Who can show who it is.
    pub clients: &'a Clients,
    /// Key of the digests of passed-through credentials.
    pub salt: &'a [u8; 32],
    /// The time, by which keys and tokens expire.
    pub now: Time,
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
/// 401 when a key or token of ours is needed and missing or not good, or when one was presented and the provider has no credential; 403 when
/// the client may not call the route; 503 when the keys of a token's issuer are not known.
pub fn identify(deployment: Deployment<'_>, asked: Asked<'_>, headers: &HeaderMap, query: Option<&str>) -> Result<Identity, Problem> {
    let route = asked.route;
    let headers = telling(headers, asked.provider);
    refuse_in_query(deployment.clients, asked.credentials, query)?;
    let shown = shown(deployment, asked.provider, headers)?;
    let swaps = route.credential == CredentialMode::Swap;
    let identity = match &shown {
        Shown { as_credential: true, .. } => swapped(deployment, asked, shown.who, (headers, query))?,
        Shown { who, .. } if swaps && (who.is_some() || deployment.clients.is_empty()) => {
            swapped(deployment, asked, shown.who, (headers, query))?
        }
        _ if swaps => return Err(refused(IdentityRefusal::NoCredential, wanted(deployment.clients, route))),
        _ => passed(deployment, asked, shown.who, (headers, query)),
    };
    admitted(route, &identity).map(|()| identity)
}

fn wanted(clients: &Clients, route: &Route) -> String {
    let name = &route.name;
    if clients.tokens.is_empty() {
        return format!("route `{name}` takes a Farthing key: send `Authorization: Bearer fth-...` (make one with `farthing keys new`)");
    }
    format!("route `{name}` takes a token of a configured issuer, or a Farthing key: send it as `Authorization: Bearer ...`")
}

/// Whether the client may call the route: what is for some alone is for nobody who cannot show that it is one of them.
fn admitted(route: &Route, identity: &Identity) -> Result<(), Problem> {
    let granted = identity.grant.as_ref().is_none_or(|grant| grant.may_call(&route.name));
    if granted && (route.tenants.is_empty() && route.teams.is_empty() || is_one_of(route, identity)) {
        return Ok(());
    }
    let detail = format!("this client may not call route `{}`: ask whoever runs Farthing to allow it", route.name);
    Err(refused(IdentityRefusal::Route, detail))
}

fn is_one_of(route: &Route, identity: &Identity) -> bool {
    // A digest of the client's own credential is its own, too; a name that it gave itself is not.
    let vouched = identity.grant.is_some() || (!identity.swap && !is_claimed(&identity.tenant));
    let team = route.teams.is_empty() || identity.team.as_ref().is_some_and(|team| route.teams.contains(team));
    vouched && team && (route.tenants.is_empty() || route.tenants.contains(&identity.tenant))
}

fn is_claimed(tenant: &str) -> bool {
    is_reserved_tenant(tenant) && !tenant.starts_with("p-")
}

/// `headers` where one of them tells who asks, else none: one look at the names costs less than a search for each.
fn telling<'a>(headers: &'a HeaderMap, provider: &Provider) -> &'a HeaderMap {
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    let tells =
        |name: &HeaderName| name.as_str().starts_with("x-farthing-") || is_credential_place(provider, name) || tells_who(name.as_str());
    if headers.keys().any(tells) { headers } else { &NONE }
}

/// What a key or token says of its holder.
struct Vouched {
    tenant: Tenant,
    team: Option<Arc<str>>,
    service: Option<Arc<str>>,
    key: Option<Arc<str>>,
    may_purge: bool,
    grant: Arc<Grant>,
}

impl Vouched {
    fn identity(self, principal: Arc<str>, swap: bool) -> Identity {
        let Self { tenant, team, service, key, may_purge, grant } = self;
        Identity { tenant, team, service, key, principal, swap, may_purge, grant: Some(grant) }
    }
}

/// Whether a text is a key or token of ours, good or not.
pub fn is_ours(clients: &Clients, text: &str) -> bool {
    FarthingKey::id_of(text).is_some() || clients.tokens.are_ours(text)
}

/// The key or token of ours in a header's value, under whatever scheme.
pub fn ours_in(clients: &Clients, value: &HeaderValue) -> Option<String> {
    in_words(value, |word| is_ours(clients, word).then(|| word.to_owned()))
}

/// Who shows a key or token of ours, whatever is asked for: what its holder may do, or why it is not taken.
pub fn holder(clients: &Clients, headers: &HeaderMap, now: Time) -> Option<Result<Arc<Grant>, Problem>> {
    let named = headers.get(KEY_HEADER).map(|value| by_name(clients, value, now));
    let mut credentials = CREDENTIAL_HEADERS.iter().flat_map(|name| headers.get_all(name));
    let shown = named.or_else(|| credentials.find_map(|value| vouched_in(clients, value, now)));
    shown.map(|vouched| vouched.map(|vouched| vouched.grant))
}

/// Takes keys and tokens of ours out of headers that tell who asks: nobody else is to see them.
pub fn strip_ours(clients: &Clients, headers: &mut HeaderMap) {
    if clients.is_empty() {
        return;
    }
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| CREDENTIAL_HEADERS.contains(name) || tells_who(name.as_str())).cloned().collect();
    for name in names {
        if headers.get_all(&name).iter().any(|value| ours_in(clients, value).is_some()) {
            headers.remove(&name);
        }
    }
}

/// Who holds what stands in the header for keys of ours: it can only be meant for us.
fn by_name(clients: &Clients, value: &HeaderValue, now: Time) -> Result<Vouched, Problem> {
    let text = value.to_str().unwrap_or_default().trim();
    vouched(clients, text, now).unwrap_or_else(|| by_key(clients, text, now))
}

/// What a request shows of its client.
struct Shown {
    who: Option<Vouched>,
    /// A key or token of ours stands where a provider's credential would: it must not go on.
    as_credential: bool,
}

fn shown(deployment: Deployment<'_>, provider: &Provider, headers: &HeaderMap) -> Result<Shown, Problem> {
    let Deployment { clients, now, .. } = deployment;
    let as_credential = credential_headers(provider, headers).find_map(|value| vouched_in(clients, value, now));
    let named = headers.get(KEY_HEADER).map(|value| by_name(clients, value, now));
    let shown_as_credential = as_credential.is_some();
    Ok(Shown { who: named.or(as_credential).transpose()?, as_credential: shown_as_credential })
}

/// Who holds the key or token of ours in a header's value, good or not, under whatever scheme it is sent: it must not go on under any.
fn vouched_in(clients: &Clients, value: &HeaderValue, now: Time) -> Option<Result<Vouched, Problem>> {
    in_words(value, |word| vouched(clients, word, now))
}

/// Who holds `text`, where it is a key or token of ours, good or not.
fn vouched(clients: &Clients, text: &str, now: Time) -> Option<Result<Vouched, Problem>> {
    if FarthingKey::id_of(text).is_some() {
        return Some(by_key(clients, text, now));
    }
    let holder = clients.tokens.holder(text, now)?;
    Some(holder.map(|bearer| Vouched {
        tenant: bearer.tenant.clone(),
        team: bearer.team.clone(),
        service: bearer.service.clone(),
        key: None,
        may_purge: false,
        grant: bearer.grant.clone(),
    }))
}

fn by_key(clients: &Clients, text: &str, now: Time) -> Result<Vouched, Problem> {
    let listed = clients.keys.find(text, now)?;
    let key = &listed.key;
    Ok(Vouched {
        tenant: key.tenant.clone(),
        team: key.team.clone(),
        service: key.service.clone(),
        key: Some(key.id.clone()),
        may_purge: key.purge,
        grant: listed.grant.clone(),
    })
}

/// A query is logged by everybody on its way: what stands there is a secret no more, and it is not taken out of what goes on.
fn refuse_in_query(clients: &Clients, credentials: &Credentials, query: Option<&str>) -> Result<(), Problem> {
    let ours = |pair: &str| {
        let text = pair.split_once('=').map_or(pair, |(_, value)| value);
        is_ours(clients, text)
    };
    if !clients.is_empty() && query.is_some_and(|query| credentials.pairs(query).any(ours)) {
        let detail =
            "a Farthing key or token stands in the query: send it as `Authorization: Bearer ...`, and replace it, for it was logged";
        return Err(refused(IdentityRefusal::InQuery, detail));
    }
    Ok(())
}

fn swapped(
    deployment: Deployment<'_>,
    asked: Asked<'_>,
    who: Option<Vouched>,
    (headers, query): (&HeaderMap, Option<&str>),
) -> Result<Identity, Problem> {
    let Asked { route, provider, .. } = asked;
    if provider.credential.is_none() && provider.credential_place != CredentialPlace::None {
        let detail = format!(
            "a Farthing key or token was presented for route `{}`, but provider `{}` has no `credential` to send instead: configure one, or \
             send your own",
            route.name, provider.name
        );
        return Err(refused(IdentityRefusal::NothingToSend, detail));
    }
    // What looks like a credential but goes out as it came (`token` may be a page's name) is in no key, so it is in the principal.
    let mut digest = Digest::new(deployment.salt);
    digest.query(asked.credentials, query);
    digest.likely(deployment.clients, provider, headers);
    let digest = digest.text();
    let tenant = who.as_ref().map_or_else(|| named_tenant(headers), |who| who.tenant.clone());
    let principal = principal(&tenant, digest.as_ref());
    Ok(match who {
        Some(who) => who.identity(principal, true),
        None => Identity::plain(tenant, principal, true),
    })
}

fn passed(deployment: Deployment<'_>, asked: Asked<'_>, who: Option<Vouched>, (headers, query): (&HeaderMap, Option<&str>)) -> Identity {
    let mut digest = Digest::new(deployment.salt);
    digest.headers(asked.provider, headers);
    digest.query(asked.credentials, query);
    let tenant = match (&who, digest.text()) {
        (Some(who), _) => who.tenant.clone(),
        (None, Some(digest)) => digest,
        (None, None) => named_tenant(headers),
    };
    // What only looks like a credential keeps answers apart; it does not say who pays.
    digest.likely(deployment.clients, asked.provider, headers);
    let principal = principal(&tenant, digest.text().as_ref());
    match who {
        Some(who) => who.identity(principal, false),
        None => Identity::plain(tenant, principal, false),
    }
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

/// Every value of a header that may hold a credential.
fn credential_headers<'a>(provider: &'a Provider, headers: &'a HeaderMap) -> impl Iterator<Item = &'a HeaderValue> {
    credential_places(provider).flat_map(|name| headers.get_all(name))
}

/// Whether a credential may stand in a header of this name: one that is taken out where the provider's own goes out.
fn is_credential_place(provider: &Provider, name: &HeaderName) -> bool {
    CREDENTIAL_HEADERS.contains(name) || matches!(&provider.credential_place, CredentialPlace::Header(place) if place == name)
}

/// The headers that may hold a credential: where client libraries put one, and where the provider wants it.
fn credential_places(provider: &Provider) -> impl Iterator<Item = &HeaderName> {
    let place = match &provider.credential_place {
        CredentialPlace::Header(name) => Some(name),
        _ => None,
    };
    CREDENTIAL_HEADERS.iter().chain(place.filter(|name| !CREDENTIAL_HEADERS.contains(name)))
}

/// Takes every credential of the client out of what goes on: the provider's own is put in by its upstream, where it has one.
pub fn strip_credentials(provider: &Provider, headers: &mut HeaderMap) {
    for name in credential_places(provider).chain([&PROXY_AUTHORIZATION]) {
        headers.remove(name);
    }
}
