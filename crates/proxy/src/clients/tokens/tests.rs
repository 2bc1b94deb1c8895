//! B1, B5: tokens made by another implementation (`scripts/make_tokens.py`), good and hostile; sets of keys that come, change and go.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farthing_config::{JwksPlace, JwksSource, JwtAlgorithm, JwtClaims, JwtFamily, Rights, Secret};
use farthing_types::{Tenant, VirtualClock};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::mpsc;

use super::source::{FetchKeys, Fetched, GAP};
use super::*;

const JWKS: &[u8] = include_bytes!("../../../testdata/tokens/jwks.json");
const ROTATED: &[u8] = include_bytes!("../../../testdata/tokens/rotated.json");
const PEM: &str = include_str!("../../../testdata/tokens/rs.pub.pem");
const NBF: i64 = 1_000_000_000;
const EXP: i64 = 4_000_000_000;
const NOW: Time = Time::from_millis(1_700_000_000_000);

fn all() -> Value {
    serde_json::from_str(include_str!("../../../testdata/tokens/tokens.json")).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn issuer(keys: JwtKeys, algorithms: &[JwtAlgorithm]) -> JwtIssuer {
    JwtIssuer {
        name: "idp".into(),
        issuer: "https://idp.test".into(),
        audiences: vec!["farthing".into()],
        algorithms: algorithms.to_vec(),
        keys,
        leeway: Span::ZERO,
        claims: JwtClaims { team: Some("/team".into()), ..JwtClaims::default() },
        default_tenant: None,
        rights: Rights::default(),
    }
}

fn source() -> JwksSource {
    JwksSource { place: JwksPlace::File("unused".into()), refresh: Duration::from_secs(300), keep: Duration::from_secs(3_600) }
}

fn asymmetric() -> Vec<JwtAlgorithm> {
    JwtAlgorithm::ALL.iter().copied().filter(|algorithm| algorithm.family() != JwtFamily::Hmac).collect()
}

fn tokens(issuer: JwtIssuer) -> Tokens {
    Tokens::new(&[issuer], Arc::default(), &[7; 32]).unwrap()
}

/// Tokens of an issuer whose set was read just now.
fn with_set() -> Tokens {
    let tokens = tokens(issuer(JwtKeys::Set(source()), &asymmetric()));
    tokens.watched().next().unwrap().1.take(KeySet::read(JWKS).unwrap(), NOW);
    tokens
}

fn judged(tokens: &Tokens, token: &str, now: Time) -> Option<Result<Tenant, &'static str>> {
    tokens.holder(token, now).map(|judged| judged.map(|bearer| bearer.tenant.clone()).map_err(|problem| problem.kind))
}

#[test]
fn tokens_of_another_implementation_are_taken() {
    let (all, tokens) = (all(), with_set());
    let good: BTreeMap<String, String> = serde_json::from_value(all["good"].clone()).unwrap();
    assert_eq!(good.len(), 9);
    for (algorithm, token) in &good {
        let bearer = tokens.holder(token, NOW).unwrap().unwrap_or_else(|problem| panic!("{algorithm}: {problem:?}"));
        assert_eq!((&*bearer.tenant, bearer.team.as_deref()), ("acme", Some("search")), "{algorithm}");
    }
    assert!(tokens.holder(&text(&all["in several audiences"]), NOW).unwrap().is_ok());
    assert_eq!(tokens.checked.load(Ordering::Relaxed), 10);
    // Known ones cost a digest, not a signature.
    for token in good.values() {
        assert!(tokens.holder(token, NOW).unwrap().is_ok());
    }
    assert_eq!(tokens.checked.load(Ordering::Relaxed), 10);
}

#[test]
fn a_configured_key_takes_its_own_algorithms() {
    let all = all();
    let pem = JwtKeys::Public { family: JwtFamily::Rsa, pem: PEM.into() };
    let by_pem = tokens(issuer(pem, &[JwtAlgorithm::Rs256]));
    assert_eq!(judged(&by_pem, &text(&all["good"]["RS256"]), NOW), Some(Ok("acme".into())));
    assert_eq!(judged(&by_pem, &text(&all["without a name"]), NOW), Some(Ok("acme".into())));
    assert_eq!(judged(&by_pem, &text(&all["good"]["RS512"]), NOW), Some(Err("token-algorithm")), "of the same key, but not allowed");
    assert_eq!(judged(&by_pem, &text(&all["hostile"]["the public key as a secret"][0]), NOW), Some(Err("token-algorithm")));
    let hs = [JwtAlgorithm::Hs256, JwtAlgorithm::Hs384, JwtAlgorithm::Hs512];
    let by_secret = tokens(issuer(JwtKeys::Secret(Secret::new(text(&all["secret"]))), &hs));
    for algorithm in hs {
        let token = text(&all["secrets"][algorithm.as_str()]);
        assert_eq!(judged(&by_secret, &token, NOW), Some(Ok("acme".into())), "{algorithm}");
    }
    assert_eq!(judged(&by_secret, &text(&all["good"]["RS256"]), NOW), Some(Err("token-algorithm")));
    let another = tokens(issuer(JwtKeys::Secret(Secret::new("x".repeat(64))), &hs));
    assert_eq!(judged(&another, &text(&all["secrets"]["HS256"]), NOW), Some(Err("token-signature")));
}

/// Even where HS is let in beside a set: the set holds no secrets, and a public key is none.
#[test]
fn hostile_tokens_are_refused_each_for_its_reason() {
    let hostile: BTreeMap<String, (String, Option<String>)> = serde_json::from_value(all()["hostile"].clone()).unwrap();
    assert!(hostile.len() > 30);
    for (name, (token, reason)) in &hostile {
        assert_eq!(judged(&with_set(), token, NOW), reason.as_deref().map(|reason| Err(reason_of(reason))), "{name}");
        assert_eq!(with_set().are_ours(token), reason.is_some(), "{name}");
    }
    let lax = tokens(issuer(JwtKeys::Set(source()), JwtAlgorithm::ALL));
    lax.watched().next().unwrap().1.take(KeySet::read(JWKS).unwrap(), NOW);
    for name in ["the public key as a secret", "a secret of the set"] {
        assert_eq!(judged(&lax, &hostile[name].0, NOW), Some(Err("token-unknown-key")), "{name}");
    }
}

fn reason_of(text: &str) -> &'static str {
    IdentityRefusal::parse(text).unwrap().as_str()
}

#[test]
fn damaged_tokens_are_never_taken() {
    let (tokens, good) = (with_set(), text(&all()["good"]["ES256"]));
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        // Another letter of the alphabet; the last one of the signature may differ in bits that are no part of it, and is refused then, too.
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(bytes).unwrap();
        assert!(tokens.holder(&damaged, NOW).is_none_or(|judged| judged.is_err()), "{at}");
        assert!(tokens.holder(&good[..at], NOW).is_none_or(|judged| judged.is_err()), "cut at {at}");
    }
}

#[test]
fn times_are_the_proxys_and_the_leeway_is_as_configured() {
    let token = text(&all()["good"]["RS256"]);
    for leeway in [0i64, 10] {
        let at = |second: i64, nanos: i64| Time::from_nanos(second * 1_000_000_000 + nanos);
        let tokens = || {
            let config = JwtIssuer { leeway: Span::from_secs(leeway as u64), ..issuer(JwtKeys::Set(source()), &asymmetric()) };
            let tokens = tokens(config);
            tokens.watched().next().unwrap().1.take(KeySet::read(JWKS).unwrap(), at(EXP - 1, 0));
            tokens
        };
        for (now, expected) in [
            (at(NBF - leeway, -1), Err("token-not-yet-valid")),
            (at(NBF - leeway, 0), Ok("acme".into())),
            (at(EXP + leeway, -1), Ok("acme".into())),
            (at(EXP + leeway, 0), Err("token-expired")),
            (at(EXP + leeway + 1, 0), Err("token-expired")),
        ] {
            assert_eq!(judged(&tokens(), &token, now), Some(expected), "{now:?} leeway {leeway}");
        }
        // A holder that is remembered is not remembered beyond.
        let known = tokens();
        assert_eq!(judged(&known, &token, at(EXP + leeway, -1)), Some(Ok("acme".into())));
        let held = known.holder(&token, at(EXP + leeway, -1)).unwrap().unwrap();
        assert_eq!(judged(&known, &token, at(EXP + leeway, 0)), Some(Err("token-expired")));
        assert!(!held.holds(at(EXP + leeway, 0)));
    }
}

#[test]
fn without_a_name_the_only_key_of_the_kind_is_meant() {
    let token = text(&all()["without a name"]);
    assert_eq!(judged(&with_set(), &token, NOW), Some(Ok("acme".into())), "one RSA key");
    let mut two: Value = serde_json::from_slice(JWKS).unwrap();
    let rotated: Value = serde_json::from_slice(ROTATED).unwrap();
    two["keys"].as_array_mut().unwrap().push(rotated["keys"][0].clone());
    let tokens = with_set();
    tokens.watched().next().unwrap().1.take(KeySet::read(two.to_string().as_bytes()).unwrap(), NOW);
    assert_eq!(judged(&tokens, &token, NOW), Some(Err("token-unknown-key")), "which one is not said");
}

#[test]
fn sets_that_leave_nothing_are_no_sets() {
    assert_eq!(KeySet::read(JWKS).unwrap().len(), 4);
    for text in [
        "",
        "[]",
        "{}",
        "{\"keys\":[]}",
        "{\"keys\":[1,{\"kty\":\"oct\",\"k\":\"AAAA\"}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
    ] {
        assert!(KeySet::read(text.as_bytes()).is_err(), "{text}");
    }
    assert!(KeySet::read(&vec![b' '; keyset::LONGEST + 1]).unwrap_err().contains("longer"));
}

/// Answers when the test says so.
struct Scripted(tokio::sync::Mutex<mpsc::UnboundedReceiver<Result<Fetched, String>>>, Arc<AtomicU64>);

impl FetchKeys for Scripted {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, String>> {
        async {
            self.1.fetch_add(1, Ordering::Relaxed);
            match self.0.lock().await.recv().await {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

/// Tokens of an issuer whose server does what the test says.
struct Idp {
    tokens: Tokens,
    answers: mpsc::UnboundedSender<Result<Fetched, String>>,
    asked: Arc<AtomicU64>,
    clock: Arc<VirtualClock>,
    stop: CancellationToken,
}

impl Idp {
    fn start() -> Self {
        let tokens = tokens(issuer(JwtKeys::Set(source()), &asymmetric()));
        let (answers, receiver) = mpsc::unbounded_channel();
        let (asked, stop, clock) = (Arc::default(), CancellationToken::new(), Arc::new(VirtualClock::new(NOW)));
        let fetch = Scripted(tokio::sync::Mutex::new(receiver), Arc::clone(&asked));
        let watched = tokens.watched().next().unwrap().1.clone();
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(watched.run(Box::new(fetch), clock.clone(), stop.clone()));
        Self { tokens, answers, asked, clock, stop }
    }

    fn watched(&self) -> &Arc<Watched> {
        self.tokens.watched().next().unwrap().1
    }

    fn answer(&self, text: &[u8], max_age: Option<u64>) {
        let read = Fetched { text: text.to_vec().into(), max_age: max_age.map(Span::from_secs) };
        self.answers.send(Ok(read)).unwrap();
    }

    fn fail(&self) {
        self.answers.send(Err("connection refused".to_owned())).unwrap();
    }

    /// Time goes on, for timers and for the proxy.
    async fn pass(&self, span: Span) {
        tokio::time::sleep(span).await;
        self.clock.advance(span);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn judge(&self, token: &str) -> Result<Tenant, &'static str> {
        judged(&self.tokens, token, self.clock.now()).unwrap()
    }
}

const MOMENT: Span = Span::from_millis(1);

#[tokio::test(start_paused = true)]
async fn the_set_is_read_ahead_cached_for_its_time_and_kept_while_its_server_is_down() {
    let (idp, all) = (Idp::start(), all());
    let (old, new) = (text(&all["good"]["RS256"]), text(&all["rotated"]));
    idp.pass(MOMENT).await;
    assert_eq!(idp.judge(&old), Err("token-keys-unavailable"), "the server has not answered yet");
    idp.fail();
    idp.pass(MOMENT).await;
    assert!(idp.watched().problem().unwrap().contains("connection refused; its tokens are refused"));

    // It comes up: asked again within a second.
    idp.answer(JWKS, None);
    idp.pass(Span::from_millis(1_100)).await;
    assert_eq!((idp.judge(&old), idp.watched().problem(), idp.asked()), (Ok("acme".into()), None, 2));
    idp.pass(Span::from_secs(298)).await;
    assert_eq!(idp.asked(), 2, "cached for five minutes");
    idp.answer(JWKS, Some(60));
    idp.pass(Span::from_secs(2)).await;
    assert_eq!(idp.asked(), 3);
    let checked = idp.tokens.checked.load(Ordering::Relaxed);
    assert_eq!(idp.judge(&old), Ok("acme".into()));
    assert_eq!(idp.tokens.checked.load(Ordering::Relaxed), checked, "the same keys: what was checked holds");

    // It goes down: the last known keys stay, counted, for `jwks_keep`.
    idp.fail();
    idp.pass(Span::from_secs(61)).await;
    assert!(idp.watched().problem().unwrap().contains("the last known keys are used"));
    idp.tokens.forget();
    assert_eq!((idp.judge(&old), idp.watched().by_last_known.load(Ordering::Relaxed)), (Ok("acme".into()), 1));
    assert_eq!(idp.judge(&new), Err("token-keys-unavailable"), "its key may be a new one");
    for _ in 0..100 {
        idp.fail();
    }
    idp.pass(Span::from_secs(3_600)).await;
    assert_eq!(idp.judge(&old), Err("token-keys-unavailable"), "longer than is safe");
    assert!((60..100).contains(&idp.asked()), "once a minute: {}", idp.asked());
    idp.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_at_once_but_not_at_the_pace_of_who_makes_them_up() {
    let (idp, all) = (Idp::start(), all());
    let (old, new, made_up) = (text(&all["good"]["RS256"]), text(&all["rotated"]), text(&all["hostile"]["an unknown key"][0]));
    idp.answer(JWKS, None);
    idp.pass(MOMENT).await;
    let held = idp.tokens.holder(&old, idp.clock.now()).unwrap().unwrap();
    assert_eq!(idp.judge(&made_up), Err("token-unknown-key"), "the set was read just now");
    idp.pass(GAP).await;
    assert_eq!(idp.asked(), 1);

    // Rotation: the first token of the new key makes the set be read.
    assert_eq!(idp.judge(&new), Err("token-keys-unavailable"));
    idp.answer(ROTATED, None);
    idp.pass(MOMENT).await;
    assert_eq!((idp.judge(&new), idp.asked()), (Ok("acme".into()), 2));
    // What the old key signed is not remembered as good any more.
    assert!(!held.holds(idp.clock.now()));
    assert_eq!(idp.judge(&old), Err("token-unknown-key"));

    // A minute of made-up names: a reading each ten seconds, at most.
    for _ in 0..600 {
        assert!(idp.judge(&made_up).is_err());
        if idp.asked() > idp.watched().readings.load(Ordering::Relaxed) {
            idp.answer(ROTATED, None);
        }
        idp.pass(Span::from_millis(100)).await;
    }
    assert!((5..=8).contains(&(idp.asked() - 2)), "{}", idp.asked());
    assert_eq!(idp.judge(&new), Ok("acme".into()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_frozen_or_sends_nonsense_changes_nothing() {
    let (idp, all) = (Idp::start(), all());
    let old = text(&all["good"]["RS256"]);
    idp.answer(JWKS, None);
    idp.pass(MOMENT).await;
    assert_eq!(idp.judge(&old), Ok("acme".into()));
    // No answer: given up after the deadline.
    idp.pass(Span::from_secs(311)).await;
    assert!(idp.watched().problem().unwrap().contains("no answer within 10s"));
    assert_eq!(idp.judge(&old), Ok("acme".into()));
    idp.answer(b"<html>", None);
    idp.answer(b"{\"keys\":[]}", None);
    idp.pass(Span::from_secs(30)).await;
    assert!(idp.watched().is_troubled() && idp.watched().failures.load(Ordering::Relaxed) >= 3);
    assert_eq!(idp.judge(&old), Ok("acme".into()));
}
