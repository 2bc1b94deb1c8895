//! What tests of TLS need: an authority, files of certificates, and a server that speaks TLS and answers everything alike.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_config::{CertificateFiles, TlsConfig};
use farthing_tls::Certificates;
use farthing_types::{Clock, RealClock, Span};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An authority with a folder for the files that it makes.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Who signs under the same name as it is signed for is taken for one who signs itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: tempfile::tempdir().unwrap() };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for localhost, in files of this name; written anew each time.
    pub fn files(&self, name: &str) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "localhost");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files =
            CertificateFiles { cert: self.dir.path().join(format!("{name}.pem")), key: self.dir.path().join(format!("{name}.key")) };
        std::fs::write(&files.cert, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// TLS with such a certificate.
    pub fn tls(&self, name: &str) -> TlsConfig {
        TlsConfig { first: self.files(name), more: Vec::new(), client_ca: None }
    }
}

/// A server that speaks TLS and answers each connection's first request with `secret`.
pub struct Secured {
    pub addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Secured {
    pub async fn start(authority: &Authority) -> Self {
        let now = RealClock::default().now();
        let certificates = Certificates::open("test", &[b"http/1.1"], authority.tls("secured"), now).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let certificates: Arc<Certificates> = certificates.clone();
                connections.spawn(async move {
                    let Ok(mut stream) = certificates.accept(stream, Span::from_secs(60)).await else { return };
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
                        head.push(byte[0]);
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nsecret";
                    let _it_may_be_gone = stream.write_all(answer).await;
                    let _it_may_be_gone = stream.shutdown().await;
                });
            }
        });
        Self { addr, _tasks: tasks }
    }
}
