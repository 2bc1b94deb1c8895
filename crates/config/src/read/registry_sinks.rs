//! Keys of the sinks of the log.

use super::registry::{Keys, key};

pub(crate) const SINK: Keys = &[
    key("name", "name", "", "Required. Its name in metrics, errors and `farthing logs sinks`."),
    key("kind", "word", "", "Required. `postgres`: a PostgreSQL database, 12 or newer."),
    key(
        "url",
        "URL",
        "",
        "Required. `postgres://user@host:port/database`. Over a network TLS is required unless it says `?sslmode=disable`.",
    ),
    key("password", "secret", "", "The password of that user."),
    key("authorities", "path", "", "Certificates of authorities to trust (PEM) in place of the public ones."),
    key("schema", "name", "\"farthing\"", "The schema of the tables; made where it is not there and the user may."),
    key(
        "tables",
        "list",
        "[\"requests\", \"calls\", \"decisions\", \"outcomes\"]",
        "The tables that go there. `decisions` needs `requests` and `calls`, `outcomes` all others: without them a tenant could not be forgotten.",
    ),
    key(
        "retention",
        "time",
        "",
        "How long rows stay there: they go with their day. Without it whoever owns the sink decides; `[retention]` is about the log alone.",
    ),
    key("deadline", "time", "\"30s\"", "How long one operation may take: shipping a file, asking what is there."),
    key("interval", "time", "\"5s\"", "How often the log is looked at for finished files."),
];
