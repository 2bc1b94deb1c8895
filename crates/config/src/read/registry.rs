//! Every key of a configuration file, once: the reader refuses what is not here, and the reference page is printed from
//! here. Defaults stand as TOML text; a test reads them all and compares with the defaults in the code.

pub(crate) use super::registry_batch::{BATCH, DEFER, PROMPT_CACHE, TUNE, UPGRADE, WARM};
pub(crate) use super::registry_events::{EVENT_RULE, EVENTS, EXPERIMENT, VARIANT};
pub(crate) use super::registry_fleet::FLEET;
pub(crate) use super::registry_identity::{ADMIN_TOKEN, JWT, JWT_CLAIMS, KEY, TENANT};
pub(crate) use super::registry_limits::{LIMIT, OVERLOAD};
pub(crate) use super::registry_listen::{ADMIN, CERTIFICATE, DATA, FORWARD, TLS};
pub(crate) use super::registry_money::{
    ALERTS, AUDIT, BUDGET, CURRENCY, HOLDOUT, IMPORTED, IMPORTED_PROVIDER, LONG_RATES, METER, OVERHEAD, PREFETCH, PRICE_FILES, PRICES,
    SELF_COST, SERVICE, SERVICE_RATES, STRATEGIES, TIER, TOKEN_RATES,
};
pub(crate) use super::registry_providers::{COMPRESS_REQUESTS, PRESET, PROVIDER, TERMS, UPSTREAM};
pub(crate) use super::registry_routing::{ADAPTER, ERROR_IF, LEG, WEIGHTS};
pub(crate) use super::registry_sinks::{MODEL_STORE, SINK};
pub(crate) use super::registry_tables::TABLES;
pub(crate) use super::registry_telemetry::{OTLP, TELEMETRY};

/// The keys of one table.
pub(crate) type Keys = &'static [Key];

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// TOML text; empty when there is none.
    pub default: &'static str,
    pub doc: &'static str,
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A value of the named form.
    Value(&'static str),
    /// One table.
    Table,
    /// Tables by name: `[key.NAME]`.
    Named,
    /// An array of tables: `[[key]]`.
    Array,
}

pub(crate) const fn key(name: &'static str, form: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Value(form), default, doc }
}
pub(crate) const fn table(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", doc }
}

/// One kind of table: its heading in the reference page, what it is for, its keys.
pub(crate) struct Table {
    pub heading: &'static str,
    pub doc: &'static str,
    pub keys: Keys,
}

pub(crate) const TOP: Keys = &[
    key(
        "state_dir",
        "path",
        "\".farthing\"",
        "Where this instance keeps the salt it made up, what budgets may spend, what limits have given, which batches of deferred calls are under way, its name in a fleet, and how far it has read streams of events.",
    ),
    key(
        "salt",
        "secret",
        "",
        "Key of all digests (cache keys, tenants of passed credentials). Equal on instances that share logs. Without it one is made up and kept in `state_dir`.",
    ),
    key("seed", "number", "", "Seed of all draws: equal on instances that shall assign alike. Without it, it follows from the salt."),
    table("data", Kind::Table, "The data port."),
    table("forward", Kind::Table, "Clients that take Farthing for their proxy (`HTTP_PROXY`)."),
    table("admin", Kind::Table, "The admin port."),
    table("cache", Kind::Table, "Memory of the cache."),
    table("l2", Kind::Table, "Answers outside of memory."),
    table("fleet", Kind::Table, "Other instances."),
    table("events", Kind::Named, "Sources of events that say what has changed."),
    table("budgets", Kind::Named, "Money that may be spent over a time."),
    table("limits", Kind::Array, "Requests, tokens and calls at a time."),
    table("overload", Kind::Table, "What is under way in the whole process."),
    table("tiers", Kind::Named, "Tenants with a share of that of their own."),
    table("log", Kind::Table, "The Parquet log."),
    table("retention", Kind::Table, "How long its rows stay."),
    table("sinks", Kind::Array, "Where its finished files are shipped to."),
    table("telemetry", Kind::Table, "What is told of requests to programs that watch them."),
    table("models", Kind::Table, "Predictors."),
    table("holdout", Kind::Table, "The savings holdout."),
    table("audit", Kind::Table, "Answers that are checked at the origin."),
    table("prefetch", Kind::Table, "Fetching ahead."),
    table("strategies", Kind::Table, "Which strategies there are at all."),
    table("overhead", Kind::Table, "How long Farthing itself may take."),
    table("prices", Kind::Table, "Files of imported prices."),
    table("alerts", Kind::Table, "Alerts about money."),
    table("self_cost", Kind::Table, "What Farthing itself costs."),
    table("providers", Kind::Named, "Providers."),
    table("routes", Kind::Named, "Routes."),
    table("keys", Kind::Array, "Farthing keys."),
    table("jwt", Kind::Array, "Issuers whose tokens are taken in place of keys."),
    table("tenants", Kind::Named, "What tenants may do."),
    table("experiments", Kind::Named, "Experiments."),
];

pub(crate) const CACHE: Keys = &[
    key("l1_bytes", "size", "\"100MB\"", "Size of the memory cache, heads and overhead included."),
    key(
        "share_buffer",
        "size",
        "\"4MB\"",
        "Largest body of an answer that is held whole, for late joiners and to be stored; a larger one streams through.",
    ),
    key("in_flight_bytes", "size", "\"64MB\"", "How much all running answers together may hold; at least `share_buffer`."),
    key("max_followers", "count", "10000", "Most followers of one running call; more go their own way."),
    key("reader_grace", "time", "\"5s\"", "How long the slowest reader of a shared answer may hold up the others before it is cut."),
    key("max_handovers", "count", "3", "How often a call whose leader vanished is handed to a follower."),
    key("statistics_bytes", "size", "\"32MiB\"", "Size of the table of statistics for keys that are not in the cache."),
];

pub(crate) const L2: Keys = &[
    key(
        "kind",
        "word",
        "\"disk\"",
        "`disk`: a directory of this instance's own. `redis`: a server or Cluster, shared by instances with the same salt.",
    ),
    key("dir", "path", "\".farthing/l2\"", "Disk: the directory."),
    key("max_bytes", "size", "\"1GiB\"", "Disk: most bytes of its files; the oldest answers go. Redis has its own bound (`maxmemory`)."),
    key("addresses", "list", "", "Redis: `redis://host:port`, with TLS `rediss://host:port`; for a Cluster some of its nodes."),
    key("cluster", "flag", "false", "Redis: whether it is a Cluster."),
    key("user", "text", "", "Redis: the ACL user; the default user without it."),
    key("password", "secret", "", "Redis: the password."),
    key("authorities", "path", "", "Redis: certificates of authorities to trust (PEM) in place of the public ones."),
    key("deadline", "time", "", "How long a look may take; then it is a miss. Without it 50ms for disk, 5ms for Redis."),
    key("max_value", "size", "", "Largest answer that is kept there. Without it 1MB for disk, 256kB for Redis."),
    key("queue_bytes", "size", "\"16MB\"", "Most bytes of answers that wait to be written; more are dropped and counted."),
    key(
        "encrypt",
        "secret",
        "",
        "Encrypts all values with AES-256-GCM under a key derived from this secret of at least 32 characters. With another secret they are misses.",
    ),
];

pub(crate) const LOG: Keys = &[
    key("enabled", "flag", "true", "Whether a log is written. Without it nothing can be learned."),
    key("dir", "path", "\"logs\"", "Its directory."),
    key("flush", "time", "\"10s\"", "Longest time a row waits before it is in a finished file."),
    key("flush_bytes", "size", "\"32MB\"", "Size of buffered rows that ends a file earlier."),
    key("queue_bytes", "size", "\"64MB\"", "Most bytes of rows that wait for the writer; more are dropped and counted."),
    key(
        "row_rate",
        "number",
        "5000",
        "Requests in a second from which alike ones of the same 100 ms share a row with a weight. Features are recomputed exactly only from logs without such rows.",
    ),
    key(
        "journal",
        "flag",
        "true",
        "Whether rows are recorded in `<dir>/journal/` at once, so that a killed process loses at most its last second. Without it, it loses what waits for `flush`.",
    ),
    key("journal_sync", "time", "\"500ms\"", "Longest time until a recorded row survives a power cut, too."),
    key(
        "journal_reserve",
        "size",
        "\"16MB\"",
        "Space on the disk that is set aside for records of money: when the disk is full, other rows of the log are dropped and counted, and these go there.",
    ),
];

pub(crate) const RETENTION: Keys = &[
    key("requests", "time", "", "Of the table `requests`."),
    key("calls", "time", "", "Of the table `calls`, which has the costs."),
    key("decisions", "time", "", "Of the table `decisions`."),
    key("outcomes", "time", "", "Of the table `outcomes`."),
    table("tenants", Kind::Array, "Tenants with times of their own."),
];

pub(crate) const RETENTION_TENANT: Keys = &[
    key("tenant", "name", "", "Required. The tenant as the log names it; those of passed-through credentials are `p-` and a digest."),
    key("requests", "time", "", "Of its rows in `requests`."),
    key("calls", "time", "", "Of its rows in `calls`."),
];

pub(crate) const MODELS: Keys = &[
    key("dir", "path", "\"models\"", "The store: `<dir>/<kind>/<version>/`."),
    table("store", Kind::Table, "An object store that instances share: `dir` is a mirror of it; without the table it is the store itself."),
    key(
        "onnxruntime",
        "path",
        "",
        "The ONNX Runtime library. Without it the usual places are searched; when it is not found, tables and rules decide.",
    ),
    key("deadline", "time", "\"200us\"", "Time after which an inference counts as late."),
    key("control_interval", "time", "\"60s\"", "How often experiments and outcomes are looked at."),
    key(
        "canary_share",
        "share",
        "0.05",
        "Share of keys, 0 to 0.5, that a challenger decides for once it has proved itself in shadow. 0: it stays there.",
    ),
    key("shadow_labels", "count", "200", "Copies whose fate a challenger must have foretold before it decides for any key."),
    key(
        "drift_acts",
        "flag",
        "true",
        "A route whose answers change otherwise than its predictor foretells falls back to the live statistics, then to the rule. `false`: that is only told.",
    ),
    key(
        "autopilot",
        "flag",
        "false",
        "A challenger that is shown not to cost more than what decides, and that no guard has taken back, is promoted by the proxy itself; one of which that is not shown in time is taken back.",
    ),
    key(
        "autopilot_margin",
        "share",
        "0.05",
        "By what share, 0.005 to 0.5, its keys may cost more, stale answers at their price included. Less takes longer to show.",
    ),
    key("autopilot_within", "time", "\"14d\"", "Within what time that must be shown; time under a freeze does not count."),
    key(
        "trusted_keys",
        "list",
        "[]",
        "Public keys of which one must have signed a predictor before it may decide: \"ed25519:\" and 64 hexadecimal digits each. None: nothing is asked for.",
    ),
];

pub(crate) const ROUTE: Keys = &[
    key("provider", "name", "", "The provider that is asked and billed; the one of the route's own name when absent."),
    table("providers", Kind::Array, "Several providers in place of `provider`, one of which is chosen for each call."),
    table("weights", Kind::Named, "How much cost, latency, quality and reliability count in that choice, by priority."),
    key(
        "quality_floor",
        "share",
        "0.0",
        "Of several providers: the least quality (its `quality` times the measured share of `required` that its answers have) of who gets calls, as long as anybody has it.",
    ),
    key(
        "required",
        "list",
        "[]",
        "Of several providers: JSON pointers to what an answer in the route's shape must have, `*` for each element of an array. An answer without it is the provider's failure: paid for, never delivered. The share that is there is measured.",
    ),
    key("complete", "share", "1.0", "Least share of `required` that an answer is delivered with."),
    key("hosts", "list", "[]", "Hosts it takes, without port; none means any."),
    key(
        "path_prefix",
        "path",
        "",
        "Its requests' paths start with this, at a segment border. Without it: the preset's, or `/r/NAME`; with hosts `/`.",
    ),
    key(
        "path",
        "path",
        "",
        "The whole path of its requests, with `{name}` for any one segment and `{*name}` at the end for all that is left, such as `/v1/users/{id}/orders`. In place of `path_prefix`. Paths are compared as they are sent: percent-encoding is not undone, a slash at the end counts.",
    ),
    key("methods", "list", "[]", "Methods it takes; none means any."),
    key(
        "strip_prefix",
        "path",
        "",
        "Prefix cut off the path before it goes upstream. Without it: the preset's where it fits, or `path_prefix`; with hosts or `path` nothing. `/` cuts nothing.",
    ),
    key(
        "mode",
        "word",
        "\"learned\"",
        "`respect`: never more than RFC 9111 allows. `learned`: a predicted TTL where the origin gave no explicit freshness. `override`: the route's TTL whatever the origin says. `observe`: changes no answer, logs all.",
    ),
    key(
        "profile",
        "word",
        "",
        "How keys see the headers. `http`: through `Vary` only. `api`: all forwarded headers but a deny-list. Without it: `api` where the mode is `override` or the route `idempotent`, else `http`.",
    ),
    key("shared", "flag", "false", "One cache for all principals. Without it each has its own."),
    key(
        "targeted",
        "list",
        "",
        "Which fields of answers take the place of `Cache-Control` and `Expires` (RFC 9213), the first one first: `farthing-cache-control`, `cdn-cache-control`. With an empty list none does; without the key the first, and on a shared route both.",
    ),
    key(
        "credential",
        "word",
        "\"pass\"",
        "`pass`: the client's own credential goes upstream. `swap`: only Farthing keys come in, the provider's `credential` goes out.",
    ),
    key(
        "purge_by",
        "word",
        "\"nobody\"",
        "Who may purge by the method `PURGE` on the data port. `nobody`: it goes to the provider like any other. `own`: every client its own entries. `key`: holders of a Farthing key with `purge = true`, everybody's entries of the route.",
    ),
    key("cache", "flag", "true", "Cache answers."),
    key("dedupe", "flag", "true", "Let concurrent identical requests share one call."),
    key(
        "fill_lease",
        "flag",
        "true",
        "In a fleet with an L2 in Redis: wait for the call of another instance instead of making the same one. Not worth it where a call takes hardly longer than a look at Redis.",
    ),
    key(
        "strategy",
        "word",
        "\"shadow\"",
        "Who decides which of cache, dedupe and batch the route uses, of those that are allowed. `rule`: all that fit (docs/strategy.md). `shadow`: the same, and what the predictor would have chosen is counted and logged. `auto`: the predictor once it was trained on this deployment's own log, else as `shadow`. `model`: the predictor, a shipped one too.",
    ),
    key(
        "realtime",
        "flag",
        "false",
        "Answers must be exact at every moment: none is kept. Equal requests that are under way share one call.",
    ),
    key("personalised", "flag", "false", "Answers depend on who asks: on a shared route none is kept or shared."),
    key(
        "sensitive",
        "flag",
        "false",
        "Answers must not be kept, such as those about security. Equal requests that are under way share one call.",
    ),
    key("idempotent", "flag", "false", "Treat methods other than GET and HEAD as repeatable: they may be shared, cached and retried."),
    key("key_body", "flag", "true", "The body's digest is part of the key."),
    key(
        "compress",
        "flag",
        "true",
        "Answers may be compressed for clients, where `data.compress` says how. Off where secrets stand beside text that others choose: its length would tell about them.",
    ),
    key(
        "strip_query",
        "list",
        "[]",
        "Query parameters that stay out of key and log, as the parameter of `credential_place` always does. On routes that are not shared all that look like credentials do, and the principal stands for them.",
    ),
    key("volatile", "list", "[]", "JSON pointers to values that say nothing about change, beside the provider's."),
    key(
        "pii",
        "list",
        "[]",
        "Personal fields: `query:NAME`, `header:NAME`, `request:/POINTER`, `answer:/POINTER` (JSON pointers into the body). What has one, or a request body in which that cannot be read, is neither kept nor shared, nor shown as an example. The log holds no query, header or body.",
    ),
    table(
        "cacheable_if",
        Kind::Array,
        "What an answer's body must say for it to be kept; all must hold. Soft errors with status 200 do not.",
    ),
    table("purges", Kind::Array, "What writes on the route purge beside their own target."),
    key("events", "name", "", "The source of events that tell of changes, a table `[events.NAME]`."),
    key(
        "ttl_when_down",
        "time",
        "\"10s\"",
        "Longest time an answer is served for while that source is down, however long it was meant to be.",
    ),
    key("ttl", "word", "\"model\"", "Who chooses the TTL: `model` (then table, then rule), `table` (then rule), `rule`, or `fixed:TIME`."),
    key("trust_shipped", "flag", "false", "Let a shipped predictor act before the route's own log has trained or validated one."),
    key("base_ttl", "time", "\"60s\"", "TTL of the rule before anything is known."),
    key("min_ttl", "time", "\"1s\"", "Shortest TTL worth storing."),
    key("max_ttl", "time", "\"24h\"", "Longest TTL; the provider's terms may cut it."),
    key("stale_budget", "share", "0.005", "Share of answers that may be stale."),
    key("stale_while_revalidate", "time", "\"0s\"", "How long after expiry a stale answer may go out while a refresh runs."),
    key(
        "refresh_ahead",
        "time",
        "\"0s\"",
        "Mean time before its expiry at which an entry that is still read is refreshed in the background, at a random time of its own and by one call; at most a tenth of its lifetime. Buys latency for calls.",
    ),
    key("audit", "flag", "true", "Check a share of its answers at the origin (`[audit]`)."),
    key(
        "prefetch",
        "word",
        "\"auto\"",
        "Fetch what is likely to be asked for next. `auto`: where `price_wait` says what a wait is worth, the provider's terms allow it, and the route's own record shows a gain. `off`: never.",
    ),
    key(
        "price_wait",
        "dollars",
        "\"0\"",
        "What it is worth that a client does not wait for one call. 0: nothing is fetched ahead, as that cannot save money.",
    ),
    key("prefetch_confidence", "share", "0.7", "Least probability of use at which a call is made ahead, whatever it would earn."),
    key(
        "prefetch_budget",
        "number",
        "0.25",
        "Most that is spent ahead in an hour, 0 to 10, as a multiple of what the route's other calls cost in that hour or the one before.",
    ),
    key("stale_if_error", "time", "\"10m\"", "How long after expiry a stale answer may stand in for a failed call."),
    key("max_body", "size", "\"100MB\"", "Largest request body; 413 beyond."),
    key(
        "buffer_limit",
        "size",
        "\"8MB\"",
        "Largest request body that is held for key, sharing and retry; a larger one streams through untouched.",
    ),
    key("deadline", "time", "\"60s\"", "Longest time a call may take."),
    key(
        "priority",
        "word",
        "\"medium\"",
        "How much its requests matter where neither they (`x-farthing-priority`) nor their client's key, token or tenant say: `high` (or `user-facing`), `medium` (`internal`), `low` (`background`).",
    ),
    key(
        "max_priority",
        "word",
        "\"high\"",
        "The most that a request may say that it matters, unless its client's key, token or tenant says otherwise.",
    ),
    key(
        "sla",
        "time",
        "",
        "Within what time its requests are promised to be answered: to the last byte, of a stream of events to the head. Each is counted met or missed. `x-farthing-deadline-ms` may shorten it.",
    ),
    key("tenants", "list", "[]", "The only tenants that may call it, as keys and tokens name them; 403 for others. None means all."),
    key(
        "teams",
        "list",
        "[]",
        "The only teams that may call it, as keys and tokens name them; of these tenants, where `tenants` names some.",
    ),
    key(
        "trace_context",
        "flag",
        "true",
        "Send W3C trace context (`traceparent`, `tracestate`) to the provider: that of the request continued, or a new one. False takes it out, and `baggage` with it.",
    ),
    key(
        "max_call_cost",
        "dollars",
        "",
        "The most that one attempt of a call can cost, where prices do not tell (no `max_tokens`, images by URL, prices by size): budgets set this much aside. What costs more is counted.",
    ),
    key(
        "on_disconnect",
        "word",
        "",
        "What becomes of a call when every client has left: `finish` (its bill is due anyway) or `cancel`. Without it: `cancel` for streams of dialects that bill by the token, else `finish`.",
    ),
    key(
        "include_usage",
        "flag",
        "",
        "Ask for usage in streams of the OpenAI dialect where the client did not, and take its event out of what the client gets. Without it: true where the provider speaks that dialect.",
    ),
    key("price", "dollars", "", "Price of a call: short for a table `prices` with `per_call` alone."),
    key("price_stale", "dollars", "", "What one stale answer costs you. Without it, it follows from `stale_budget`."),
    table("batch", Kind::Table, "How calls are made together; without the table they are not."),
    table("prompt_cache", Kind::Table, "Prompts are marked for the provider's own cache; without the table they are not."),
    table("defer", Kind::Table, "Calls that can wait go to the provider's batch endpoint; without the table none does."),
    table("tune", Kind::Table, "Numbers of the plan that experiments may move, and between which bounds; without the table none is."),
    table("warm", Kind::Table, "Copies are warmed by the clock; without the table they are not."),
    table("upgrade", Kind::Table, "WebSockets are tunnelled; without the table they are refused."),
    table("prices", Kind::Table, "Prices by local contract, in place of the provider's; see `[providers.NAME.prices]`."),
];

pub(crate) const CONDITION: Keys = &[
    key("pointer", "pointer", "", "Where to look in the answer's JSON; `*` stands for every element. A value must be there."),
    key("is", "list", "[]", "Values that pass; none means all but those of `not`."),
    key("not", "list", "[]", "Values that do not pass."),
];

pub(crate) const WRITE_RULE: Keys = &[
    key("methods", "list", "[]", "Methods of the writes it is about; none means every one that is not safe."),
    key("below", "path", "\"/\"", "The writes' paths, below the route's, start with this, at a segment border."),
    key("route", "name", "", "The route whose answers are purged; this one when absent."),
    key("tags", "list", "", "Purges everything with these tags."),
    key("paths", "list", "", "Purges everything of exactly these paths, whatever the query; below the route's prefix."),
    key("prefixes", "list", "", "Purges everything whose path begins so. `/products/7` is the beginning of `/products/70`, too."),
    key("soft", "flag", "false", "Make stale instead of removing."),
];
