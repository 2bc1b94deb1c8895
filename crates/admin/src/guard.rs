//! Who may ask: the bearer token, or loopback only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farthing_config::Secret;
use http::{HeaderMap, Method, StatusCode, Uri, header};

use crate::Problem;

/// Paths that answer anybody: whoever runs the instance must be able to ask whether it lives.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// What comes here is signed: whoever sends it has no token of ours, and needs none.
const SIGNED: &str = "/api/v1/events/";

/// By what right somebody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// It has shown the token.
    Token,
    /// There is none, and it is on the same machine.
    Loopback,
}

impl Right {
    /// As it is noted.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Loopback => "loopback",
        }
    }
}

/// Lets a request through, or answers with a problem.
pub(crate) async fn guard(State(token): State<Option<Arc<Secret>>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || (path.starts_with(SIGNED) && *request.method() == Method::POST) {
        return next.run(request).await;
    }
    let verdict = match &token {
        Some(token) => with_token(token, request.headers()),
        None => without_token(&request),
    };
    match verdict {
        Ok(()) => {
            request.extensions_mut().insert(if token.is_some() { Right::Token } else { Right::Loopback });
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn with_token(token: &Secret, headers: &HeaderMap) -> Result<(), Problem> {
    let presented = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme_and_token = presented.and_then(|value| value.split_once(' '));
    let good = scheme_and_token.is_some_and(|(scheme, text)| scheme.eq_ignore_ascii_case("bearer") && token.matches(text.trim()));
    let detail = "send the admin token: Authorization: Bearer ...";
    if good { Ok(()) } else { Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)) }
}

/// Without a token the peer must be local, and so must be the name it used: else a web page that a local browser shows
/// could ask in its user's name, by a form or by a name that resolves to loopback.
fn without_token(request: &Request) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    if !peer.is_some_and(is_loopback) {
        return refuse("without admin.token only clients on loopback are answered");
    }
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).or_else(|| request.uri().host());
    if !host.is_some_and(is_local_name) {
        return refuse("without admin.token the host must be localhost or a loopback address");
    }
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let origin = request.headers().get(header::ORIGIN).map(|value| value.to_str().unwrap_or_default());
    let foreign =
        |origin: &str| origin.parse::<Uri>().ok().and_then(|uri| uri.authority().map(|a| a.as_str().to_owned())).as_deref() != host;
    if !safe && origin.is_some_and(foreign) {
        return refuse("changes from pages of another origin are refused");
    }
    Ok(())
}

/// Loopback, also as an IPv4 address inside IPv6.
fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(is_loopback)
}
