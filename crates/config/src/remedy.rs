//! What to change so that more is served from the cache: one key and a sentence for each closed reason.

use farthing_types::UncachedReason;

use crate::{Mode, Route};

/// What would change a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The key of the configuration, within the route's table unless it names another; `None` where no setting of ours changes it.
    pub key: Option<&'static str>,
    /// What to do, or why nothing is to be done.
    pub advice: &'static str,
}

const fn set(key: &'static str, advice: &'static str) -> Remedy {
    Remedy { key: Some(key), advice }
}

const fn none(advice: &'static str) -> Remedy {
    Remedy { key: None, advice }
}

/// What would change `reason` on `route` as it is configured now.
pub fn remedy(reason: UncachedReason, route: &Route) -> Remedy {
    match reason {
        UncachedReason::Cold => none("first requests are paid for; more repeats, or keys that differ in less: see strip_query"),
        UncachedReason::Expired => expired(route),
        UncachedReason::Method => set("idempotent", "true where the same body means the same answer (a search, a completion)"),
        UncachedReason::RequestDirective => obeyed(route, "clients ask for fresh answers; \"override\" does not obey them"),
        UncachedReason::RequestCookie => {
            obeyed(route, "clients send cookies; stop sending them, or \"override\" where answers do not depend on them")
        }
        UncachedReason::OriginNoStore => {
            obeyed(route, "the provider forbids storing; \"override\" where you know better and its terms allow it")
        }
        UncachedReason::SetCookie => obeyed(route, "answers set cookies; \"override\" where they mean nothing"),
        UncachedReason::Private => private(route),
        UncachedReason::Status => none("only answers that succeed are kept"),
        UncachedReason::Vary => none("the provider says that answers depend on headers that differ: send the same ones"),
        UncachedReason::TooLarge => set("buffer_limit", "larger request bodies are then held; larger answers: cache.max_entry"),
        UncachedReason::Incomplete => none("transfers broke off: look at the provider's errors"),
        UncachedReason::Nondeterministic => {
            set("volatile", "answers differ each time: leave out the fields that `farthing volatile` names")
        }
        UncachedReason::NotWorth if route.realtime => {
            set("realtime", "answers of the route must be exact at every moment, so none is kept")
        }
        UncachedReason::NotWorth => {
            set("stale_budget", "answers change faster than they are asked for: a larger budget of stale answers keeps them longer")
        }
        UncachedReason::EventsDown => {
            set("ttl_when_down", "the source of events is down, so answers are kept for less time: see farthing status")
        }
        UncachedReason::FleetUnheard => none(
            "nothing is heard of the other instances, so answers with tags may have been purged: see farthing status, and fleet.on_partition",
        ),
        UncachedReason::Doubted => {
            set("stale_budget", "requests said that answers had changed: a larger budget of stale answers lets copies be doubted later")
        }
        UncachedReason::Tags => none("the answers have more, longer or other tags than can be purged by: see docs/invalidation.md"),
        UncachedReason::SoftError => set("cacheable_if", "answers did not meet the conditions: widen them where such answers may be kept"),
        UncachedReason::Personal => set("pii", "requests or answers with personal fields are never kept"),
        UncachedReason::Disabled => disabled(route),
        UncachedReason::Deferred => none("clients let the call wait for the provider's batch price: x-farthing-deadline-ms"),
        UncachedReason::Fallback => none("another provider stood in: look at the errors of the one that the route would have asked"),
        UncachedReason::Bypassed => none("the bypass switch is on: farthing bypass show says since when and why; farthing bypass off"),
        UncachedReason::Unprofitable => set(
            "price_stale",
            "the cache of the route costs more than it saves, by the prices of calls, of stale answers and [self_cost]: see farthing routes",
        ),
        UncachedReason::NotChosen => set(
            "strategy",
            "the predictor expects another combination to be cheaper: farthing routes says which and why; \"rule\" caches what may be cached",
        ),
        UncachedReason::Observe => set("mode", "\"learned\" serves what may be served; \"observe\" only logs"),
        UncachedReason::Holdout => set("holdout.share", "the price of proving the saving; 0 means that it is claimed, not proved"),
        UncachedReason::Terms => set("providers.NAME.terms", "the provider's terms forbid it"),
        UncachedReason::NoFreshness => set("mode", "the provider says nothing about freshness: \"learned\" predicts it"),
        UncachedReason::PassThrough => none("ranges, preconditions and unknown methods pass through untouched"),
        UncachedReason::Invalidated => none("purged or written to while the call ran"),
        UncachedReason::OverBudget => set("budgets.NAME.limit", "a budget had no room for the call: see farthing budgets why"),
        UncachedReason::OverLimit => set("limits", "a limit had no room for the call: see farthing limits"),
        UncachedReason::Overload => set("overload.max_requests", "more was under way than Farthing may take at a time"),
        UncachedReason::UpstreamFailed => set("stale_if_error", "the provider failed: stale answers may stand in for so long"),
    }
}

fn expired(route: &Route) -> Remedy {
    match route.mode {
        Mode::Respect => {
            set("mode", "the provider's freshness has run out: \"learned\" predicts where it is silent, \"override\" goes beyond it")
        }
        Mode::Override => set("stale_budget", "chosen TTLs have run out: a larger budget of stale answers makes them longer"),
        Mode::Learned | Mode::Observe => set(
            "stale_budget",
            "a larger budget makes chosen TTLs longer; where the provider gives its own, mode = \"override\" goes beyond it",
        ),
    }
}

fn obeyed(route: &Route, advice: &'static str) -> Remedy {
    if route.mode == Mode::Override { none("a request's own header asked for it") } else { set("mode", advice) }
}

fn private(route: &Route) -> Remedy {
    if route.sensitive {
        set("sensitive", "answers of the route must not be kept for what they hold")
    } else if route.personalised && route.shared {
        set("personalised", "answers depend on who asks, so none is kept for others: shared = false keeps one copy for each")
    } else if route.shared {
        set("shared", "answers belong to one principal: false keeps one copy for each")
    } else {
        none("the answer belongs to one principal alone")
    }
}

fn disabled(route: &Route) -> Remedy {
    if route.cache {
        none("a header or a variant turned it off")
    } else {
        set("cache", "true lets answers be kept, on the route and in [strategies], where the provider's terms allow it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_and_every_key_exists() {
        let text = crate::reference();
        let modes = [Mode::Respect, Mode::Learned, Mode::Override, Mode::Observe];
        for (reason, mode) in UncachedReason::ALL.iter().flat_map(|reason| modes.map(|mode| (*reason, mode))) {
            for (shared, cache) in [(false, true), (true, false)] {
                let found = remedy(reason, &Route { mode, shared, cache, ..Route::default() });
                assert!(!found.advice.is_empty());
                let key = found.key.map_or("", |key| key.rsplit('.').next().unwrap_or_default());
                assert!(found.key.is_none() || text.contains(&format!("`{key}`")) || text.contains(&format!(".{key}]")), "{reason}: {key}");
            }
        }
    }

    #[test]
    fn a_remedy_is_another_setting_than_the_present_one() {
        let of = |reason, route: Route| remedy(reason, &route).key;
        assert_eq!(of(UncachedReason::Private, Route { shared: true, ..Route::default() }), Some("shared"));
        assert_eq!(of(UncachedReason::Private, Route::default()), None);
        assert_eq!(of(UncachedReason::OriginNoStore, Route { mode: Mode::Override, ..Route::default() }), None);
        assert_eq!(of(UncachedReason::Disabled, Route { cache: false, ..Route::default() }), Some("cache"));
    }
}
