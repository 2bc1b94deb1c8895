//! Why nothing is fetched ahead: on a route at all, or of one thing.

use farthing_types::{UncachedReason, reasons};

reasons! {
    /// Why a route never fetches ahead.
    Off {
        /// The operator switched it off.
        Disabled = "disabled",
        /// Waiting has no price (`price_wait`), and for money alone it never pays.
        NoWorth = "no-price-wait",
        /// The provider's terms forbid it.
        Terms = "terms",
        /// Answers of the route are not kept.
        NotCached = "not-cached",
    }
}

reasons! {
    /// Why one thing was not fetched although it was likely enough to be asked for.
    Refused {
        /// The route has not shown a gain yet, or has lost it.
        Unearned = "unearned",
        /// What the route may spend ahead in this hour is spent.
        Allowance = "allowance",
        /// A budget of the tenant has no room.
        Budget = "budget",
        /// A limit has no room.
        Limit = "limit",
        /// The provider's breaker is not closed.
        Breaker = "breaker-open",
        /// The provider has as many such calls as it may have, or is busy bringing lost copies back.
        Busy = "busy",
        /// The price of a call is not known.
        Unpriced = "unpriced",
        /// The request is another principal's.
        Principal = "other-principal",
        /// The key is held out, to measure what is saved.
        Holdout = "holdout",
        /// The variant of its key, in an experiment, does not fetch ahead.
        Variant = "variant",
        /// Its answer would not be kept.
        NotCached = "not-cached",
        /// There is a fresh copy by now.
        Fresh = "fresh",
        /// Somebody fetches it already.
        UnderWay = "under-way",
        /// More copies wait for their use than can be followed.
        Full = "full",
    }
}

impl Off {
    /// Why the plan keeps a route from fetching ahead.
    pub(super) fn of(reason: UncachedReason, switched_off: bool) -> Self {
        match reason {
            UncachedReason::Terms => Self::Terms,
            UncachedReason::Disabled if switched_off => Self::Disabled,
            _ => Self::NotCached,
        }
    }
}
