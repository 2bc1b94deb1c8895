//! The table `[l2]`.

use std::io;
use std::path::PathBuf;

use farthing_types::Span;

use super::*;
use crate::{L2Redis, L2Store};

struct Fake;

impl Surroundings for Fake {
    fn var(&self, name: &str) -> Option<String> {
        let text = match name {
            "SHORT" => "thirty-one characters are few..",
            "LONG" => "thirty-two characters are enough",
            "SALT" => "a salt of some length",
            _ => return None,
        };
        Some(text.to_owned())
    }
    fn file(&self, path: &str) -> io::Result<String> {
        if path == "ca.pem" { Ok("certificates".to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

fn read(lines: &str) -> Result<Config, ConfigError> {
    let text = format!("salt = {{ env = \"SALT\" }}\n[providers.geo]\nbase_url = \"http://h\"\n{lines}\n");
    Config::parse(&text, "test.toml", &Flags::default(), &Fake)
}

#[test]
fn there_is_none_unless_it_is_asked_for() {
    assert_eq!(read("").unwrap().l2, None);
    let l2 = read("[l2]").unwrap().l2.unwrap();
    assert_eq!(l2.store, L2Store::Disk { dir: PathBuf::from(".farthing/l2"), max_bytes: 1 << 30 });
    assert_eq!((l2.deadline, l2.encrypt), (Span::from_millis(50), None));
}

#[test]
fn a_cluster_with_everything() {
    let l2 = read(
        "[l2]\nkind = \"redis\"\naddresses = [\"rediss://a:1\", \"rediss://b:2\"]\ncluster = true\nuser = \"u\"\npassword = { env = \"SHORT\" }\n\
         authorities = \"ca.pem\"\nencrypt = { env = \"LONG\" }\nmax_value = \"2MB\"",
    );
    let l2 = l2.unwrap().l2.unwrap();
    let L2Store::Redis(L2Redis { addresses, cluster, user, password, authorities }) = l2.store else { panic!("{l2:?}") };
    assert_eq!((addresses.len(), cluster, user.as_deref(), authorities.as_deref()), (2, true, Some("u"), Some("certificates")));
    assert!(password.is_some() && l2.encrypt.is_some());
    assert_eq!((l2.deadline, l2.max_value), (Span::from_millis(5), 2_000_000));
}

#[test]
fn what_cannot_be_meant_is_refused_with_key_and_remedy() {
    for (lines, key, said) in [
        ("kind = \"memcached\"", "l2.kind", "\"disk\", \"redis\""),
        ("kind = \"redis\"", "l2.addresses", "missing"),
        ("kind = \"redis\"\naddresses = [\"localhost:6379\"]", "l2.addresses", "redis://host:6379"),
        ("kind = \"redis\"\naddresses = [\"redis://a\", \"redis://b\"]", "l2.addresses", "cluster = true"),
        ("kind = \"redis\"\naddresses = [\"redis://a\"]\nmax_bytes = \"2GiB\"", "l2.max_bytes", "only for kind"),
        ("addresses = [\"redis://a\"]", "l2.addresses", "only for kind"),
        ("cluster = true", "l2.cluster", "only for kind"),
        ("encrypt = { env = \"SHORT\" }", "l2.encrypt", "openssl rand"),
        ("encrypt = \"the secret itself\"", "l2.encrypt", "env"),
        ("max_bytes = \"1kB\"", "l2.max_bytes", "from 1048576"),
        ("kind = \"redis\"\naddresses = [\"redis://a\"]\nauthorities = \"no.pem\"", "l2.authorities", "cannot be read"),
        ("size = 1", "l2.size", "unknown key"),
    ] {
        let error = read(&format!("[l2]\n{lines}")).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(said), "{lines}: {error}");
    }
    let secret = read("[l2]\nkind = \"redis\"\naddresses = [\"http://:hunter2@h\"]").unwrap_err().to_string();
    assert!(!secret.contains("hunter2"), "{secret}");
}
