//! Where sets of keys are read from: an HTTP server, or a file.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use farthing_config::JwksPlace;
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Claim, Clock, Purpose, Span};
use farthing_upstream::{Client, Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CACHE_CONTROL, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Limited};

use super::keyset::LONGEST;
use super::source::{DEADLINE, FetchKeys, Fetched};

/// What reads the set at `place`.
///
/// # Errors
/// A URL that cannot be called.
pub fn at(place: &JwksPlace, clock: Arc<dyn Clock>) -> Result<Box<dyn FetchKeys>, String> {
    match place {
        JwksPlace::File(path) => Ok(Box::new(File(path.clone()))),
        JwksPlace::Url(url) => Ok(Box::new(Server::new(url, clock)?)),
    }
}

struct File(PathBuf);

impl FetchKeys for File {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, String>> {
        async {
            let text = tokio::fs::read(&self.0).await.map_err(|error| format!("{}: {error}", self.0.display()))?;
            Ok(Fetched { text: text.into(), max_age: None })
        }
        .boxed()
    }
}

struct Server {
    origin: Arc<dyn Origin>,
    target: Uri,
}

impl Server {
    fn new(url: &Uri, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let target = url.path_and_query().map_or("/", PathAndQuery::as_str).parse::<Uri>().map_err(|error| error.to_string())?;
        let mut base = url.clone().into_parts();
        base.path_and_query = Some(PathAndQuery::from_static("/"));
        let base = Uri::from_parts(base).map_err(|error| error.to_string())?;
        let spec = UpstreamSpec { max_concurrent: 1, ..UpstreamSpec::new("jwks", base) };
        let client = Client::new(&spec, clock, Arc::default()).map_err(|error| error.to_string())?;
        Ok(Self { origin: Arc::new(client), target })
    }

    fn call(&self) -> Call {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/jwk-set+json, application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("farthing/", env!("CARGO_PKG_VERSION"))));
        Call {
            id: CallId(0),
            route: "jwks".into(),
            payer: "farthing".into(),
            purpose: Purpose::User,
            key: None,
            method: Method::GET,
            target: self.target.clone(),
            headers,
            body: Body::empty(),
            repeatable: false,
            deadline: DEADLINE,
            claim: Claim::default(),
            batch: None,
            routing: None,
            sink: Arc::new(NoSink),
        }
    }
}

impl FetchKeys for Server {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, String>> {
        async {
            let reply = self.origin.fetch(self.call()).await.map_err(|failure| failure.to_string())?;
            // A redirect is none of ours to follow: it could lead anywhere.
            if !reply.status.is_success() {
                return Err(format!("answered {}", reply.status));
            }
            let max_age = max_age(&reply.headers);
            let text = Limited::new(reply.body, LONGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Fetched { text: Bytes::from(text.to_vec()), max_age })
        }
        .boxed()
    }
}

/// How long the answer says that it may be used.
fn max_age(headers: &HeaderMap) -> Option<Span> {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = fields.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
    });
    seconds.map(Span::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_read_where_it_is_said() {
        for (text, seconds) in [("max-age=60", Some(60)), ("public, Max-Age=\"5\"", Some(5)), ("no-store", None), ("max-age=soon", None)] {
            let headers = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static(text))]);
            assert_eq!(max_age(&headers), seconds.map(Span::from_secs), "{text}");
        }
    }
}
