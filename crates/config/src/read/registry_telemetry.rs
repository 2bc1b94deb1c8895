//! Keys of what is told to programs that watch requests.

use super::registry::{Keys, Kind, key, table};

pub(crate) const TELEMETRY: Keys = &[table("otlp", Kind::Table, "A collector of traces.")];

pub(crate) const OTLP: Keys = &[
    key(
        "endpoint",
        "URL",
        "",
        "Required. Where the collector takes OTLP, such as `http://127.0.0.1:4318`. Without a path `/v1/traces` is put behind it.",
    ),
    key("protocol", "word", "\"http/protobuf\"", "How it is spoken. There is one way: `http/protobuf`."),
    key(
        "headers",
        "table",
        "",
        "Headers of each delivery, such as the collector's credential: names and secrets, `{ authorization = { env = \"NAME\" } }`.",
    ),
    key(
        "sample",
        "number",
        "1.0",
        "Share of the traces begun here that is recorded. What comes with a `traceparent` is recorded where that says so.",
    ),
    key("attributes", "table", "", "Of whom all spans are: names and texts. `service.name` is `farthing` unless said."),
    key("interval", "time", "\"5s\"", "How long a span waits for others at most. 512 together do not wait."),
    key("deadline", "time", "\"10s\"", "How long one delivery may take."),
    key("queue_bytes", "size", "\"8MiB\"", "Memory of spans that wait or are under way. What comes beyond is dropped, and counted."),
    key("authorities", "path", "", "Certificates of authorities to trust (PEM) in place of the public ones."),
];
