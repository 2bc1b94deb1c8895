//! Certificates of the data port and the admin port: opened together, renewed together.

use std::sync::Arc;

use farthing_config::{Config, TlsConfig};
use farthing_tls::{Certificates, Renewal, TlsError};
use farthing_types::{Clock, Time};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What may be chosen on the data port, the best first.
const DATA: &[&[u8]] = &[b"h2", b"http/1.1"];
/// The admin port speaks nothing else.
const ADMIN: &[&[u8]] = &[b"http/1.1"];

/// See the module.
pub struct Listeners {
    /// Those of the data port; `None`: it speaks plain HTTP.
    pub data: Option<Arc<Certificates>>,
    /// Those of the admin port.
    pub admin: Option<Arc<Certificates>>,
}

/// Certificates that were read and fit together.
pub struct Renewals<'a>(Vec<(&'a Arc<Certificates>, Renewal)>);

impl Listeners {
    /// Those of a configuration. Blocks.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn open(config: &Config, now: Time) -> Result<Self, TlsError> {
        let open =
            |table, protocols, tls: &Option<TlsConfig>| tls.clone().map(|tls| Certificates::open(table, protocols, tls, now)).transpose();
        Ok(Self { data: open("data.tls", DATA, &config.data.tls)?, admin: open("admin.tls", ADMIN, &config.admin.tls)? })
    }

    /// Those that there are.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Certificates>> {
        self.data.iter().chain(&self.admin)
    }

    /// Reads the files of a configuration, without putting them in force. Blocks.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub fn read(&self, config: &Config, now: Time) -> Result<Renewals<'_>, TlsError> {
        let both = [self.data.as_ref().zip(config.data.tls.as_ref()), self.admin.as_ref().zip(config.admin.tls.as_ref())];
        let both = both.into_iter().flatten();
        both.map(|(open, tls)| Ok((open, open.read(tls.clone(), now)?))).collect::<Result<_, _>>().map(Renewals)
    }

    /// Follows the files until `stop`.
    pub fn follow(&self, tasks: &TaskTracker, clock: &Arc<dyn Clock>, stop: &CancellationToken) {
        for certificates in self.all() {
            tasks.spawn(certificates.clone().follow(clock.clone(), stop.clone()));
        }
    }
}

impl Renewals<'_> {
    /// Puts them in force.
    pub fn put(self) {
        for (certificates, renewal) in self.0 {
            if certificates.put(renewal) {
                tracing::info!(table = certificates.table(), "renewed certificates are in force");
            }
        }
    }
}
