//! What of a request's headers tells who asks: by the names, and by the words of their values.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use farthing_config::Provider;
use farthing_freshness::key::{Credentials, is_of_one_sending};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{credential_places, is_credential_place, ours_in};
use crate::clients::Clients;

/// `Basic` as clients write it, with `=` at its end or without.
const BASIC: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Whether the name of a header says that its value tells who asks: a credential in a place of the API's own, or a user whom a proxy in
/// front of Farthing has signed in. Two clients that differ in it are two. A name that is wrongly taken for one costs a call, one that is
/// missed hands one client the other's answer; what differs from request to request is left out, for then nothing would be found again.
pub(super) fn tells_who(name: &str) -> bool {
    let mut words = name.rsplit(['-', '_']);
    let last = words.next().unwrap_or_default();
    let tells = match last {
        "key" | "apikey" | "accesskey" | "token" | "apitoken" | "accesstoken" | "authtoken" | "usertoken" | "idtoken" | "sessiontoken"
        | "secret" | "password" | "credential" | "credentials" | "auth" | "authorization" | "authentication" | "jwt" | "assertion"
        | "session" | "sessionid" | "sid" | "user" | "username" | "userid" | "login" | "email" | "principal" | "identity" | "subject"
        | "consumer" | "group" | "groups" | "role" | "roles" => true,
        "id" | "name" | "identifier" | "data" => words.next().is_some_and(|of| {
            let whose = ["user", "session", "account", "customer", "tenant", "consumer", "principal", "credential", "org", "organization"];
            whose.contains(&of) || of == "oidc"
        }),
        _ => false,
    };
    tells && !is_of_one_request(name)
}

/// Names that end like those of credentials, and say nothing about who asks.
fn is_of_one_request(name: &str) -> bool {
    // Of the browser (`sec-fetch-user`) and of one handshake (`sec-websocket-key`); ours, which are read by their names.
    name.starts_with("sec-")
        || name.starts_with("x-farthing-")
        || name.ends_with("idempotency-key")
        || name == "surrogate-key"
        // Drawn for a page, good only beside a cookie, and requests with a cookie are not answered from the cache.
        || name.ends_with("csrf-token")
        || name.ends_with("xsrf-token")
        || HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| is_of_one_sending(&name))
}

/// Hands each word of a header's value to `find` until that finds something: a credential stands behind a scheme, behind two by mistake, as a parameter of
/// one, or within `Basic`.
pub(super) fn in_words<T>(value: &HeaderValue, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
    let text = String::from_utf8_lossy(value.as_bytes());
    let basic = basic(&text);
    let words = |text| str::split(text, |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '=' | '"' | '\'' | ':'));
    // The user comes before the password, and is empty or anything where that is the key.
    let within = basic.iter().flat_map(|pair| words(pair));
    words(&text).chain(within).filter(|word| !word.is_empty()).find_map(&mut find)
}

/// The user and password of `Basic`.
fn basic(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once(char::is_whitespace)?;
    let bytes = scheme.eq_ignore_ascii_case("basic").then(|| BASIC.decode(rest.trim()).ok()).flatten()?;
    Some(match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    })
}

/// Keyed digest of every credential that a request carries.
pub(super) struct Digest<'a> {
    salt: &'a [u8; 32],
    hasher: Option<blake3::Hasher>,
}

impl<'a> Digest<'a> {
    pub(super) const fn new(salt: &'a [u8; 32]) -> Self {
        Self { salt, hasher: None }
    }

    pub(super) fn headers(&mut self, provider: &Provider, headers: &HeaderMap) {
        for name in credential_places(provider) {
            for value in headers.get_all(name) {
                self.add(name.as_str(), value.as_bytes());
            }
        }
    }

    /// What stands elsewhere and tells who asks, by the order of the names. A key or token of ours has said that already.
    pub(super) fn likely(&mut self, clients: &Clients, provider: &Provider, headers: &HeaderMap) {
        let likely = |name: &&HeaderName| tells_who(name.as_str()) && !is_credential_place(provider, name);
        let mut names: Vec<&HeaderName> = headers.keys().filter(likely).collect();
        names.sort_by_key(|name| name.as_str());
        for name in names {
            for value in headers.get_all(name).iter().filter(|value| clients.is_empty() || ours_in(clients, value).is_none()) {
                self.add(name.as_str(), value.as_bytes());
            }
        }
    }

    /// The very pairs that a key leaves out, so that none of them is lost between the two.
    pub(super) fn query(&mut self, credentials: &Credentials, query: Option<&str>) {
        for pair in query.into_iter().flat_map(|query| credentials.pairs(query)) {
            let (name, value) = pair.split_once('=').unwrap_or(("", pair));
            self.add(name, value.as_bytes());
        }
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        let hasher = self.hasher.get_or_insert_with(|| blake3::Hasher::new_keyed(self.salt));
        for part in [name.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }

    /// `p-` and 16 hexadecimal digits of what was added so far; `None` without any credential.
    pub(super) fn text(&self) -> Option<Arc<str>> {
        self.hasher.as_ref().map(|hasher| format!("p-{}", &hasher.finalize().to_hex()[..16]).into())
    }
}
