use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};

use farthing_config::CertificateFiles;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::*;

const NOW: Time = Time::from_millis(1_780_000_000_000);
const PATIENCE: Span = Span::from_secs(30);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pair(&self, name: &str, until_year: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>, String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (certificate.der().clone(), der, certificate.pem(), key.serialize_pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }

    fn client(&self, shows: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(self.roots());
        match shows {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

struct World {
    dir: TempDir,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Files of a certificate for `name`, under the name `as_file`.
    fn files(&self, as_file: &str, name: &str, until_year: i32) -> CertificateFiles {
        let (_, _, cert, key) = self.authority.pair(name, until_year);
        CertificateFiles { cert: self.file(&format!("{as_file}.pem"), &cert), key: self.file(&format!("{as_file}.key"), &key) }
    }

    fn config(&self) -> TlsConfig {
        TlsConfig { first: self.files("first", "first.test", 2090), more: Vec::new(), client_ca: None }
    }
}

fn open(config: TlsConfig) -> Arc<Certificates> {
    Certificates::open("data.tls", &[b"h2", b"http/1.1"], config, NOW).unwrap()
}

/// One handshake: what the client got of the server's certificate, or why not; and what the server made of it.
async fn shake(certificates: &Arc<Certificates>, client: ClientConfig, name: &str) -> (Result<CertificateDer<'static>, String>, Handshake) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = async {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.map_err(|error| error.to_string())?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        // A server's verdict over the client's certificate comes after the client's part of the handshake.
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map(|_| shown).map_err(|error| error.to_string())
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        match certificates.accept(stream, PATIENCE).await {
            Ok(mut stream) => {
                stream.write_all(b"ok").await.unwrap();
                stream.shutdown().await.unwrap();
                Handshake::Done
            }
            Err(unsecured) => unsecured.why,
        }
    };
    tokio::join!(connecting, accepting)
}

#[tokio::test]
async fn a_client_gets_the_certificate_for_the_name_it_asks_for() {
    let world = World::new();
    let mut config = world.config();
    config.more = vec![world.files("second", "second.test", 2090), world.files("wild", "*.wild.test", 2090)];
    let certificates = open(config);
    for name in ["first.test", "second.test", "a.wild.test"] {
        let (shown, how) = shake(&certificates, world.authority.client(None), name).await;
        assert_eq!((shown.map(|_| ()), how), (Ok(()), Handshake::Done), "{name}");
    }
    // For another name there is the first, which the client refuses.
    let (shown, how) = shake(&certificates, world.authority.client(None), "third.test").await;
    assert!(shown.is_err() && how == Handshake::Alert, "{shown:?} {how:?}");
    assert_eq!((certificates.handshakes(Handshake::Done), certificates.handshakes(Handshake::Alert)), (3, 1));
}

#[tokio::test]
async fn clients_must_show_a_certificate_where_an_authority_of_theirs_is_named() {
    let world = World::new();
    let (clients, strangers) = (Authority::new(), Authority::new());
    let ca = world.file("ca.pem", &clients.0.pem());
    let certificates = open(TlsConfig { client_ca: Some(ca), ..world.config() });
    let (good, good_key, ..) = clients.pair("client", 2090);
    let (bad, bad_key, ..) = strangers.pair("client", 2090);
    let shown = [
        (Some((good, good_key)), Handshake::Done),
        (Some((bad, bad_key)), Handshake::ClientCertificate),
        (None, Handshake::ClientCertificate),
    ];
    for (shows, expected) in shown {
        let (answer, how) = shake(&certificates, world.authority.client(shows), "first.test").await;
        assert_eq!((how, answer.is_ok()), (expected, expected == Handshake::Done), "{answer:?}");
    }
}

#[tokio::test]
async fn renewed_files_are_shown_and_bad_ones_leave_those_before() {
    let world = World::new();
    let certificates = open(world.config());
    let shown = async || shake(&certificates, world.authority.client(None), "first.test").await.0.unwrap();
    let before = shown().await;
    assert!(!certificates.renew(NOW).unwrap());
    assert_eq!(shown().await, before);
    world.files("first", "first.test", 2091);
    assert!(certificates.renew(NOW).unwrap());
    let after = shown().await;
    assert!(after != before && certificates.problem(NOW).is_none());
    // Certificate and key are written one after the other: between, they do not fit.
    let (_, _, _, other_key) = world.authority.pair("first.test", 2091);
    world.file("first.key", &other_key);
    let error = certificates.renew(NOW).unwrap_err().to_string();
    assert!(error.contains("data.tls.key") && error.contains("not the key of"), "{error}");
    assert!(shown().await == after && certificates.problem(NOW).unwrap().contains("not the key of"));
    assert_eq!(certificates.renewals(), [1, 1]);
    // Other files are taken from the configuration, and followed from then on.
    let moved = TlsConfig { first: world.files("moved", "first.test", 2092), ..world.config() };
    assert!(certificates.put(certificates.read(moved, NOW).unwrap()) && certificates.problem(NOW).is_none());
    assert_eq!(certificates.expires(), Time::from_millis(3_849_984_000_000), "the first of January 2092");
    assert!(certificates.problem(certificates.expires()).unwrap().contains("has expired"));
}

/// A clock that stands, and counts how often it is asked.
#[derive(Debug)]
struct Asked(AtomicI64);
impl Clock for Asked {
    fn now(&self) -> Time {
        self.0.fetch_add(1, Ordering::SeqCst);
        NOW
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_followed_without_an_order() {
    let world = World::new();
    let certificates = open(world.config());
    let (clock, stop) = (Arc::new(Asked(AtomicI64::new(0))), CancellationToken::new());
    let mut following = tokio::task::JoinSet::new();
    following.spawn(certificates.clone().follow(clock.clone(), stop.clone()));
    world.files("first", "first.test", 2091);
    while certificates.renewals()[0] == 0 {
        tokio::time::advance(LOOK).await;
        tokio::task::yield_now().await;
    }
    stop.cancel();
    following.join_next().await.unwrap().unwrap();
    assert!(certificates.expires() > Time::from_millis(3_818_000_000_000) && clock.0.load(Ordering::SeqCst) > 0);
}

#[tokio::test(start_paused = true)]
async fn who_speaks_no_tls_or_nothing_at_all_is_told_apart() {
    let world = World::new();
    let certificates = open(world.config());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (bytes, expected) in
        [(&b"GET / HTTP/1.1\r\n"[..], Handshake::Plain), (b"\x16\x03\x01", Handshake::Timeout), (b"", Handshake::Timeout)]
    {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        if !bytes.is_empty() {
            stream.readable().await.unwrap();
        }
        let unsecured = certificates.accept(stream, PATIENCE).await.unwrap_err();
        assert_eq!((unsecured.why, unsecured.stream.is_some()), (expected, expected == Handshake::Plain), "{bytes:?}");
    }
}
