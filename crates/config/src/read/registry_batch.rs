//! Keys of `[routes.NAME.batch]`, `[routes.NAME.prompt_cache]`, `[routes.NAME.defer]`, `[routes.NAME.tune]`, `[routes.NAME.upgrade]` and `[routes.NAME.warm]`.

use super::registry::{Keys, key};

pub(crate) const BATCH: Keys = &[
    key(
        "format",
        "word",
        "",
        "Required: what a batch looks like. `rest`: an envelope `{\"requests\":[...]}`. `id-list`: ids in the URL. `graphql-array`: an array of \
         queries. `graphql-merge`: one query with their fields. `embeddings`: input arrays as OpenAI has them.",
    ),
    key("path", "path", "\"/batch\"", "`rest`: path and query that envelopes are posted to, as they go to the provider."),
    key("single", "path", "", "`id-list`, required: path and query of a single call, with `{id}` once: `/users/{id}`."),
    key("list", "path", "", "`id-list`, required: path and query of a list, with `{ids}` once: `/users?ids={ids}`."),
    key("separator", "text", "\",\"", "`id-list`: what stands between two ids."),
    key(
        "items",
        "pointer",
        "",
        "`id-list`: where the answer has its items, a pointer to an array or to an object of them; without it the whole answer is.",
    ),
    key("id", "pointer", "\"/id\"", "`id-list`: where an item has its id, within the item; a text or a whole number."),
    key("missing", "JSON", "\"{}\"", "`id-list`: body of the 404 for an id that is not in the list."),
    key(
        "answer",
        "JSON",
        "\"[{items}]\"",
        "`id-list` with `split`: what the provider's answer to a list looks like, with `{items}` once where the items stand: `{\"users\":[{items}]}`.",
    ),
    key(
        "split",
        "flag",
        "false",
        "`embeddings`, `id-list`: a request that carries a list is answered item by item: known items from the cache, those under way with whoever \
         asked for them, the rest by one call. A POST needs `idempotent` on its route.",
    ),
    key(
        "window",
        "word",
        "\"auto\"",
        "How long the first call waits for others. `auto`: 20 ms above 100 such calls a second, 50 ms above 50, 100 ms above 10, else 200 ms. \
         `learned`: as long as it takes until the batch is full, at most 200 ms, and not at all where nobody is expected. Or a time. Never more \
         than half of the request's deadline.",
    ),
    key("max_size", "count", "100", "Most calls in a batch; inputs, where a call has several. As many as the provider takes."),
    key("max_bytes", "size", "\"1MB\"", "Most bytes of their parts of the request; for `id-list` at most 6000."),
    key("min_rate", "number", "10.0", "Below this many such calls a second nobody waits. 0 where they come in bursts."),
    key(
        "timeout",
        "time",
        "\"5s\"",
        "How long a batch call may take, from its turn under the provider's limits, before its members are made alone, where they may be.",
    ),
    key("max_answer", "size", "\"32MB\"", "Most bytes of its answer, which is held whole."),
];

pub(crate) const PROMPT_CACHE: Keys = &[
    key(
        "ttl",
        "word",
        "\"5m\"",
        "How long the provider is told to keep a prefix after its last use: `5m`, or `1h` at a higher price of writing. Dialect `anthropic` alone.",
    ),
    key(
        "min_tokens",
        "count",
        "1024",
        "Shortest prefix that the provider keeps; some targets take none below 2048 or 4096. A mark on a shorter one costs nothing and does nothing.",
    ),
];

pub(crate) const DEFER: Keys = &[
    key("window", "time", "\"5m\"", "How long the first request of a batch waits for others; less where one of them cannot wait so long."),
    key(
        "min_deadline",
        "time",
        "\"1h\"",
        "Requests whose `x-farthing-deadline-ms` is shorter are not deferred, nor are those without. Not longer than the route's `deadline`.",
    ),
    key("max_size", "count", "2000", "Most requests in a batch; a full one is sent at once."),
    key(
        "max_waiting",
        "count",
        "2000",
        "Most requests of the route that wait, in all; those beyond go directly, and are counted. Each counts in `[overload] max_requests` while it waits.",
    ),
    key("max_bytes", "size", "\"64MB\"", "The same in bytes of their bodies; also the most of a batch."),
    key("max_answer", "size", "\"256MB\"", "Most bytes of one answer in a batch: they are handed out as they come."),
    key(
        "batch_time",
        "time",
        "\"2h\"",
        "How long the provider's batches are thought to take, until eight of them were seen; then it is what 95 in 100 of the last ones took.",
    ),
    key("direct_time", "time", "\"1m\"", "The same of direct calls."),
    key("margin", "time", "\"1m\"", "What is left of a deadline beyond the time that a direct call takes, when it is made after all."),
];

pub(crate) const TUNE: Keys = &[
    key(
        "batch_window",
        "list",
        "",
        "Bounds of the `window` of its batches, which is a time then: `[\"5ms\", \"200ms\"]`, at most half of the route's `deadline`.",
    ),
    key(
        "refresh_ahead",
        "list",
        "",
        "Bounds of `refresh_ahead`: `[\"0s\", \"30s\"]`. It needs a `price_wait`, for money alone it never pays.",
    ),
    key(
        "prefetch_confidence",
        "list",
        "",
        "Bounds of `prefetch_confidence`: `[0.5, 0.95]`. It needs a `price_wait`, as fetching ahead does.",
    ),
    key(
        "window",
        "time",
        "",
        "How long a window of its experiments is. Without it `5m` for `batch_window`, where each window is one observation, else `6h`.",
    ),
    key("within", "time", "\"21d\"", "A value of which nothing is shown within this time is left; time under a freeze does not count."),
    key("again", "time", "\"30d\"", "So long after nothing was left to try, the neighbours are tried anew."),
    key("worthwhile", "share", "0.02", "Smallest relative difference in cost that is worth a change."),
    key("margin", "share", "0.005", "How much larger the share of errors, stale or late answers may be."),
    key("latency", "time", "", "Answers that take longer count as late, where the request has no promise of its own."),
];

pub(crate) const UPGRADE: Keys = &[
    key("idle", "time", "\"5m\"", "A tunnel through which nothing has passed for so long, either way, is closed."),
    key("longest", "time", "\"24h\"", "The longest that a tunnel may last."),
    key(
        "origins",
        "list",
        "[]",
        "Sites whose pages may open one, as browsers write them (`https://app.example.com`), beside those of the host that is asked; `*` is any. Programs say none, and may.",
    ),
];

pub(crate) const WARM: Keys = &[
    key("at", "list", "", "Required. Times of the day before a peak, such as `[\"06:30\"]`."),
    key("time_zone", "zone", "\"UTC\"", "IANA name of the time zone in which they are read."),
    key("limit", "money", "", "Required. What one time may cost at most; the price of a call must be known."),
    key("keys", "count", "1000", "How many keys are looked at, those that are asked for most first. What is fresh is left alone."),
    key("rate", "number", "10.0", "Most calls a second."),
    key("within", "time", "\"10m\"", "No call begins so long after the time."),
];
