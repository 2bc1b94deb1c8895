//! A small client of the admin API.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_admin::ProblemDocument;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longer than the API's own deadline for a request.
const DEADLINE: Duration = Duration::from_secs(35);
/// Most bytes of an answer.
const MOST: usize = 64_000_000;

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("`{0}` is not the URL of an admin API; write http://HOST:PORT, or https://HOST:PORT where it speaks TLS")]
    Url(String),
    /// Nobody answers.
    #[error("no proxy answers at {url}: {reason}; start one with `farthing serve`, or name its admin port with --admin")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the system says.
        reason: String,
    },
    /// Authorities to trust.
    #[error("FARTHING_ADMIN_CA: {0}; name a PEM file with the authority of the admin port's certificate")]
    Authorities(String),
    /// What the admin port asks its clients for.
    #[error("FARTHING_ADMIN_CERT: {0}; name a PEM file with a certificate and its key")]
    Certificate(String),
    /// The API refused.
    #[error("{0}")]
    Refused(String),
    /// What was to be sent cannot be read.
    #[error("cannot read {0}")]
    Unread(String),
    /// What was asked for cannot be written.
    #[error("cannot write {0}")]
    Unwritten(String),
    /// Something else than a Farthing admin API answered, or one of another version.
    #[error("{url} does not answer as this version's admin API does: {reason}")]
    Foreign {
        /// What was asked.
        url: String,
        /// What does not fit.
        reason: String,
    },
}

impl ClientError {
    /// Whether nobody answered.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// A client of one admin API.
pub struct Client {
    base: String,
    token: Option<String>,
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client of the API at `url`.
    ///
    /// # Errors
    /// When `url` is no URL with a host, or the file that FARTHING_ADMIN_CA names holds no authorities.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let good = base
            .parse::<http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some() && uri.query().is_none());
        if !good {
            return Err(ClientError::Url(url.to_owned()));
        }
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector()?);
        Ok(Self { base, token, http })
    }

    /// GET of a document.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Method::GET, path, &()).await
    }

    /// A request with a JSON body; the empty body for `()`.
    pub async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let url = format!("{}{path}", self.base);
        let (status, bytes) = self.send(method, &url, body).await?;
        let foreign = |reason: String| ClientError::Foreign { url: url.clone(), reason };
        // Readiness is a document also while the instance cannot serve.
        if status.is_success() || (status == StatusCode::SERVICE_UNAVAILABLE && path == "/readyz") {
            return serde_json::from_slice(&bytes).map_err(|error| foreign(error.to_string()));
        }
        match serde_json::from_slice::<ProblemDocument>(&bytes) {
            Ok(problem) if status == StatusCode::UNAUTHORIZED => {
                Err(ClientError::Refused(format!("{} (set FARTHING_ADMIN_TOKEN)", problem.detail)))
            }
            Ok(problem) => Err(ClientError::Refused(problem.detail)),
            Err(_) => Err(foreign(format!("status {status} without a problem document"))),
        }
    }

    async fn send(&self, method: Method, url: &str, body: &impl Serialize) -> Result<(StatusCode, Bytes), ClientError> {
        let foreign = |reason: String| ClientError::Foreign { url: url.to_owned(), reason };
        let json = serde_json::to_vec(body).map_err(|error| foreign(error.to_string()))?;
        let json = if json == b"null" { Vec::new() } else { json };
        let mut request = Request::builder().method(method).uri(url).header(header::ACCEPT, "application/json");
        if !json.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(actor) = actor() {
            request = request.header("x-farthing-actor", actor);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::from(json)).map_err(|error| foreign(error.to_string()))?;
        let unreachable = |reason: String| ClientError::Unreachable { url: url.to_owned(), reason };
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| unreachable(cause(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST).collect().await.map_err(|error| foreign(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| Err(unreachable(format!("no answer within {DEADLINE:?}"))))
    }
}

/// Connects with TLS where the URL says so; the authorities in the file that FARTHING_ADMIN_CA names are trusted in place of the public ones.
fn connector() -> Result<HttpsConnector<HttpConnector>, ClientError> {
    let bad = |reason: String| ClientError::Authorities(reason);
    let mut roots = RootCertStore::empty();
    match std::env::var_os("FARTHING_ADMIN_CA") {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let pem = std::fs::read(&file).map_err(|error| bad(format!("{}: {error}", file.display())))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let added =
                    certificate.map_err(|error| error.to_string()).and_then(|one| roots.add(one).map_err(|error| error.to_string()));
                added.map_err(bad)?;
            }
            if roots.is_empty() {
                return Err(bad(format!("{} holds no certificate in PEM", file.display())));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| bad(error.to_string()))?;
    let builder = builder.with_root_certificates(roots);
    let tls = match std::env::var_os("FARTHING_ADMIN_CERT") {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let bad = |reason: String| ClientError::Certificate(format!("{}: {reason}", file.display()));
            let pem = std::fs::read(&file).map_err(|error| bad(error.to_string()))?;
            let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.to_string()))?;
            let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| bad(error.to_string()))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| bad(error.to_string()))?
        }
    };
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build())
}

/// Who gives the order, as the system names it: noted as what was said.
fn actor() -> Option<String> {
    let name = std::env::var("FARTHING_ACTOR").or_else(|_| std::env::var("USER")).ok()?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())).then_some(name)
}

/// The innermost reason: "connection refused" and not "client error".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
