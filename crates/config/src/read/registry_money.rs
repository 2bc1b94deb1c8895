//! Keys of the tables about the proof of savings, alerts and our own costs.

use super::registry::{Keys, key};

pub(crate) const ALERTS: Keys = &[
    key("webhook", "URL", "", "Where each alert is posted to as JSON. Without it log, metric and admin API tell them."),
    key(
        "webhook_secret",
        "secret",
        "",
        "Signs what is posted after Standard Webhooks (`webhook-id`, `webhook-timestamp`, `webhook-signature`): `whsec_` and base64 of 24 to 64 bytes.",
    ),
    key("repeat", "time", "\"24h\"", "How long the same alert is not told again."),
    key("deadline", "time", "\"1h\"", "How long a delivery is tried again; then it is given up, which is counted."),
    key("floor", "dollars", "\"5\"", "A spend anomaly is told only when its excess since it began is also at least so many dollars."),
    key(
        "per_month",
        "dollars",
        "",
        "What a month may cost in dollars. It is told as soon as the month will cost more with a probability of 90 %.",
    ),
    key("memory_bytes", "size", "\"32MB\"", "Memory of spend by tenant, provider and route; series beyond it are counted and not watched."),
];

pub(crate) const SELF_COST: Keys = &[
    key("per_month", "dollars", "", "Dollars for a month: machines, people, licences."),
    key("per_hour", "dollars", "", "The same for an hour."),
    key("per_million_requests", "dollars", "", "Dollars for a million requests, beside it."),
];

pub(crate) const HOLDOUT: Keys = &[
    key("share", "share", "0.01", "Share of keys that is never optimised, 0 to 0.5. 0 means that the saving is claimed, not proved."),
    key("window", "time", "\"1h\"", "How long a key stays in or out."),
];
