//! Handshakes, under a deadline.

use std::io;

use farthing_types::{Span, reasons};
use rustls::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Certificates;

reasons! {
    /// How a handshake ended.
    Handshake {
        /// The connection is secured.
        Done = "done",
        /// The client spoke something else than TLS.
        Plain = "plain",
        /// It was not done in time.
        Timeout = "timeout",
        /// The client showed no certificate, or one that no authority of `client_ca` has signed.
        ClientCertificate = "client-certificate",
        /// The client refused ours: it does not know its authority, or asked for another name.
        Alert = "alert",
        /// The connection or the protocol broke.
        Broken = "broken",
    }
}

/// A connection that is not secured.
#[derive(Debug)]
pub struct Unsecured {
    /// Why.
    pub why: Handshake,
    /// The connection, where nothing was read from it.
    pub stream: Option<TcpStream>,
}

impl Unsecured {
    /// Tells one who speaks plain HTTP; others are told nothing. What it has sent is read, or the reset would destroy the answer on its way.
    pub async fn tell(self, answer: &[u8]) {
        let Some(mut stream) = self.stream else { return };
        let telling = async {
            stream.write_all(answer).await?;
            stream.shutdown().await?;
            let mut scrap = [0; 1_024];
            while stream.read(&mut scrap).await? > 0 {}
            io::Result::Ok(())
        };
        let _it_may_be_gone = tokio::time::timeout(LINGER, telling).await;
    }
}

/// How long one who was told is waited for.
const LINGER: Span = Span::from_secs(1);
/// The first byte of each record of a handshake.
const HANDSHAKE: u8 = 22;

impl Certificates {
    /// Secures a connection within `deadline`; how that ended is counted.
    ///
    /// # Errors
    /// It did not come about.
    pub async fn accept(&self, stream: TcpStream, deadline: Span) -> Result<TlsStream<TcpStream>, Unsecured> {
        let secured = match tokio::time::timeout(deadline, self.handshake(stream)).await {
            Ok(secured) => secured,
            Err(_) => Err(Unsecured { why: Handshake::Timeout, stream: None }),
        };
        self.count(secured.as_ref().map_or_else(|unsecured| unsecured.why, |_| Handshake::Done));
        secured
    }

    async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Unsecured> {
        let mut first = [0];
        // One who speaks plain HTTP is to be told so, in its own words.
        match stream.peek(&mut first).await {
            Ok(1) if first[0] != HANDSHAKE => return Err(Unsecured { why: Handshake::Plain, stream: Some(stream) }),
            Ok(1) => {}
            _ => return Err(Unsecured { why: Handshake::Broken, stream: None }),
        }
        let secured = TlsAcceptor::from(self.server()).accept(stream).await;
        secured.map_err(|error| Unsecured { why: why(&error), stream: None })
    }
}

fn why(error: &io::Error) -> Handshake {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented | Error::InvalidCertificate(_)) => Handshake::ClientCertificate,
        Some(Error::AlertReceived(_)) => Handshake::Alert,
        _ => Handshake::Broken,
    }
}
