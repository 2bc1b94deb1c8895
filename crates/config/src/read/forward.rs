//! `[forward]`.

use toml::de::DeValue;

use super::registry;
use super::section::{Bad, Section, show};
use super::values as v;
use crate::{Config, ForwardConfig};

/// Reads the table, when the keys and issuers of `config` are known.
pub(crate) fn read(top: &Section<'_, '_>, config: &Config) -> Option<ForwardConfig> {
    let s = Section::open(top.doc, top.table("forward")?, "forward", registry::FORWARD);
    let mut forward = ForwardConfig { auth: !config.keys.is_empty() || !config.jwt.is_empty(), ..ForwardConfig::default() };
    s.set("providers", v::flag, &mut forward.providers);
    s.set("pass", v::list(parsed), &mut forward.pass);
    s.set("tunnel", v::list(parsed), &mut forward.tunnel);
    s.set("ports", v::list(v::count(1..=65_535)), &mut forward.ports);
    s.set("networks", v::list(parsed), &mut forward.networks);
    s.set("names", v::list(v::host), &mut forward.names);
    s.set("auth", v::flag, &mut forward.auth);
    s.set("connect_timeout", v::positive_span, &mut forward.connect_timeout);
    s.set("deadline", v::positive_span, &mut forward.deadline);
    s.set("idle", v::positive_span, &mut forward.idle);
    s.set("longest", v::positive_span, &mut forward.longest);
    if forward.auth && config.keys.is_empty() && config.jwt.is_empty() {
        s.wrong("auth", "true, but nobody could show who it is", "add [[keys]] (`farthing keys new`) or [[jwt]]");
    }
    let opens = !forward.pass.is_empty() || !forward.tunnel.is_empty();
    if opens && !forward.auth && !s.has("auth") && !config.data.addr.ip().is_loopback() {
        let key = if forward.tunnel.is_empty() { "pass" } else { "tunnel" };
        let found = format!("{} can be reached from outside, and whoever reaches it could use it", config.data.addr);
        s.wrong(key, found, "add [[keys]], listen on 127.0.0.1, or say `auth = false` where the network keeps others out");
    }
    Some(forward)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(value: &DeValue<'_>) -> Result<T, Bad> {
    let text = value.as_str().ok_or_else(|| Bad { found: show(value), remedy: "write a text in quotes".to_owned() })?;
    text.parse().map_err(|error: T::Err| Bad { found: show(value), remedy: error.to_string() })
}

#[cfg(test)]
mod tests {
    use crate::read::tests::{GEO, good, problems};

    #[test]
    fn a_table_is_read_and_what_would_open_the_port_to_anybody_is_refused() {
        let with = |keys: &str| format!("{keys}\n{GEO}");
        assert_eq!(good(GEO).forward, None);
        let forward = good(&with("[forward]\ntunnel = [\"*.example.com\", \"h:8443\"]\nnetworks = [\"10.0.0.0/8\"]\nports = [443]\n"))
            .forward
            .unwrap();
        assert_eq!(
            (format!("{:?}", forward.tunnel), &*forward.ports, forward.auth),
            ("[*.example.com, h:8443]".to_owned(), &[443][..], false)
        );
        let key = crate::FarthingKey::generate("acme").unwrap().1;
        let keys = format!("[[keys]]\nid = \"{}\"\nsha256 = \"{}\"\ntenant = \"acme\"\n[forward]\n", key.id, hex::encode(key.sha256));
        assert!(good(&with(&keys)).forward.unwrap().auth);
        let outside = "[data]\nlisten = \"0.0.0.0:8787\"\n[forward]\npass = [\"*\"]\n";
        assert!(good(&with(&format!("{outside}auth = false\n"))).forward.is_some());
        for (text, part) in [
            (outside.to_owned(), "forward.pass: 0.0.0.0:8787 can be reached from outside"),
            ("[forward]\nauth = true\n".to_owned(), "forward.auth: true, but nobody could show who it is"),
            ("[forward]\ntunnel = [\"https://a\"]\n".to_owned(), "forward.tunnel: found"),
            ("[forward]\nnetworks = [\"10.1.1.1/8\"]\n".to_owned(), "forward.networks: found"),
            ("[forward]\nports = [0]\n".to_owned(), "forward.ports: found"),
            ("[forward]\nopen = true\n".to_owned(), "forward.open: unknown key"),
        ] {
            let found = problems(&with(&text));
            assert!(found.len() == 1 && found[0].contains(part), "{text}\n{found:#?}");
        }
    }
}
