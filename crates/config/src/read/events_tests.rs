use super::registry::{EVENT_RULE, EVENTS};
use super::tests::{GEO, good, problems};
use crate::*;

const RULE: &str = "[[events.shop.purges]]\ntype = \"com.shop.*\"\ntags = [\"product-{subject}\"]\n";

fn webhook(lines: &str) -> String {
    format!("{GEO}[routes.geo]\nevents = \"shop\"\n[events.shop]\nkind = \"webhook\"\n{lines}\n{RULE}")
}

fn redis(lines: &str) -> String {
    webhook(lines).replace("webhook", "redis")
}

const SECRETS: &str = "secrets = [{ env = \"HOOK\" }]";
const SERVER: &str = "addresses = [\"redis://h:1\"]\nstream = \"changes\"";

#[test]
fn sources_are_read() {
    let config = good(&webhook(SECRETS));
    let source = &config.events[0];
    assert_eq!((&*source.name, source.down_after, source.soft_on_gap), ("shop", None, false));
    assert_eq!(source.from, EventsFrom::Webhook { keys: vec![SigningKey::new(*b"0123456789abcdef01234567")] });
    assert!(source.rules[0].is_about("com.shop.product") && !source.rules[0].purges.soft);
    let route = config.route("geo").unwrap();
    assert_eq!((route.events.as_deref(), route.ttl_when_down.as_secs()), (Some("shop"), 10));
    let config = good(&redis(&format!("{SERVER}\ndown_after = \"2s\"\non_gap = \"soft\"")));
    assert!(matches!(&config.events[0].from, EventsFrom::Redis { stream, .. } if stream == "changes"));
    assert_eq!((config.events[0].down_after.unwrap().as_secs(), config.events[0].soft_on_gap), (2, true));
    assert_eq!(good(&redis(SERVER)).events[0].down_after.unwrap().as_secs(), 5);
}

#[test]
fn documented_defaults_are_the_defaults() {
    for key in EVENTS.iter().filter(|key| !key.default.is_empty()) {
        assert_eq!(good(&redis(&format!("{SERVER}\n{} = {}", key.name, key.default))), good(&redis(SERVER)), "{}", key.name);
    }
    for key in EVENT_RULE.iter().filter(|key| !key.default.is_empty()) {
        assert_eq!(good(&format!("{}{} = {}\n", redis(SERVER), key.name, key.default)), good(&redis(SERVER)), "{}", key.name);
    }
}

#[test]
fn what_is_wrong_with_a_source_is_said() {
    for (text, says) in [
        (webhook(""), "events.shop.secrets: missing; write secrets = [{ env"),
        (webhook("secrets = [{ env = \"TOKEN\" }]"), "not `whsec_` and base64"),
        (webhook("secrets = [\"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\"]"), "no reference to a secret"),
        (webhook(&format!("{SECRETS}\nstream = \"x\"")), "events.shop.stream: only for kind = \"redis\""),
        (webhook(&format!("{SECRETS}\ndown_after = \"1ms\"")), "shorter than 500ms"),
        (redis(&format!("{SERVER}\n{SECRETS}")), "only for kind = \"webhook\""),
        (redis("stream = \"x\""), "addresses: missing"),
        (redis("addresses = [\"redis://h:1\"]"), "stream: missing; write the key"),
        (redis(SERVER).replace("kind = \"redis\"\n", ""), "write kind = \"webhook\" or"),
        (redis(SERVER).replace("events = \"shop\"", "events = \"shpo\""), "did you mean \"shop\"?"),
        (redis(SERVER).replace("events = \"shop\"\n", ""), "events.shop: no route names it; set events = \"shop\""),
        (redis(SERVER).replace(RULE, ""), "events.shop.purges: missing; say what its events purge"),
        (redis(SERVER).replace("com.shop.*", "com.*.x"), "write one `*`, at the end"),
        (redis(SERVER).replace("{subject}", "{path.1}"), "fields are {subject}"),
        (redis(SERVER).replace("type = \"com.shop.*\"\n", ""), "purges.type: missing"),
    ] {
        let found = problems(&text);
        assert!(found.iter().any(|problem| problem.contains(says)), "{says}: {found:#?}");
        assert!(found.iter().all(|problem| !problem.contains("MDEy")), "a secret is shown: {found:?}");
    }
}
