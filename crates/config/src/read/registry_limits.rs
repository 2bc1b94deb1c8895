//! Keys of the tables about limits and overload.

use super::registry::{Keys, key};

pub(crate) const LIMIT: Keys = &[
    key("name", "name", "", "Its name in metrics, logs and answers."),
    key(
        "scope",
        "word",
        "",
        "By what it tells calls apart: `tenant`, `team`, `service`, `key` or `route` count each call once; `provider` counts each attempt that reaches it, repetitions too.",
    ),
    key(
        "match",
        "list",
        "[]",
        "Names of the tenants, teams, services, keys (their ids), routes or providers that it is about; none means all.",
    ),
    key("shared", "flag", "false", "All of them share one bucket; without it each has its own."),
    key("requests", "rate", "", "Requests in a time: `100/s`, `500/min`, `1000/h` or `10000/d`. They come back one by one."),
    key("burst", "count", "", "Most requests at once. Without it, what comes back in a second, and at least one."),
    key(
        "tokens",
        "rate",
        "",
        "Tokens in a time, of requests and answers together. Reserved is the most that a call can use (a token for each byte of its body, and `max_tokens`); when its usage is known, the rest is given back.",
    ),
    key(
        "token_burst",
        "count",
        "",
        "Most tokens at once. Without it, what comes back in a second. A call that can use more waits until all of them are there.",
    ),
    key("concurrency", "count", "", "Calls under way at a time, until their answers have ended."),
    key(
        "on_limit",
        "word or table",
        "{ high = \"pass\", medium = \"wait\", low = \"refuse\" }",
        "What becomes of calls without room, by priority: `pass` (made, counted, owed by the others), `wait` (for its turn until the deadline, then 429), `refuse` (429).",
    ),
    key("hard", "flag", "false", "High priority does not pass either: it waits, before all others."),
];

pub(crate) const OVERLOAD: Keys = &[
    key(
        "max_requests",
        "count",
        "10000",
        "Most requests at a time that memory cannot answer, those that wait included. From 80 % on low priority is refused (503), from 95 % on medium, at 100 % high.",
    ),
    key("max_bytes", "size", "\"512MB\"", "Most bytes of request bodies that are held at a time, with the same steps."),
];

pub(crate) const TIER: Keys = &[
    key("tenants", "list", "", "The tenants. Each has one tier at most."),
    key(
        "share",
        "share",
        "",
        "The share of the bounds in `[overload]` that nobody else may use, 0.01 to 0.9; all tiers together at most 0.9.",
    ),
];
