//! Who waits before one counter, and who is next.
//!
//! Three classes, one for each priority. The class whose oldest waits longest is next, where each class is taken to have come [`AGING`] later than
//! the one above it: so what matters more goes first, and what matters less is not passed over for ever. Within a class tenants share by what
//! their calls use (start-time fair queueing): the one that has been served least since the line began is next, whatever the others send.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use farthing_types::{Priority, Span, Time};

/// How much longer a waiter of the next lower priority must have waited to go first.
pub const AGING: Span = Span::from_secs(5);
/// Tenants without a waiter of which it is remembered how much they have had.
const MAX_SERVED: usize = 1_024;

/// Names a waiter, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub(super) u64);

/// A waiter's place in a line.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose call.
    pub tenant: Arc<str>,
    /// Its class.
    pub priority: Priority,
    /// When it came.
    pub since: Time,
    /// What its call uses, in nanoseconds of the counter's time.
    pub work: u64,
    /// Tokens that it asks for.
    pub tokens: u64,
}

/// The line before one counter.
#[derive(Debug, Default)]
pub struct Line {
    classes: [Class; 3],
}

#[derive(Debug, Default)]
struct Class {
    flows: HashMap<Arc<str>, Flow>,
    /// Tenants with a waiter, by how much they have had and who came first.
    order: BTreeSet<(u64, WaiterId, Arc<str>)>,
    /// When each came.
    since: BTreeMap<WaiterId, Time>,
    /// How much who was served last had had.
    served_to: u64,
    /// How much tenants without a waiter have had, where that is more.
    served: HashMap<Arc<str>, u64>,
}

/// The waiters of one tenant.
#[derive(Debug, Default)]
struct Flow {
    waiters: BTreeMap<WaiterId, (u64, u64)>,
    /// How much the tenant has had.
    had: u64,
    tokens: u64,
}

/// What goes before a waiter, as far as that is known when it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Requests.
    pub requests: u64,
    /// Tokens.
    pub tokens: u64,
}

impl Line {
    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.since.is_empty())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.classes.iter().map(|class| class.since.len()).sum()
    }

    /// Puts a waiter where it belongs: behind those of its tenant that came before it.
    pub fn enter(&mut self, id: WaiterId, place: &Place) {
        let class = &mut self.classes[place.priority as usize];
        class.since.insert(id, place.since);
        let had = class.served.remove(&place.tenant).unwrap_or_default().max(class.served_to);
        let flow = class.flows.entry(place.tenant.clone()).or_insert_with(|| Flow { had, ..Flow::default() });
        if let Some((first, _)) = flow.waiters.first_key_value() {
            class.order.remove(&(flow.had, *first, place.tenant.clone()));
        }
        flow.waiters.insert(id, (place.work, place.tokens));
        flow.tokens += place.tokens;
        if let Some((first, _)) = flow.waiters.first_key_value() {
            class.order.insert((flow.had, *first, place.tenant.clone()));
        }
    }

    /// Who is next.
    pub fn next(&self) -> Option<WaiterId> {
        let oldest = |(rank, class): (usize, &Class)| {
            let since = *class.since.first_key_value()?.1;
            Some((since + AGING * u32::try_from(rank).unwrap_or(0), rank))
        };
        let (_, rank) = self.classes.iter().enumerate().filter_map(oldest).min()?;
        self.classes[rank].order.first().map(|(_, id, _)| *id)
    }

    /// Takes a waiter out; `served` where it goes, so that its tenant has had what it uses.
    pub fn leave(&mut self, id: WaiterId, place: &Place, served: bool) {
        let class = &mut self.classes[place.priority as usize];
        class.since.remove(&id);
        let Some(flow) = class.flows.get_mut(&place.tenant) else { return };
        if let Some((first, _)) = flow.waiters.first_key_value() {
            class.order.remove(&(flow.had, *first, place.tenant.clone()));
        }
        if let Some((work, tokens)) = flow.waiters.remove(&id) {
            flow.tokens -= tokens;
            if served {
                class.served_to = class.served_to.max(flow.had);
                flow.had = flow.had.saturating_add(work);
            }
        }
        match flow.waiters.first_key_value() {
            Some((first, _)) => drop(class.order.insert((flow.had, *first, place.tenant.clone()))),
            None => {
                let had = flow.had;
                class.flows.remove(&place.tenant);
                class.remember(&place.tenant, had);
            }
        }
    }

    /// What goes before a waiter of `tenant` that would come now: all that matters more, and of each other tenant as many as of its own.
    pub fn ahead(&self, tenant: &str, priority: Priority) -> Ahead {
        let mut ahead = Ahead::default();
        for class in &self.classes[..priority as usize] {
            ahead.requests += class.since.len() as u64;
            ahead.tokens += class.flows.values().map(|flow| flow.tokens).sum::<u64>();
        }
        let class = &self.classes[priority as usize];
        let own = class.flows.get(tenant).map_or(0, |flow| flow.waiters.len());
        for flow in class.flows.values() {
            let (all, some) = (flow.waiters.len() as u64, flow.waiters.len().min(own) as u64);
            ahead.requests += some;
            ahead.tokens += flow.tokens.saturating_mul(some) / all.max(1);
        }
        ahead
    }
}

impl Class {
    /// Keeps how much a tenant has had, so that it does not begin anew by leaving for a moment.
    fn remember(&mut self, tenant: &Arc<str>, had: u64) {
        if self.since.is_empty() {
            *self = Self::default();
            return;
        }
        if self.served.len() >= MAX_SERVED {
            let to = self.served_to;
            self.served.retain(|_, had| *had > to);
        }
        if had > self.served_to && self.served.len() < MAX_SERVED {
            self.served.insert(tenant.clone(), had);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(tenant: &str, priority: Priority, since_ms: i64, work: u64) -> Place {
        Place { tenant: tenant.into(), priority, since: Time::from_millis(since_ms), work, tokens: work }
    }

    /// Enters those, and serves all; their tenants in the order in which they went.
    fn order(places: Vec<Place>) -> String {
        let mut line = Line::default();
        for (n, place) in places.iter().enumerate() {
            line.enter(WaiterId(n as u64), place);
        }
        let mut out = String::new();
        while let Some(id) = line.next() {
            let place = &places[id.0 as usize];
            line.leave(id, place, true);
            out += &place.tenant;
        }
        assert!(line.is_empty());
        out
    }

    #[test]
    fn tenants_share_whatever_one_of_them_sends() {
        let mut places = vec![place("a", Priority::Medium, 0, 1); 6];
        places.extend(vec![place("b", Priority::Medium, 1, 1); 3]);
        places.push(place("c", Priority::Medium, 2, 1));
        assert_eq!(order(places), "abcababaaa");
        let mut unequal = vec![place("a", Priority::Medium, 0, 3); 4];
        unequal.extend(vec![place("b", Priority::Medium, 1, 1); 6]);
        assert_eq!(order(unequal), "abbbabbbaa", "by what they use, not by how many they are");
    }

    #[test]
    fn what_matters_more_goes_first_until_the_other_has_waited_long() {
        use Priority::{High, Low, Medium};
        assert_eq!(order(vec![place("l", Low, 0, 1), place("m", Medium, 100, 1), place("h", High, 200, 1)]), "hml");
        assert_eq!(order(vec![place("l", Low, 0, 1), place("m", Medium, 5_001, 1), place("h", High, 10_002, 1)]), "lmh");
    }

    #[test]
    fn who_leaves_for_a_moment_does_not_begin_anew_and_who_gives_up_has_had_nothing() {
        let mut line = Line::default();
        let (a, b) = (place("a", Priority::Medium, 0, 1), place("b", Priority::Medium, 0, 1));
        for n in 0..10 {
            line.enter(WaiterId(n), &b);
        }
        line.enter(WaiterId(10), &a);
        line.leave(WaiterId(0), &b, true);
        line.leave(WaiterId(10), &a, true);
        line.enter(WaiterId(11), &a);
        assert_eq!(line.next(), Some(WaiterId(1)), "both have had one, and b came first");
        line.leave(WaiterId(1), &b, false);
        line.leave(WaiterId(11), &a, false);
        line.enter(WaiterId(12), &a);
        assert_eq!(line.next(), Some(WaiterId(2)));
        line.leave(WaiterId(2), &b, true);
        assert_eq!(line.next(), Some(WaiterId(12)), "a gave up: nothing was used");
    }

    #[test]
    fn what_is_ahead_is_told_by_tenant() {
        let mut line = Line::default();
        for n in 0..100 {
            line.enter(WaiterId(n), &place("flood", Priority::Medium, 0, 2));
        }
        line.enter(WaiterId(100), &place("h", Priority::High, 0, 5));
        assert_eq!(line.ahead("new", Priority::Medium), Ahead { requests: 1, tokens: 5 });
        assert_eq!(line.ahead("flood", Priority::Medium), Ahead { requests: 101, tokens: 205 });
        assert_eq!(line.ahead("flood", Priority::High), Ahead { requests: 0, tokens: 0 });
        line.enter(WaiterId(101), &place("new", Priority::Medium, 0, 2));
        assert_eq!(line.ahead("new", Priority::Medium), Ahead { requests: 3, tokens: 9 });
    }
}
