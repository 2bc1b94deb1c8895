//! Keys of `[providers.NAME]` and its tables.

use super::registry::{Keys, Kind, key, table};

pub(crate) const PROVIDER: Keys = &[
    key("preset", "name", "", "The preset to start from: `openai`, `anthropic`, `gemini`, `google-geocoding`, `openweather`, `generic`."),
    key("base_url", "URL", "", "Scheme, host and path prefix of the upstream. Needed unless the preset has one."),
    key(
        "credential_place",
        "place",
        "\"none\"",
        "Where the provider looks for its credential: `none`, `bearer`, `header:NAME`, `query:NAME`.",
    ),
    key("credential", "secret", "", "Our own credential, sent for clients that present a Farthing key."),
    key("dialect", "word", "\"generic\"", "The body formats it speaks: `generic`, `openai`, `anthropic`, `google`, `gemini`."),
    key("volatile", "list", "[]", "JSON pointers whose values differ from answer to answer and say nothing about change."),
    key("price", "dollars", "", "Price of a call: short for a table `prices` with `per_call` alone."),
    key(
        "refill",
        "number",
        "2.0",
        "Most calls while copies that were lost (a flush, a purge of many, a start without them) are brought back, as a multiple of the \
         rate before. 0: no bound.",
    ),
    key(
        "refill_wait",
        "time",
        "\"5s\"",
        "Longest time that such a call waits for its turn; half of the request's deadline if that is less.",
    ),
    table("terms", Kind::Table, "What its terms allow."),
    table("upstream", Kind::Table, "How it is reached."),
    table("prices", Kind::Table, "What it charges."),
];

/// A preset file is a provider's table with defaults for its routes.
pub(crate) const PRESET: Keys = &[
    key("base_url", "URL", "", "See `[providers.NAME]`."),
    key("credential_place", "place", "\"none\"", "See `[providers.NAME]`."),
    key("dialect", "word", "\"generic\"", "See `[providers.NAME]`."),
    key("volatile", "list", "[]", "See `[providers.NAME]`."),
    table("terms", Kind::Table, "See `[providers.NAME.terms]`."),
    table("upstream", Kind::Table, "See `[providers.NAME.upstream]`."),
    table("prices", Kind::Table, "See `[providers.NAME.prices]`."),
    table("route", Kind::Table, "Defaults of its routes; see `[routes.NAME]`."),
];

pub(crate) const TERMS: Keys = &[
    key("storable", "flag", "true", "Answers may be kept at all."),
    key("max_store", "time", "", "Longest time an answer may be kept."),
    key(
        "storable_fields",
        "list",
        "[]",
        "JSON pointers to the only fields that may be kept; an answer with others is not. None means all.",
    ),
    key("prefetch", "flag", "true", "Answers may be fetched before anybody asked."),
    key("share", "flag", "true", "One principal's answer may be given to another."),
    key("source", "text", "\"\"", "Where this is written."),
];

pub(crate) const UPSTREAM: Keys = &[
    key("connect_timeout", "time", "\"5s\"", "Time to connect, TLS included."),
    key("head_timeout", "time", "\"60s\"", "Time from sending a request to the head of its answer."),
    key("try_timeout", "time", "", "The same for one attempt of a call that may be made again. Without it `head_timeout`."),
    key("idle_timeout", "time", "\"60s\"", "Longest silence within an answer's body."),
    key(
        "protocol",
        "word",
        "\"auto\"",
        "`auto` (HTTP/2 where TLS negotiates it, else HTTP/1.1), `http1`, `http2` (without TLS by prior knowledge).",
    ),
    key("attempts", "count", "3", "Attempts of one idempotent call, the first included."),
    key(
        "backoff",
        "time",
        "\"100ms\"",
        "The wait before the second attempt is drawn between zero and this; it doubles with each further one.",
    ),
    key("retry_share", "share", "0.2", "Most repeats, as a share of the calls of the last ten seconds."),
    key("retry_floor", "count", "2", "Repeats per second that are allowed however few calls there are."),
    key("breaker_share", "share", "0.5", "Share of failed attempts at which the breaker opens."),
    key("breaker_cooldown", "time", "\"5s\"", "How long an open breaker waits before it tries one call."),
    key("max_idle", "count", "64", "Most idle connections that are kept."),
    key(
        "keep_idle",
        "time",
        "\"50s\"",
        "How long an idle connection is kept at most; less where answers say so (`Keep-Alive: timeout=5`). Must be shorter than what the provider, or a balancer before it, keeps it: a POST on a connection that is just being closed fails. `0s`: none is used again.",
    ),
    key("max_concurrent", "count", "1024", "Most calls at a time."),
    table("compress_requests", Kind::Table, "Only for a provider that takes compressed request bodies."),
];

pub(crate) const COMPRESS_REQUESTS: Keys = &[
    key("min", "size", "\"4KiB\"", "Smallest body that is compressed, where that saves at least a fifth of it."),
    key("encoding", "word", "\"gzip\"", "The content coding that the provider takes: `gzip`, `zstd` or `br`."),
];
