//! The table `[fleet]`.

use farthing_types::Span;

use super::l2::reached;
use super::section::Section;
use super::values as v;
use crate::FleetConfig;

/// No hit waits for it; an instance may be a data centre away from its Redis.
const DEADLINE: Span = Span::from_millis(50);

/// Longer than Redis is usually away, and than calls usually take.
const LIMITS_ALONE: Span = Span::from_secs(3_600);
/// Instances of a fleet, those that are gone included.
const MOST_INSTANCES: u64 = 256;

/// Reads the table.
pub(crate) fn read(s: &Section<'_, '_>) -> FleetConfig {
    let mut out = FleetConfig {
        name: s.need("name", v::name, "name the fleet, alike on all its instances: name = \"main\"").unwrap_or_default(),
        server: reached(s),
        deadline: DEADLINE,
        fill_leases: true,
        bypass_on_partition: true,
        limits_alone: LIMITS_ALONE,
        instances: None,
        shared_config: true,
        instance: None,
    };
    s.set("deadline", v::positive_span, &mut out.deadline);
    s.set("on_partition", v::word(&[("bypass", true), ("serve", false)]), &mut out.bypass_on_partition);
    s.set("fill_leases", v::flag, &mut out.fill_leases);
    s.set("limits_alone", v::long_span, &mut out.limits_alone);
    s.set_opt("instances", v::count(1..=MOST_INSTANCES), &mut out.instances);
    s.set("shared_config", v::flag, &mut out.shared_config);
    s.set_opt("instance", v::name, &mut out.instance);
    out
}

/// Digests are what instances speak of to each other: each with a salt of its own would understand nothing.
pub(crate) fn check(top: &Section<'_, '_>) {
    if top.has("fleet") && !top.has("salt") {
        top.wrong(
            "salt",
            "missing, and [fleet] needs the same one on all instances",
            "make one with `openssl rand -hex 32`, and write salt = { env = \"NAME\" } or { file = \"path\" }",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{Config, ConfigError, Flags, Surroundings};

    struct Fake;

    impl Surroundings for Fake {
        fn var(&self, name: &str) -> Option<String> {
            (name == "SALT").then(|| "a salt of some length".to_owned())
        }
        fn file(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn read(salt: &str, lines: &str) -> Result<Config, ConfigError> {
        let text = format!("{salt}\n[providers.geo]\nbase_url = \"http://h\"\n{lines}\n");
        Config::parse(&text, "test.toml", &Flags::default(), &Fake)
    }

    const SALT: &str = "salt = { env = \"SALT\" }";

    #[test]
    fn there_is_none_unless_it_is_asked_for_and_every_key_is_read() {
        assert_eq!(read(SALT, "").unwrap().fleet, None);
        let fleet = read(SALT, "[fleet]\nname = \"main\"\naddresses = [\"redis://a\"]").unwrap().fleet.unwrap();
        assert_eq!((&*fleet.name, fleet.deadline, fleet.bypass_on_partition, fleet.instance), ("main", DEADLINE, true, None));
        assert!(fleet.fill_leases && fleet.shared_config);
        assert_eq!((fleet.limits_alone, fleet.instances), (LIMITS_ALONE, None));
        let lines = "[fleet]\nname = \"m\"\naddresses = [\"redis://a\", \"redis://b\"]\ncluster = true\nuser = \"u\"\npassword = { env = \"SALT\" }\n\
                     deadline = \"7ms\"\nfill_leases = false\non_partition = \"serve\"\ninstance = \"one\"\n\
                     limits_alone = \"10m\"\ninstances = 4\nshared_config = false";
        let fleet = read(SALT, lines).unwrap().fleet.unwrap();
        assert_eq!((fleet.deadline, fleet.instance.as_deref()), (Span::from_millis(7), Some("one")));
        assert_eq!((fleet.limits_alone, fleet.instances), (Span::from_secs(600), Some(4)));
        assert!(!fleet.bypass_on_partition);
        assert!(fleet.server.cluster && fleet.server.password.is_some() && fleet.server.user.as_deref() == Some("u"));
        assert!(!fleet.fill_leases && !fleet.shared_config && fleet.server.addresses.len() == 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_key_and_remedy() {
        for (lines, key, remedy) in [
            ("addresses = [\"redis://a\"]", "fleet.name", "alike on all its instances"),
            ("name = \"a b\"\naddresses = [\"redis://a\"]", "fleet.name", "letters, digits"),
            ("name = \"a\"", "fleet.addresses", "redis://host:6379"),
            ("name = \"a\"\naddresses = [\"localhost\"]", "fleet.addresses", "redis://host:6379"),
            ("name = \"a\"\naddresses = [\"redis://a\", \"redis://b\"]", "fleet.addresses", "cluster = true"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\ndeadline = \"0s\"", "fleet.deadline", "longer than zero"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\non_partition = \"stop\"", "fleet.on_partition", "\"bypass\", \"serve\""),
            ("name = \"a\"\naddresses = [\"redis://a\"]\ninstance = \"{}\"", "fleet.instance", "letters, digits"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\nfill_leases = \"on\"", "fleet.fill_leases", "true or false"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\nmembers = 3", "fleet.members", "unknown key"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\nlimits_alone = \"3s\"", "fleet.limits_alone", "ten seconds at least"),
            ("name = \"a\"\naddresses = [\"redis://a\"]\ninstances = 0", "fleet.instances", "from 1 to 256"),
        ] {
            let error = read(SALT, &format!("[fleet]\n{lines}")).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(remedy), "{lines}: {error}");
        }
        let unsalted = read("", "[fleet]\nname = \"a\"\naddresses = [\"redis://a\"]").unwrap_err().to_string();
        assert!(unsalted.contains("salt") && unsalted.contains("openssl rand"), "{unsalted}");
    }
}
