//! Limits at work: calls and attempts wait here for their turn. The [`Book`] decides; here are its lock, its timer and those who wait.
//!
//! Time here is the tokio timeline from the start: that is what providers see, whatever clock decisions run on.

mod desk;
mod fields;
mod fleet;
mod gate;
mod kept;
mod turn;
mod usual;

use std::sync::{Arc, OnceLock};

use farthing_config::{Config, Provider, Route};
use farthing_ledger::limit::{Ask, Book, Cost, LimitView, Mood, Quota, Stage, Who};
use farthing_types::{Claim, LimitScope, Priority, Span, Time};
use farthing_upstream::Gated;
use http::HeaderMap;

use crate::fleet::Fleet;
use crate::identify::Identity;
use crate::request::Planned;
use crate::settle::Account;
use desk::{Asking, Desk};
use fleet::Link;
use kept::Kept;
use usual::Usual;

pub use fleet::LimitsFleet;
pub use gate::ProviderGate;
pub use turn::Turn;

/// Counters of a limit that are told at a time.
pub const MOST_COUNTERS: usize = 100;

/// The limits of an instance, as a route sees them.
#[derive(Clone)]
pub struct Limits {
    desk: Arc<Desk>,
    /// `None` where there is no limit, or nothing is kept.
    kept: Option<Arc<Kept>>,
    /// Where a fleet shares them.
    link: Arc<OnceLock<Arc<Link>>>,
    usual: Usual,
    /// Some of them may count the route's calls.
    calls: bool,
    /// Some of them count the attempts of its calls.
    attempts: bool,
    /// Some of them count tokens.
    tokens: bool,
}

/// What is told of all limits.
#[derive(Clone, Debug, Default)]
pub struct LimitsReport {
    /// Each of them.
    pub limits: Vec<LimitView>,
    /// Calls that wait for the end of a rest that the provider asked of one payer, since the start.
    pub rested: u64,
    /// Where a fleet shares them.
    pub fleet: Option<LimitsFleet>,
}

impl Limits {
    /// The limits of a configuration, with nothing used.
    pub fn new(config: &Config) -> Self {
        let desk = Arc::new(Desk::new(Book::new(config.limits.iter().cloned())));
        let keeps = !config.limits.is_empty() && !config.state_dir.as_os_str().is_empty();
        let kept = keeps.then(|| Arc::new(Kept::new(config)));
        let link = Arc::default();
        Self { desk, kept, link, usual: Usual::default(), calls: false, attempts: false, tokens: false }
    }

    /// Shares them with a fleet from now on, where there are any; before anything is asked or recalled.
    pub fn join(&self, fleet: &Arc<Fleet>, now: Time) {
        let none = self.desk.with(|book| book.is_empty());
        if !none && self.link.set(Arc::new(Link::new(fleet.clone(), now))).is_ok() {
            self.desk.with(Book::enter_fleet);
        }
    }

    /// Begins to tell the fleet; after what was kept is recalled.
    pub fn start(&self, now: Time) {
        if let Some(link) = self.link.get() {
            self.desk.with(|book| link.begin(book, None, (self.desk.now(), now)));
            link.start(&self.desk);
        }
    }

    /// Tells the fleet that nothing more is used here.
    pub async fn leave(&self) {
        if let Some(link) = self.link.get() {
            link.leave().await;
        }
    }

    /// Puts other limits in force: what was given counts on, and who waits is judged by the new ones.
    pub fn amend(&self, config: &Config) {
        self.desk.tell(|book, now| book.amend(config.limits.iter().cloned(), now));
    }

    /// Whether something of them outlives the process.
    pub const fn are_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Takes over what the run before has given; before the first request. Blocks.
    pub fn recall(&self, now: Time) {
        if let Some(kept) = &self.kept {
            kept.recall((&self.desk, self.link.get()), now);
        }
    }

    /// Writes down what has been given. Blocks.
    pub fn keep(&self, now: Time) {
        if let Some(kept) = &self.kept {
            kept.keep((&self.desk, self.link.get()), now);
        }
    }

    /// What of them may count the calls of a route.
    pub fn of(&self, config: &Config, (route, provider): (&Route, &Provider)) -> Self {
        let counts = |scope: LimitScope, names: &[Arc<str>]| match scope {
            LimitScope::Route => names.is_empty() || names.contains(&route.name),
            LimitScope::Provider => names.is_empty() || route.providers().any(|name| names.contains(name)),
            LimitScope::Tenant | LimitScope::Team | LimitScope::Service | LimitScope::Key => true,
        };
        let counting = config.limits.iter().filter(|limit| counts(limit.scope, &limit.names));
        let calls = counting.clone().any(|limit| limit.scope != LimitScope::Provider);
        let attempts = counting.clone().any(|limit| limit.scope == LimitScope::Provider);
        let tokens = counting.clone().any(|limit| limit.tokens.is_some());
        let (desk, kept, link) = (self.desk.clone(), self.kept.clone(), self.link.clone());
        Self { usual: desk.usual(&provider.name), desk, kept, link, calls, attempts, tokens }
    }

    /// Where attempts on a provider wait that limits count. `by_payer`: they bear the credentials of their clients.
    pub fn gate(&self, provider: &Provider, by_payer: bool) -> Gated {
        Gated { gate: Arc::new(ProviderGate::new(self.desk.clone(), provider.name.clone())), by_payer }
    }

    /// Whether the route's calls may have to wait.
    pub const fn calls_wait(&self) -> bool {
        self.calls
    }

    /// Whether attempts of the route's calls may have to wait.
    pub const fn attempts_wait(&self) -> bool {
        self.attempts
    }

    /// Notes how long the route's provider took for the head of an answer.
    pub fn note(&self, took: Span) {
        self.usual.note(took);
    }

    /// How long a call may wait for its turn that must have ended after so long.
    pub fn patience(&self, deadline: Span) -> Span {
        self.usual.leave(deadline)
    }

    /// What a request's call claims.
    pub fn claim(&self, planned: &Planned, waited_for: bool) -> Claim {
        Claim {
            priority: if waited_for { planned.priority } else { Priority::Low },
            patience: self.patience(planned.deadline),
            tokens: if self.tokens { tokens(planned) } else { None },
        }
    }

    /// Waits for the turn of a call, no longer than `until`; without one it is only tried.
    ///
    /// # Errors
    /// The limit that holds it back.
    pub async fn turn(
        &self,
        account: &Account,
        claim: Claim,
        (until, bytes): (Option<tokio::time::Instant>, usize),
    ) -> Result<Option<Turn>, farthing_ledger::limit::Refusal> {
        if !self.calls {
            return Ok(None);
        }
        let now = tokio::time::Instant::now();
        let asking = Asking {
            who: who(account),
            stage: Stage::Call,
            mood: if until.is_some() { Mood::Usual } else { Mood::AtOnce },
            claim,
            bytes,
            until: until.map_or(now, |until| until.min(now + claim.patience)),
        };
        self.desk.begin(&asking).turn().await.map(Some)
    }

    /// The turn of a call that nobody waits for, if it can have it now.
    pub fn at_once(&self, account: &Account, claim: Claim) -> Option<Option<Turn>> {
        if !self.calls {
            return Some(None);
        }
        let now = tokio::time::Instant::now();
        let asking = Asking { who: who(account), stage: Stage::Call, mood: Mood::Usual, claim, bytes: 0, until: now };
        self.desk.begin(&asking).now().map(Some)
    }

    /// Tells a caller what it has left of the limits that count its calls.
    pub fn tell(&self, account: &Account, headers: &mut HeaderMap) {
        if self.calls {
            fields::add(&self.quotas(account), headers);
        }
    }

    fn quotas(&self, account: &Account) -> Vec<Quota> {
        let now = self.desk.now();
        self.desk.with(|book| {
            book.quotas(&Ask {
                who: who(account),
                stage: Stage::Call,
                priority: Priority::Medium,
                mood: Mood::AtOnce,
                cost: Cost { tokens: 0 },
                bytes: 0,
                deadline: now,
                now,
            })
        })
    }

    /// Forgets what is told of a tenant, as far as no bound hangs on it; how many counters stay. Blocks on the file in which they are kept.
    pub fn forget(&self, tenant: &str, now: Time) -> usize {
        let stay = self.desk.forget_tenant(tenant);
        self.keep(now);
        stay
    }

    /// What is told of them, with so many counters of each at most; `None` where there is none.
    pub fn report(&self, most: usize) -> Option<LimitsReport> {
        let now = self.desk.now();
        let limits = self.desk.with(|book| (!book.is_empty()).then(|| book.views(most, now)))?;
        let fleet = self.link.get().and_then(|link| self.desk.with(|book| link.report(book, now)));
        Some(LimitsReport { limits, rested: self.desk.rested(), fleet })
    }
}

/// Whether a limit counts attempts on a provider.
pub fn counts(config: &Config, provider: &Provider) -> bool {
    let names = |names: &[Arc<str>]| names.is_empty() || names.contains(&provider.name);
    config.limits.iter().any(|limit| limit.scope == LimitScope::Provider && names(&limit.names))
}

fn who(account: &Account) -> Who<'_> {
    let Identity { tenant, team, service, key, .. } = &account.identity;
    Who {
        tenant,
        team: team.as_deref(),
        service: service.as_deref(),
        key: key.as_deref(),
        route: &account.route.route.name,
        provider: &account.route.provider.name,
    }
}

/// The most tokens that an attempt can use: one for each byte of its body, and what it asks for of the answer. What is not told is missing from it,
/// and charged when it is known.
fn tokens(planned: &Planned) -> Option<u64> {
    let bytes = planned.outbound.body.as_full()?.len() as u64;
    let facts = planned.outbound.facts()?;
    let output = facts.max_output.unwrap_or_default().saturating_mul(u64::from(facts.choices.unwrap_or(1)));
    Some(bytes.saturating_add(output))
}

/// Whole seconds, rounded up, and at least one: who comes back earlier comes in vain.
pub fn seconds(span: Span) -> u32 {
    let whole = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}
