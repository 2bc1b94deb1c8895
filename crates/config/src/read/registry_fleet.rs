//! Keys of `[fleet]`.

use super::registry::{Keys, key};

pub(crate) const FLEET: Keys = &[
    key("name", "name", "", "The fleet's name, alike on all its instances; it stands in all keys that they use. Required."),
    key("addresses", "list", "", "As in `[l2]`. Required."),
    key("cluster", "flag", "false", "As in `[l2]`."),
    key("user", "text", "", "As in `[l2]`."),
    key("password", "secret", "", "As in `[l2]`."),
    key("authorities", "path", "", "As in `[l2]`."),
    key("deadline", "time", "\"50ms\"", "How long an operation may take that somebody waits for."),
    key(
        "fill_leases",
        "flag",
        "true",
        "With an `[l2]` in Redis: what several instances lack is called for by one of them, and the others wait for what it writes there. `fill_lease` switches it off for a route.",
    ),
    key(
        "on_partition",
        "word",
        "\"bypass\"",
        "What becomes of answers with tags while nothing was heard of the others for a second, so that they may have been purged: `bypass` (only those younger than a second are used) or `serve`.",
    ),
    key(
        "limits_alone",
        "time",
        "\"1h\"",
        "How long an instance that does not reach Redis goes on with its share of `[[limits]]`; so long the share of one that died is kept from the others. Longer than any call under a limit of calls at a time may take.",
    ),
    key(
        "instances",
        "count",
        "",
        "How many instances there are at most. With it an instance that has never reached Redis has that part of `[[limits]]`, and none ever has more of them by itself; without it one that has never reached Redis has nothing of them.",
    ),
    key(
        "shared_config",
        "flag",
        "true",
        "Whether this instance takes the configuration that `farthing config push` has put into the fleet's Redis, in place of what its own file says beside the keys that are an instance's own (docs/fleet.md names them). `false`: its own file alone.",
    ),
    key(
        "instance",
        "name",
        "",
        "This instance's name, which no other of the fleet has. Without it one is drawn and kept in `state_dir`: a folder that is copied brings its name along.",
    ),
];
