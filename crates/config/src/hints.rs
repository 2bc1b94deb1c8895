//! What a configuration that can be used is unlikely to be meant as.

use crate::{Config, CredentialMode, Provider};

impl Config {
    /// What whoever wrote it should know: nothing of it keeps it from being used.
    pub fn hints(&self) -> Vec<String> {
        let unused = self.providers.iter().filter(|provider| self.is_never_sent(provider));
        let hint = |provider: &Provider| {
            format!(
                "providers.{}.credential: no client's request can use it: its routes pass the clients' own credentials on, and there are no keys and \
                 no issuers of tokens; add [[keys]] (farthing keys new) or [[jwt]], or remove it",
                provider.name
            )
        };
        unused.map(|provider| hint(provider)).collect()
    }

    /// Whether a provider has a credential that goes out for nobody: no route swaps it in, and nobody can show a key or token of ours.
    fn is_never_sent(&self, provider: &Provider) -> bool {
        let shown = !self.keys.is_empty() || !self.jwt.is_empty();
        let mut routes = self.routes.iter().filter(|route| route.asks(&provider.name));
        // Warming has no client.
        provider.credential.is_some() && !shown && !routes.any(|route| route.credential == CredentialMode::Swap || route.warm.is_some())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Flags, Surroundings};

    struct All;
    impl Surroundings for All {
        fn var(&self, _name: &str) -> Option<String> {
            Some("a secret of some length".to_owned())
        }
        fn file(&self, _path: &str) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn a_credential_that_nobody_can_use_is_told() {
        const PROVIDER: &str = "salt = { env = \"S\" }\n[providers.geo]\nbase_url = \"http://geo.test\"\ncredential_place = \"bearer\"\ncredential = { env = \"K\" }\n";
        let key = format!("[[keys]]\nid = \"aaaaaaaaaaaa\"\ntenant = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
        for (more, hints) in [("", 1), ("[routes.geo]\nprovider = \"geo\"\ncredential = \"swap\"\n", 0), (&key, 0)] {
            let config = Config::parse(&format!("{PROVIDER}{more}"), "f.toml", &Flags::default(), &All).unwrap();
            let found = config.hints();
            assert_eq!(found.len(), hints, "{more}: {found:?}");
            assert!(
                found.iter().all(|hint| hint.starts_with("providers.geo.credential") && hint.contains("farthing keys new")),
                "{found:?}"
            );
        }
    }
}
