//! The input: who asked for what, when.

use farthing_policy::prefetch::PrefetchParams;
use farthing_types::{Money, Span, Time};

/// A route of a session log.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionRoute {
    /// Name.
    pub name: String,
    /// Price of a call.
    pub price: Money,
    /// Lifetime of a copy.
    pub ttl: Span,
    /// What is configured about prefetch.
    pub params: PrefetchParams,
    /// Whose route it is: things of one provider may share a call of its batch endpoint.
    pub provider: u16,
}

impl SessionRoute {
    /// Whether fetching ahead costs and earns the same on both, so that they may share calls and a permit.
    fn same_terms(&self, other: &Self) -> bool {
        (self.provider, self.price, self.params) == (other.provider, other.price, other.params)
    }
}

/// One client request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visited {
    /// When.
    pub at: Time,
    /// Who; zero when nobody can be told apart.
    pub session: u64,
    /// What ([`farthing_contract::features::Visit::thing`]).
    pub thing: u64,
    /// Index into [`Sessions::routes`].
    pub route: u16,
    /// Hash of the template's parameters; zero when unknown.
    pub params: u64,
}

/// Client requests in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    /// The routes.
    pub routes: Vec<SessionRoute>,
    /// The requests.
    pub visits: Vec<Visited>,
}

impl Sessions {
    /// Index of the first request at or after `share` of the time from the first to the last.
    pub fn split(&self, share: f64) -> usize {
        let (Some(first), Some(last)) = (self.visits.first(), self.visits.last()) else { return 0 };
        let cut = first.at + last.at.since(first.at).mul_f64(share.clamp(0.0, 1.0));
        self.visits.partition_point(|v| v.at < cut)
    }

    /// The pool of each route, counted from zero: routes of one provider with equal terms are in the same.
    pub fn pools(&self) -> Vec<usize> {
        let first_like = |route: &SessionRoute| self.routes.iter().position(|other| other.same_terms(route)).unwrap_or_default();
        let firsts: Vec<usize> = self.routes.iter().map(first_like).collect();
        let mut heads = firsts.clone();
        heads.sort_unstable();
        heads.dedup();
        firsts.iter().map(|first| heads.partition_point(|head| head < first)).collect()
    }

    /// The same requests under other terms on every route.
    #[must_use]
    pub fn with(mut self, ttl: Span, params: PrefetchParams) -> Self {
        for route in &mut self.routes {
            (route.ttl, route.params) = (ttl, params);
        }
        self
    }
}
