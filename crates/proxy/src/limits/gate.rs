//! Where attempts on one provider wait for their turn.

use std::sync::Arc;

use farthing_ledger::limit::{Mood, Refusal, Stage, Who};
use farthing_types::{Call, Claim, Failure, LimitWhy, Limited, Purpose, Span, Tenant};
use farthing_upstream::{Gate, Turn};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::desk::{Asking, Desk};

/// The gate of a provider.
pub struct ProviderGate {
    desk: Arc<Desk>,
    provider: Arc<str>,
}

impl ProviderGate {
    pub const fn new(desk: Arc<Desk>, provider: Arc<str>) -> Self {
        Self { desk, provider }
    }
}

/// What one attempt asks with.
struct Attempt {
    desk: Arc<Desk>,
    provider: Arc<str>,
    payer: Tenant,
    route: Arc<str>,
    claim: Claim,
    mood: Mood,
    bytes: usize,
    patience: Span,
    until: Instant,
}

impl Gate for ProviderGate {
    fn enter(&self, call: &Call, patience: Span) -> BoxFuture<'static, Result<Turn, Failure>> {
        let now = Instant::now();
        let attempt = Attempt {
            desk: self.desk.clone(),
            provider: self.provider.clone(),
            payer: call.payer.clone(),
            route: call.route.clone(),
            claim: call.claim,
            // An operator has ordered it, and it comes when there is room.
            mood: if call.purpose == Purpose::Warm { Mood::Waits } else { Mood::Usual },
            bytes: call.body.as_full().map_or(0, |body| body.len()),
            patience,
            until: now.checked_add(patience).unwrap_or_else(|| now + Span::from_secs(86_400)),
        };
        let rests = self.desk.rests(&self.provider, &call.payer);
        async move { attempt.enter(rests).await }.boxed()
    }

    fn rest(&self, payer: Option<&Tenant>, span: Span) {
        self.desk.rest(&self.provider, payer, span);
    }
}

impl Attempt {
    async fn enter(self, rests: Option<Instant>) -> Result<Turn, Failure> {
        if let Some(until) = rests {
            self.rest(until).await?;
        }
        let who = Who { tenant: &self.payer, route: &self.route, provider: &self.provider, ..Who::default() };
        let (stage, mood, claim) = (Stage::Attempt, self.mood, self.claim);
        let begun = self.desk.begin(&Asking { who, stage, mood, claim, bytes: self.bytes, until: self.until });
        begun.turn().await.map(super::Turn::split).map_err(|refusal| self.refused(&refusal))
    }

    /// Waits while the provider wants to be left alone by its payer; what comes too late, or does not wait, is refused.
    async fn rest(&self, until: Instant) -> Result<(), Failure> {
        let span = until.saturating_duration_since(Instant::now());
        let waits = self.mood == Mood::Waits || self.claim.priority != farthing_types::Priority::Low;
        if waits && until <= self.until {
            tokio::time::sleep_until(until).await;
            return Ok(());
        }
        let why = if waits { LimitWhy::Deadline } else { LimitWhy::Exceeded };
        Err(self.refused(&Refusal { limit: "".into(), unit: "".into(), why, retry_after: span }))
    }

    /// No figures and no names: how much a provider grants is not the client's business.
    fn refused(&self, refusal: &Refusal) -> Failure {
        let (retry_after, why) = (refusal.retry_after, refusal.why);
        let limited = Limited { retry_after, priority: self.claim.priority, patience: self.patience, why };
        Failure::limited(limited, format!("provider {}: its limit has no room for this call now ({})", self.provider, refusal.why))
    }
}
