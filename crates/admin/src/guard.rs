//! Who may ask: the bearer token, or loopback only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farthing_config::{AdminConfig, Role};
use http::{Method, StatusCode, Uri, header};

use crate::{Parts, Problem, dashboard};

/// Paths that answer anybody: whoever runs the instance must be able to ask whether it lives.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// What comes here is signed: whoever sends it has no token of ours, and needs none.
const SIGNED: &str = "/api/v1/events/";

/// By what right somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    /// Whose token it has shown; `None` where there is none, and it is on the same machine.
    name: Option<Arc<str>>,
    role: Role,
}

impl Right {
    /// Of somebody on the same machine, where nobody needs a token.
    pub(crate) const LOOPBACK: Self = Self { name: None, role: Role::Admin };

    /// As it is noted.
    pub(crate) fn told(&self) -> String {
        match &self.name {
            None => "loopback".to_owned(),
            Some(name) if **name == *"token" => "token".to_owned(),
            Some(name) => format!("{name} ({})", self.role),
        }
    }
}

/// Only these take an admin: they erase for good, or change who may do what.
const ADMINS: [&str; 5] =
    ["/api/v1/forget", "/api/v1/config/reload", "/api/v1/config/diff", "/api/v1/config/push", "/api/v1/config/rollback"];
/// Looks that take an operator: they show what was said to whom, or a whole configuration.
const OPERATORS: [&str; 2] = ["/api/v1/audit", "/api/v1/config/versions"];

/// Whether a request only looks.
pub(crate) const fn looks(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The least role that a request takes.
fn needed(method: &Method, path: &str) -> Role {
    match path {
        path if ADMINS.contains(&path) => Role::Admin,
        path if !looks(method) || OPERATORS.iter().any(|of| path.strip_prefix(of).is_some_and(below)) => Role::Operator,
        _ => Role::Viewer,
    }
}

/// Whether what follows a path is nothing, or something below it.
fn below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// What the guard goes by: what is in force, where that can change, else what was given at the start.
#[derive(Clone)]
pub(crate) struct Door {
    pub parts: Parts,
    pub given: Arc<AdminConfig>,
}

/// Lets a request through, or answers with a problem.
pub(crate) async fn guard(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if OPEN.contains(&path) || (path.starts_with(SIGNED) && *request.method() == Method::POST) {
        return next.run(request).await;
    }
    let live = door.parts.config.access();
    let admin = live.as_deref().map_or(&*door.given, |config| &config.admin);
    if !admin.is_open() && dashboard::is_asset(path) {
        // A browser cannot send a token before it has the page that asks for it.
        return next.run(request).await;
    }
    let verdict = if admin.is_open() { without_token(&request).map(|()| Right::LOOPBACK) } else { with_token(admin, &request) };
    match verdict {
        Ok(right) => {
            request.extensions_mut().insert(right);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn with_token(admin: &AdminConfig, request: &Request) -> Result<Right, Problem> {
    let presented = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme_and_token = presented.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
    let Some((_, text)) = scheme_and_token else { return Err(unauthorized("send the admin token: Authorization: Bearer ...")) };
    let Some((name, role)) = admin.holder(text.trim()) else {
        return Err(unauthorized("the token that was sent is none of admin.token and [[admin.tokens]]"));
    };
    let needed = needed(request.method(), request.uri().path());
    if role < needed {
        let detail = format!("the token `{name}` is a {role}'s, and this takes an {needed}'s: ask who writes [[admin.tokens]]");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    }
    Ok(Right { name: Some(name), role })
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
