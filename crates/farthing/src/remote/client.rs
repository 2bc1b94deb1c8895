//! A small client of the admin API.

use std::time::Duration;

use bytes::Bytes;
use farthing_admin::ProblemDocument;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
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
    #[error("`{0}` is not the URL of an admin API; write http://HOST:PORT")]
    Url(String),
    /// Nobody answers.
    #[error("no proxy answers at {url}: {reason}; start one with `farthing serve`, or name its admin port with --admin")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What the system says.
        reason: String,
    },
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
    http: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// A client of the API at `url`.
    ///
    /// # Errors
    /// When `url` is not plain HTTP with a host.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let good = base
            .parse::<http::Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some() && uri.query().is_none());
        if !good {
            return Err(ClientError::Url(url.to_owned()));
        }
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http();
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
