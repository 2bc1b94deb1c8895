//! Keys of the tables about listeners.

use super::registry::{Keys, Kind, key, table};

pub(crate) const DATA: Keys = &[
    key("listen", "address", "\"127.0.0.1:8787\"", "Address to listen on; port 0 asks the system for one."),
    key("header_timeout", "time", "\"10s\"", "Time a client has to send a request head."),
    key(
        "body_rate",
        "size",
        "\"1000B\"",
        "Fewest bytes per second a client must send of a request body until its answer begins; 0 turns it off.",
    ),
    key("body_grace", "time", "\"10s\"", "Time before `body_rate` is enforced."),
    key("idle_timeout", "time", "\"75s\"", "Time an idle keep-alive connection is kept."),
    key("max_connections", "count", "10000", "Most connections at a time; more wait."),
    key("max_header_bytes", "size", "\"64kB\"", "Most bytes of a request head; 431 beyond."),
    key("max_headers", "count", "100", "Most header fields of a request; 431 beyond."),
    key("max_body", "size", "\"100MB\"", "Most bytes of any request body; 413 beyond."),
    key(
        "drain_delay",
        "time",
        "\"0s\"",
        "Time at shutdown in which new requests are still taken while `/readyz` says 503 already, so that a load balancer sends them elsewhere before \
         the port closes: a little more than its checks take.",
    ),
    key("drain", "time", "\"15s\"", "Time that running requests get to end after that."),
    key(
        "compress",
        "list",
        "[]",
        "Content codings in which answers may go to clients that accept them, the best first, such as `[\"zstd\", \"br\", \"gzip\"]`. None: answers pass as they are.",
    ),
    key("compress_min", "size", "\"1KiB\"", "Smallest answer that is compressed."),
    key(
        "interim",
        "flag",
        "true",
        "What a provider sends before its answer (102, 103 Early Hints) goes on to clients of HTTP/1.1. `false` for clients that take the first head for the answer, as Python's `http.client` does.",
    ),
    table("tls", Kind::Table, "TLS towards clients. Without it the port speaks plain HTTP."),
];

pub(crate) const FORWARD: Keys = &[
    key(
        "providers",
        "flag",
        "true",
        "A request for the URL of a provider takes the route to it, as if the client had asked the route: it goes out as the provider's `base_url` says, so over TLS, also where the \
         client wrote `http://`. Routes with `hosts` take what is sent to those in any case.",
    ),
    key(
        "pass",
        "list",
        "[]",
        "Hosts to which requests for `http://` URLs may pass that no route takes, such as `[\"pypi.example.com\", \"*.example.org\", \"h.example.net:8080\"]`. Nothing is done about them but counting. `\"*\"`: any.",
    ),
    key(
        "tunnel",
        "list",
        "[]",
        "Hosts to which CONNECT may open a tunnel, written as in `pass`. What passes is not seen: no route, cache, limit or budget acts on it, and its cost is unknown.",
    ),
    key("ports", "list", "[80, 443]", "Ports that a host without one stands for in `pass` and `tunnel`."),
    key(
        "networks",
        "list",
        "[]",
        "Networks that may be reached in `pass` and `tunnel` though they are not of the public Internet, such as `[\"10.20.0.0/16\"]`. The ports of Farthing itself are never reached.",
    ),
    key(
        "names",
        "list",
        "[]",
        "Names of this proxy: a request for a URL with one of them is one to Farthing itself. Addresses that clients connect to, and `localhost`, are known.",
    ),
    key(
        "auth",
        "flag",
        "",
        "Whether clients must show a Farthing key or a token of an issuer, as `Proxy-Authorization` (`http://any:KEY@HOST:PORT` as the proxy's URL) or as on other requests; 407 without. \
         Without it: where there are `[[keys]]` or `[[jwt]]`.",
    ),
    key("connect_timeout", "time", "\"5s\"", "Time to find the address of a host and to connect to it."),
    key("deadline", "time", "\"60s\"", "Time that a host in `pass` has to begin its answer."),
    key("idle", "time", "\"5m\"", "A tunnel is closed, and an answer of a host in `pass` broken off, when nothing has come for so long."),
    key("longest", "time", "\"1d\"", "A tunnel is closed after so long."),
];

pub(crate) const ADMIN: Keys = &[
    key("listen", "address", "\"127.0.0.1:8788\"", "Address to listen on. An address that is not loopback needs a token."),
    key("token", "secret", "", "Bearer token that may do everything. Without any token only clients on loopback are answered."),
    table("tokens", Kind::Array, "Tokens with a name and a role."),
    key("max_body", "size", "\"1MB\"", "Most bytes of a request body; 413 beyond."),
    table("tls", Kind::Table, "TLS towards clients. Without it the port speaks plain HTTP."),
];

pub(crate) const TLS: Keys = &[
    key(
        "cert",
        "path",
        "",
        "Required. PEM file: the certificate, and those between it and its authority. Read again with each reload, and within ten seconds after the file has changed; connections go on.",
    ),
    key("key", "path", "", "Required. PEM file: its private key."),
    key(
        "client_ca",
        "path",
        "",
        "PEM file: authorities. Clients must show a certificate that one of them has signed, or the handshake fails. Who a client is, is told by its key or token all the same.",
    ),
    table("more", Kind::Array, "Certificates for hosts of their own."),
];

pub(crate) const CERTIFICATE: Keys = &[
    key("cert", "path", "", "Required. As above; shown to clients that ask for one of its names (SNI)."),
    key("key", "path", "", "Required. As above."),
];
