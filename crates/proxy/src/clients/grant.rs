//! What a client may do, as far as a request needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_config::Rights;
use farthing_types::{Priority, RouteName, Span, Time};

/// What somebody who has shown who it is may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Free tags of all its requests.
    pub tags: Option<Arc<str>>,
    /// What it may do.
    pub rights: Rights,
    /// How long that holds.
    pub validity: Validity,
}

impl Grant {
    /// Whether a route may be called.
    pub fn may_call(&self, route: &RouteName) -> bool {
        self.rights.routes.as_ref().is_none_or(|routes| routes.contains(route))
    }

    /// How much a request matters: what it says itself is bounded.
    pub fn priority(&self, said: Option<Priority>, (of_route, most): (Priority, Priority)) -> Priority {
        let most = self.rights.max_priority.unwrap_or(most);
        // The highest comes first in the order of priorities.
        said.map(|said| said.max(most)).unwrap_or_else(|| self.rights.priority.unwrap_or(of_route))
    }

    /// Within what time its requests are promised to be answered.
    pub fn sla(&self, of_route: Option<Span>) -> Option<Span> {
        self.rights.sla.or(of_route)
    }
}

/// How long what a client has shown holds.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    /// Until then; `None`: no time is set.
    pub until: Option<Time>,
    /// While the keys of its issuer are those that were in force.
    pub keys: Option<KeysInForce>,
}

impl Validity {
    /// Whether it still holds.
    pub fn holds(&self, now: Time) -> bool {
        self.until.is_none_or(|until| now < until) && self.keys.as_ref().is_none_or(KeysInForce::hold)
    }
}

impl PartialEq for Validity {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until && self.keys.as_ref().map(|keys| keys.seen) == other.keys.as_ref().map(|keys| keys.seen)
    }
}

impl Eq for Validity {}

/// The keys of an issuer at one moment: a change of any of them changes their generation.
#[derive(Clone, Debug)]
pub struct KeysInForce {
    generation: Arc<AtomicU64>,
    seen: u64,
}

impl KeysInForce {
    /// Those in force now.
    pub fn of(generation: &Arc<AtomicU64>) -> Self {
        Self { seen: generation.load(Ordering::Acquire), generation: generation.clone() }
    }

    fn hold(&self) -> bool {
        self.generation.load(Ordering::Acquire) == self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_does_not_raise_itself_above_what_its_client_may() {
        let of_route = (Priority::Medium, Priority::High);
        let grant = |priority, max_priority| Grant { rights: Rights { priority, max_priority, ..Rights::default() }, ..Grant::default() };
        for (grant, said, priority) in [
            (grant(None, None), None, Priority::Medium),
            (grant(None, None), Some(Priority::High), Priority::High),
            (grant(Some(Priority::Low), None), None, Priority::Low),
            (grant(Some(Priority::Low), None), Some(Priority::High), Priority::High),
            (grant(None, Some(Priority::Medium)), Some(Priority::High), Priority::Medium),
            (grant(None, Some(Priority::Medium)), Some(Priority::Low), Priority::Low),
            // An operator's word is not bounded.
            (grant(Some(Priority::High), Some(Priority::Low)), None, Priority::High),
        ] {
            assert_eq!(grant.priority(said, of_route), priority, "{grant:?} {said:?}");
        }
        assert_eq!(Grant::default().priority(Some(Priority::High), (Priority::Low, Priority::Low)), Priority::Low, "the route's bound");
        assert_eq!(grant(None, Some(Priority::High)).priority(Some(Priority::High), (Priority::Low, Priority::Low)), Priority::High);
    }

    #[test]
    fn what_was_shown_holds_until_its_time_and_while_the_keys_do() {
        let generation = Arc::new(AtomicU64::new(3));
        let validity = Validity { until: Some(Time::from_millis(10)), keys: Some(KeysInForce::of(&generation)) };
        assert!(validity.holds(Time::from_millis(9)) && !validity.holds(Time::from_millis(10)));
        generation.fetch_add(1, Ordering::Release);
        assert!(!validity.holds(Time::from_millis(9)));
        assert!(Validity::default().holds(Time::from_millis(i64::MAX / 2_000_000)));
    }
}
