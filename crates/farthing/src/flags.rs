//! Flags that choose and override the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;
use farthing_config::{Config, ConfigError, Flags, Mode, System};

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
        let flags = Flags {
            upstreams: self.upstreams.clone(),
            prices: self.prices.clone(),
            mode: self.mode.map(Mode::from),
            listen: self.listen,
            admin: self.admin,
            log_dir: self.log_dir.clone(),
            models: self.models.clone(),
            onnxruntime: self.onnxruntime.clone(),
        };
        Config::build(self.config.as_deref(), &flags, &System)
    }
}
