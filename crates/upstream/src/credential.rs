//! Our credential in place of the client's.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};

use crate::target::{with_parameter, without_parameters};

/// Headers in which clients of paid APIs carry a credential; all of them go when ours is swapped in.
pub const CREDENTIAL_HEADERS: [&str; 5] = ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a credential stands in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this header, after this prefix (`Bearer ` with its space, or empty).
    Header(HeaderName, Arc<str>),
    /// In this query parameter.
    Query(Arc<str>),
}

/// A credential of ours that replaces whatever the client sent.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Where it goes.
    pub place: Place,
    /// The credential.
    pub secret: Secret,
    /// Query parameters taken from the client's request besides the one of [`Place::Query`]; `key` unless changed.
    pub strip_parameters: Vec<Arc<str>>,
}

impl Credential {
    /// `secret` at `place`.
    pub fn new(place: Place, secret: Secret) -> Self {
        Self { place, secret, strip_parameters: vec!["key".into()] }
    }
    /// `Authorization: Bearer secret`.
    pub fn bearer(secret: Secret) -> Self {
        Self::new(Place::Header(AUTHORIZATION, "Bearer ".into()), secret)
    }
}

/// A checked credential, as the client applies it to each request.
#[derive(Debug)]
pub(crate) struct Swap {
    header: Option<(HeaderName, HeaderValue)>,
    parameter: Option<(Arc<str>, Secret)>,
    strip: Vec<Arc<str>>,
}

impl Swap {
    /// Checks that `credential` can be sent; the error names the place.
    pub(crate) fn new(credential: &Credential) -> Result<Self, &'static str> {
        let mut strip = credential.strip_parameters.clone();
        match &credential.place {
            Place::Header(name, prefix) => {
                let text = format!("{prefix}{}", credential.secret.0);
                let mut value = HeaderValue::from_str(&text).map_err(|_| "a header")?;
                value.set_sensitive(true);
                Ok(Self { header: Some((name.clone(), value)), parameter: None, strip })
            }
            Place::Query(name) => {
                strip.push(Arc::clone(name));
                Ok(Self { header: None, parameter: Some((Arc::clone(name), credential.secret.clone())), strip })
            }
        }
    }

    /// Takes the client's credentials from the headers and puts ours in.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        for name in CREDENTIAL_HEADERS {
            headers.remove(name);
        }
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// Takes the client's credentials from path-and-query text and puts ours in.
    pub(crate) fn path_and_query(&self, text: String) -> String {
        let names: Vec<&str> = self.strip.iter().map(AsRef::as_ref).collect();
        let stripped = without_parameters(&text, &names).unwrap_or(text);
        match &self.parameter {
            Some((name, secret)) => with_parameter(stripped, name, &secret.0),
            None => stripped,
        }
    }
}

/// `base` without user information, for error messages.
pub(crate) fn printable(base: &Uri) -> String {
    match base.authority() {
        Some(authority) => {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            format!("{}://{host}{}", base.scheme_str().unwrap_or_default(), base.path())
        }
        None => base.path().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in CREDENTIAL_HEADERS {
            headers.insert(name, HeaderValue::from_static("client"));
        }
        headers.insert("x-other", HeaderValue::from_static("client"));
        headers
    }

    #[test]
    fn a_header_credential_replaces_every_client_credential() {
        let swap = Swap::new(&Credential::bearer(Secret::new("s3cret"))).unwrap();
        let mut headers = client_headers();
        swap.headers(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x-other"], "client");
        assert_eq!(swap.path_and_query("/a?key=client&b=%7e".into()), "/a?b=%7e");
    }

    #[test]
    fn a_query_credential_is_escaped_and_comes_last() {
        let swap = Swap::new(&Credential::new(Place::Query("appid".into()), Secret::new("a b&c"))).unwrap();
        let mut headers = client_headers();
        swap.headers(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(swap.path_and_query("/a?appid=client&q=x%20y&key=k".into()), "/a?q=x%20y&appid=a%20b%26c");
        assert_eq!(swap.path_and_query("/a".into()), "/a?appid=a%20b%26c");
    }

    #[test]
    fn secrets_do_not_print() {
        let credential = Credential::new(Place::Query("k".into()), Secret::new("s3cret"));
        assert!(!format!("{credential:?}").contains("s3cret"));
        assert!(!format!("{:?}", Swap::new(&credential).unwrap()).contains("s3cret"));
        let bearer = Swap::new(&Credential::bearer(Secret::new("s3cret"))).unwrap();
        assert!(!format!("{bearer:?}").contains("s3cret"));
        assert_eq!(Swap::new(&Credential::bearer(Secret::new("a\nb"))).unwrap_err(), "a header");
        assert_eq!(printable(&Uri::from_static("http://me:pw@h:1/p")), "http://h:1/p");
    }
}
