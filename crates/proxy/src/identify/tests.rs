use base64::Engine;
use farthing_config::{Config, Rights, Secret};
use http::StatusCode;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (http::HeaderName::from_static(n), v.parse().unwrap())).collect()
}

fn clients(keys: &[FarthingKey]) -> Clients {
    Clients::new(&Config { keys: keys.to_vec(), ..Config::default() }, &[7; 32]).unwrap()
}

fn run(keys: &[FarthingKey], route: &Route, provider: &Provider, pairs: &[(&'static str, &str)]) -> Result<Identity, Problem> {
    let asked = Asked { route, provider, credentials: &Credentials::default() };
    identify(Deployment { clients: &clients(keys), salt: &[7; 32], now: Time::ZERO }, asked, &headers(pairs), None)
}

fn basic(pair: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
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

/// A list of places would always be one short: what the names say decides.
#[test]
fn a_credential_or_a_user_in_any_header_is_a_principal_too() {
    let (route, provider) = (Route::default(), Provider::default());
    let who = |pairs: &[(&'static str, &str)]| run(&[], &route, &provider, pairs).unwrap();
    let plain = who(&[]);
    for name in [
        "xi-api-key",
        "private-token",
        "ocp-apim-subscription-key",
        "x-rapidapi-key",
        "x-auth-token",
        "x-mbx-apikey",
        "x-cmc_pro_api_key",
        "x-shopify-access-token",
        "x-amz-security-token",
        "x-client-secret",
        "x-authorization",
        "token",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-goog-authenticated-user-email",
        "cf-access-jwt-assertion",
        "x-ms-client-principal-id",
        "x-amzn-oidc-data",
        "remote-user",
        "x-user-id",
        "x-session-id",
    ] {
        let (a, b) = (who(&[(name, "a")]), who(&[(name, "b")]));
        assert!(a.principal != b.principal && a.principal != plain.principal, "{name}");
        assert_eq!((&a, &*a.tenant), (&who(&[(name, "a")]), ANONYMOUS), "{name}: who pays is as it was");
    }
    for name in ["idempotency-key", "x-idempotency-key", "sec-websocket-key", "sec-fetch-user", "x-csrf-token", "surrogate-key", "accept"] {
        assert_eq!(who(&[(name, "a")]), plain, "{name}");
    }
    // Beside a credential of a known place the tenant is that one's digest, and the name that it gave itself stays.
    let beside = |user: &'static str| who(&[("authorization", "Bearer sk-a"), ("x-forwarded-user", user)]);
    let alone = who(&[("authorization", "Bearer sk-a")]);
    assert_eq!(beside("alice").tenant, alone.tenant);
    assert!(beside("alice").principal != beside("bob").principal && beside("alice").principal != alone.principal);
    assert_eq!(&*who(&[("x-farthing-tenant", "acme"), ("x-forwarded-user", "alice")]).tenant, "named-acme");
    assert_eq!(who(&[("x-a-key", "1"), ("x-b-key", "2")]), who(&[("x-b-key", "2"), ("x-a-key", "1")]), "in whatever order");
    // Also where a Farthing key says who pays: the others go on as they came.
    let (secret, key) = FarthingKey::generate("acme").unwrap();
    let provider = Provider { credential: Some(Secret::new("sk-real")), ..Provider::default() };
    let ours = |pairs: &[(&'static str, &str)]| {
        let all = [&[("x-api-key", secret.expose())], pairs].concat();
        run(std::slice::from_ref(&key), &route, &provider, &all).unwrap()
    };
    let (alice, bob) = (ours(&[("x-forwarded-user", "alice")]), ours(&[("x-forwarded-user", "bob")]));
    assert!(alice.swap && alice.principal != bob.principal && alice.tenant == bob.tenant);
    assert_eq!(ours(&[("x-auth-token", secret.expose())]), ours(&[]), "what is ours has said it already");
}

#[test]
fn what_is_ours_goes_on_in_no_header() {
    let (secret, key) = FarthingKey::generate("acme").unwrap();
    let known = clients(&[key]);
    let mut all = headers(&[
        ("authorization", &basic(&format!("{}:x", secret.expose()))),
        ("private-token", secret.expose()),
        ("x-auth-token", "theirs"),
        ("x-api-key", "sk-own"),
    ]);
    strip_ours(&known, &mut all);
    assert_eq!(all, headers(&[("x-auth-token", "theirs"), ("x-api-key", "sk-own")]));
}

#[test]
fn a_query_credential_is_a_principal_too() {
    let (route, provider, credentials) = (Route::default(), Provider::default(), Credentials::new(["key", "our-place"]));
    let asked = Asked { route: &route, provider: &provider, credentials: &credentials };
    let run = |query: &str| {
        let deployment = Deployment { clients: &clients(&[]), salt: &[7; 32], now: Time::ZERO };
        identify(deployment, asked, &HeaderMap::new(), Some(query)).unwrap()
    };
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
        let deployment = Deployment { clients: &clients(std::slice::from_ref(&key)), salt: &[7; 32], now: Time::ZERO };
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

#[test]
fn a_key_is_known_wherever_it_stands_and_however_its_scheme_is_spelled() {
    let (secret, key) = FarthingKey::generate("acme").unwrap();
    let provider = Provider {
        credential: Some(Secret::new("sk-real")),
        credential_place: CredentialPlace::Header("x-ours".parse().unwrap()),
        ..Provider::default()
    };
    for (name, value) in [
        ("authorization", format!("Bearer {}", secret.expose())),
        ("authorization", format!("bEARER  {}", secret.expose())),
        ("authorization", secret.expose().to_owned()),
        ("x-api-key", secret.expose().to_owned()),
        ("x-goog-api-key", secret.expose().to_owned()),
        ("api-key", secret.expose().to_owned()),
        ("x-ours", secret.expose().to_owned()),
        // As `curl -u KEY:` and others send it; `Bearer` by the library and once more by its user.
        ("authorization", basic(&format!("{}:", secret.expose()))),
        ("authorization", basic(&format!("any:{}", secret.expose()))),
        ("authorization", basic(&format!(":{}", secret.expose())).replace('=', "")),
        ("authorization", format!("Token {}", secret.expose())),
        ("authorization", format!("Token token=\"{}\", v=1", secret.expose())),
        ("authorization", format!("Bearer Bearer {}", secret.expose())),
        ("x-api-key", format!("ApiKey {}", secret.expose())),
    ] {
        let identity = run(std::slice::from_ref(&key), &Route::default(), &provider, &[(name, &value)]).unwrap();
        assert!(identity.swap && &*identity.tenant == "acme", "{name}: {value}");
    }
    // Also behind another value of the same header.
    let mut two = headers(&[("authorization", "Bearer sk-own")]);
    two.append("authorization", format!("Bearer {}", secret.expose()).parse().unwrap());
    let route = Route::default();
    let asked = Asked { route: &route, provider: &provider, credentials: &Credentials::default() };
    let known = clients(std::slice::from_ref(&key));
    let deployment = Deployment { clients: &known, salt: &[7; 32], now: Time::ZERO };
    assert!(identify(deployment, asked, &two, None).unwrap().swap);
    // In the query it would go on, and is logged on the way.
    let credentials = Credentials::new(["key"]);
    let asked = Asked { credentials: &credentials, ..asked };
    let query = format!("q=1&key={}", secret.expose());
    assert_eq!(identify(deployment, asked, &HeaderMap::new(), Some(&query)).unwrap_err().kind, "credential-in-query");
}

#[test]
fn who_may_call_what_fails_closed() {
    let (secret, mut key) = FarthingKey::generate("acme").unwrap();
    key.team = Some("search".into());
    let (bound, other) = FarthingKey::generate("other").unwrap();
    let other = FarthingKey { rights: Rights { routes: Some(vec!["geo".into()]), ..Rights::default() }, ..other };
    let provider = Provider { credential: Some(Secret::new("sk-real")), ..Provider::default() };
    let keys = [key, other];
    let route = |name: &str, tenants: &[&str], teams: &[&str]| Route {
        name: name.into(),
        tenants: tenants.iter().map(|t| Tenant::from(*t)).collect(),
        teams: teams.iter().map(|t| Arc::from(*t)).collect(),
        ..Route::default()
    };
    let ask = |route: &Route, name: &'static str, value: &str| {
        run(&keys, route, &provider, &[(name, value)]).map_err(|p| (p.status.as_u16(), p.kind))
    };
    let (acme, other) = (secret.expose(), bound.expose());
    let forbidden = Some((403, "route-forbidden"));
    for (route, name, value, refusal) in [
        (route("any", &[], &[]), "x-farthing-key", acme, None),
        (route("any", &[], &[]), "x-farthing-key", other, forbidden),
        (route("geo", &[], &[]), "x-farthing-key", other, None),
        (route("geo", &["acme"], &[]), "x-farthing-key", other, forbidden),
        (route("geo", &["acme"], &[]), "x-farthing-key", acme, None),
        (route("geo", &[], &["search"]), "x-farthing-key", acme, None),
        (route("geo", &["acme"], &["search"]), "x-farthing-key", acme, None),
        (route("geo", &["third"], &["search"]), "x-farthing-key", acme, forbidden),
        (route("geo", &["acme"], &["ads"]), "x-farthing-key", acme, forbidden),
        (route("geo", &[], &["search"]), "authorization", "Bearer sk-own", forbidden),
        (route("geo", &["acme"], &[]), "authorization", "Bearer sk-own", forbidden),
        (route("geo", &["acme"], &[]), "x-farthing-tenant", "acme", forbidden),
        (route("geo", &["acme"], &[]), "accept", "*/*", forbidden),
    ] {
        assert_eq!(ask(&route, name, value).err(), refusal, "{} {:?} {name}", route.name, route.tenants);
    }
    // A credential that passes through can be allowed by its digest, and by it alone.
    let digest = ask(&route("geo", &[], &[]), "authorization", "Bearer sk-own").unwrap().tenant;
    assert!(ask(&route("geo", &[&digest], &[]), "authorization", "Bearer sk-own").is_ok());
    assert!(ask(&route("geo", &[&digest], &[]), "authorization", "Bearer sk-two").is_err());
}
