//! A plain HTTP client: one connection per request, so that tests cannot disturb each other.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends requests to one address.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Where to.
    pub addr: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// A header as text; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
    /// Whether the cache answered it.
    pub fn is_hit(&self) -> bool {
        self.header("cache-status").contains("; hit")
    }
}

impl Client {
    /// A GET.
    pub async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, target, headers, Bytes::new()).await
    }

    /// Any request, read to its end.
    pub async fn send(&self, method: Method, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let response = self.open(method, target, headers, body.into()).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// A GET of a server that may die meanwhile.
    pub async fn try_get(&self, target: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        self.try_send(Method::GET, target, headers, Bytes::new()).await
    }

    /// Any request to a server that may die meanwhile.
    pub async fn try_send(&self, method: Method, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Option<Answer> {
        let response = self.try_open(method, target, headers, body.into()).await.ok()?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    }

    /// Any request, up to the head of its answer.
    pub async fn open(&self, method: Method, target: &str, headers: &[(&str, &str)], body: Bytes) -> Response<Incoming> {
        self.try_open(method, target, headers, body).await.unwrap()
    }

    async fn try_open(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.addr).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header("host", self.addr.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }
}
