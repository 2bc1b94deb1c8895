//! `farthing models keygen` and `sign`: work on files, and ask no proxy.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use farthing_contract::bundle::{Kind, SigningKey, signing};
use ring::rand::{SecureRandom, SystemRandom};

/// Flags of `farthing models keygen`.
#[derive(Debug, clap::Args)]
pub struct Keygen {
    /// Into this file, which must not be there yet; readable by its owner alone.
    #[arg(long)]
    out: PathBuf,
}

/// Flags of `farthing models sign`.
#[derive(Debug, clap::Args)]
pub struct Sign {
    /// Kind of predictor, such as `ttl`.
    kind: String,
    /// Version.
    version: u32,
    /// File with the key.
    #[arg(long, value_name = "FILE", env = "FARTHING_SIGNING_KEY_FILE")]
    key: PathBuf,
    /// Folder of the bundles.
    #[arg(long, value_name = "DIR", default_value = "models")]
    models: PathBuf,
}

/// Makes a key that signs, and prints what it is trusted by.
pub fn keygen(args: &Keygen) -> anyhow::Result<ExitCode> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).ok().context("the system gives no random numbers")?;
    let key = SigningKey::from_seed(seed).context("the system's random numbers make no key")?;
    write_new(&args.out, &key.to_text()).with_context(|| format!("{}", args.out.display()))?;
    eprintln!("{} signs; keep it where only the trainer reads it. For the configuration file of the proxies:", args.out.display());
    println!("[models]\ntrusted_keys = [\"{}\"]", key.public());
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Signs a version on disk.
pub fn sign(args: &Sign) -> anyhow::Result<ExitCode> {
    let kind = Kind::parse(&args.kind).with_context(|| {
        let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("there is no kind `{}`; there are {}", args.kind, known.join(", "))
    })?;
    let key = signing::read_key(&args.key)?;
    signing::sign_version(&args.models, (kind, args.version), &key)?;
    println!("{kind}/{} is signed by {}", args.version, key.public());
    Ok(ExitCode::SUCCESS)
}
