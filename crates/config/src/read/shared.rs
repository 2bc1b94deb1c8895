//! A configuration in two texts: what a fleet shares, and what is an instance's own.

use toml::de::DeTable;

use super::flags::Flags;
use super::section::{Document, Surroundings, line_of};
use crate::{Config, ConfigError, Problem};

/// Top keys that are each instance's own, also where a fleet keeps one configuration for all: what it needs to reach the fleet, the ports and their guards, what
/// belongs to its machine, and `[alerts]`, since the address of a webhook is often a secret.
const OWN_KEYS: [&str; 11] = ["state_dir", "salt", "seed", "data", "admin", "cache", "l2", "fleet", "log", "models", "alerts"];

/// Whether a top key is an instance's own.
pub(crate) fn is_own(key: &str) -> bool {
    OWN_KEYS.contains(&key)
}

impl Config {
    /// The text that a fleet shares, with the instance's own keys from a text of its own, and `flags` laid over both; each text with its name in errors. Keys that
    /// are an instance's own do not stand in what is shared, and what else the own text says is not asked for.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong.
    pub fn parse_shared(
        shared: (&str, &str),
        own: (&str, &str),
        flags: &Flags,
        surroundings: &dyn Surroundings,
    ) -> Result<Self, ConfigError> {
        let problems = misplaced(shared);
        if !problems.is_empty() {
            return Err(ConfigError::Problems(problems));
        }
        let doc = Document::new(shared.0, shared.1, surroundings).with_own(own);
        let table = doc.parse();
        Self::read(doc, &table, flags)
    }

    /// The instance's own part of a text, which is enough to reach its fleet: all else has its defaults, and there may be no provider.
    ///
    /// # Errors
    /// [`ConfigError::Problems`] with everything that is wrong in that part.
    pub fn parse_own(text: &str, file: &str, flags: &Flags, surroundings: &dyn Surroundings) -> Result<Self, ConfigError> {
        let flags = Flags { upstreams: Vec::new(), prices: Vec::new(), ..flags.clone() };
        let doc = Document::new(file, text, surroundings).of_own_alone();
        let table = doc.parse().into_iter().filter(|(key, _)| is_own(key.get_ref())).collect();
        Self::read(doc, &table, &flags)
    }
}

/// What a text that is shared must not say.
fn misplaced((file, text): (&str, &str)) -> Vec<Problem> {
    let (table, _errors) = DeTable::parse_recoverable(text);
    let problem = |key: &toml::Spanned<toml::de::DeString<'_>>| Problem {
        file: file.to_owned(),
        line: Some(line_of(text, key.span().start)),
        key: key.get_ref().to_string(),
        found: "an instance's own key in what a fleet shares".to_owned(),
        remedy: "take it out; it stays in the file of each instance".to_owned(),
    };
    table.get_ref().keys().filter(|key| is_own(key.get_ref())).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::read::registry;

    struct Fake;

    impl Surroundings for Fake {
        fn var(&self, name: &str) -> Option<String> {
            (name == "SALT").then(|| "a salt of some length".to_owned())
        }
        fn file(&self, _: &str) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    const OWN: &str = "state_dir = \"mine\"\nsalt = { env = \"SALT\" }\n[data]\nlisten = \"127.0.0.1:1\"\n[fleet]\nname = \"f\"\naddresses = [\"redis://a\"]\n";
    const SHARED: &str = "[providers.geo]\nbase_url = \"http://geo.test\"\n[routes.geo]\nprovider = \"geo\"\nmax_ttl = \"7s\"\n";

    fn shared(shared: &str, own: &str) -> Result<Config, ConfigError> {
        Config::parse_shared(("version 3", shared), ("own.toml", own), &Flags::default(), &Fake)
    }

    #[test]
    fn each_key_comes_from_its_text() {
        assert!(OWN_KEYS.iter().all(|own| registry::TOP.iter().any(|key| key.name == *own)));
        let with_others = format!("{OWN}[providers.old]\nbase_url = \"http://old.test\"\n");
        let config = shared(SHARED, &with_others).unwrap();
        assert_eq!((config.state_dir.to_str(), config.data.addr.port()), (Some("mine"), 1));
        assert_eq!(config.routes.iter().map(|route| &*route.name).collect::<Vec<_>>(), ["geo"], "what else the own text says is left out");
        assert_eq!(&*config.fleet.as_ref().unwrap().name, "f");
        // The same as one text of both.
        let one = Config::parse(&format!("{OWN}{SHARED}"), "one.toml", &Flags::default(), &Fake).unwrap();
        assert_eq!(one.changes_to(&config), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_text_and_line() {
        let error = shared(&SHARED.replace("7s", "seven"), OWN).unwrap_err().to_string();
        assert!(error.starts_with("version 3:5: routes.geo.max_ttl"), "{error}");
        let error = shared(SHARED, &OWN.replace("127.0.0.1:1", "here")).unwrap_err().to_string();
        assert!(error.starts_with("own.toml:4: data.listen"), "{error}");
        let error = shared(SHARED, &OWN.replace("[fleet]", "[flet]")).unwrap_err().to_string();
        assert!(error.contains("own.toml:5: flet: unknown key; did you mean `fleet`?"), "{error}");
        let error = shared(&format!("{SHARED}[fleat]\n"), OWN).unwrap_err().to_string();
        assert!(error.starts_with("version 3:6: fleat: unknown key"), "{error}");
        let error = shared("seed = 1 2", "salt = = 2").unwrap_err().to_string();
        assert!(error.contains("version 3:1: seed"), "{error}");
        let error = shared("[providers", "salt = = 2").unwrap_err().to_string();
        assert!(error.contains("version 3:1: not TOML") && error.contains("own.toml:1: not TOML"), "{error}");
    }

    #[test]
    fn what_is_an_instances_own_is_not_shared() {
        let error =
            shared(&format!("{SHARED}[admin]\nlisten = \"0.0.0.0:1\"\n[alerts]\nwebhook = \"https://h/TOKEN\"\n"), OWN).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("version 3:6: admin: an instance's own key") && text.contains("version 3:8: alerts"), "{text}");
        assert!(!text.contains("TOKEN"));
    }

    #[test]
    fn the_own_part_is_enough_to_reach_the_fleet() {
        let broken = format!("{OWN}[routes.geo]\nprovider = \"nobody\"\n");
        let config =
            Config::parse_own(&broken, "own.toml", &Flags { upstreams: vec!["openai".to_owned()], ..Flags::default() }, &Fake).unwrap();
        assert!(config.routes.is_empty() && config.fleet.is_some());
        assert!(Config::parse_own("[fleet]\nname = \"f\"\n", "own.toml", &Flags::default(), &Fake).is_err());
    }
}
