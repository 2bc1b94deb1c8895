//! Requests of the library over hyper and rustls.

use std::fmt;

use async_trait::async_trait;
use farthing_types::Span;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};

use crate::client::{HttpClient as Hyper, client};

/// Of an answer that says what is wrong, so much is read.
const SAID: usize = 16 << 10;
/// Connections that nobody uses stay so long; stores close them after some 20 seconds.
const IDLE: Span = Span::from_secs(15);

/// The server has said that it cannot do it now.
#[derive(Debug, thiserror::Error)]
#[error("answered {status}: {said}")]
pub struct Answered {
    /// 5xx or 429.
    pub status: StatusCode,
    /// The begin of its answer.
    pub said: String,
}

/// No connection, or no head of an answer, within the time that there is.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub struct Late(Span);

/// Makes clients that share their connections.
#[derive(Clone)]
pub struct Connector {
    client: Hyper<HttpRequestBody>,
    deadline: Span,
}

impl Connector {
    /// With the certificates of authorities (PEM) in place of the public ones. `deadline`: until the head of an answer.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(authorities: Option<&str>, deadline: Span) -> Result<Self, String> {
        Ok(Self { client: client(authorities, deadline, IDLE)?, deadline })
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connector {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let late = |_| HttpError::new(HttpErrorKind::Timeout, Late(self.deadline));
        let answer = tokio::time::timeout(self.deadline, self.client.request(request)).await.map_err(late)?;
        let (head, body) = answer.map_err(unanswered)?.into_parts();
        if head.status.is_server_error() || head.status == StatusCode::TOO_MANY_REQUESTS {
            let said = tokio::time::timeout(self.deadline, Limited::new(body, SAID).collect()).await;
            let said =
                said.ok().and_then(Result::ok).map(|said| String::from_utf8_lossy(&said.to_bytes()).into_owned()).unwrap_or_default();
            return Err(HttpError::new(HttpErrorKind::Interrupted, Answered { status: head.status, said }));
        }
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

fn unanswered(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}
