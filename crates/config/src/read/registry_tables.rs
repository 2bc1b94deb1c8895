//! The tables of a configuration file, in the order of the reference page.

use super::registry::{
    ADAPTER, ADMIN, ADMIN_TOKEN, ALERTS, AUDIT, BATCH, BUDGET, CACHE, CERTIFICATE, COMPRESS_REQUESTS, CONDITION, CURRENCY, DATA, DEFER,
    ERROR_IF, EVENT_RULE, EVENTS, EXPERIMENT, FLEET, FORWARD, HOLDOUT, JWT, JWT_CLAIMS, KEY, L2, LEG, LIMIT, LOG, LONG_RATES, METER,
    MODEL_STORE, MODELS, OTLP, OVERHEAD, OVERLOAD, PREFETCH, PRICE_FILES, PRICES, PROMPT_CACHE, PROVIDER, RETENTION, RETENTION_TENANT,
    ROUTE, SELF_COST, SERVICE, SERVICE_RATES, SINK, STRATEGIES, TELEMETRY, TENANT, TERMS, TIER, TLS, TOKEN_RATES, TOP, TUNE, Table,
    UPGRADE, UPSTREAM, VARIANT, WARM, WEIGHTS, WRITE_RULE,
};

use super::registry_limits;

/// All tables, in the order of the reference page.
pub(crate) const TABLES: &[Table] = &[
    Table { heading: "(top)", doc: "The document itself.", keys: TOP },
    Table { heading: "[data]", doc: "The data port and the limits of its edge.", keys: DATA },
    Table {
        heading: "[forward]",
        doc: "For clients that take the data port for their proxy, as `HTTP_PROXY` and `HTTPS_PROXY` make them. Without the table CONNECT is refused. See docs/forward.md.",
        keys: FORWARD,
    },
    Table { heading: "[admin]", doc: "The admin port.", keys: ADMIN },
    Table {
        heading: "[[admin.tokens]]",
        doc: "Tokens of the admin API with a name and a role; `farthing keys admin` prints one with its table.",
        keys: ADMIN_TOKEN,
    },
    Table {
        heading: "[data.tls]",
        doc: "TLS 1.2 and 1.3 towards clients, with HTTP/2 where they offer it (ALPN): docs/forward.md.",
        keys: TLS,
    },
    Table { heading: "[[data.tls.more]]", doc: "A certificate for hosts of its own.", keys: CERTIFICATE },
    Table { heading: "[admin.tls]", doc: "The same on the admin port, which speaks HTTP/1.1.", keys: TLS },
    Table { heading: "[[admin.tls.more]]", doc: "A certificate for hosts of its own.", keys: CERTIFICATE },
    Table { heading: "[cache]", doc: "Memory of the cache. All bounds are in bytes.", keys: CACHE },
    Table {
        heading: "[l2]",
        doc: "A tier outside of memory, asked before a provider is: it survives a restart, or is shared by instances. Without the table there is none.",
        keys: L2,
    },
    Table {
        heading: "[fleet]",
        doc: "Several instances that serve as one, through a Redis that all reach; docs/fleet.md has more. Without the table an instance is alone. All of a fleet \
              have the same `salt`.",
        keys: FLEET,
    },
    Table {
        heading: "[budgets.NAME]",
        doc: "Money that may be spent over a time. Before a call is sent, the most that it can cost is set aside in every budget that counts it; a call \
              for which one has no room is held back. What may be spent is written into `state_dir` first, so that no crash lets more be spent.",
        keys: BUDGET,
    },
    Table {
        heading: "[[limits]]",
        doc: "How many requests or tokens in a time, and how many calls at a time. Answers from the cache, and requests that join somebody else's call, \
              count nowhere. See docs/limits.md.",
        keys: LIMIT,
    },
    Table {
        heading: "[overload]",
        doc: "What may be under way in the whole process; beyond it what matters least is refused first.",
        keys: OVERLOAD,
    },
    Table {
        heading: "[tiers.NAME]",
        doc: "A group of tenants with a share of the bounds in `[overload]` of its own, so that no flood of others can use it up.",
        keys: registry_limits::TIER,
    },
    Table { heading: "[log]", doc: "The Parquet log.", keys: LOG },
    Table {
        heading: "[retention]",
        doc: "How long rows of the log stay: they go with their hour, within an hour after the last of its rows is so old. What is not said stays for ever.",
        keys: RETENTION,
    },
    Table {
        heading: "[[retention.tenants]]",
        doc: "A tenant whose requests and calls stay for another time, shorter or longer.",
        keys: RETENTION_TENANT,
    },
    Table {
        heading: "[[sinks]]",
        doc: "A place that the finished files of the log are shipped to, each once, whoever dies in between; docs/sinks.md has more. The log stays as it is: \
              what a sink lacks is read from it again.",
        keys: SINK,
    },
    Table {
        heading: "[telemetry]",
        doc: "What is told of requests to programs that watch them, beside `/metrics` and the log.",
        keys: TELEMETRY,
    },
    Table {
        heading: "[telemetry.otlp]",
        doc: "A collector of traces (OpenTelemetry, OTLP over HTTP with protobuf); without the table nothing is traced. docs/traces.md has more.",
        keys: OTLP,
    },
    Table { heading: "[models]", doc: "Predictors.", keys: MODELS },
    Table {
        heading: "[models.store]",
        doc: "A bucket in which instances share versions, aliases and history of predictors; docs/models.md has more.",
        keys: MODEL_STORE,
    },
    Table { heading: "[holdout]", doc: "The share of keys that is never optimised, to prove the saving.", keys: HOLDOUT },
    Table {
        heading: "[audit]",
        doc: "Answers from the cache that are checked at the origin, so that it is known how many are stale; TTLs of a route are cut while that is more than `stale_budget` for sure.",
        keys: AUDIT,
    },
    Table {
        heading: "[prefetch]",
        doc: "Fetching ahead, on routes whose `price_wait` says what a wait is worth; docs/prefetch.md has the formulas.",
        keys: PREFETCH,
    },
    Table {
        heading: "[strategies]",
        doc: "Which strategies there are at all. What is off here is off on every route; each route has flags of its own. To switch \
              everything off at once while Farthing runs: `farthing bypass on` (docs/switches.md).",
        keys: STRATEGIES,
    },
    Table { heading: "[overhead]", doc: "How long Farthing itself may take.", keys: OVERHEAD },
    Table { heading: "[alerts]", doc: "Who is told when money goes wrong; docs/alerts.md says of what.", keys: ALERTS },
    Table {
        heading: "[self_cost]",
        doc: "What Farthing itself costs, to be set against what it saves. Without the table it is unknown, and no net saving is told.",
        keys: SELF_COST,
    },
    Table {
        heading: "[providers.NAME]",
        doc: "A provider: who bills. With `preset`, the preset's values are the defaults; a provider named like a preset uses it. \
              A provider that no route names gets a route of its own name.",
        keys: PROVIDER,
    },
    Table { heading: "[providers.NAME.terms]", doc: "What the provider's terms allow.", keys: TERMS },
    Table { heading: "[providers.NAME.upstream]", doc: "How the provider is reached.", keys: UPSTREAM },
    Table {
        heading: "[providers.NAME.upstream.compress_requests]",
        doc: "Request bodies go out compressed; without the table as they are. A 415 turns it off for ten minutes.",
        keys: COMPRESS_REQUESTS,
    },
    Table {
        heading: "[providers.NAME.prices]",
        doc: "What it charges; all meters given are summed and rounded once. Keys replace those of a preset, targets those of the \
              same name. Without prices the cost is unknown, which is counted, and never taken for free.",
        keys: PRICES,
    },
    Table {
        heading: "[providers.NAME.prices.targets.\"TARGET\"]",
        doc: "Token rates of one target. `*` at the end of the name stands for any continuation.",
        keys: TOKEN_RATES,
    },
    Table { heading: "[providers.NAME.prices.targets.\"TARGET\".long]", doc: "Rates of calls with a long input.", keys: LONG_RATES },
    Table { heading: "[providers.NAME.prices.targets.\"TARGET\".service.TIER]", doc: "Rates of a service tier.", keys: SERVICE_RATES },
    Table {
        heading: "[[providers.NAME.prices.meters]]",
        doc: "One thing that is counted and charged. One of `pointer`, `header` and `count` says where its amount stands.",
        keys: METER,
    },
    Table { heading: "[[providers.NAME.prices.meters.tiers]]", doc: "One step of graduated rates.", keys: TIER },
    Table { heading: "[[providers.NAME.prices.service]]", doc: "A factor on token rates.", keys: SERVICE },
    Table { heading: "[providers.NAME.prices.currency]", doc: "The currency of the rates.", keys: CURRENCY },
    Table { heading: "[prices]", doc: "Prices as a whole.", keys: PRICE_FILES },
    Table {
        heading: "[routes.NAME]",
        doc: "A rule that matches requests. Routes with hosts come first, then longer path prefixes. Defaults may come from the \
              provider's preset.",
        keys: ROUTE,
    },
    Table {
        heading: "[[routes.NAME.providers]]",
        doc: "One of several providers of a route, in the order in which equals are taken; the first is the one that the application would call without Farthing: \
              docs/routing.md.",
        keys: LEG,
    },
    Table {
        heading: "[routes.NAME.providers.adapter]",
        doc: "How a provider of another shape is asked, and how its answers come into the route's shape. Left out, nothing is changed.",
        keys: ADAPTER,
    },
    Table { heading: "[[routes.NAME.providers.adapter.error_if]]", doc: "An error that calls itself a success.", keys: ERROR_IF },
    Table {
        heading: "[routes.NAME.weights.PRIORITY]",
        doc: "Weights of the choice for calls of one priority, `high`, `medium` or `low`; only their proportions matter. The defaults are, in this order, \
              .1 .4 .3 .2 for high, .3 .3 .2 .2 for medium, .6 .1 .2 .1 for low.",
        keys: WEIGHTS,
    },
    Table {
        heading: "[routes.NAME.batch]",
        doc: "How calls of the route are made together, each waiting a short time for others: docs/batching.md. Only calls that change nothing, or that \
              `idempotent` marks.",
        keys: BATCH,
    },
    Table {
        heading: "[routes.NAME.prompt_cache]",
        doc: "Prompts are marked for the provider's own cache where the reads that are expected pay for the write; an empty table switches it on, without the \
              table nothing is marked: docs/llm.md. It changes the body that goes out, and nothing of the key.",
        keys: PROMPT_CACHE,
    },
    Table {
        heading: "[routes.NAME.defer]",
        doc: "Requests with an `x-farthing-deadline-ms` that leaves the time go to the provider's batch endpoint, at its price for batches; whoever has no answer \
              at the last safe time is called directly; an empty table switches it on, without the table nothing is deferred: docs/llm.md.",
        keys: DEFER,
    },
    Table {
        heading: "[routes.NAME.tune]",
        doc: "Numbers of the route's plan that the proxy may move by experiments of its own, one at a time, each between its bounds: docs/experiments.md. A number without bounds stays as \
              configured. Nothing moves under `farthing freeze`.",
        keys: TUNE,
    },
    Table {
        heading: "[routes.NAME.warm]",
        doc: "At these times of the day the keys that are asked for most are fetched unless they are fresh; docs/operating.md has more.",
        keys: WARM,
    },
    Table {
        heading: "[routes.NAME.upgrade]",
        doc: "WebSockets (HTTP/1.1 upgrades) are tunnelled to the provider: nothing in them is read, kept or shared. An empty table switches it on, without the table they \
              are refused with 501: docs/upstreams.md.",
        keys: UPGRADE,
    },
    Table { heading: "[[routes.NAME.cacheable_if]]", doc: "A condition on answers.", keys: CONDITION },
    Table {
        heading: "[[routes.NAME.purges]]",
        doc: "What writes on the route purge, of everybody, beside their own target. Texts may have fields: `{path.N}` (the Nth segment, from 1, of the \
              path below the route's), `{query.NAME}`, `{body:/POINTER}` (a text, number or flag in the request's JSON). A text whose field has no value, or \
              one longer than 256 bytes, purges nothing and is counted.",
        keys: WRITE_RULE,
    },
    Table {
        heading: "[events.NAME]",
        doc: "A source of events that say what has changed. It acts on the routes that name it.",
        keys: EVENTS,
    },
    Table {
        heading: "[[events.NAME.purges]]",
        doc: "What events of some types purge, of everybody. Texts may have fields: `{subject}`, `{subject.N}` (its Nth part, from 1, between slashes), \
              `{data:/POINTER}` (a text, number or flag in the event's JSON data). A text whose field has no value, or one longer than 256 bytes, purges \
              nothing and is counted.",
        keys: EVENT_RULE,
    },
    Table { heading: "[[keys]]", doc: "Keys of our own; `farthing keys new` prints one with its table.", keys: KEY },
    Table {
        heading: "[[jwt]]",
        doc: "An issuer whose tokens (JWT) are taken where keys are; docs/identity.md shows how. One of `jwks_url`, `jwks_file`, `public_key` and `secret` \
              says what signatures are checked with.",
        keys: JWT,
    },
    Table { heading: "[jwt.claims]", doc: "Where the tokens of an issuer say what: JSON pointers into their payload.", keys: JWT_CLAIMS },
    Table {
        heading: "[tenants.NAME]",
        doc: "What a tenant may do, however it shows who it is. What its key or token says comes before, but for `max_priority` and `routes`, which \
              both bound.",
        keys: TENANT,
    },
    Table { heading: "[experiments.NAME]", doc: "An experiment; it runs from the start unless `start` says otherwise.", keys: EXPERIMENT },
    Table { heading: "[[experiments.NAME.variants]]", doc: "A variant: a share and what it changes.", keys: VARIANT },
];
