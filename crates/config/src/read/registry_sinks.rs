//! Keys of the sinks of the log.

use super::registry::{Keys, key};

pub(crate) const SINK: Keys = &[
    key("name", "name", "", "Required. Its name in metrics, errors and `farthing logs sinks`."),
    key(
        "kind",
        "word",
        "",
        "Required. `postgres`: a PostgreSQL database, 12 or newer; `clickhouse`: a ClickHouse server; `s3`: a bucket of S3 or of a store that speaks it. Keys of other kinds are refused.",
    ),
    key(
        "url",
        "URL",
        "",
        "`postgres`: required. `postgres://user@host:port/database`. Over a network TLS is required unless it says `?sslmode=disable`. `clickhouse`: required. `https://host:8443`, or `http://host:8123`: then rows and password go in the clear.",
    ),
    key("user", "name", "\"default\"", "`clickhouse`: who asks."),
    key("password", "secret", "", "`postgres`, `clickhouse`: the password of the user."),
    key("authorities", "path", "", "Certificates of authorities to trust (PEM) in place of the public ones."),
    key("schema", "name", "\"farthing\"", "`postgres`: the schema of the tables; made where it is not there and the user may."),
    key("database", "name", "\"farthing\"", "`clickhouse`: the database of the tables; made where it is not there and the user may."),
    key("bucket", "name", "", "`s3`: required. The bucket; it must be there."),
    key(
        "prefix",
        "text",
        "",
        "`s3`: what names of objects begin with, such as `farthing/prod`. What is below it is laid out as the log's folder.",
    ),
    key(
        "region",
        "name",
        "",
        "`s3`: the region of the bucket. Required without `endpoint`; with it `us-east-1` unless said, which most stores want (Cloudflare R2: `auto`).",
    ),
    key("endpoint", "URL", "", "`s3`: where a store other than AWS is, such as `https://minio.example.com:9000`."),
    key(
        "path_style",
        "flag",
        "",
        "`s3`: whether the bucket stands in the path of requests and not in the host. `true` with `endpoint` unless said, `false` without.",
    ),
    key(
        "access_key_id",
        "secret",
        "",
        "`s3`: the id of the key that requests are signed with. Without it the identity of the machine: of its pod (EKS), task (ECS) or instance.",
    ),
    key("secret_access_key", "secret", "", "`s3`: its secret. Required with `access_key_id`."),
    key("session_token", "secret", "", "`s3`: what comes with a key that ends by itself. It is read at the start only."),
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

pub(crate) const MODEL_STORE: Keys = &[
    key("bucket", "name", "", "Required. The bucket; it must be there, and take conditional writes (S3, MinIO, R2 and others do)."),
    key("prefix", "text", "", "What names of objects begin with, such as `farthing/models`."),
    key("region", "name", "", "The region of the bucket. Required without `endpoint`; with it `us-east-1` unless said."),
    key("endpoint", "URL", "", "Where a store other than AWS is, such as `https://minio.example.com:9000`."),
    key(
        "path_style",
        "flag",
        "",
        "Whether the bucket stands in the path of requests and not in the host. `true` with `endpoint` unless said, `false` without.",
    ),
    key("access_key_id", "secret", "", "The id of the key that requests are signed with. Without it the identity of the machine."),
    key("secret_access_key", "secret", "", "Its secret. Required with `access_key_id`."),
    key("session_token", "secret", "", "What comes with a key that ends by itself. It is read at the start only."),
    key("authorities", "path", "", "Certificates of authorities to trust (PEM) in place of the public ones."),
    key("deadline", "time", "\"3s\"", "How long one operation may take. A rollback then goes on without the store."),
];
