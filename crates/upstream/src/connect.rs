//! Connections: TCP and TLS under one deadline, and a mark that tells whether anything was written to them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use farthing_types::Span;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Extensions, Uri, Version};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::traffic::{Open, Traffic};
use crate::{Protocol, Roots, UpstreamError, UpstreamSpec};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What became of what is to be written to a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<Out>);

#[derive(Debug, Default)]
struct Out {
    /// The first byte of HTTP was written.
    begun: AtomicBool,
    /// More may be held: hyper flushes when it holds nothing.
    held: AtomicBool,
}

impl Written {
    /// Whether it was.
    pub(crate) fn is_set(&self) -> bool {
        self.0.begun.load(Ordering::Acquire)
    }
    /// From here on it is the next request's.
    pub(crate) fn renew(&self) {
        self.0.begun.store(false, Ordering::Release);
    }
    /// Whether some of it is still to be written.
    pub(crate) fn is_held(&self) -> bool {
        self.0.held.load(Ordering::Acquire)
    }
}

/// Whether anything of HTTP ever went out on the connection described by `connected`.
pub(crate) fn was_written(connected: &Connected) -> bool {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.get::<Written>().is_none_or(Written::is_set)
}

/// Opens connections within a deadline. Cloned for each request, of which few need a connection of their own.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Shared>);

struct Shared {
    inner: HttpsConnector<HttpConnector>,
    deadline: Span,
    /// HTTP/2 without having been negotiated.
    prior: bool,
    traffic: Arc<Traffic>,
}

impl Connector {
    pub(crate) fn new(spec: &UpstreamSpec, traffic: &Arc<Traffic>) -> Result<Self, UpstreamError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Span::from_secs(60)));
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls(spec)?).https_or_http();
        let inner = match spec.protocol {
            Protocol::Auto => schemes.enable_all_versions().wrap_connector(tcp),
            Protocol::Http1 => schemes.enable_http1().wrap_connector(tcp),
            Protocol::Http2 => schemes.enable_http2().wrap_connector(tcp),
        };
        let prior = spec.protocol == Protocol::Http2;
        Ok(Self(Arc::new(Shared { inner, deadline: spec.connect_deadline, prior, traffic: Arc::clone(traffic) })))
    }
}

fn tls(spec: &UpstreamSpec) -> Result<ClientConfig, UpstreamError> {
    let bad = |reason: String| UpstreamError::Roots { name: Arc::clone(&spec.name), reason };
    let mut roots = RootCertStore::empty();
    match &spec.roots {
        Roots::WebPki => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Roots::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(|e| bad(e.to_string()))?).map_err(|e| bad(e.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("the PEM text holds no certificate".to_owned()));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| bad(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Wire, BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each connection is made by a copy, which is asked then.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Shared { inner, deadline, prior, traffic } = &*self.0;
        let (mut inner, deadline, prior, traffic) = (inner.clone(), *deadline, *prior, Arc::clone(traffic));
        let connecting = tokio::time::timeout(deadline, async move {
            poll_fn(|cx| inner.poll_ready(cx)).await?;
            inner.call(uri).await
        });
        async move {
            match connecting.await {
                Ok(Ok(io)) => Ok(Wire::new(io, prior, &traffic)),
                Ok(Err(error)) => {
                    traffic.count_unconnected();
                    Err(error)
                }
                Err(_) => {
                    traffic.count_unconnected();
                    Err(format!("no connection within {deadline:?}").into())
                }
            }
        }
        .boxed()
    }
}

/// A connection that remembers whether HTTP was written to it (the bytes of TLS itself do not count).
pub(crate) struct Wire {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    written: Written,
    _open: Open,
}

impl Wire {
    fn new(io: MaybeHttpsStream<TokioIo<TcpStream>>, prior: bool, traffic: &Arc<Traffic>) -> Self {
        let version = if prior || io.connected().is_negotiated_h2() { Version::HTTP_2 } else { Version::HTTP_11 };
        Self { io, written: Written::default(), _open: Open::new(traffic, version) }
    }
    /// Whether HTTP was written to it; whoever has this may renew it.
    pub(crate) fn written(&self) -> Written {
        self.written.clone()
    }
    fn note(&self, result: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        self.written.0.held.store(true, Ordering::Release);
        if matches!(result, Poll::Ready(Ok(n)) if n > 0) && !self.written.0.begun.load(Ordering::Relaxed) {
            self.written.0.begun.store(true, Ordering::Release);
        }
        result
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.written.clone())
    }
}

impl Read for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(result)
    }
    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(result)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.written.0.held.store(false, Ordering::Release);
        }
        flushed
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
