//! What a batch has run for nobody: the provider bills it, so it has a row, its payer pays it, and it is counted as waste.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use farthing_ledger::budget::{Ask, Who};
use farthing_ledger::usage::Billing;
use farthing_types::{BatchAnswer, CallId, CallReport, CallSink, Claim, KeyHash, Priority, Purpose, Span, Time};
use tokio::time::Instant;

use super::kept::KeptMember;
use super::queue::Group;
use super::{Deferred, head, wire};
use crate::flight::{Attribution, Flight, Order};
use crate::pricing::read_answer;
use crate::route::RouteState;
use crate::state::State;

/// Why such a call is in the log.
const REASON: &str = "deferred-unused";

/// An answer out of a batch.
pub struct Answer {
    /// The answer.
    pub line: wire::Line,
    /// The request.
    pub kept: Arc<KeptMember>,
    /// Its target.
    pub target: Arc<str>,
    /// How long the batch has taken.
    pub took: Span,
}

impl State {
    /// Bills an answer that nobody waited for any more.
    pub fn settle_unused(&self, route: &Arc<RouteState>, answer: &Answer) {
        let Answer { line, kept, target, took } = answer;
        let at = Time::from_nanos(kept.at_ns);
        let (team, service, key) = (kept.team.as_deref(), kept.service.as_deref(), kept.key.as_deref());
        let who = Who { tenant: &kept.tenant, team, service, key, route: &route.route.name };
        let held = self.budgets.owed(&Ask { who, priority: Priority::Low, bound: None, now: self.clock.now() });
        let flight = Flight::new(CallId(self.ids.next()), at, route.clone(), order(kept, target), held);
        flight.attempt(CallReport {
            call: flight.id,
            attempt: 0,
            started: at,
            head_after: *took,
            status: Some(line.status),
            failure: None,
            upstream: route.pass.name().clone(),
            sent: true,
            batch: None,
            routed: None,
        });
        let read = BatchAnswer { headers: head(line.request_id.as_deref()), body: line.body.clone(), complete: true };
        let mut end = read_answer(&self.pricing.book(), (&route.route.name, &route.provider.name), &read);
        end.ended = Some(self.clock.now());
        self.settle_call(&flight, &end);
    }
}

fn order(kept: &KeptMember, target: &Arc<str>) -> Order {
    let now = Instant::now();
    let group = Group { prefix: "".into(), endpoint: "", target: target.clone(), version: None };
    Order {
        purpose: Purpose::User,
        fetch_reason: REASON,
        payer: kept.tenant.clone(),
        key: KeyHash::default(),
        variant: None,
        holdout: false,
        measured: false,
        compared: false,
        target: Some(target.clone()),
        billing: Billing::Now,
        swap: true,
        query_parameters: 0,
        request_bytes: Some(kept.bytes),
        strips_usage: false,
        finishes: true,
        batch: None,
        weighed: None,
        prompted: None,
        deferred: Some(Box::new(Deferred {
            group,
            flush_at: now,
            direct_at: now,
            until: now,
            since: now,
            came: AtomicBool::new(true),
            unused: true,
            _room: None,
        })),
        attribution: Attribution { team: kept.team.clone(), service: kept.service.clone(), key: kept.key.clone(), tags: None },
        claim: Claim::default(),
        early: None,
        caused: None,
    }
}
