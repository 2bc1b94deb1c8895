//! Metamorphic: whatever of a request changes, the key changes, unless it is on a list with a reason.

use http::HeaderValue;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const KEYER: Keyer = Keyer::new([9; 16]);

fn spec(profile: Profile, body: BodyKey) -> KeySpec {
    KeySpec { profile, body, credentials: Arc::new(Credentials::default()) }
}

struct Request {
    tenant: String,
    method: Method,
    authority: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            tenant: "acme".into(),
            method: Method::GET,
            authority: "api.example.com".into(),
            target: "/v1/items?b=2&a=1".into(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }
}

impl Request {
    fn key(&self, spec: &KeySpec) -> KeyHash {
        let target: Uri = self.target.parse().unwrap();
        let parts = KeyParts {
            tenant: &self.tenant,
            route: "geo",
            method: &self.method,
            authority: &self.authority,
            target: &target,
            headers: &self.headers,
            body: &self.body,
        };
        KEYER.primary(spec, &parts)
    }
    fn get(target: &str) -> KeyHash {
        Self::get_in(Profile::Http, target)
    }
    fn get_in(profile: Profile, target: &str) -> KeyHash {
        Self { target: target.into(), ..Self::default() }.key(&spec(profile, BodyKey::Ignored))
    }
    fn json(profile: Profile, body: &Value) -> KeyHash {
        Self { body: body.to_string().into(), ..Self::default() }.key(&spec(profile, BodyKey::CanonicalJson))
    }
    fn body(text: &str, how: BodyKey) -> KeyHash {
        Self { body: text.into(), ..Self::default() }.key(&spec(Profile::Api, how))
    }
}

#[test]
fn every_part_counts() {
    let base = Request::default().key(&spec(Profile::Api, BodyKey::Exact));
    let changed = [
        Request { tenant: "other".into(), ..Request::default() },
        Request { method: Method::HEAD, ..Request::default() },
        Request { authority: "api.example.com:8080".into(), ..Request::default() },
        Request { target: "/v1/item?b=2&a=1".into(), ..Request::default() },
        Request { body: b"x".to_vec(), ..Request::default() },
        // The same bytes, cut elsewhere.
        Request { tenant: "acm".into(), authority: "eapi.example.com".into(), ..Request::default() },
    ];
    let mut keys: Vec<KeyHash> = changed.iter().map(|r| r.key(&spec(Profile::Api, BodyKey::Exact))).collect();
    keys.push(base);
    keys.push(Request::default().key(&spec(Profile::Http, BodyKey::Exact)));
    keys.push(Keyer::new([8; 16]).principal(b"x"));
    keys.push(KEYER.principal(b"x"));
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
    let upper = Request { authority: "API.example.com".into(), ..Request::default() };
    assert_eq!(upper.key(&spec(Profile::Api, BodyKey::Exact)), base, "hosts have no case");
}

#[test]
fn the_order_of_parameters_does_not_count_but_that_of_equal_ones_does() {
    assert_eq!(Request::get("/x?a=1&b=2"), Request::get("/x?b=2&a=1&"));
    assert_ne!(Request::get("/x?a=1&a=2"), Request::get("/x?a=2&a=1"));
    assert_ne!(Request::get("/x?a"), Request::get("/x?a="), "APIs may tell them apart");
    assert_ne!(Request::get("/x?a=1"), Request::get("/x?a=1&a=1"));
    assert_ne!(Request::get("/x?a=%31"), Request::get("/x?a=1"), "spelling is not interpreted");
    assert_ne!(Request::get("/x?a=1&b=2"), Request::get("/x?a=1%26b=2"));
}

#[test]
fn credentials_in_the_query_are_left_out_of_key_and_log() {
    for name in CREDENTIAL_NAMES {
        assert_eq!(Request::get(&format!("/x?q=1&{name}=secret")), Request::get(&format!("/x?{name}=other&q=1")), "{name}");
        assert_eq!(Request::get(&format!("/x?q=1&{}=s", name.to_uppercase())), Request::get("/x?q=1"), "{name}");
    }
    assert_eq!(Request::get("/x?q=1&%6bey=secret"), Request::get("/x?q=1"), "however it is spelled");
    assert_ne!(Request::get("/x?q=1&monkey=1"), Request::get("/x?q=1"));
    let credentials = Credentials::default();
    let target: Uri = "/x?q=a%20b&KEY=secret&token&r=1".parse().unwrap();
    assert_eq!(credentials.log_text(&target), "/x?q=a%20b&KEY=REDACTED&token=REDACTED&r=1");
    assert_eq!(credentials.pairs(target.query().unwrap()).collect::<Vec<_>>(), ["KEY=secret", "token"]);
    assert_eq!(credentials.log_text(&"/plain".parse().unwrap()), "/plain");
}

#[test]
fn headers_enter_by_profile() {
    let with = |name: &str| {
        let mut request = Request::default();
        request.headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
        request
    };
    let (http, api) = (spec(Profile::Http, BodyKey::Ignored), spec(Profile::Api, BodyKey::Ignored));
    for (entry, reason) in NOT_IN_KEY {
        assert!(reason.len() > 3);
        let name = entry.replace('*', "anything");
        assert_eq!(with(&name).key(&api), Request::default().key(&api), "{name}");
    }
    for name in ["accept", "accept-language", "content-type", "openai-organization", "anthropic-version", "x-anything", "cookie", "dates"] {
        assert_ne!(with(name).key(&api), Request::default().key(&api), "{name}");
        assert_eq!(with(name).key(&http), Request::default().key(&http), "{name}");
    }
}

#[test]
fn the_deny_list_is_sorted_and_versioned() {
    assert!(NOT_IN_KEY.is_sorted_by_key(|(name, _)| *name));
    assert!(OF_ONE_SENDING.iter().all(|of| NOT_IN_KEY.iter().any(|(name, _)| name == of)), "what names a sending is in no key");
    assert!(NOT_IN_KEY.iter().all(|(name, _)| !name.contains('*') || (name.starts_with("x-") && name.ends_with('*'))));
    // Whoever changes the list changes this line and the version with it.
    let text: String = NOT_IN_KEY.iter().map(|(name, _)| format!("{name},")).collect();
    assert_eq!((NOT_IN_KEY_VERSION, &blake3::hash(text.as_bytes()).to_hex()[..16]), (3, "3a24c8f0c1e36c22"));
}

#[test]
fn keys_are_frozen() {
    // A change of this value empties every cache outside of the process: raise KEY_VERSION on purpose only.
    assert_eq!(Request::default().key(&spec(Profile::Api, BodyKey::Exact)).to_string(), "9c4410ad6d5b6f5a9d6456e1108efa13");
}

#[test]
fn canonical_json_ignores_order_and_white_space_only() {
    let same = |a, b| Request::body(a, BodyKey::CanonicalJson) == Request::body(b, BodyKey::CanonicalJson);
    assert!(same(r#"{"a":1,"b":[1,2]}"#, " { \"b\" : [1, 2],\n\"a\":1 } "));
    assert!(!same("[1,2]", "[2,1]"));
    assert!(!same(r#"{"a":1}"#, r#"{"a":"1"}"#));
    assert!(!same(r#"{"a":null}"#, "{}"));
    // Numbers keep their spelling: they may mean different things to an API, and floats must not merge large integers.
    assert!(!same("[9007199254740993]", "[9007199254740992]"));
    assert!(!same("[123456789012345678901234567890]", "[123456789012345678901234567891]"));
    assert!(!same("[1.00000000000000000001]", "[1.0]"));
    // What canonical form would lose is compared byte by byte.
    assert!(!same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
    assert!(!same("{bad", "{bad "));
    let (deep, deeper) = ("[".repeat(500) + &"]".repeat(500), "[".repeat(500) + " " + &"]".repeat(500));
    assert!(!same(&deep, &deeper));
    assert_ne!(Request::body(r#"{"a":1}"#, BodyKey::Exact), Request::body(r#"{"a": 1}"#, BodyKey::Exact));
    assert_eq!(Request::body("x", BodyKey::Ignored), Request::body("y", BodyKey::Ignored));
}

#[test]
fn vary_is_read_strictly() {
    let read = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for v in values {
            headers.append(http::header::VARY, HeaderValue::from_static(v));
        }
        vary(&headers)
    };
    assert_eq!(read(&[]), Vary::No);
    assert_eq!(read(&[" , "]), Vary::No);
    assert_eq!(read(&["*"]), Vary::Star);
    assert_eq!(read(&["accept", "origin, *"]), Vary::Star);
    assert_eq!(read(&["bad name"]), Vary::Star);
    let Vary::Names(names) = read(&["Origin, ACCEPT", "origin"]) else { panic!() };
    assert_eq!(names.iter().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept", "origin"]);
}

#[test]
fn selected_keys_follow_the_named_fields_only() {
    let key = |pairs: &[(&'static str, &'static str)], names: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for (n, v) in pairs {
            headers.append(HeaderName::from_static(n), HeaderValue::from_static(v));
        }
        let names: Vec<HeaderName> = names.iter().map(|n| HeaderName::from_static(n)).collect();
        KEYER.selected(KeyHash(1), &names, &headers)
    };
    assert_eq!(key(&[("origin", "a"), ("accept", "x")], &["origin"]), key(&[("origin", "a")], &["origin"]));
    assert_ne!(key(&[("origin", "a")], &["origin"]), key(&[("origin", "b")], &["origin"]));
    assert_ne!(key(&[("origin", "")], &["origin"]), key(&[], &["origin"]));
    let same = |a: &[(&'static str, &'static str)], b: &[(&'static str, &'static str)]| key(a, &["foo"]) == key(b, &["foo"]);
    assert!(same(&[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]) && same(&[("foo", "1,2")], &[("foo", " 1 ,\t2 ")]));
    assert!(!same(&[("foo", "1, 2")], &[("foo", "2, 1")]) && !same(&[("foo", "a b")], &[("foo", "ab")]));
    assert!(!same(&[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")]), "a quoted string is one value");
    assert!(!same(&[("foo", "\"a\\\", b\"")], &[("foo", "\"a\\\",b\"")]));
    let language = ["accept-language"];
    assert_eq!(key(&[("accept-language", "eN, De")], &language), key(&[("accept-language", " en ,de")], &language));
    assert_ne!(key(&[("accept-language", "en, de")], &language), key(&[("accept-language", "de, en")], &language));
    let accept = ["accept-encoding"];
    assert_eq!(key(&[("accept-encoding", "gzip, br")], &accept), key(&[("accept-encoding", "BR,gzip")], &accept));
    assert_ne!(key(&[("accept-encoding", "gzip, br")], &accept), key(&[("accept-encoding", "gzip")], &accept));
    assert_ne!(key(&[("accept-encoding", "gzip;q=0")], &accept), key(&[("accept-encoding", "gzip")], &accept));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// All values made from `value` by changing one leaf or by removing one member.
fn neighbours(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) => (0..items.len())
            .flat_map(|i| neighbours(&items[i]).into_iter().map(move |n| (i, n)))
            .map(|(i, n)| {
                let mut items = items.clone();
                items[i] = n;
                Value::Array(items)
            })
            .collect(),
        Value::Object(members) => {
            let mut out = Vec::new();
            for (name, member) in members {
                let mut less = members.clone();
                less.remove(name);
                out.push(Value::Object(less));
                for n in neighbours(member) {
                    let mut changed = members.clone();
                    changed.insert(name.clone(), n);
                    out.push(Value::Object(changed));
                }
            }
            out
        }
        Value::String(text) => vec![json!(format!("{text}x")), Value::Null],
        Value::Number(n) => vec![json!(n.as_i64().unwrap().wrapping_add(1)), json!(n.to_string())],
        Value::Bool(b) => vec![json!(!b)],
        Value::Null => vec![json!(false)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_json_leaf_counts(value in json_value()) {
        for profile in [Profile::Http, Profile::Api] {
            let key = Request::json(profile, &value);
            for other in neighbours(&value) {
                prop_assert_ne!(Request::json(profile, &other), key, "{:?}: {} and {}", profile, value, other);
            }
        }
    }

    #[test]
    fn every_parameter_counts(api in any::<bool>(), pairs in vec(("[b-d]{1,2}", "[0-9]{0,2}"), 1..5), at in any::<prop::sample::Index>()) {
        let profile = if api { Profile::Api } else { Profile::Http };
        let query = |pairs: &[(String, String)]| {
            Request::get_in(profile, &format!("/x?{}", pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("&")))
        };
        let key = query(&pairs);
        let at = at.index(pairs.len());
        let mut changed = pairs.clone();
        changed[at].1.push('x');
        prop_assert_ne!(query(&changed), key);
        changed = pairs.clone();
        changed[at].0.push('x');
        prop_assert_ne!(query(&changed), key);
        changed = pairs.clone();
        changed.remove(at);
        prop_assert_ne!(query(&changed), key);
        changed = pairs.clone();
        changed.sort_by(|a, b| b.0.cmp(&a.0));
        prop_assert_eq!(query(&changed), key);
    }

    #[test]
    fn every_header_counts_in_api(pairs in vec(("y-[a-z]{1,3}", "[a-z]{0,3}"), 1..5), at in any::<prop::sample::Index>()) {
        let key = |pairs: &[(String, String)]| {
            let mut request = Request::default();
            for (name, value) in pairs {
                request.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            request.key(&spec(Profile::Api, BodyKey::Ignored))
        };
        let base = key(&pairs);
        let at = at.index(pairs.len());
        let mut changed = pairs.clone();
        changed[at].1.push('z');
        prop_assert_ne!(key(&changed), base);
        changed = pairs.clone();
        changed.remove(at);
        prop_assert_ne!(key(&changed), base);
        changed = pairs.clone();
        changed.sort_by(|a, b| b.0.cmp(&a.0));
        prop_assert_eq!(key(&changed), base, "the order of different names has no meaning");
    }

    /// Whatever a change does to a field that `Vary` names, it does to the key, unless the two lists say the same; other fields do not.
    #[test]
    fn every_header_named_in_vary_counts(
        fields in vec(("[f-h]", "[a-c, ]{0,6}"), 1..4), named in vec("[f-h]", 1..3), at in any::<prop::sample::Index>(), to in "[a-c, ]{0,6}"
    ) {
        let names: Vec<HeaderName> = named.iter().map(|n| HeaderName::from_bytes(n.as_bytes()).unwrap()).collect();
        let map = |fields: &[(String, String)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let at = at.index(fields.len());
        let mut changed = fields.clone();
        changed[at].1 = to;
        let (before, after) = (map(&fields), map(&changed));
        let list = |headers: &HeaderMap| {
            let texts: Vec<_> = headers.get_all(&*fields[at].0).iter().map(|v| v.to_str().unwrap().to_owned()).collect();
            texts.join(",").split(',').map(|member| member.trim().to_owned()).collect::<Vec<_>>()
        };
        let same = KEYER.selected(KeyHash(1), &names, &before) == KEYER.selected(KeyHash(1), &names, &after);
        prop_assert_eq!(same, !named.contains(&fields[at].0) || list(&before) == list(&after));
        let mut absent = before.clone();
        absent.remove(&*fields[at].0);
        prop_assert_eq!(KEYER.selected(KeyHash(1), &names, &before) == KEYER.selected(KeyHash(1), &names, &absent), !named.contains(&fields[at].0));
    }

    #[test]
    fn long_bodies_count_to_the_last_byte(length in 1000usize..3000, at in any::<prop::sample::Index>()) {
        let mut request = Request { body: vec![b'a'; length], ..Request::default() };
        let spec = spec(Profile::Api, BodyKey::Exact);
        let key = request.key(&spec);
        request.body[at.index(length)] = b'b';
        prop_assert_ne!(request.key(&spec), key);
    }
}
