//! Keys of routes with several providers.

use super::registry::{Key, Keys, Kind, key, table};

pub(crate) const LEG: Keys = &[
    key("provider", "name", "", "Required: the provider, a table `[providers.NAME]`."),
    key("quality", "share", "1.0", "What its answers are worth beside the best ones."),
    table("adapter", Kind::Table, "How it is spoken to, where that is not as the route is."),
];

pub(crate) const ADAPTER: Keys = &[
    key(
        "path",
        "path",
        "",
        "The paths that it can answer, below the route's prefix: each segment is a text or a field, `/current/{city}`. Without it all. A call that it cannot answer goes to another.",
    ),
    key(
        "to",
        "path",
        "",
        "The path that it is asked for instead: `/v2/{country}/{city}/now`. A field that `path` has not is a query parameter, which moves into the path.",
    ),
    key("rename_query", "pairs", "{}", "Query parameters with another name there: `{ units = \"u\" }`."),
    key("set_query", "pairs", "{}", "Query parameters with this value, whatever the client sends."),
    key("drop_query", "list", "[]", "Query parameters that are left out."),
    key("set_headers", "pairs", "{}", "Headers with this value, whatever the client sends."),
    key(
        "rename_body",
        "pairs",
        "{}",
        "Values of the request's JSON body that stand elsewhere there: `{ \"/text\" = \"/input/content\" }`.",
    ),
    key(
        "set_body",
        "pairs",
        "{}",
        "Values of the request's JSON body: `{ \"/version\" = 2 }`, of each that has one, and of POST, PUT and PATCH.",
    ),
    key(
        "answer",
        "pairs",
        "{}",
        "What an answer in the route's shape has, and where the provider's answer has it: `{ \"/temperature\" = \"/current/temp_c\", \"/days/*/high\" = \"/forecast/*/max\" }`. Nothing else is handed on. Without it an answer passes as it is.",
    ),
    key("set_answer", "pairs", "{}", "Values that each such answer has: `{ \"/unit\" = \"C\" }`."),
    key("error", "pairs", "{}", "The same as `answer` for errors; required beside it."),
    table("error_if", Kind::Array, "What makes an answer that calls itself a success an error."),
    key("max_answer", "size", "\"4MB\"", "Most bytes of an answer, which is held whole to be read."),
];

pub(crate) const ERROR_IF: Keys = &[
    key("pointer", "pointer", "", "Required: where the provider's answer tells."),
    key("is", "list", "[]", "Texts, numbers and flags that mean an error; none: anything but nothing, `null` and `false`."),
    key("status", "count", "502", "The status that the client gets, 400 to 599."),
];

const fn weight(name: &'static str, doc: &'static str) -> Key {
    key(name, "number", "0", doc)
}

pub(crate) const WEIGHTS: Keys = &[
    weight("cost", "Of what a delivered answer costs."),
    weight("latency", "Of the time to an answer."),
    weight("quality", "Of its quality."),
    weight("reliability", "Of getting one at all."),
];
