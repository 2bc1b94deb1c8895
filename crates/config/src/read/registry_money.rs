//! Keys of the tables about money: prices, budgets, the proof of savings, alerts and our own costs.

use super::registry::{Keys, Kind, key, table};

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

pub(crate) const AUDIT: Keys = &[
    key(
        "share",
        "share",
        "0.0",
        "Share of answers from the cache, 0 to 0.5, that are checked at the origin, drawn at random. Each is a paid call, purpose `audit`. 0: none.",
    ),
    key(
        "usd_per_day",
        "dollars",
        "\"1\"",
        "Most dollars spent on it in a day, UTC; then none is checked until the next. Where the price of a call is not known beforehand, none is.",
    ),
];

pub(crate) const HOLDOUT: Keys = &[
    key("share", "share", "0.01", "Share of keys that is never optimised, 0 to 0.5. 0 means that the saving is claimed, not proved."),
    key(
        "window",
        "time",
        "\"5m\"",
        "How long a key stays in or out. Short ones prove more: a key with much of the traffic is in and out often.",
    ),
    key(
        "max_cost",
        "share",
        "0.05",
        "Largest part of the bill that the holdout may cost, .001 to 1: where nearly everything is saved, `share` is lowered from window to window to hold it.",
    ),
];

pub(crate) const STRATEGIES: Keys = &[
    key("cache", "flag", "true", "Answer from the cache."),
    key("dedupe", "flag", "true", "Join equal requests that are under way."),
    key("batch", "flag", "true", "Make calls together where a route has a table `batch`."),
    key("prefetch", "flag", "true", "Fetch ahead where a route's `prefetch` allows it."),
    key("prompt_cache", "flag", "true", "Mark prompts where a route has a table `prompt_cache`."),
    key("defer", "flag", "true", "Let calls that can wait go to batch endpoints where a route has a table `defer`."),
    key(
        "interval",
        "time",
        "\"10s\"",
        "How often it is decided for each route which of them are used, where `strategy` of the route lets a predictor look on or decide. A new predictor is asked at once.",
    ),
    key("cache_threshold", "share", "0.7", "How sure a predictor must be that the cache saves, for it to be used."),
    key("batch_threshold", "share", "0.6", "The same of batching."),
    key("batch_min_sla", "time", "\"50ms\"", "Promised latency (`sla`) up to which calls are not made together."),
];

pub(crate) const OVERHEAD: Keys = &[key(
    "limit",
    "time",
    "\"5ms\"",
    "How long Farthing's own time may be of 19 in 20 requests that go to a provider. Where a route is above it for half a minute, what is not needed is left out there, and tried again later (docs/switches.md). 0s: never.",
)];

pub(crate) const PREFETCH: Keys = &[
    key("horizon", "time", "\"30s\"", "How far ahead a request still counts as following another: about half the lifetime of a copy."),
    key(
        "explore",
        "share",
        "0.05",
        "Share of the decisions within 0.1 of the threshold that are drawn, 0 to 0.5, so that the log can tell what another rule would have earned.",
    ),
    key("at_once", "count", "8", "Most calls ahead to one provider under way at a time; what is likely beyond that is left out."),
];

pub(crate) const PRICES: Keys = &[
    key("free", "flag", "false", "Costs nothing, by agreement. Not together with rates."),
    key("per_call", "dollars", "", "Dollars per call."),
    key("per_kb", "dollars", "", "Dollars per 1,024 bytes of the answer's body, charged by the byte."),
    key("per_unit", "dollars", "", "Dollars per unit of the provider's own meter."),
    key("not_modified", "dollars", "", "Dollars per answer with status 304; without it a 304 costs what a call costs."),
    key(
        "errors_billed",
        "flag",
        "false",
        "Whether answers other than 2xx and 304, and calls without an answer, are charged like the rest.",
    ),
    key(
        "effective",
        "day",
        "",
        "From when the prices hold: a day, which begins at midnight UTC, or a day and time with its offset, `2027-01-01T00:00:00+01:00`. Calls before are unpriced.",
    ),
    key("read", "day", "", "Day on which they were read at the source."),
    key("source", "text", "", "Where they come from: a page, a contract."),
    key("minimum", "dollars", "", "What a billed call costs at least."),
    table("currency", Kind::Table, "The currency of all rates here; dollars when absent."),
    table("meters", Kind::Array, "Further things that are counted and charged."),
    table("service", Kind::Array, "Factors on token rates by service tier, for targets without rates of their own for it."),
    table("targets", Kind::Named, "Token rates by target (the `model` of a request)."),
    table(
        "versions",
        Kind::Array,
        "Prices that follow: each a table `prices` with its own `effective`, over the version before. The one in force at a call's start is taken.",
    ),
];

pub(crate) const CURRENCY: Keys = &[
    key("code", "text", "", "Its code, such as `EUR`."),
    key("usd", "factor", "", "Dollars for one unit of it, as a decimal text."),
    key("day", "day", "", "The day of that exchange rate."),
];

pub(crate) const SERVICE: Keys = &[
    key(
        "name",
        "text",
        "",
        "The service tier as requests or answers name it: `batch`, `flex`, `priority`; or what stands beside it: `fast`, `us`, `batch+us`.",
    ),
    key("factor", "factor", "", "The factor on token rates, as a decimal text such as `\"0.5\"`."),
];

pub(crate) const METER: Keys = &[
    key("name", "name", "", "Its name in the log, and under which the month's volume is kept."),
    key(
        "pointer",
        "pointer",
        "",
        "Where its amount stands in the answer's JSON: a number, a text that holds one, or a list, whose elements count. In a stream the last event that has it.",
    ),
    key("header", "text", "", "The answer's header that holds its amount."),
    key("count", "word", "", "What is counted instead: `call`, `byte` or `kb` (1,024 bytes) of the answer's body."),
    key("rate", "dollars", "", "Per unit, beyond the free amount and the tiers."),
    key("rate_per_million", "dollars", "", "The same per million units."),
    key("discount", "flag", "false", "Lowers the bill: its rates are negative. A call never costs less than nothing."),
    key("required", "flag", "true", "Without an amount the call is unpriced; else it counts as nothing."),
    key("unit_size", "count", "1", "So many of what is counted are one unit: 60 of seconds are a minute. 1024 with `count = \"kb\"`."),
    key("round_up", "flag", "false", "Each started unit is charged whole."),
    key("free", "count", "0", "Units of each calendar month (UTC) that cost nothing."),
    table("tiers", Kind::Array, "Graduated rates by the month's volume."),
    key("at_most", "count", "", "Most units of one call, by agreement: bounds what a call may cost before it is made."),
];

pub(crate) const TIER: Keys = &[
    key("up_to", "count", "", "Units of the month, free ones included, up to which the rate holds."),
    key("rate", "dollars", "", "Per unit."),
    key("rate_per_million", "dollars", "", "The same per million units."),
];

/// What the configuration says about prices as a whole.
pub(crate) const PRICE_FILES: Keys = &[key(
    "import",
    "list",
    "[]",
    "Files with prices of providers, such as `farthing prices import` writes: tables `[providers.NAME.prices]`. They beat those of presets; this file beats them.",
)];

/// A file of imported prices.
pub(crate) const IMPORTED: Keys = &[table("providers", Kind::Named, "Providers.")];

/// A provider in such a file.
pub(crate) const IMPORTED_PROVIDER: Keys = &[table("prices", Kind::Table, "What it charges.")];

macro_rules! rates {
    ($($more:expr),* $(,)?) => {
        &[
            key("input_per_million", "dollars", "", "Dollars per million uncached input tokens."),
            key("cached_input_per_million", "dollars", "", "Dollars per million input tokens read from the provider's prompt cache."),
            key(
                "cache_write_per_million",
                "dollars",
                "",
                "Dollars per million input tokens written to the provider's prompt cache for its usual lifetime.",
            ),
            key(
                "cache_write_1h_per_million",
                "dollars",
                "",
                "Dollars per million input tokens written to the provider's prompt cache for an hour; as `cache_write_per_million` when absent.",
            ),
            key("output_per_million", "dollars", "", "Dollars per million output tokens."),
            key("reasoning_per_million", "dollars", "", "Dollars per million reasoning tokens; the output rate when absent."),
            $($more),*
        ]
    };
}

pub(crate) const TOKEN_RATES: Keys = rates![
    key("max_output", "count", "", "Most output tokens of one answer, reasoning included: bounds what a call may cost before it is made."),
    table("long", Kind::Table, "Rates of calls with a long input; others stay."),
    table(
        "service",
        Kind::Named,
        "Rates of service tiers (`batch`, `priority`, `flex`) and of what stands beside them (`fast`, `us`, `image`); others stay."
    ),
    table("meters", Kind::Array, "Meters beside tokens; see `[[providers.NAME.prices.meters]]`."),
];

pub(crate) const SERVICE_RATES: Keys = rates![table("long", Kind::Table, "Rates of the tier's calls with a long input.")];

pub(crate) const LONG_RATES: Keys =
    rates![key("over", "count", "", "Calls with more input tokens than this, cached and written ones included.")];

pub(crate) const BUDGET: Keys = &[
    key("limit", "dollars", "", "Dollars of one window."),
    key("window", "word", "", "`day` and `month` begin anew in the time zone; `ever` is prepaid: only a raise adds to it."),
    key("time_zone", "zone", "\"UTC\"", "IANA name of the time zone in which days and months begin."),
    key(
        "tenant",
        "name",
        "",
        "Counts calls that this tenant pays. All of `tenant`, `team`, `service`, `key` and `routes` that are given must fit; without any it counts all calls.",
    ),
    key("team", "name", "", "Counts calls ordered under keys of this team."),
    key("service", "name", "", "Counts calls ordered under keys of this service."),
    key("key", "text", "", "Counts calls ordered under the Farthing key with this id."),
    key("routes", "list", "[]", "Counts calls of these routes; none means all."),
    key(
        "per",
        "word",
        "",
        "`tenant`, `team`, `service` or `key`: each has a counter of its own. Calls without the unit are not counted then.",
    ),
    key("warn_at", "share", "0.9", "Share of the limit at which it warns."),
    key(
        "enforce",
        "word",
        "",
        "Whom it holds back: `hard` everybody, `high-passes` everybody but requests of high priority, `soft` nobody. Without it `high-passes` for a day, else `hard`.",
    ),
    key(
        "on_exceeded",
        "word or table",
        "\"reject\"",
        "What becomes of requests that it holds back: `reject` (429), `queue` (waits for room until the deadline, then 429), `stale` (a copy past its freshness where there is one, else 429), `cheapest` (of several providers of the route the cheapest alone is asked, where there is room for that, else 429); or by priority: `{ high = \"stale\", medium = \"queue\" }`.",
    ),
    key("unpriced", "word", "\"refuse\"", "Calls of which no upper bound is known: `refuse` or `allow`. See `max_call_cost` of a route."),
    key("on_fault", "word", "\"closed\"", "When it cannot be written down what may be spent: `closed` holds back, `open` lets through."),
];
