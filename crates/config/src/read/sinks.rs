//! The tables `[[sinks]]`.

use std::collections::BTreeSet;
use std::sync::Arc;

use farthing_types::Span;

use super::instance::secret;
use super::registry;
use super::section::Section;
use super::values as v;
use crate::{LOG_TABLES, LogConfig, PostgresConfig, SinkConfig, SinkTarget};

const DEADLINE: Span = Span::from_secs(30);
const INTERVAL: Span = Span::from_secs(5);
/// Days go as a whole.
const SHORTEST_RETENTION: Span = Span::from_secs(86_400);
/// PostgreSQL cuts longer names.
const LONGEST_SCHEMA: usize = 63;

#[derive(Clone, Copy)]
enum Kind {
    Postgres,
    S3,
    Clickhouse,
}

/// The kinds with their words, and the keys that not all of them have.
const KINDS: [(&str, &[&str]); 3] =
    [("postgres", &["url", "password", "schema"]), ("s3", super::sinks_s3::KEYS), ("clickhouse", super::sinks_clickhouse::KEYS)];

/// Reads every sink.
pub(crate) fn read(top: &Section<'_, '_>, log: &LogConfig) -> Vec<SinkConfig> {
    let mut names = BTreeSet::new();
    let mut sinks = Vec::new();
    for table in top.array("sinks") {
        let s = Section::open(top.doc, table, "sinks", registry::SINK);
        let sink = sink(&s);
        if !log.enabled {
            s.wrong("name", "a sink without a log", "set log.enabled = true, or remove the sink: what is shipped are the log's files");
        }
        if let Some(sink) = &sink
            && !names.insert(sink.name.clone())
        {
            s.wrong("name", format!("a second sink is called \"{}\"", sink.name), "give each a name of its own");
        }
        sinks.extend(sink);
    }
    sinks
}

fn sink(s: &Section<'_, '_>) -> Option<SinkConfig> {
    let name: Option<Arc<str>> = s.need("name", v::name, "write a name, such as name = \"warehouse\"");
    let words = v::word(&[("postgres", Kind::Postgres), ("s3", Kind::S3), ("clickhouse", Kind::Clickhouse)]);
    let kind = s.need("kind", words, "write kind = \"postgres\", \"clickhouse\" or \"s3\"").unwrap_or(Kind::Postgres);
    only_for(s, kind);
    let mut sink = SinkConfig {
        name: name.clone().unwrap_or_else(|| "".into()),
        tables: tables(s),
        deadline: DEADLINE,
        interval: INTERVAL,
        retention: s.opt("retention", v::span),
        target: match kind {
            Kind::Postgres => SinkTarget::Postgres(postgres(s)),
            Kind::S3 => SinkTarget::S3(super::sinks_s3::read(s)),
            Kind::Clickhouse => SinkTarget::Clickhouse(super::sinks_clickhouse::read(s)),
        },
    };
    s.set("deadline", v::positive_span, &mut sink.deadline);
    s.set("interval", v::positive_span, &mut sink.interval);
    if sink.retention.is_some_and(|span| span < SHORTEST_RETENTION) {
        s.wrong("retention", "less than a day", "write at least \"1d\": rows go with their day");
    }
    name.map(|_| sink)
}

/// Keys that belong to other kinds would be ignored: nobody means that.
fn only_for(s: &Section<'_, '_>, kind: Kind) {
    let (word, own) = KINDS[kind as usize];
    let mut others: Vec<&str> = KINDS.iter().filter(|(of, _)| *of != word).flat_map(|(_, keys)| keys.iter().copied()).collect();
    others.sort_unstable();
    others.dedup();
    for key in others.into_iter().filter(|key| !own.contains(key) && s.has(key)) {
        let of: Vec<String> = KINDS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(of, _)| format!("kind = \"{of}\"")).collect();
        let of = of.join(" or ");
        s.wrong(key, format!("only for {of}"), format!("remove it, or set {of}"));
    }
}

fn tables(s: &Section<'_, '_>) -> Vec<&'static str> {
    let words = &[("requests", LOG_TABLES[0]), ("calls", LOG_TABLES[1]), ("decisions", LOG_TABLES[2]), ("outcomes", LOG_TABLES[3])];
    let Some(named) = s.opt("tables", v::list(v::word(words))) else { return LOG_TABLES.to_vec() };
    if named.is_empty() {
        s.wrong("tables", "no table", "name some, or remove the key: then all four go there");
    }
    // Each needs those before it: alone it could not be told whose its rows are.
    let last = LOG_TABLES.iter().rposition(|table| named.contains(table) && LOG_TABLES[2..].contains(table));
    if let Some(missing) = LOG_TABLES[..last.unwrap_or(0)].iter().find(|table| !named.contains(table)) {
        let found = format!("\"{}\" without \"{missing}\"", LOG_TABLES[last.unwrap_or(0)]);
        s.wrong("tables", found, format!("add \"{missing}\": without it a tenant could not be forgotten there"));
    }
    LOG_TABLES.into_iter().filter(|table| named.contains(table)).collect()
}

fn postgres(s: &Section<'_, '_>) -> PostgresConfig {
    const HOW: &str = "write url = \"postgres://user@host:5432/database\"";
    let url = s.need("url", v::text, HOW).unwrap_or_default();
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    match rest {
        // Not shown: a password may stand in it.
        None if s.has("url") => s.wrong("url", "no URL of a PostgreSQL database", HOW),
        Some(rest) if has_password(rest) => {
            s.wrong("url", "a password in the URL", "take it out, and write password = { env = \"NAME\" } or { file = \"path\" }");
        }
        _ => {}
    }
    let schema = plain_name(s, "schema", LONGEST_SCHEMA);
    if schema.starts_with("pg_") {
        s.wrong("schema", format!("found \"{schema}\""), "write another: names that begin with `pg_` are the server's own");
    }
    PostgresConfig { url, password: secret(s, "password"), authorities: super::l2::authorities(s), schema }
}

/// A name that needs no quotes anywhere.
pub(super) fn plain_name(s: &Section<'_, '_>, key: &'static str, longest: usize) -> String {
    let mut name = "farthing".to_owned();
    s.set(key, v::text, &mut name);
    let plain = (1..=longest).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !plain {
        s.wrong(
            key,
            format!("found \"{name}\""),
            format!("write up to {longest} small letters, digits and '_', not beginning with a digit"),
        );
    }
    name
}

/// `user:password@host` or `?password=`.
fn has_password(rest: &str) -> bool {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = place.split('/').next().unwrap_or_default().rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::super::registry::SINK;
    use super::super::tests::{GEO, good, problems};
    use crate::*;

    const URL: &str = "url = \"postgres://farthing@db.example.com/log\"";

    fn sink(lines: &str) -> String {
        format!("{GEO}[[sinks]]\nname = \"warehouse\"\nkind = \"postgres\"\n{lines}\n")
    }

    #[test]
    fn sinks_are_read() {
        let lines = "password = { env = \"TOKEN\" }\nschema = \"spend\"\ntables = [\"calls\", \"requests\"]\nretention = \"400d\"\ndeadline = \"5s\"";
        let config = good(&sink(&format!("{URL}\n{lines}")));
        let sink = &config.sinks[0];
        assert_eq!((&*sink.name, &*sink.tables, sink.deadline.as_secs()), ("warehouse", &["requests", "calls"][..], 5));
        assert_eq!(sink.retention.unwrap().as_secs(), 400 * 86_400);
        let SinkTarget::Postgres(postgres) = &sink.target else { panic!("{sink:?}") };
        assert_eq!((&*postgres.schema, postgres.password.is_some()), ("spend", true));
        assert!(!format!("{config:?}").contains(postgres.password.as_ref().unwrap().expose()));
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        for key in SINK.iter().filter(|key| !key.default.is_empty()) {
            let of_postgres = !["user", "database"].contains(&key.name);
            let plain = if of_postgres { sink(URL) } else { sink("url = \"https://h\"").replace("\"postgres\"", "\"clickhouse\"") };
            assert_eq!(good(&format!("{plain}{} = {}\n", key.name, key.default)), good(&plain), "{}", key.name);
        }
    }

    #[test]
    fn what_is_wrong_with_a_sink_is_said_with_its_remedy() {
        let two = format!("{}[[sinks]]\nname = \"warehouse\"\nkind = \"postgres\"\n{URL}\n", sink(URL));
        for (text, says) in [
            (sink(""), "sinks.url: missing; write url = \"postgres://user@host:5432/database\""),
            (sink("url = \"mysql://h/d\""), "sinks.url: no URL of a PostgreSQL database"),
            (sink("url = \"postgres://u:hunter2@h/d\""), "a password in the URL; take it out"),
            (sink("url = \"postgres://u@h/d?password=hunter2\""), "a password in the URL; take it out"),
            (sink(&format!("{URL}\npassword = \"hunter2\"")), "no reference to a secret"),
            (sink(&format!("{URL}\nschema = \"Spend\"")), "sinks.schema: found \"Spend\""),
            (sink(&format!("{URL}\nschema = \"\"")), "sinks.schema: found \"\""),
            (sink(&format!("{URL}\ntables = []")), "sinks.tables: no table"),
            (sink(&format!("{URL}\ntables = [\"costs\"]")), "write one of \"requests\", \"calls\""),
            (sink(&format!("{URL}\ntables = [\"calls\", \"decisions\"]")), "\"decisions\" without \"requests\"; add \"requests\""),
            (sink(&format!("{URL}\ntables = [\"requests\", \"calls\", \"outcomes\"]")), "\"outcomes\" without \"decisions\""),
            (sink(&format!("{URL}\nretention = \"1h\"")), "at least \"1d\""),
            (sink(&format!("{URL}\nauthorities = \"none.pem\"")), "none.pem cannot be read"),
            (sink(&format!("{URL}\npasword = {{ env = \"TOKEN\" }}")), "did you mean `password`?"),
            (two, "a second sink is called \"warehouse\""),
            (format!("{}[log]\nenabled = false\n", sink(URL)), "a sink without a log"),
            (sink(URL).replace("postgres\"\n", "mysql\"\n"), "write one of \"postgres\", \"s3\", \"clickhouse\""),
            (sink(&format!("{URL}\nbucket = \"b\"")), "sinks.bucket: only for kind = \"s3\"; remove it, or set kind = \"s3\""),
            (sink(&format!("{URL}\ndatabase = \"d\"")), "sinks.database: only for kind = \"clickhouse\""),
            (sink(&format!("{URL}\nschema = \"pg_own\"")), "sinks.schema: found \"pg_own\""),
        ] {
            let found = problems(&text).join("\n");
            assert!(found.contains(says), "{text}: {found}");
            assert!(!found.contains("hunter2"), "{found}");
        }
    }
}
