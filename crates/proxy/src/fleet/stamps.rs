//! When orders were given: of two about the same subject the later one holds, in whatever order they are heard and however often.
//!
//! Clocks of instances differ. So whoever gives an order that it knows to come after another one gives it a later time than that has, whatever its own clock
//! says (a hybrid logical clock, Kulkarni et al. 2014, <https://cse.buffalo.edu/tech-reports/2014-04.pdf>). Only orders of two that did not hear each other
//! are told apart by their clocks, and then by all alike.

use std::collections::BTreeMap;

use farthing_types::{RouteName, Span, Time};

use super::message::Flag;
use crate::lifecycle::freeze::FreezeOrder;
use crate::switches::Order;

/// The latest order that is known of each subject.
#[derive(Debug, Default)]
pub struct Stamps(BTreeMap<String, Time>);

/// The subject of a bypass: of a route, or of all of them together.
pub fn bypass_of(route: Option<&str>) -> String {
    format!("bypass:{}", route.unwrap_or("*"))
}

/// What a flag is about, where these routes can be bypassed.
pub fn subjects(flag: &Flag, routes: &[RouteName]) -> Vec<String> {
    match flag {
        Flag::Freeze { .. } => vec!["freeze".to_owned()],
        Flag::BypassOn(order) => vec![bypass_of(order.route.as_deref())],
        Flag::BypassOff { route: Some(route), .. } => vec![bypass_of(Some(route))],
        Flag::BypassOff { route: None, .. } => routes.iter().map(|route| bypass_of(Some(route))).chain([bypass_of(None)]).collect(),
    }
}

impl Stamps {
    /// These are in force, from before a restart.
    pub fn begin(&mut self, bypasses: &[Order], frozen: Option<&FreezeOrder>) {
        self.0.extend(bypasses.iter().map(|order| (bypass_of(order.route.as_deref()), order.since)));
        self.0.extend(frozen.map(|order| ("freeze".to_owned(), order.since)));
    }

    /// The time of an order about these subjects that is given now: later than all that are known of them.
    pub fn next(&mut self, subjects: Vec<String>, now: Time) -> Time {
        let latest = subjects.iter().filter_map(|subject| self.0.get(subject)).max();
        let at = latest.map_or(now, |latest| now.max(*latest + Span::from_nanos(1)));
        self.0.extend(subjects.into_iter().map(|subject| (subject, at)));
        at
    }

    /// Those subjects for which an order that was given at `at` is the latest; they are noted. None where it is known already, or an older one.
    pub fn admit(&mut self, mut subjects: Vec<String>, at: Time) -> Vec<String> {
        subjects.retain(|subject| self.0.get(subject).is_none_or(|latest| *latest < at));
        self.0.extend(subjects.iter().map(|subject| (subject.clone(), at)));
        subjects
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on(route: Option<&str>) -> Flag {
        Flag::BypassOn(Order { route: route.map(RouteName::from), since: Time::ZERO, until: None, reason: "why".into() })
    }
    fn off(route: Option<&str>) -> Flag {
        Flag::BypassOff { route: route.map(RouteName::from), reason: "over".into(), at: Time::ZERO }
    }
    fn stamps() -> Stamps {
        Stamps::default()
    }
    fn of(flag: Flag) -> Vec<String> {
        subjects(&flag, &["a".into(), "b".into()])
    }

    #[test]
    fn an_order_is_later_than_what_its_giver_knew_whatever_its_clock_says() {
        let (ahead, behind) = (Time::from_millis(9_000), Time::from_millis(1_000));
        let (mut one, mut other) = (stamps(), stamps());
        let begun = one.next(of(on(Some("a"))), ahead);
        assert_eq!((begun, other.admit(of(on(Some("a"))), begun)), (ahead, vec!["bypass:a".to_owned()]));
        // The one whose clock is behind ends it, and then the first one's order is told once more.
        let ended = other.next(of(off(None)), behind);
        assert!(ended > begun);
        assert_eq!(one.admit(of(off(None)), ended).len(), 3);
        assert!(one.admit(of(on(Some("a"))), begun).is_empty() && other.admit(of(on(Some("a"))), begun).is_empty());
        assert!(one.admit(of(off(None)), ended).is_empty(), "told twice");
        // What ends all does not end what is newer.
        let newer = one.next(of(on(Some("b"))), ahead + Span::from_secs(1));
        other.admit(of(on(Some("b"))), newer);
        let mut late = stamps();
        late.admit(of(on(Some("b"))), newer);
        assert_eq!(late.admit(of(off(None)), ended), ["bypass:a", "bypass:*"]);
        late.begin(&[], Some(&FreezeOrder { since: ahead, reason: "why".into() }));
        assert!(late.admit(of(Flag::Freeze { order: None, reason: "go".into(), at: behind }), behind).is_empty());
    }

    proptest! {
        /// Whatever comes late, twice or in another order: in the end all are of one mind, that of the latest orders.
        #[test]
        fn all_come_to_the_same(orders in proptest::collection::vec((0u8..6, 0usize..3, 0i64..50), 1..12), mixed in any::<prop::sample::Index>(), twice in any::<prop::sample::Index>()) {
            let flag = |kind: u8| match kind {
                0 => on(Some("a")),
                1 => on(Some("b")),
                2 => on(None),
                3 => off(Some("a")),
                4 => off(Some("b")),
                _ => off(None),
            };
            // Given by three who hear nothing of each other.
            let mut givers = [stamps(), stamps(), stamps()];
            let given: Vec<(u8, Time)> = orders.iter().map(|(kind, who, now)| (*kind, givers[*who].next(of(flag(*kind)), Time::from_nanos(*now * 10 + *who as i64)))).collect();
            let told = |order: &[(u8, Time)]| {
                let (mut stamps, mut up) = (stamps(), BTreeMap::new());
                for (kind, at) in order {
                    for subject in stamps.admit(of(flag(*kind)), *at) {
                        up.insert(subject, (*kind < 3).then_some(*at));
                    }
                }
                (stamps.0, up)
            };
            let mut other: Vec<(u8, Time)> = given.clone();
            other.rotate_left(mixed.index(given.len()));
            other.reverse();
            other.push(given[twice.index(given.len())]);
            // Two that are told apart by nothing are the same order or of the same time by chance.
            let mut times: Vec<Time> = given.iter().map(|(_, at)| *at).collect();
            times.sort_unstable();
            times.dedup();
            prop_assume!(times.len() == given.len());
            prop_assert_eq!(told(&given), told(&other));
        }
    }
}
