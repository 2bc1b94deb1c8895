//! Keys of sources of events and of experiments.

use super::registry::{Keys, Kind, key, table};

pub(crate) const EVENTS: Keys = &[
    key("kind", "word", "", "`webhook`: signed deliveries to `POST /api/v1/events/NAME` of the admin port. `redis`: a stream."),
    key(
        "down_after",
        "time",
        "",
        "Without news for so long it counts as down. Without it 5s for Redis, where every read is news; a webhook never does.",
    ),
    key(
        "on_gap",
        "word",
        "\"hard\"",
        "What becomes of its routes' answers when events may have been missed: `hard` removes them, `soft` makes them stale.",
    ),
    key(
        "secrets",
        "list",
        "",
        "Webhook: secrets `whsec_...` (Standard Webhooks) of which any may have signed; each a reference like every secret.",
    ),
    key("addresses", "list", "", "Redis: as in `[l2]`."),
    key("cluster", "flag", "", "Redis: as in `[l2]`."),
    key("user", "text", "", "Redis: as in `[l2]`."),
    key("password", "secret", "", "Redis: as in `[l2]`."),
    key("authorities", "path", "", "Redis: as in `[l2]`."),
    key("stream", "text", "", "Redis: the stream's key. Each entry has a field `event` with a CloudEvent as JSON."),
    table("purges", Kind::Array, "What its events purge."),
];

pub(crate) const EVENT_RULE: Keys = &[
    key("type", "text", "", "The events' `type`; `*` at its end stands for any continuation."),
    key("tags", "list", "", "Purges everything with these tags."),
    key("paths", "list", "", "Purges everything of exactly these paths, whatever the query; below the route's prefix."),
    key("prefixes", "list", "", "Purges everything whose path begins so."),
    key("keys", "list", "", "Purges entries by their keys, as `x-farthing-key` shows them."),
    key("soft", "flag", "false", "Make stale instead of removing."),
];

pub(crate) const EXPERIMENT: Keys = &[
    key("hypothesis", "text", "", "What it is to show."),
    key(
        "metric",
        "word",
        "\"money-cost\"",
        "What is compared: `money-cost` (the bill and the price of stale answers), `bill`, or `with-waiting` (money cost and, at the route's `price_wait`, the time that clients wait).",
    ),
    key("margin", "share", "0.005", "How much larger than control's a challenger's share of errors, stale or late answers may be."),
    key("worthwhile", "share", "0.02", "Smallest relative difference in cost that is worth a change."),
    key(
        "start",
        "word",
        "\"running\"",
        "The stage that it begins in: `draft`, `shadow` or `running`. Later orders are kept, and count before this.",
    ),
    key("routes", "list", "[]", "Routes it runs on; none means all."),
    key(
        "unit",
        "word",
        "",
        "What the coin is tossed for: `key`, `group`, `block`, `tenant`, `session`; the finest that is safe for its variants when absent.",
    ),
    key("layer", "name", "", "Experiments of one layer have units of their own."),
    key("layer_from", "share", "", "Where its part of the layer begins; 0 when absent."),
    key("layer_upto", "share", "", "Where its part of the layer ends; 1 when absent."),
    key("window", "time", "\"1h\"", "How long a unit keeps its variant."),
    key(
        "slice",
        "share",
        "0.2",
        "Share of units that is measured, at most 65,536 units at once; the rest follows the leader. 1 under `contextual` when absent.",
    ),
    key("ramp", "list", "[0.1, 0.5, 1.0]", "Shares of the slice that take part, one after the other."),
    key("ramp_hold", "time", "\"1h\"", "Least time on each step of the ramp."),
    key(
        "allocation",
        "word",
        "\"fixed\"",
        "`fixed` shares; `thompson`: what is likely to be the cheapest gets more of the slice; `contextual`: what is likely to be the cheapest for each unit, by what is known of it.",
    ),
    key("floor", "share", "", "Least probability of a variant under `thompson`; 0.2 when absent."),
    key(
        "uniform",
        "share",
        "",
        "Under `contextual`: share of the unit-windows that is drawn evenly, always; 0.02 to 0.05, 0.04 when absent.",
    ),
    key("half_life", "time", "", "Under `contextual`: after this what was seen counts half; 7d when absent, 0s forgets nothing."),
    key(
        "explore_budget",
        "dollars",
        "",
        "Under `contextual`: what drawing others than what is predicted to be the cheapest may cost in a day, by estimate; no limit when absent.",
    ),
    key(
        "may_cost",
        "share",
        "",
        "What it may cost at most beyond control, at all times, as a share of what control alone would have cost on the slice: challengers are drawn as often as that certainly allows.",
    ),
    key(
        "assumed_worst",
        "number",
        "",
        "How many times control's cost a challenger is taken to cost before its interval is believed, where `may_cost` is given; 10 when absent.",
    ),
    key("latency", "time", "", "Answers that take longer count as late, where the request has no promise of its own."),
    key("min_units", "count", "1000", "Fewest units before an effect may count as decided."),
    key("alpha", "share", "0.05", "Error probability of its interval."),
    table("variants", Kind::Array, "Two to four; the first is the control."),
];

pub(crate) const VARIANT: Keys = &[
    key("name", "name", "", "Its name."),
    key("share", "share", "", "Its share; the shares of an experiment sum to 1. Equal shares when none is given."),
    key("cache", "flag", "", "Cache answers."),
    key("dedupe", "flag", "", "Share running calls."),
    key("batch", "flag", "", "Make calls together, where the route does."),
    key(
        "batch_window",
        "time",
        "",
        "How long the first call of a batch waits for others: 1ms to 10s, at most half of the route's `deadline`.",
    ),
    key("prefetch", "flag", "", "Fetch ahead, where the route does."),
    key("prefetch_confidence", "share", "", "Least probability of use at which it fetches ahead, as in `[routes.NAME]`."),
    key("refresh_ahead", "time", "", "Mean time before its expiry at which an entry is refreshed, as in `[routes.NAME]`; 0s: never."),
    key("routing", "flag", "", "Choose among the route's providers; the first that works when false."),
    table(
        "weights",
        Kind::Named,
        "What counts in that choice, as in `[routes.NAME.weights.PRIORITY]`; a priority that is not named has the route's.",
    ),
    key("ttl", "word", "", "Who chooses the TTL, as in `[routes.NAME]`."),
    key("base_ttl", "time", "", "Base TTL of the rule, between `min_ttl` and `max_ttl` of the route."),
    key("model_version", "count", "", "Version of the `ttl` predictor, where one chooses the TTL; the champion when absent."),
];
