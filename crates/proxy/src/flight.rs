//! One call as the proxy follows it: who ordered it, its attempts, and what became of it.

use std::sync::{Arc, OnceLock};

use farthing_contract::log::CallRow;
use farthing_ledger::usage::Billing;
use farthing_types::{
    BatchPart, BatchTerms, CallId, CallReport, CallSink, Claim, KeyHash, Money, Purpose, Reserved, Routed, Span, Tenant, Time,
    TraceContext, UncachedReason,
};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

use crate::budgets::Held;
use crate::defer::Deferred;
use crate::edge::Early;
use crate::otlp::Caused;
use crate::pricing::Charged;
use crate::prompts::Prompted;
use crate::request::Variant;
use crate::route::RouteState;
use crate::routing::Weighed;
use crate::tags;

/// A running or ended call, shared by whoever waits for it.
pub struct Flight {
    /// Its id.
    pub id: CallId,
    /// When it was ordered, on the proxy's clock.
    pub at: Time,
    /// The route.
    pub route: Arc<RouteState>,
    /// Who pays.
    pub payer: Tenant,
    /// Why it is made.
    pub purpose: Purpose,
    /// Why a fetch was needed: an [`UncachedReason`]'s string, or `revalidate`.
    pub fetch_reason: &'static str,
    /// The key it is about.
    pub key: KeyHash,
    /// The experiment's draw for the key when it was ordered.
    pub variant: Option<Variant>,
    /// The key was in the savings holdout when it was ordered.
    pub holdout: bool,
    /// The holdout could have drawn the key.
    pub measured: bool,
    /// It is compared in the experiment.
    pub compared: bool,
    /// Target named in the request.
    pub target: Option<Arc<str>>,
    /// How the tokens of its answer are billed.
    pub billing: Billing,
    /// The provider's own credential goes out.
    pub swap: bool,
    /// Query parameters of the request: a feature of the TTL decision.
    pub query_parameters: u32,
    /// Money set aside for it, until it is settled; `None` where no budget counts it.
    held: Mutex<Option<Held>>,
    /// Bytes of the request's body; `None` when it was not held.
    pub request_bytes: Option<u64>,
    /// Usage was asked for on the client's behalf: the event that tells it is taken out.
    pub strips_usage: bool,
    /// It goes on to its end when every client has left.
    pub finishes: bool,
    /// Under which terms it may be made together with others; `None`: alone.
    pub batch: Option<BatchTerms>,
    /// What one of its route's providers is chosen by; `None` where there is one.
    pub weighed: Option<Weighed>,
    /// What was decided about marks in its prompt; `None` where that is no question.
    pub prompted: Option<Prompted>,
    /// It waits for the provider's batch endpoint, or came out of it; `None` where it goes directly.
    pub deferred: Option<Box<Deferred>>,
    /// Whom its cost is told of.
    pub attribution: Attribution,
    /// What it claims of limits.
    pub claim: Claim,
    /// How long it waited for its turn before it was ordered.
    pub waited_before: Span,
    /// The same for its attempts.
    waited: Mutex<Span>,
    /// What is to be told the tokens of its attempts.
    reserved: Mutex<Vec<Box<dyn Reserved>>>,
    reports: Mutex<Vec<CallReport>>,
    charged: OnceLock<Charged>,
    head: OnceLock<Came>,
    done: Mutex<Ending>,
    /// Takes interim answers to the client that ordered it.
    early: Option<Early>,
    /// Where it hangs in a trace; `None` where none is recorded at all.
    pub caused: Option<Caused>,
}

/// Whom the cost of a call is told of, beside its payer.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    /// Team of the tenant.
    pub team: Option<Arc<str>>,
    /// Service of the tenant.
    pub service: Option<Arc<str>>,
    /// Public id of the Farthing key: for budgets, in no row.
    pub key: Option<Arc<str>>,
    /// Free tags of the request that caused it; none for calls that no request waited for.
    pub tags: Option<Arc<str>>,
}

/// What the head of an answer told; known before anybody may have the answer.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    /// The status that the provider sent.
    pub status: StatusCode,
    /// Why the answer may not be stored, as far as its head tells.
    pub kept: Result<(), UncachedReason>,
}

/// What is called with what became of a call.
type Settler = Box<dyn FnOnce(&Done) + Send>;

/// Whether a call has ended, and who waits to settle on it.
enum Ending {
    Running(Vec<Settler>),
    Ended(Done),
}

/// What became of a call. Set once, before its last byte reaches any reader.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Price of one full answer; `None` when unpriced.
    pub full: Option<Money>,
    /// Paid for all attempts; `None` when one is unpriced.
    pub attempts: Option<Money>,
    /// The provider confirmed the stored entry (304).
    pub revalidated: bool,
    /// The answer came out of a batch call, of which `attempts` is a share.
    pub batched: bool,
    /// It came from another provider than the route's first, whose price `full` is.
    pub routed: bool,
    /// Its prompt was marked for the provider's cache; without marks it would have cost `full`.
    pub marked: bool,
    /// It came out of the provider's batch endpoint; directly it would have cost `full`.
    pub deferred: bool,
}

/// Who ordered a call and why.
pub struct Order {
    /// Why it is made.
    pub purpose: Purpose,
    /// Why a fetch was needed.
    pub fetch_reason: &'static str,
    /// Who pays.
    pub payer: Tenant,
    /// The key it is about.
    pub key: KeyHash,
    /// The experiment's draw for the key.
    pub variant: Option<Variant>,
    /// The key is in the savings holdout.
    pub holdout: bool,
    /// The holdout could have drawn the key.
    pub measured: bool,
    /// It is compared in the experiment.
    pub compared: bool,
    /// Target named in the request.
    pub target: Option<Arc<str>>,
    /// How the tokens of its answer are billed.
    pub billing: Billing,
    /// The provider's own credential goes out.
    pub swap: bool,
    /// Query parameters of the request.
    pub query_parameters: u32,
    /// Bytes of the request's body; `None` when it was not held.
    pub request_bytes: Option<u64>,
    /// Usage was asked for on the client's behalf.
    pub strips_usage: bool,
    /// It goes on to its end when every client has left.
    pub finishes: bool,
    /// Under which terms it may be made together with others; `None`: alone.
    pub batch: Option<BatchTerms>,
    /// What one of its route's providers is chosen by; `None` where there is one.
    pub weighed: Option<Weighed>,
    /// What was decided about marks in its prompt; `None` where that is no question.
    pub prompted: Option<Prompted>,
    /// It waits for the provider's batch endpoint; `None` where it goes directly.
    pub deferred: Option<Box<Deferred>>,
    /// Whom its cost is told of.
    pub attribution: Attribution,
    /// What it claims of limits.
    pub claim: Claim,
    /// Takes interim answers to the client that waits for it.
    pub early: Option<Early>,
    /// Where it hangs in a trace; `None` where none is recorded at all.
    pub caused: Option<Caused>,
}

impl Flight {
    /// A call that begins, for which money is set aside.
    pub fn new(id: CallId, at: Time, route: Arc<RouteState>, order: Order, held: Held) -> Arc<Self> {
        let Order {
            purpose,
            fetch_reason,
            payer,
            key,
            variant,
            holdout,
            measured,
            compared,
            target,
            billing,
            swap,
            query_parameters,
            request_bytes,
            strips_usage,
            finishes,
            batch,
            weighed,
            prompted,
            deferred,
            attribution,
            claim,
            early,
            caused,
        } = order;
        let waited_before = held.waited();
        let weighed = weighed.map(|weighed| weighed.only(held.only()));
        let (reports, done) = (Mutex::default(), Mutex::new(Ending::Running(Vec::new())));
        Arc::new(Self {
            id,
            at,
            route,
            payer,
            purpose,
            fetch_reason,
            key,
            variant,
            holdout,
            measured,
            compared,
            target,
            billing,
            swap,
            query_parameters,
            waited_before,
            held: Mutex::new(held.counted()),
            request_bytes,
            strips_usage,
            finishes,
            batch,
            weighed,
            prompted,
            deferred,
            attribution,
            claim: Claim { patience: claim.patience.saturating_sub(waited_before), ..claim },
            waited: Mutex::default(),
            reserved: Mutex::default(),
            reports,
            charged: OnceLock::new(),
            head: OnceLock::new(),
            done,
            early,
            caused,
        })
    }

    /// Writes into a row whom its cost is told of.
    pub fn attribute(&self, row: &mut CallRow) {
        let Attribution { team, service, tags, .. } = &self.attribution;
        (row.team, row.service, row.tags) = (team.clone(), service.clone(), tags.clone());
        row.experiment = self.variant.as_ref().map(|variant| variant.experiment().name().clone());
        row.variant = self.variant.as_ref().map(|variant| variant.name().clone());
    }

    /// Notes the head of the answer, once.
    pub fn came(&self, head: Came) {
        let _ = self.head.set(head);
        self.answered();
    }

    /// Gives back the money of attempts that are not needed any more: an answer has come.
    pub fn answered(&self) {
        if let Some(held) = &mut *self.held.lock() {
            held.answered(self.reports.lock().len());
        }
    }

    /// How long it waited under limits, before and between its attempts.
    pub fn waited(&self) -> Span {
        self.waited_before + *self.waited.lock()
    }

    /// Whether it may have to wait for its turn under the provider's limits, and is not made when its clients leave meanwhile. One that may ride
    /// in a batch goes on: its part is in the others' call, and its share of the bill is due.
    pub fn may_be_withdrawn(&self) -> bool {
        self.route.limits.attempts_wait() && self.batch.is_none()
    }

    /// Whether an attempt has had its turn under the provider's limits.
    pub fn has_had_turn(&self) -> bool {
        !self.reserved.lock().is_empty()
    }

    /// What was set aside for it, to be settled once with budgets; its limits are settled by this. `tokens` is what its last attempt has used,
    /// where that is known.
    pub fn settling(&self, tokens: Option<u64>) -> Option<Held> {
        let mut held = self.held.lock().take();
        let sent = self.reports.lock().iter().any(|report| report.sent);
        let mut reserved = std::mem::take(&mut *self.reserved.lock());
        // Earlier ones may have used all that was reserved for them.
        if let Some((last, tokens)) = reserved.pop().zip(tokens) {
            last.used(tokens);
        }
        if let Some(held) = &mut held {
            held.settle_turn(sent, tokens);
        }
        held
    }

    /// What the head told; `None` before it came.
    pub fn head(&self) -> Option<Came> {
        self.head.get().copied()
    }

    /// What became of it; the empty outcome (unpriced) while it runs or when it broke off.
    pub fn done(&self) -> Done {
        self.ended().unwrap_or_default()
    }

    /// What became of it, where it has ended.
    pub fn ended(&self) -> Option<Done> {
        match &*self.done.lock() {
            Ending::Ended(done) => Some(done.clone()),
            Ending::Running(_) => None,
        }
    }

    /// Sets what became of it and settles those who wait; a second time changes nothing.
    pub fn finish(&self, done: Done) {
        let waiting = match &mut *self.done.lock() {
            Ending::Ended(_) => return,
            running => std::mem::replace(running, Ending::Ended(done.clone())),
        };
        if let Ending::Running(waiting) = waiting {
            waiting.into_iter().for_each(|settle| settle(&done));
        }
    }

    /// Calls `settle` once it is known what became of the call: at once, or when it ends. A client's last byte may come before the
    /// call's end is seen, and its money is known then only.
    pub fn on_done(&self, settle: impl FnOnce(&Done) + Send + 'static) {
        let done = match &mut *self.done.lock() {
            Ending::Running(waiting) => return waiting.push(Box::new(settle)),
            Ending::Ended(done) => done.clone(),
        };
        settle(&done);
    }

    /// The attempts so far.
    pub fn reports(&self) -> Vec<CallReport> {
        self.reports.lock().clone()
    }

    /// The status of the last attempt's answer.
    pub fn last_status(&self) -> Option<StatusCode> {
        self.reports.lock().last().and_then(|report| report.status)
    }

    /// Whether its answer came out of a batch call.
    pub fn is_batched(&self) -> bool {
        self.reports.lock().last().is_some_and(|report| report.batch.is_some())
    }

    /// Whether its answer came out of the provider's batch endpoint.
    pub fn is_deferred(&self) -> bool {
        self.deferred.as_ref().is_some_and(|deferred| deferred.came())
    }

    /// Which provider the last attempt went to, where the route has several.
    pub fn routed(&self) -> Option<Routed> {
        self.reports.lock().last().and_then(|report| report.routed.clone())
    }

    /// Why its answer is not to be kept as if the provider had given it that the route would ask.
    pub fn stands_in(&self) -> Result<(), UncachedReason> {
        if self.routed().is_some_and(|routed| routed.fallback) { Err(UncachedReason::Fallback) } else { Ok(()) }
    }

    /// The provider that an attempt went to.
    pub fn provider<'a>(&'a self, report: &'a CallReport) -> &'a Arc<str> {
        report.routed.as_ref().map_or(&self.route.provider.name, |routed| &routed.provider)
    }

    /// How it was priced: `price` is asked once, by whoever comes first.
    pub fn charged(&self, price: impl FnOnce() -> Charged) -> &Charged {
        self.charged.get_or_init(price)
    }
}

impl Drop for Flight {
    /// A call that never ended (a panic) settles its requests unpriced: counted, never free.
    fn drop(&mut self) {
        self.finish(Done::default());
        if let Some(held) = self.settling(None) {
            held.settle(self.reports.lock().iter().map(|report| (report, None)), true);
        }
    }
}

impl CallSink for Flight {
    fn attempt(&self, mut report: CallReport) {
        // The first is noted before it goes out.
        if report.sent && report.attempt > 0 && report.batch.as_ref().is_none_or(BatchPart::counts) {
            self.route.pace.repeated(self.purpose);
        }
        // Members of a batch saw one answer together.
        if report.status.is_some() && !self.is_deferred() && report.batch.as_ref().is_none_or(BatchPart::counts) {
            self.route.limits.note(report.head_after);
        }
        let mut reports = self.reports.lock();
        if report.routed.is_some() || self.prompted.is_some() {
            // Each provider counts its own from zero; so does a call that is made again without marks.
            report.attempt = u16::try_from(reports.len()).unwrap_or(u16::MAX);
        }
        reports.push(report);
    }

    fn waited(&self, span: Span) {
        *self.waited.lock() += span;
    }

    fn reserved(&self, tokens: Box<dyn Reserved>) {
        self.reserved.lock().push(tokens);
    }

    fn span(&self) -> Option<TraceContext> {
        let caused = self.caused.as_ref().filter(|caused| caused.is_recorded())?;
        let made = self.reports.lock().len();
        Some(caused.call(self.id).attempt(u16::try_from(made).unwrap_or(u16::MAX)))
    }

    fn wants_interim(&self) -> bool {
        self.early.is_some()
    }

    fn interim(&self, status: StatusCode, mut headers: HeaderMap) {
        if let Some(early) = &self.early {
            tags::strip(&mut headers, &self.route);
            early.send(status, &headers);
        }
    }
}
