//! Certificates that clients are shown, and authorities whose certificates clients must show.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_types::Time;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// The certificate for clients that name no host, or one that no other is for.
    pub first: CertificateFiles,
    /// Certificates for hosts of their own, chosen by the name that a client asks for (SNI).
    pub more: Vec<CertificateFiles>,
    /// Authorities: who shows no certificate of theirs is refused. `None`: nobody is asked for one.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// What the files of a [`TlsConfig`] hold.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    /// Certificates with their keys, in the order of the configuration.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// Authorities of clients.
    pub clients: Option<Arc<RootCertStore>>,
    /// The earliest end of a certificate.
    pub expires: Time,
    /// SHA-256 over all files: whether anything has changed.
    pub digest: [u8; 32],
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {}: {found}; {remedy}", .file.display())]
pub struct TlsFault {
    /// The key within the table.
    pub key: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub found: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Reads a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl TlsConfig {
    /// Reads all files and checks that they fit together at `now`.
    ///
    /// # Errors
    /// The first file that cannot be used, and why.
    pub fn load(&self, read: ReadFile<'_>, now: Time) -> Result<TlsMaterial, TlsFault> {
        let mut hasher = Sha256::new();
        let mut material = TlsMaterial { certificates: Vec::new(), clients: None, expires: Time::from_nanos(i64::MAX), digest: [0; 32] };
        for files in std::iter::once(&self.first).chain(&self.more) {
            let texts = files.read(read)?;
            hasher.update(&texts.0);
            hasher.update(&texts.1);
            let (certified, until) = files.certified(&texts, now)?;
            material.certificates.push(Arc::new(certified));
            material.expires = material.expires.min(until);
        }
        if let Some(file) = &self.client_ca {
            let text = text("client_ca", file, read)?;
            hasher.update(&text);
            material.clients = Some(Arc::new(authorities(file, &text)?));
        }
        material.digest = hasher.finalize().into();
        Ok(material)
    }
}

impl CertificateFiles {
    fn read(&self, read: ReadFile<'_>) -> Result<(String, String), TlsFault> {
        Ok((text("cert", &self.cert, read)?, text("key", &self.key, read)?))
    }

    fn certified(&self, (cert, key): &(String, String), now: Time) -> Result<(CertifiedKey, Time), TlsFault> {
        let chain = chain("cert", &self.cert, cert)?;
        let until = self.valid_until(&chain, now)?;
        let wrong = |found: String, remedy| TlsFault { key: "key", file: self.key.clone(), found, remedy };
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                wrong("no private key in PEM".to_owned(), "name the file that begins with -----BEGIN PRIVATE KEY-----")
            }
            error => wrong(format!("no PEM: {error}"), "name a private key in PEM, not encrypted"),
        })?;
        match CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
            Ok(certified) => Ok((certified, until)),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(wrong(format!("not the key of {}", self.cert.display()), "name the key that the certificate was made for"))
            }
            Err(error) => Err(wrong(
                format!("cannot be used: {error}"),
                "use an RSA key of 2048 bits or more, an ECDSA key on P-256 or P-384, or Ed25519",
            )),
        }
    }

    /// When the first certificate of the chain ends.
    fn valid_until(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<Time, TlsFault> {
        let wrong = |found: String, remedy| TlsFault { key: "cert", file: self.cert.clone(), found, remedy };
        let first = chain.first().map(|first| Certificate::from_der(first.as_ref()));
        let certificate =
            first.and_then(Result::ok).ok_or_else(|| wrong("its first certificate is not X.509".to_owned(), "make it anew"))?;
        let validity = certificate.tbs_certificate.validity;
        let time = |time: x509_cert::time::Time| Time::from_secs_f64(time.to_unix_duration().as_secs_f64());
        let (from, until) = (time(validity.not_before), time(validity.not_after));
        if now >= until {
            return Err(wrong(format!("expired on {}", validity.not_after), "renew it"));
        }
        if now < from {
            return Err(wrong(
                format!("not valid before {}", validity.not_before),
                "wait until then, or correct the clock of this machine",
            ));
        }
        Ok(until)
    }
}

fn text(key: &'static str, file: &Path, read: ReadFile<'_>) -> Result<String, TlsFault> {
    let remedy = "name a PEM file that this process may read";
    read(file).map_err(|error| TlsFault { key, file: file.to_owned(), found: error.to_string(), remedy })
}

fn chain(key: &'static str, file: &Path, text: &str) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let wrong = |found: String| TlsFault {
        key,
        file: file.to_owned(),
        found,
        remedy: "name a file of blocks that begin with -----BEGIN CERTIFICATE-----",
    };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().map_err(|error| wrong(format!("no PEM: {error}")))?;
    if chain.is_empty() { Err(wrong("no certificate in PEM".to_owned())) } else { Ok(chain) }
}

fn authorities(file: &Path, text: &str) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in chain("client_ca", file, text)? {
        roots.add(certificate).map_err(|error| TlsFault {
            key: "client_ca",
            file: file.to_owned(),
            found: format!("holds what is no certificate of an authority: {error}"),
            remedy: "name the certificates of the authorities that sign those of clients",
        })?;
    }
    Ok(roots)
}
