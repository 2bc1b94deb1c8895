//! Where the configuration of `farthing serve` comes from: its own file and flags, and what its fleet keeps.

use std::sync::{Arc, OnceLock};

use farthing_config::{Config, ConfigError};
use farthing_proxy::{SharedConfig, UnreadConfig};

use crate::adapters::config::{Read, Source};
use crate::flags::ConfigFlags;

/// See the module.
pub struct Origin {
    flags: ConfigFlags,
    shared: OnceLock<Arc<SharedConfig>>,
}

/// What an instance starts with.
pub struct Beginning {
    /// The configuration, or everything that is wrong.
    pub config: Result<Config, ConfigError>,
    /// Digest of its text, where that could be read.
    pub digest: Option<Arc<str>>,
}

impl Origin {
    /// Of flags; nothing is read yet.
    pub fn new(flags: ConfigFlags) -> Arc<Self> {
        Arc::new(Self { flags, shared: OnceLock::new() })
    }

    /// What its fleet keeps; `None` where it goes by its own file alone.
    pub fn shared(&self) -> Option<&Arc<SharedConfig>> {
        self.shared.get()
    }

    /// What to start with: what the fleet keeps, where this instance belongs to one that keeps something that it can run; else its own file. On a runtime, and
    /// waits for Redis for a moment.
    pub async fn begin(&self) -> Beginning {
        if let Some(shared) = self.open() {
            shared.first().await;
            let shared = self.shared.get_or_init(|| shared);
            if let Some((config, digest)) = shared.begin(farthing_proxy::could_run) {
                return Beginning { config: Ok(config), digest: Some(digest) };
            }
        }
        let (config, digest) = self.flags.read(None);
        Beginning { config, digest }
    }

    /// What is wrong with its own part, or with the way to Redis, the start tells that follows.
    fn open(&self) -> Option<Arc<SharedConfig>> {
        let own = self.flags.read_own().ok()?;
        let flags = self.flags.clone();
        let read = move |name: &str, text: &str| {
            let (config, digest) = flags.read_shared(name, text);
            match config {
                Ok(config) => Ok((config, digest)),
                Err(error) => Err(UnreadConfig { problem: error.to_string(), digest: Some(digest) }),
            }
        };
        SharedConfig::open(&own, Box::new(read)).ok()?
    }
}

/// The same again, later.
impl Source for Origin {
    fn read(&self, instead: Option<&str>) -> Read {
        let shared = self.shared();
        let in_force = || shared.and_then(|shared| shared.in_force()).map(|version| (version.name(), version.document.text));
        let text = match instead {
            // Where the fleet keeps something, another text is one for the fleet.
            Some(text) => shared.and_then(|shared| shared.newest()).map(|_| ("the text".to_owned(), text.to_owned())),
            None => in_force(),
        };
        let (config, digest) = match text {
            Some((name, text)) => {
                let (config, digest) = self.flags.read_shared(&name, &text);
                (config, Some(digest))
            }
            None => self.flags.read(instead),
        };
        Read { config: config.map_err(|error| error.to_string()), digest }
    }

    fn file(&self) -> Option<String> {
        self.flags.config.as_ref().map(|file| file.display().to_string())
    }
}
