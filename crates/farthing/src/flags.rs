//! Flags that choose and override the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use farthing_config::{Config, ConfigError, Flags, Mode, Surroundings, System};
use farthing_proxy::config_digest;

/// How far answers may deviate from what the origin says.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ModeFlag {
    /// Never more than RFC 9111 allows.
    Respect,
    /// A predicted TTL where the origin gave no explicit freshness.
    Learned,
    /// The route's TTL whatever the origin says.
    Override,
    /// Changes no answer, logs all.
    Observe,
}

impl From<ModeFlag> for Mode {
    fn from(flag: ModeFlag) -> Self {
        match flag {
            ModeFlag::Respect => Self::Respect,
            ModeFlag::Learned => Self::Learned,
            ModeFlag::Override => Self::Override,
            ModeFlag::Observe => Self::Observe,
        }
    }
}

/// The configuration: a file, flags, or both; flags override the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFlags {
    /// TOML file; docs/config.md lists its keys.
    #[arg(long, value_name = "FILE", env = "FARTHING_CONFIG")]
    pub config: Option<PathBuf>,
    /// A preset's name or NAME=URL; may be repeated.
    #[arg(long = "upstream", value_name = "PRESET|NAME=URL")]
    pub upstreams: Vec<String>,
    /// Dollars per call where no price is known, or NAME=DOLLARS for one upstream; may be repeated.
    #[arg(long = "price", value_name = "DOLLARS|NAME=DOLLARS")]
    pub prices: Vec<String>,
    /// Mode of all routes.
    #[arg(long, value_enum)]
    pub mode: Option<ModeFlag>,
    /// Address of the data port; port 0 asks the system for one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin port.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Directory of the log.
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
    /// Directory of the model store.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", env = "FARTHING_ONNXRUNTIME")]
    pub onnxruntime: Option<PathBuf>,
}

impl ConfigFlags {
    /// Reads file and flags.
    ///
    /// # Errors
    /// Everything that is wrong in them.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.read(None).0
    }

    /// Reads file and flags, with a text in place of the file's where there is one; and the digest of the text, where it could be read.
    pub fn read(&self, instead: Option<&str>) -> (Result<Config, ConfigError>, Option<Arc<str>>) {
        let text = match instead {
            Some(text) => {
                Ok((self.config.as_ref().map_or_else(|| "flags".into(), |file| file.to_string_lossy().into_owned()), text.to_owned()))
            }
            None => self.own_text(),
        };
        match text {
            Ok((name, text)) => (Config::parse(&text, &name, &self.flags(), &System), Some(config_digest(&text))),
            Err(error) => (Err(error), None),
        }
    }

    /// Reads the instance's own part of file and flags.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn read_own(&self) -> Result<Config, ConfigError> {
        let (name, text) = self.own_text()?;
        Config::parse_own(&text, &name, &self.flags(), &System)
    }

    /// Reads a text that a fleet shares, called `name` in errors, with the instance's own part of file and flags; and the digest of that text.
    pub fn read_shared(&self, name: &str, shared: &str) -> (Result<Config, ConfigError>, Arc<str>) {
        let read = |(own_name, own): (String, String)| Config::parse_shared((name, shared), (&own_name, &own), &self.flags(), &System);
        (self.own_text().and_then(read), config_digest(shared))
    }

    /// The name of the file, or of the flags, and its text.
    fn own_text(&self) -> Result<(String, String), ConfigError> {
        let Some(path) = &self.config else { return Ok(("flags".to_owned(), String::new())) };
        let name = path.to_string_lossy().into_owned();
        match System.file(&name) {
            Ok(text) => Ok((name, text)),
            Err(error) => Err(ConfigError::Read { file: path.clone(), reason: error.to_string() }),
        }
    }

    fn flags(&self) -> Flags {
        Flags {
            upstreams: self.upstreams.clone(),
            prices: self.prices.clone(),
            mode: self.mode.map(Mode::from),
            listen: self.listen,
            admin: self.admin,
            log_dir: self.log_dir.clone(),
            models: self.models.clone(),
            onnxruntime: self.onnxruntime.clone(),
        }
    }
}
