//! Keys of the tables about clients: who they are, and what they may do.

use super::registry::{Key, Keys, Kind, key, table};

const ROUTES: Key = key("routes", "list", "", "The only routes that it may call; 403 for others. Without it: all.");
const PRIORITY: Key = key(
    "priority",
    "word",
    "",
    "How much its requests matter where they do not say: `high` (or `user-facing`), `medium` (`internal`), `low` (`background`).",
);
const MAX_PRIORITY: Key = key("max_priority", "word", "", "The most that its requests may say that they matter.");
const SLA: Key = key("sla", "time", "", "Within what time its requests are promised to be answered, in place of the route's `sla`.");

pub(crate) const ADMIN_TOKEN: Keys = &[
    key("name", "name", "", "Whose it is; stands in the audit log."),
    key(
        "role",
        "word",
        "",
        "`viewer` looks; `operator` also purges, warms, bypasses, freezes, raises budgets, orders experiments and predictors, reloads prices, and sees the audit log; `admin` also forgets tenants and changes the configuration.",
    ),
    key("sha256", "digest", "", "SHA-256 of the token: 64 hexadecimal digits."),
];

pub(crate) const KEY: Keys = &[
    key("id", "text", "", "The 12 characters after `fth-`."),
    key("sha256", "digest", "", "SHA-256 of the whole key: 64 hexadecimal digits."),
    key("tenant", "name", "", "Who pays. A tenant may have several keys: to change one, add its successor, then remove it."),
    key("team", "name", "", "Free attribution."),
    key("service", "name", "", "Free attribution."),
    key("tags", "text", "", "Free tags `a=b,c=d` of its requests; those of `x-farthing-tags` come after them."),
    key("purge", "flag", "false", "Its holder may purge everybody's entries of routes with `purge_by = \"key\"`."),
    key("expires", "day", "", "From then on it is refused: a day (midnight UTC), or a day and time with its offset."),
    key("disabled", "flag", "false", "It is refused."),
    ROUTES,
    PRIORITY,
    MAX_PRIORITY,
    SLA,
];

pub(crate) const TENANT: Keys = &[ROUTES, PRIORITY, MAX_PRIORITY, SLA];

pub(crate) const JWT: Keys = &[
    key("name", "name", "", "Its name in metrics, log and status."),
    key("issuer", "text", "", "The `iss` of its tokens, byte by byte."),
    key("audience", "list", "", "A token must be meant for one of these (`aud`); a text or a list."),
    key(
        "algorithms",
        "list",
        "",
        "How its tokens may be signed: `HS256` `HS384` `HS512` `RS256` `RS384` `RS512` `PS256` `PS384` `PS512` `ES256` `ES384` `EdDSA`. Without it the usual ones of the key: `HS256`; `RS256`; `ES256`, `ES384`; `EdDSA`; of a set `RS256`, `ES256`.",
    ),
    key("secret", "secret", "", "The secret that it signs with (HS); at least as long as the digest."),
    key("public_key", "path", "", "A file with its public key (PEM)."),
    key("jwks_url", "URL", "", "Where its set of public keys is (JWKS). https; http on loopback alone."),
    key("jwks_file", "path", "", "A file with its set of public keys, read again as `jwks_refresh` says."),
    key(
        "jwks_refresh",
        "time",
        "\"5m\"",
        "Longest time between two readings of the set; `Cache-Control: max-age` may shorten it. An unknown key is asked for at once, at most every 10s.",
    ),
    key(
        "jwks_keep",
        "time",
        "\"24h\"",
        "How long the last known keys are used when the set cannot be read; then its tokens are refused (503).",
    ),
    key("leeway", "time", "\"10s\"", "How far its clock may be off, at most 5m."),
    key("default_tenant", "name", "", "Who pays where a token names no tenant. Without it such a token is refused."),
    table("claims", Kind::Table, "Where its tokens say what."),
    ROUTES,
    PRIORITY,
    MAX_PRIORITY,
    SLA,
];

pub(crate) const JWT_CLAIMS: Keys = &[
    key("tenant", "pointer", "\"/tenant\"", "Who pays: letters, digits and `-_.:@|+=`, at most 128."),
    key("team", "pointer", "", "Team of the tenant."),
    key("service", "pointer", "", "Service of the tenant."),
    key("priority", "pointer", "", "How much its requests matter where they do not say, in the words of `priority`."),
    key("tags", "pointer", "", "Free tags `a=b,c=d`."),
    key(
        "routes",
        "pointer",
        "",
        "The only routes that may be called: a list, or names with spaces between. When this is set, a token without it may call none.",
    ),
];
