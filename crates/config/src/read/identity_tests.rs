//! Tables about clients: issuers of tokens, keys, tenants.

use super::Flags;
use super::section::Surroundings;
use crate::{Config, ConfigError, JwksPlace, JwtAlgorithm, JwtFamily, JwtKeys};

const GEO: &str = "[providers.geo]\nbase_url = \"https://geo.test\"\n";
const ISSUER: &str = "[[jwt]]\nname = \"idp\"\nissuer = \"https://idp.test\"\naudience = \"farthing\"\n";
const SET: &str = "jwks_url = \"https://idp.test/jwks.json\"\n";

/// Files by name; `salt` is there always.
struct Files(Vec<(&'static str, String)>);

impl Surroundings for Files {
    fn var(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone())
    }
    fn file(&self, path: &str) -> std::io::Result<String> {
        let found = if path.ends_with("salt") { Some("0123456789abcdef0123456789abcdef".to_owned()) } else { self.var(path) };
        found.ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str, files: Vec<(&'static str, String)>) -> Result<Config, String> {
    Config::parse(&format!("{GEO}{text}"), "t", &Flags::default(), &Files(files)).map_err(|error| match error {
        ConfigError::Problems(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    })
}

#[test]
fn an_issuer_is_read_with_its_defaults() {
    let config = read(&format!("{ISSUER}{SET}claims = {{ tenant = \"/org/id\", routes = \"/scope\" }}\n"), vec![]).unwrap();
    let issuer = &config.jwt[0];
    assert_eq!(issuer.algorithms, [JwtAlgorithm::Rs256, JwtAlgorithm::Es256]);
    assert_eq!((&*issuer.claims.tenant, issuer.claims.routes.as_deref(), &issuer.claims.team), ("/org/id", Some("/scope"), &None));
    let JwtKeys::Set(source) = &issuer.keys else { panic!("{:?}", issuer.keys) };
    assert_eq!((source.refresh.as_secs(), source.keep.as_secs()), (300, 86_400));
    assert_eq!(source.place, JwksPlace::Url("https://idp.test/jwks.json".parse().unwrap()));
}

#[test]
fn a_key_belongs_to_one_family_of_algorithms() {
    let secret = || vec![("S", "s".repeat(48)), ("short", "s".repeat(31))];
    let with = |lines: &str| read(&format!("{ISSUER}{lines}"), secret());
    let hs = with("secret = { env = \"S\" }\nalgorithms = [\"HS256\", \"HS384\"]\n").unwrap();
    assert!(matches!(hs.jwt[0].keys, JwtKeys::Secret(_)));
    for (lines, says) in [
        ("secret = { env = \"S\" }\nalgorithms = [\"RS256\"]\n", "RS256 is not for this kind of key"),
        ("secret = { env = \"S\" }\nalgorithms = [\"HS512\"]\n", "fewer than 64 characters"),
        ("secret = { env = \"short\" }\n", "fewer than 32 characters"),
        ("secret = { env = \"S\" }\njwks_keep = \"1h\"\n", "no set of keys is read"),
        ("", "nothing to check signatures with"),
        ("secret = { env = \"S\" }\njwks_file = \"f\"\n", "secret, jwks_file together"),
        ("jwks_url = \"https://idp.test/j\"\nalgorithms = [\"HS256\"]\n", "HS256 is not for this kind of key"),
        ("jwks_url = \"https://idp.test/j\"\nalgorithms = [\"none\"]\n", "write one of \"HS256\""),
        ("jwks_url = \"https://idp.test/j\"\nalgorithms = []\n", "no token could be taken"),
        ("jwks_url = \"http://idp.test/j\"\n", "http is for loopback alone"),
        ("jwks_url = \"https://u:p@idp.test/j\"\n", "write an https URL"),
        ("jwks_url = \"https://idp.test/j\"\njwks_refresh = \"1s\"\n", "shorter than 10s"),
        ("jwks_url = \"https://idp.test/j\"\nleeway = \"10m\"\n", "longer than 5m"),
        ("jwks_url = \"https://idp.test/j\"\ndefault_tenant = \"named-a\"\n", "nobody vouches for"),
    ] {
        let error = with(lines).unwrap_err();
        assert!(error.contains(says), "{lines}: {error}");
    }
    assert!(with("jwks_url = \"http://127.0.0.1:8080/j\"\n").is_ok());
}

#[test]
fn a_public_key_is_known_by_what_it_is() {
    let files = |text: &str| vec![("key.pem", text.to_owned())];
    let with = |text: &str| read(&format!("{ISSUER}public_key = \"key.pem\"\n"), files(text));
    let ec = include_str!("../../testdata/ec256.pub.pem");
    let rsa = include_str!("../../testdata/rsa2048.pub.pem");
    let ed = include_str!("../../testdata/ed25519.pub.pem");
    for (text, family) in [(ec, JwtFamily::Ec), (rsa, JwtFamily::Rsa), (ed, JwtFamily::Ed)] {
        let config = with(text).unwrap();
        let JwtKeys::Public { family: found, .. } = config.jwt[0].keys else { panic!() };
        assert_eq!(found, family);
        assert!(config.jwt[0].algorithms.iter().all(|algorithm| algorithm.family() == family));
    }
    for text in ["", "no key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert!(with(text).unwrap_err().contains("holds no public key"), "{text}");
    }
    assert!(read(&format!("{ISSUER}public_key = \"none.pem\"\n"), vec![]).unwrap_err().contains("cannot be read"));
}

#[test]
fn issuers_are_told_apart() {
    let twice = read(&format!("{ISSUER}{SET}{ISSUER}{SET}"), vec![]).unwrap_err();
    assert!(twice.contains("jwt.name") && twice.contains("jwt.issuer"), "{twice}");
    let other = ISSUER.replace("idp", "other");
    let secret = "secret = { env = \"S\" }\n";
    let shared = read(&format!("{ISSUER}{secret}{other}{secret}"), vec![("S", "s".repeat(32))]).unwrap_err();
    assert!(shared.contains("each could sign for the other"), "{shared}");
}

#[test]
fn what_clients_may_do_names_routes_that_exist() {
    let key = "[[keys]]\nid = \"abcdefabcdef\"\ntenant = \"acme\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
    let good = format!(
        "{key}routes = [\"geo\"]\nexpires = 2027-01-01\nmax_priority = \"internal\"\nsla = \"800ms\"\n[tenants.acme]\npriority = \"background\"\n"
    );
    let config = read(&good, vec![]).unwrap();
    let rights = &config.keys[0].rights;
    assert_eq!(rights.routes.as_deref(), Some(&["geo".into()][..]));
    assert_eq!(config.keys[0].expires.unwrap().millis(), 1_798_761_600_000);
    assert_eq!(config.tenants[0].rights.priority, Some(farthing_types::Priority::Low));
    for (lines, says) in [
        (format!("{key}routes = [\"gea\"]\n"), "no route is called \"gea\"; did you mean \"geo\"?"),
        (format!("{key}routes = []\n"), "nothing could be called"),
        (format!("{key}expires = \"soon\"\n"), "write a day"),
        (key.replace("acme", "named-acme"), "nobody vouches for"),
        ("[tenants.anonymous]\nsla = \"1s\"\n".to_owned(), "a tenant is called"),
        ("[tenants.acme]\nroutes = [\"x\"]\n".to_owned(), "no route is called \"x\""),
        ("[routes.geo]\ntenants = [\"acme\"]\n".to_owned(), "nobody can show who it is"),
        (format!("{key}[routes.geo]\ntenants = [\"named-acme\"]\n"), "write the tenant of a key"),
        ("[routes.geo]\nsla = \"2m\"\n".to_owned(), "longer than deadline"),
    ] {
        let error = read(&lines, vec![]).unwrap_err();
        assert!(error.contains(says), "{lines}: {error}");
    }
    assert!(read(&format!("{key}[routes.geo]\ntenants = [\"acme\"]\nteams = [\"search\"]\n"), vec![]).is_ok());
}
