//! TLS towards clients: handshakes, and certificates that change while connections go on.
//!
//! What the files hold was checked when the configuration was read ([`TlsConfig::load`]); here it is put in force, read again, and counted.

mod handshake;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use farthing_config::{TlsConfig, TlsFault, TlsMaterial};
use farthing_types::{Clock, Span, Time};
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

pub use handshake::{Handshake, Unsecured};
pub use tokio_rustls::server::TlsStream;

/// How often files are looked at.
const LOOK: Span = Span::from_secs(10);

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{table}.{fault}")]
    Files {
        /// The table of the configuration.
        table: &'static str,
        /// What is wrong.
        fault: TlsFault,
    },
    /// What they hold does not go together.
    #[error("{table}: {reason}; correct the files that it names")]
    Unfit {
        /// The table of the configuration.
        table: &'static str,
        /// What the library says.
        reason: String,
    },
}

/// The certificates of one listener.
pub struct Certificates {
    table: &'static str,
    protocols: &'static [&'static [u8]],
    config: Mutex<TlsConfig>,
    current: ArcSwap<Current>,
    /// Why the files are not in force as they are now.
    fault: Mutex<Option<String>>,
    counts: [AtomicU64; Handshake::ALL.len()],
    /// Times that files were put in force, and that they could not be.
    renewed: [AtomicU64; 2],
}

/// Files that were read and fit together.
pub struct Renewal {
    config: TlsConfig,
    current: Current,
}

struct Current {
    server: Arc<ServerConfig>,
    expires: Time,
    digest: [u8; 32],
}

impl Certificates {
    /// Those of `table`, for clients that may choose among `protocols` (ALPN), the best first. Reads files, so it blocks.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(table: &'static str, protocols: &'static [&'static [u8]], config: TlsConfig, now: Time) -> Result<Arc<Self>, TlsError> {
        let material = load(table, &config, now)?;
        Ok(Arc::new(Self {
            table,
            protocols,
            current: ArcSwap::from_pointee(current(table, protocols, material)?),
            config: Mutex::new(config),
            fault: Mutex::default(),
            counts: Default::default(),
            renewed: Default::default(),
        }))
    }

    /// Reads files, without putting them in force. Blocks.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn read(&self, config: TlsConfig, now: Time) -> Result<Renewal, TlsError> {
        let material = load(self.table, &config, now)?;
        Ok(Renewal { config, current: current(self.table, self.protocols, material)? })
    }

    /// Puts in force what was read; its files are followed from now on. Whether they hold anything else than before.
    pub fn put(&self, renewal: Renewal) -> bool {
        self.replace(&mut self.config.lock(), renewal)
    }

    /// Reads the files again. Handshakes that begin from now on go by them, connections go on; where they cannot be used, those before stay. Whether
    /// anything has changed. Blocks.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn renew(&self, now: Time) -> Result<bool, TlsError> {
        let mut kept = self.config.lock();
        match self.read(kept.clone(), now) {
            Ok(renewal) => Ok(self.replace(&mut kept, renewal)),
            Err(error) => {
                self.renewed[1].fetch_add(1, Ordering::Relaxed);
                *self.fault.lock() = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn replace(&self, kept: &mut TlsConfig, renewal: Renewal) -> bool {
        let changed = renewal.current.digest != self.current.load().digest;
        // What is in force stays where nothing has changed: clients may resume the sessions that it knows.
        if changed {
            self.current.store(Arc::new(renewal.current));
            self.renewed[0].fetch_add(1, Ordering::Relaxed);
        }
        *kept = renewal.config;
        *self.fault.lock() = None;
        changed
    }

    /// Looks at the files now and then, until `stop`: renewed ones are put in force without an order.
    pub async fn follow(self: Arc<Self>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut turn = tokio::time::interval(LOOK);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = turn.tick() => {}
            }
            let (certificates, now) = (self.clone(), clock.wall());
            let told = self.fault.lock().clone();
            match tokio::task::spawn_blocking(move || certificates.renew(now)).await {
                Ok(Ok(true)) => {
                    tracing::info!(table = self.table, expires_ns = self.expires().nanos(), "renewed certificates are in force")
                }
                Ok(Err(error)) if told.is_none_or(|told| told != error.to_string()) => {
                    tracing::error!(%error, "certificates cannot be renewed; those before stay in force");
                }
                _ => {}
            }
        }
    }

    /// The table of the configuration.
    pub const fn table(&self) -> &'static str {
        self.table
    }

    /// The earliest end of a certificate in force.
    pub fn expires(&self) -> Time {
        self.current.load().expires
    }

    /// What is wrong with them at `now`.
    pub fn problem(&self, now: Time) -> Option<String> {
        if let Some(fault) = self.fault.lock().clone() {
            return Some(format!("certificates cannot be renewed, those before stay in force: {fault}"));
        }
        (now >= self.expires()).then(|| format!("{}: a certificate has expired: clients refuse it; renew its file", self.table))
    }

    /// Handshakes that ended so.
    pub fn handshakes(&self, outcome: Handshake) -> u64 {
        self.counts[outcome as usize].load(Ordering::Relaxed)
    }

    /// Times that changed files were put in force, and that files could not be.
    pub fn renewals(&self) -> [u64; 2] {
        [0, 1].map(|which: usize| self.renewed[which].load(Ordering::Relaxed))
    }

    fn count(&self, outcome: Handshake) {
        self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn server(&self) -> Arc<ServerConfig> {
        self.current.load().server.clone()
    }
}

fn load(table: &'static str, config: &TlsConfig, now: Time) -> Result<TlsMaterial, TlsError> {
    config.load(&|path| std::fs::read_to_string(path), now).map_err(|fault| TlsError::Files { table, fault })
}

fn current(table: &'static str, protocols: &[&[u8]], material: TlsMaterial) -> Result<Current, TlsError> {
    let unfit = |reason: String| TlsError::Unfit { table, reason };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unfit(error.to_string()))?;
    let builder = match material.clients {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unfit(error.to_string()))?)
        }
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_cert_resolver(Arc::new(ByName(material.certificates)));
    server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Current { server: Arc::new(server), expires: material.expires, digest: material.digest })
}

/// Chooses by the name that a client asks for; the first where it asks for none, or for one that no certificate is for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.filter(|_| self.0.len() > 1).and_then(|name| self.0.iter().find(|certified| is_for(certified, &name)));
        named.or(self.0.first()).cloned()
    }
}

fn is_for(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = certified.end_entity_cert().ok().and_then(|certificate| ParsedCertificate::try_from(certificate).ok());
    parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
