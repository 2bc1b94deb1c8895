//! Keys of sinks of the kind `clickhouse`.

use super::instance::secret;
use super::section::Section;
use super::sinks::plain_name;
use super::values as v;
use crate::ClickhouseConfig;

/// Keys that not all kinds have.
pub(super) const KEYS: &[&str] = &["url", "user", "password", "database"];
/// A name of a file on the server, with what it adds.
const LONGEST: usize = 128;

pub(super) fn read(s: &Section<'_, '_>) -> ClickhouseConfig {
    const HOW: &str = "write url = \"https://host:8443\", without a path; user, password and database have keys of their own";
    let url = s.need("url", v::text, HOW).unwrap_or_default();
    // Not shown: a password may stand in it.
    if s.has("url") && v::parse_base_url(&url).is_none_or(|url| url.path() != "/") {
        s.wrong("url", "no URL of a ClickHouse server", HOW);
    }
    let mut user = "default".to_owned();
    s.set("user", v::text, &mut user);
    if user.is_empty() || user.chars().any(char::is_control) {
        s.wrong("user", format!("found \"{}\"", user.escape_debug()), "write the name of a user");
    }
    ClickhouseConfig {
        url,
        user,
        password: secret(s, "password"),
        authorities: super::l2::authorities(s),
        database: plain_name(s, "database", LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GEO, good, problems};
    use super::KEYS;
    use crate::*;

    fn sink(lines: &str) -> String {
        format!("{GEO}[[sinks]]\nname = \"events\"\nkind = \"clickhouse\"\n{lines}\n")
    }

    fn clickhouse(lines: &str) -> ClickhouseConfig {
        let config = good(&sink(lines));
        let SinkTarget::Clickhouse(found) = config.sinks[0].target.clone() else { panic!("{config:?}") };
        assert!(!format!("{config:?}").contains("secret-token"));
        found
    }

    #[test]
    fn a_server_is_read() {
        let plain = clickhouse("url = \"http://localhost:8123/\"");
        assert_eq!((&*plain.user, &*plain.database, plain.password), ("default", "farthing", None));
        let all =
            clickhouse("url = \"https://ch.example.com:8443\"\nuser = \"spend\"\npassword = { env = \"TOKEN\" }\ndatabase = \"spend_1\"");
        assert_eq!((&*all.url, &*all.user, &*all.database), ("https://ch.example.com:8443", "spend", "spend_1"));
        assert_eq!(all.password.unwrap().expose(), "secret-token");
    }

    #[test]
    fn what_is_wrong_with_a_server_is_said_with_its_remedy() {
        const GOOD: &str = "url = \"https://h:8443\"";
        for (lines, says) in [
            ("", "sinks.url: missing; write url = \"https://host:8443\""),
            ("url = \"clickhouse://h:9000\"", "sinks.url: no URL of a ClickHouse server; write url = "),
            ("url = \"https://h:8443/spend\"", "sinks.url: no URL of a ClickHouse server"),
            ("url = \"https://h:8443?database=d\"", "sinks.url: no URL of a ClickHouse server"),
            ("url = \"https://u:hunter2@h:8443\"", "password and database have keys of their own"),
            (&format!("{GOOD}\npassword = \"hunter2\""), "no reference to a secret"),
            (&format!("{GOOD}\ndatabase = \"Spend\""), "sinks.database: found \"Spend\""),
            (&format!("{GOOD}\nuser = \"\""), "sinks.user: found \"\""),
            (&format!("{GOOD}\nschema = \"s\""), "sinks.schema: only for kind = \"postgres\"; remove it"),
            (&format!("{GOOD}\nprefix = \"a\""), "sinks.prefix: only for kind = \"s3\""),
            (&format!("{GOOD}\nauthorities = \"none.pem\""), "none.pem cannot be read"),
        ] {
            let found = problems(&sink(lines)).join("\n");
            assert!(found.contains(says), "{lines}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }

    #[test]
    fn each_key_of_the_kind_is_documented() {
        for key in KEYS {
            assert!(super::super::registry::SINK.iter().any(|known| known.name == *key && known.doc.contains("`clickhouse`")), "{key}");
        }
    }
}
