//! The HTTP client of sinks: hyper over rustls.

use farthing_types::Span;
use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::tls::client_config;

/// A client with its connections.
pub type HttpClient<B> = Client<HttpsConnector<Tcp>, B>;

/// A client with the certificates of authorities (PEM) in place of the public ones. `connect`: how long a connection may take; `idle`: how long one that nobody uses stays.
/// Whether plain HTTP may be used at all is decided where the address is read.
///
/// # Errors
/// Certificates that cannot be read.
pub fn client<B>(authorities: Option<&str>, connect: Span, idle: Span) -> Result<HttpClient<B>, String>
where
    B: Body + Send,
    B::Data: Send,
{
    let mut tcp = Tcp::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Span::from_secs(60)));
    tcp.set_connect_timeout(Some(connect));
    let https =
        HttpsConnectorBuilder::new().with_tls_config(client_config(authorities)?).https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(idle).build(https))
}
