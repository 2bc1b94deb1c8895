//! Gives each call of a route to one of its providers, and to the next where that one fails.

mod leg;
mod mapping;

use std::sync::Arc;

use farthing_policy::routing::{self, Candidate, Chosen, Noted, RoutedBy, Weights};
use farthing_types::{
    Body, Call, Claim, Draw, DrawKind, Failure, FailureKind, LimitWhy, Limited, Priority, Reply, RouteTerms, Routed, Span, Time,
};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use http::header::{HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use tokio::time::{Instant, sleep_until};

use crate::adapter::Unfit;
use crate::breaker::Standing;
use crate::client::after;
use crate::retry::may_be_made_again;
use crate::target::without_parameters;
use crate::{Origin, Traffic};

pub use leg::{Leg, LegReport};
use leg::{LegSink, Running};

/// What a router goes by.
#[derive(Clone, Debug)]
pub struct RouterSpec {
    /// The route, which draws are made for.
    pub route: Arc<str>,
    /// How much each part of a score counts, by priority.
    pub weights: [Weights; Priority::ALL.len()],
    /// The least quality of who gets calls while there is anybody with it.
    pub floor: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Headers in which the route's clients may show a credential: none of them is for one of several providers.
    pub credential_headers: Vec<HeaderName>,
    /// The same of query parameters.
    pub credential_parameters: Vec<Arc<str>>,
}

/// What is told of a router.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterReport {
    /// Its providers, in the route's order.
    pub legs: Vec<LegReport>,
    /// Their scores for the last prices, by priority and then in the same order.
    pub scores: Vec<(Priority, Vec<f64>)>,
    /// Calls that all of them have failed, and that were made again.
    pub repeated: u64,
}

/// Gives each call to a provider: an [`Origin`] over several.
///
/// A call that fails goes to the next at once where no byte of it was sent, or where it may be made again. What fails: no answer, 401, 402, 403, 408,
/// 429, 5xx, and an answer that cannot be brought into the route's shape. Each provider gets a call once. A provider whose breaker is open gets none;
/// when its cool-down is over one call that may be made again tries it, and waits no longer than three times what it usually takes, two seconds at
/// most. Who has waited for a provider so long when its breaker opens stops waiting. A provider whose own limit gave no turn in time has not been asked,
/// and is thought no worse of.
///
/// No credential of a client and no condition on a copy reaches a provider: they are about one, not about several.
#[derive(Clone)]
pub struct Router(Arc<Shared>);

struct Shared {
    legs: Vec<Running>,
    spec: RouterSpec,
    draw: Draw,
    began: Instant,
    traffic: Arc<Traffic>,
}

impl Router {
    /// A router over `legs`, in the route's order.
    pub fn new(legs: Vec<Leg>, spec: RouterSpec) -> Self {
        let draw = Draw::new(spec.seed);
        Self(Arc::new(Shared {
            legs: legs.into_iter().map(Running::new).collect(),
            spec,
            draw,
            began: Instant::now(),
            traffic: Arc::default(),
        }))
    }

    /// Where further rounds of its calls are counted.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.0.traffic
    }

    /// What is told of it.
    pub fn report(&self) -> RouterReport {
        let now = self.0.now();
        let legs: Vec<LegReport> = self.0.legs.iter().map(|leg| leg.report(now)).collect();
        let candidates: Vec<Candidate> = legs.iter().enumerate().map(|(place, leg)| candidate(place, leg)).collect();
        let scores = |priority: &Priority| (*priority, routing::scores(&candidates, self.0.weights(*priority)));
        RouterReport { scores: Priority::ALL.iter().map(scores).collect(), legs, repeated: self.0.traffic.repeated() }
    }
}

fn candidate(place: usize, leg: &LegReport) -> Candidate {
    Candidate { place, price: leg.price, latency: leg.measured.latency, errors: leg.measured.errors, quality: leg.quality }
}

impl Origin for Router {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shared = self.0.clone();
        async move { Round::new(&shared, call).run().await }.boxed()
    }
}

impl Shared {
    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn weights(&self, priority: Priority) -> Weights {
        let place = Priority::ALL.iter().position(|other| *other == priority).unwrap_or_default();
        self.spec.weights.get(place).copied().unwrap_or(Weights::of(priority))
    }
}

/// One call on its way over the providers.
struct Round<'a> {
    shared: &'a Shared,
    call: Call,
    /// The body, where it is held; else the call is made once.
    body: Option<bytes::Bytes>,
    /// It may be made again after bytes of it were sent.
    repeatable: bool,
    ends: Instant,
    /// Providers that are not asked, or not again.
    done: Vec<bool>,
    /// One that was chosen by its score has failed the call.
    failed: bool,
    last: Option<Result<Reply, Failure>>,
    unfit: Option<Unfit>,
}

impl<'a> Round<'a> {
    fn new(shared: &'a Shared, mut call: Call) -> Self {
        for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
            call.headers.remove(name);
        }
        for name in &shared.spec.credential_headers {
            call.headers.remove(name);
        }
        let names: Vec<&str> = shared.spec.credential_parameters.iter().map(AsRef::as_ref).collect();
        let stripped = without_parameters(&call.target.to_string(), &names).and_then(|text| text.parse().ok());
        if let Some(target) = stripped {
            call.target = target;
        }
        let only = call.routing.as_ref().and_then(RouteTerms::alone);
        Self {
            body: call.body.as_full(),
            repeatable: may_be_made_again(&call),
            ends: after(Instant::now(), call.deadline),
            done: (0..shared.legs.len()).map(|place| only.is_some_and(|only| only != place)).collect(),
            failed: false,
            last: None,
            unfit: None,
            shared,
            call,
        }
    }

    async fn run(mut self) -> Result<Reply, Failure> {
        while let Some(chosen) = self.choose() {
            let Some(leg) = self.shared.legs.get(chosen.place) else { break };
            self.done[chosen.place] = true;
            let call = match self.prepared(leg) {
                Ok(call) => call,
                Err(why) => {
                    leg.count_unfit();
                    self.unfit = Some(why);
                    continue;
                }
            };
            let result = self.attempt(leg, call, chosen).await;
            if !is_failure(&result) || !self.may_go_on(&result) {
                return result;
            }
            // Whoever was only tried, or let nobody in, would not have been asked otherwise.
            let refused = matches!(&result, Err(failure) if failure.kind == FailureKind::BreakerOpen);
            self.failed |= chosen.by != RoutedBy::Trial && !refused;
            self.last = Some(result);
        }
        self.last.unwrap_or_else(|| Err(nobody(&self.shared.spec.route, self.unfit)))
    }

    /// Who gets the call next.
    fn choose(&self) -> Option<Chosen> {
        let legs = self.shared.legs.iter().enumerate().filter(|(place, _)| !self.done[*place]);
        let of = |standing: Standing| legs.clone().filter(move |(_, leg)| leg.standing() == standing).map(|(place, _)| place);
        let closed: Vec<usize> = of(Standing::Closed).collect();
        let ready: Vec<usize> = of(Standing::Ready).collect();
        let again = self.repeatable && self.body.is_some();
        if let Some(place) = ready.first().copied().filter(|_| again && !closed.is_empty() && self.last.is_none()) {
            return Some(Chosen { place, score: 0.0, by: RoutedBy::Trial });
        }
        let chosen = self.best(if closed.is_empty() { &ready } else { &closed })?;
        let only = self.call.routing.as_ref().is_some_and(|terms| terms.only.is_some());
        let by = match chosen.by {
            RoutedBy::BelowFloor => RoutedBy::BelowFloor,
            _ if self.failed => RoutedBy::Failover,
            _ if only => RoutedBy::Cheapest,
            by => by,
        };
        Some(Chosen { by, ..chosen })
    }

    fn best(&self, places: &[usize]) -> Option<Chosen> {
        let Shared { legs, spec, draw, .. } = self.shared;
        let now = self.shared.now();
        let weigh = |place: &usize| {
            let price = self.call.routing.as_ref().and_then(|terms: &RouteTerms| terms.prices.get(*place).copied().flatten());
            let (measured, quality) = legs.get(*place)?.weigh(price, now);
            Some(Candidate { place: *place, price, latency: measured.latency, errors: measured.errors, quality })
        };
        let candidates: Vec<Candidate> = places.iter().filter_map(weigh).collect();
        let drawn = |window| draw.uniform(DrawKind::Route, &spec.route, u128::from(self.call.id.0), window);
        let attempt = self.done.iter().filter(|done| **done).count() as i64;
        routing::choose(&candidates, self.weights(), spec.floor, (drawn(2 * attempt), drawn(2 * attempt + 1)))
    }

    /// What counts for this call.
    fn weights(&self) -> Weights {
        let own = self.call.routing.as_ref().and_then(|terms| terms.weights);
        own.map_or_else(|| self.shared.weights(self.call.claim.priority), Weights::from)
    }

    /// The call as this provider wants it.
    fn prepared(&mut self, leg: &Running) -> Result<Call, Unfit> {
        let adapted = leg.request.apply((&self.call.method, &self.call.target), self.body.as_ref())?;
        let body = adapted.body.or_else(|| self.body.clone()).map_or_else(|| std::mem::take(&mut self.call.body), Body::full);
        let mut call = self.call.with_body(bytes::Bytes::new());
        (call.body, call.target) = (body, adapted.target);
        for (name, value) in &leg.request.set_headers {
            call.headers.insert(name.clone(), value.clone());
        }
        call.deadline = self.ends.saturating_duration_since(Instant::now());
        Ok(call)
    }

    async fn attempt(&mut self, leg: &Running, mut call: Call, chosen: Chosen) -> Result<Reply, Failure> {
        leg.count(chosen.by);
        let fallback = matches!(chosen.by, RoutedBy::Failover | RoutedBy::BelowFloor);
        let routed = Routed { provider: leg.provider.clone(), place: chosen.place, by: chosen.by.as_str(), fallback, answer: None };
        let sink = LegSink::new(self.call.sink.clone(), routed, leg.reads);
        call.sink = sink.clone();
        let began = Instant::now();
        let result = self.waited(leg, call, (chosen.by, &sink)).await;
        sink.release();
        let took = result.is_ok().then(|| began.elapsed());
        let unmapped = matches!(&result, Err(failure) if failure.kind == FailureKind::Unmapped);
        if is_told(&result) {
            leg.note(Noted { took, failed: is_failure(&result), complete: sink.complete() }, unmapped, self.shared.now());
        }
        result
    }

    /// Waits for the answer for as long as that makes sense where another provider can be asked.
    async fn waited(&mut self, leg: &Running, call: Call, (by, sink): (RoutedBy, &LegSink)) -> Result<Reply, Failure> {
        let claim = call.claim;
        let fetching = leg.origin.fetch(call);
        let Some(until) = self.until(leg, by) else { return fetching.await };
        let left = match self.patient(leg, fetching, (by, sink, until)).await {
            Ok(result) => return result,
            Err(left) => left,
        };
        // What is given up has no outcome of its own.
        Err(match left {
            Left::Queue if by == RoutedBy::Trial => {
                leg.health().iter().for_each(|health| health.put_off());
                no_turn(leg, claim)
            }
            Left::Queue => no_turn(leg, claim),
            Left::Late => {
                leg.health().iter().for_each(|health| health.given_up());
                Failure::sent(FailureKind::Timeout, format!("provider {}: no answer while another could be asked", leg.provider))
            }
            Left::Broken => Failure::sent(FailureKind::Broken, format!("provider {}: its breaker opened while it was asked", leg.provider)),
            Left::Shut => {
                Failure::unsent(FailureKind::BreakerOpen, format!("provider {}: its breaker opened before it was asked", leg.provider))
            }
        })
    }

    /// The answer, or why it is not waited for. A provider has its time from when its limit has given the call its turn.
    async fn patient(
        &mut self,
        leg: &Running,
        mut fetching: BoxFuture<'static, Result<Reply, Failure>>,
        (by, sink, mut until): (RoutedBy, &LegSink, Instant),
    ) -> Result<Result<Reply, Failure>, Left> {
        let mut opens: Vec<_> = leg.health().iter().map(|health| Box::pin(health.opens())).collect();
        opens.iter_mut().for_each(|opens| _ = opens.as_mut().enable());
        let mut opens = select_all(opens);
        let (began, mut opened) = (Instant::now(), false);
        let mut asked = (!leg.gated).then_some(began);
        loop {
            let usual = after(asked.unwrap_or(began), leg.patience());
            tokio::select! {
                biased;
                result = &mut fetching => return Ok(result),
                () = sink.turn(), if asked.is_none() => {
                    asked = Some(Instant::now());
                    let Some(later) = self.until(leg, by) else { return Ok(fetching.await) };
                    until = later;
                }
                _ = &mut opens, if !opened => {
                    opened = true;
                    if asked.is_none() {
                        return Err(Left::Shut);
                    }
                }
                // Who is answered as usual is answered all the same, and paid for.
                () = sleep_until(usual), if opened => return Err(Left::Broken),
                () = sleep_until(until) => return Err(if asked.is_some() { Left::Late } else { Left::Queue }),
            }
        }
    }

    /// Until when this provider is waited for before another is asked; `None` where no other can be.
    fn until(&self, leg: &Running, by: RoutedBy) -> Option<Instant> {
        let mut others =
            self.shared.legs.iter().enumerate().filter(|(place, leg)| !self.done[*place] && leg.standing() == Standing::Closed);
        if !(self.repeatable && self.body.is_some()) || others.next().is_none() {
            return None;
        }
        let now = Instant::now();
        // Half of the time that is left is for the next.
        let half = after(now, self.ends.saturating_duration_since(now) / 2);
        Some(if by == RoutedBy::Trial { half.min(after(now, leg.patience())) } else { half })
    }

    /// Whether another provider may be asked after this.
    fn may_go_on(&self, result: &Result<Reply, Failure>) -> bool {
        let sent = result.as_ref().map_or_else(|failure| failure.sent, |_| true);
        self.body.is_some() && (self.repeatable || !sent) && Instant::now() < self.ends
    }
}

/// Whether the provider has failed the call, so that another one is asked.
fn is_failure(result: &Result<Reply, Failure>) -> bool {
    match result {
        Ok(reply) => reply.status.is_server_error() || matches!(reply.status.as_u16(), 401..=403 | 408 | 429),
        Err(failure) => !matches!(failure.kind, FailureKind::RequestBody | FailureKind::LeaderGone),
    }
}

/// Whether what became of a call tells anything about its provider: what was never sent because of bounds of ours does not.
fn is_told(result: &Result<Reply, Failure>) -> bool {
    let Err(failure) = result else { return true };
    !matches!(
        failure.kind,
        FailureKind::BreakerOpen | FailureKind::Refused | FailureKind::RateLimited | FailureKind::RequestBody | FailureKind::LeaderGone
    )
}

/// Why an answer is not waited for.
enum Left {
    /// The provider's own limit had no turn for the call.
    Queue,
    /// It was asked and took too long.
    Late,
    /// Its breaker opened after it was asked.
    Broken,
    /// Its breaker opened before it was asked.
    Shut,
}

/// The provider was not asked: its own limit kept the call.
fn no_turn(leg: &Running, Claim { priority, patience, .. }: Claim) -> Failure {
    let limited = Limited { retry_after: Span::ZERO, priority, patience, why: LimitWhy::Deadline };
    Failure::limited(limited, format!("provider {}: its limit had no turn for this call while another could be asked", leg.provider))
}

fn nobody(route: &str, unfit: Option<Unfit>) -> Failure {
    match unfit {
        Some(why) => Failure::unsent(FailureKind::Refused, format!("route {route}: none of its providers can be asked for this ({why})")),
        None => Failure::unsent(FailureKind::BreakerOpen, format!("route {route}: all of its providers are failing")),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
