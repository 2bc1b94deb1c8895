//! Why the edge turned a request or a connection away.

use std::fmt;

use bytes::Bytes;
use farthing_types::Body;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:ident, $detail:literal;)+) => {
        /// Why the edge turned a request or a connection away: a closed list, with one stable string, status and sentence each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refusal { $($(#[$doc])* $variant,)+ }
        impl Refusal {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// The stable string, for metrics, logs and the problem document's type.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
            /// The status it is answered with.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
            /// What was wrong, for the client's developer.
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$variant => $detail,)+ }
            }
        }
    };
}

refusals! {
    /// Not `METHOD SP target SP HTTP/1.x`.
    RequestLine = "request-line", BAD_REQUEST, "the request line is not METHOD, target and HTTP version with single spaces between";
    /// The method has characters that no method may have.
    Method = "method", BAD_REQUEST, "the method is not a token";
    /// A method longer than any that exists.
    LongMethod = "long-method", NOT_IMPLEMENTED, "no method is that long";
    /// HTTP/1.2 and later, HTTP/2 or 3 in HTTP/1 syntax.
    Version = "version", HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here";
    /// A target that is neither a path nor a URL, or has characters that must be percent-encoded.
    Target = "target", BAD_REQUEST, "the request target is not a path or URL, or has characters that must be percent-encoded";
    /// A `#` in the target.
    Fragment = "fragment", BAD_REQUEST, "the request target must not have a fragment";
    /// The target is longer than allowed.
    LongTarget = "long-target", URI_TOO_LONG, "the request target is too long";
    /// A line ends in LF alone.
    BareLf = "bare-lf", BAD_REQUEST, "lines must end in CR LF";
    /// A CR that is not part of a line end.
    BareCr = "bare-cr", BAD_REQUEST, "a CR must be followed by LF";
    /// NUL or another control character.
    Control = "control-character", BAD_REQUEST, "control characters are not allowed in the head";
    /// A header line that continues the one before.
    Fold = "folded-header", BAD_REQUEST, "header lines must not be folded";
    /// White space before the colon.
    SpaceBeforeColon = "space-before-colon", BAD_REQUEST, "no space is allowed between a header's name and its colon";
    /// A header line without colon, or a name that is not a token.
    FieldName = "header-name", BAD_REQUEST, "a header line must be a token, a colon and a value";
    /// HTTP/1.1 without Host.
    NoHost = "missing-host", BAD_REQUEST, "the Host header is missing";
    /// More than one Host.
    TwoHosts = "double-host", BAD_REQUEST, "there is more than one Host header";
    /// A Host that is not a host with an optional port.
    Host = "bad-host", BAD_REQUEST, "the Host header is not a host name or address with an optional port";
    /// The URL in the request line and the Host header name different hosts.
    HostMismatch = "host-mismatch", BAD_REQUEST, "the host of the URL differs from the Host header";
    /// Both Content-Length and Transfer-Encoding.
    LengthAndCoding = "length-and-coding", BAD_REQUEST, "Content-Length and Transfer-Encoding exclude each other";
    /// More than one Content-Length.
    TwoLengths = "double-length", BAD_REQUEST, "there is more than one Content-Length header";
    /// A Content-Length that is not a plain decimal number.
    Length = "bad-length", BAD_REQUEST, "Content-Length is not a decimal number";
    /// More than one Transfer-Encoding.
    TwoCodings = "double-coding", BAD_REQUEST, "there is more than one Transfer-Encoding header";
    /// A Transfer-Encoding other than chunked.
    Coding = "unknown-coding", NOT_IMPLEMENTED, "the only Transfer-Encoding understood is chunked";
    /// Transfer-Encoding in HTTP/1.0.
    OldCoding = "coding-in-http10", BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding";
    /// The head is larger than allowed.
    LargeHead = "large-head", REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large";
    /// More header lines than allowed.
    ManyHeaders = "many-headers", REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many header lines";
    /// A chunk size that is not a hexadecimal number of reasonable length.
    ChunkSize = "chunk-size", BAD_REQUEST, "a chunk size is not a hexadecimal number";
    /// A chunk extension with control characters, or too long.
    ChunkExtension = "chunk-extension", BAD_REQUEST, "a chunk extension is malformed or too long";
    /// A chunk's data are not followed by CR LF.
    ChunkEnd = "chunk-end", BAD_REQUEST, "a chunk's data must be followed by CR LF";
    /// A malformed trailer section, or a field that must not stand in one.
    Trailer = "trailer", BAD_REQUEST, "the trailer section is malformed or has a field that may not stand there";
    /// CONNECT.
    Connect = "connect", NOT_IMPLEMENTED, "CONNECT is not supported here: it takes a table `[forward]`, and HTTP/1";
    /// CONNECT with a body.
    ConnectBody = "connect-body", BAD_REQUEST, "CONNECT has no body";
    /// An Upgrade other than to HTTP/2 (which is ignored), or to a WebSocket where a route tunnels them.
    Upgrade = "upgrade", NOT_IMPLEMENTED, "protocol upgrades are not supported, but for WebSockets where a route has `upgrade`: asked for by GET in HTTP/1.1, without a body";
    /// The head did not arrive in time.
    HeadTimeout = "head-timeout", REQUEST_TIMEOUT, "the request head did not arrive in time";
    /// No byte of the body arrived for too long.
    BodyIdle = "body-idle", REQUEST_TIMEOUT, "the request body stopped arriving";
    /// The body arrived too slowly.
    BodySlow = "body-slow", REQUEST_TIMEOUT, "the request body arrived too slowly";
    /// The body is larger than allowed.
    LargeBody = "large-body", PAYLOAD_TOO_LARGE, "the request body is too large";
    /// The connection or stream ended within the body.
    BodyBroken = "body-broken", BAD_REQUEST, "the request body ended early";
    /// The client address has too many connections.
    AddressCap = "address-connections", SERVICE_UNAVAILABLE, "too many connections from this address";
    /// Plain HTTP where TLS is spoken.
    PlainHttp = "plain-http", BAD_REQUEST, "this port speaks TLS: write https:// in the URL";
    /// The handler broke down; a defect of ours.
    Defect = "defect", INTERNAL_SERVER_ERROR, "an internal error occurred";
}

impl Refusal {
    /// Its place in [`Refusal::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// The RFC 9457 document.
    pub(super) fn document(self) -> String {
        let title = self.status().canonical_reason().unwrap_or("error");
        let (kind, status, detail) = (self.as_str(), self.status().as_u16(), self.detail());
        format!("{{\"type\":\"urn:farthing:problem:{kind}\",\"title\":\"{title}\",\"status\":{status},\"detail\":\"{detail}\"}}\n")
    }

    /// The problem as a response that ends an HTTP/1 connection.
    pub(super) fn response(self, closes: bool) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from(self.document())));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same as bytes of HTTP/1.1, for connections that never become HTTP.
    pub(super) fn wire(self) -> Vec<u8> {
        let document = self.document();
        let (status, length) = (self.status(), document.len());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{document}"
        )
        .into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_a_json_document_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::ALL[refusal.index()], *refusal);
            let document: serde_json::Value = serde_json::from_str(&refusal.document()).unwrap();
            assert_eq!(document["status"], refusal.status().as_u16());
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
            assert!(seen.insert(document["type"].to_string()), "{refusal}");
        }
    }
}
