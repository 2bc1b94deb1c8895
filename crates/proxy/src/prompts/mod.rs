//! Prompts and the provider's own cache: calls whose prompts are marked for it, or given a key, and what came of that. The decisions are pure
//! ([`farthing_policy::prompt_marks`], [`farthing_policy::switches::MarkWorth`]); here prompts are read and marked, and money is counted.
//!
//! Keys of Farthing's cache are made before, from what the client sent: a mark changes nobody's answer and joins nobody.

mod again;
mod body;
mod keyed;
mod stats;

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use farthing_config::{Dialect, PromptCacheConfig, PromptTtl};
use farthing_ledger::PromptRates;
use farthing_policy::plan::RequestKind;
use farthing_policy::prompt_cache::WritePrices;
use farthing_policy::prompt_marks::{Kept, MarkAsk, MarkReason, MarkTerms, Marking, PromptKeys, PromptMarks};
use farthing_types::{CallReport, Money, Rate, Time, Usage};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, StatusCode};
use memchr::memmem;
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;

use crate::asking;
use crate::flight::{Flight, Order};
use crate::pricing::Charged;
use crate::request::Planned;
use crate::route::RouteState;
use crate::state::State;

pub use stats::{PromptReport, PromptStats};

/// Bytes of a token: only long and short prompts are told apart by it, no money is.
const TOKEN: u64 = 4;
/// Most marks that a provider takes in a request.
const MOST_MARKS: usize = 4;
/// Blocks before a mark in which it looks for what it has.
const LOOKBACK: u32 = 20;
/// Prefixes that are remembered of a route: about 6 MiB, and the new turns of five minutes at a hundred a second.
const REMEMBERED: usize = 65_536;

/// The prompts of a route whose provider's cache is told of them.
pub struct Prompts {
    config: PromptCacheConfig,
    marks: Mutex<PromptMarks>,
    keys: Mutex<PromptKeys>,
    stats: PromptStats,
}

/// What was decided about a call's prompt.
#[derive(Debug)]
pub struct Prompted {
    why: MarkReason,
    /// Input tokens that it should read from the provider's cache.
    pub read: u64,
    /// The prefixes that end at its marks.
    digests: Vec<u64>,
    rates: Option<PromptRates>,
    /// The body without what was put into it, until it is known that nobody needs it; `None` where nothing was.
    plain: Mutex<Option<Bytes>>,
    /// The provider has refused it for what was put into it.
    refused: AtomicBool,
}

impl Prompted {
    fn not(why: MarkReason) -> Self {
        Self { why, read: 0, digests: Vec::new(), rates: None, plain: Mutex::default(), refused: AtomicBool::new(false) }
    }

    /// What was decided, and why; or that the provider refused it.
    pub fn why(&self) -> MarkReason {
        if self.refused.load(Ordering::Relaxed) { MarkReason::Refused } else { self.why }
    }

    /// Whether the answer is that to a prompt with marks.
    pub fn is_marked(&self) -> bool {
        self.why() == MarkReason::Marked
    }

    fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }
}

impl Prompts {
    /// Those of a route; `None` where nothing is marked.
    pub fn of(route: &farthing_config::Route) -> Option<Self> {
        let config = route.prompt_cache?;
        let terms = MarkTerms {
            ttl: config.ttl.span(),
            min_size: u64::from(config.min_tokens) * TOKEN,
            most: MOST_MARKS,
            lookback: LOOKBACK,
            capacity: REMEMBERED,
        };
        Some(Self {
            config,
            marks: Mutex::new(PromptMarks::new(terms)),
            keys: Mutex::new(PromptKeys::new(REMEMBERED)),
            stats: PromptStats::default(),
        })
    }

    fn remembered(&self) -> usize {
        self.marks.lock().remembered() + self.keys.lock().remembered()
    }

    fn prices(&self, rates: &PromptRates) -> Option<WritePrices> {
        let plain = rates.input.nanos_per_million();
        let thousandths = |rate: Rate| u32::try_from(i128::from(rate.nanos_per_million()) * 1_000 / i128::from(plain.max(1))).ok();
        let write = match self.config.ttl {
            PromptTtl::FiveMinutes => rates.write,
            PromptTtl::Hour => rates.write_1h,
        };
        Some(WritePrices { write: thousandths(write)?, read: thousandths(rates.read)? }).filter(|_| plain > 0)
    }
}

/// Marks the prompt of a call where that pays, and notes in its order what was decided; the body that goes out.
pub fn mark(state: &State, planned: &Planned, (headers, body): (&HeaderMap, Bytes), order: &mut Order) -> Bytes {
    let route = &*planned.account.route;
    let Some(prompts) = route.prompts.as_ref().filter(|_| is_ours(planned, order)) else { return body };
    let (prompted, marked) = decide(state, planned, prompts, (headers, &body));
    prompts.stats.decided(prompted.why);
    *prompted.plain.lock() = marked.is_some().then(|| body.clone());
    order.prompted = Some(prompted);
    marked.unwrap_or(body)
}

/// Whether the strategy has a say in a call.
fn is_ours(planned: &Planned, order: &Order) -> bool {
    let account = &planned.account;
    let route = &*account.route;
    let allowed = route.plan.prompt_cache(RequestKind::of(account.method.as_str(), route.route.idempotent)).is_ok();
    let left_alone = asking::is_left_alone(planned);
    let path = planned.outbound.target.path();
    let prompt = match route.provider.dialect {
        Dialect::Anthropic => path.ends_with("/messages"),
        Dialect::OpenAi => path.ends_with("/chat/completions") || path.ends_with("/responses"),
        _ => false,
    };
    // A batch's body is put together of its members'.
    order.deferred.is_none() && allowed && !left_alone && prompt && account.method == Method::POST && order.batch.is_none()
}

fn decide(state: &State, planned: &Planned, prompts: &Prompts, (headers, body): (&HeaderMap, &Bytes)) -> (Prompted, Option<Bytes>) {
    let keys = planned.account.route.provider.dialect == Dialect::OpenAi;
    let not = |why| (Prompted::not(why), None);
    if headers.contains_key(CONTENT_ENCODING) || asking::is_vouched_for(headers) || body.len() > body::LONGEST {
        return not(MarkReason::Unreadable);
    }
    if memmem::find(body, if keys { keyed::KEY } else { body::MARK }).is_some() {
        return not(MarkReason::Client);
    }
    let (route, now) = (&*planned.account.route, state.clock.now());
    let target = planned.outbound.facts().and_then(|facts| facts.target.clone());
    let hasher = seed(state, planned, target.as_deref());
    if keys {
        if !state.may_mark(route, now) {
            return not(MarkReason::SwitchedOff);
        }
        let (why, marked) = key(prompts, body, (hasher, now));
        return (Prompted::not(why), marked);
    }
    let Some(prompt) = body::read(body, hasher) else { return not(MarkReason::Unreadable) };
    let names = (&*route.route.name, &*route.provider.name);
    let rates = target.and_then(|target| state.pricing.book().prompt(names, &target, now));
    let may = state.may_mark(route, now);
    let ask = MarkAsk { now, boundaries: &prompt.boundaries, prices: rates.as_ref().and_then(|rates| prompts.prices(rates)), may };
    let Marking { marks, why, read, .. } = prompts.marks.lock().decide(&ask);
    let digests: Vec<u64> = marks.iter().filter_map(|mark| prompt.boundaries.get(*mark)).map(|boundary| boundary.digest).collect();
    if marks.is_empty() {
        return not(why);
    }
    match prompt.marked(body, &marks, prompts.config.ttl) {
        Some(marked) => (Prompted { read: read / TOKEN, digests, rates, ..Prompted::not(why) }, Some(marked.into())),
        None => {
            prompts.marks.lock().ended(&digests, Kept::Failed);
            not(MarkReason::Unreadable)
        }
    }
}

/// Gives a prompt the key of those that begin alike.
fn key(prompts: &Prompts, body: &Bytes, (seed, now): (SipHasher13, Time)) -> (MarkReason, Option<Bytes>) {
    let least = u64::from(prompts.config.min_tokens) * TOKEN;
    if (body.len() as u64) < least {
        return (MarkReason::Short, None);
    }
    let Some(begins) = keyed::read(body, seed) else { return (MarkReason::Unreadable, None) };
    let head = Some(begins.head.0).filter(|_| begins.head.1 >= least);
    let key = prompts.keys.lock().choose(now, head, begins.talk);
    keyed::with_key(body, key).map_or((MarkReason::Unreadable, None), |keyed| (MarkReason::Keyed, Some(keyed.into())))
}

/// Prefixes are told apart by who asks, and of what; nobody can choose them so that they meet.
fn seed(state: &State, planned: &Planned, target: Option<&str>) -> SipHasher13 {
    let key = |at: usize| state.salt.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let mut hasher = SipHasher13::new_with_keys(key(16), key(24));
    for text in [&*planned.account.identity.principal, target.unwrap_or_default()] {
        hasher.write_usize(text.len());
        hasher.write(text.as_bytes());
    }
    hasher
}

/// All of an input at the plain rate: what the provider bills without marks.
pub fn unmarked(usage: &Usage) -> Usage {
    let Usage { input, cached_input, cache_write, cache_write_1h, .. } = *usage;
    let parts = [input, cached_input, cache_write, cache_write_1h];
    let sum = parts.into_iter().flatten().fold(0u64, u64::saturating_add);
    let input = parts.iter().any(Option::is_some).then_some(sum);
    Usage { input, cached_input: None, cache_write: None, cache_write_1h: None, ..*usage }
}

impl State {
    /// The head of a call's answer has come: the provider has what the call has marked.
    pub fn prompt_began(&self, flight: &Flight, status: StatusCode) {
        if let Some((prompts, prompted)) = marked(flight).filter(|_| status.is_success()) {
            // Whenever the provider used them: not before the call was ordered.
            prompts.marks.lock().began(flight.at, &prompted.digests);
        }
    }

    /// A call has ended: what its marks came to.
    pub fn prompt_ended(&self, flight: &Flight, reports: &[CallReport], charged: &Charged) {
        let Some((prompts, prompted)) = marked(flight) else { return self.key_ended(flight, charged) };
        let answered = reports.last().and_then(|report| report.status).is_some_and(|status| status.is_success());
        let Usage { cached_input, cache_write, cache_write_1h, .. } = charged.usage;
        let written = cache_write.unwrap_or(0).saturating_add(cache_write_1h.unwrap_or(0));
        let read = cached_input.unwrap_or(0);
        let kept = match (answered, read + written > 0) {
            (true, true) => Kept::Used,
            // What a cut answer did not tell is not known.
            (true, false) if !charged.estimated => Kept::Ignored,
            _ => Kept::Failed,
        };
        prompts.marks.lock().ended(&prompted.digests, kept);
        let last = reports.len().saturating_sub(1);
        let Some((base, cost)) = charged.unmarked.flatten().zip(charged.cost(last)).filter(|_| answered) else { return };
        let saved = base - cost;
        prompts.stats.ended((read, written), saved, kept == Kept::Ignored);
        self.judge_marks(&flight.route, saved, most(&charged.usage, prompted.rates.as_ref()));
    }

    /// A call with a key has ended. What it has read it might have read without: nothing is credited to the key.
    fn key_ended(&self, flight: &Flight, charged: &Charged) {
        let keyed = flight.prompted.as_ref().is_some_and(|prompted| prompted.why() == MarkReason::Keyed);
        if let Some(prompts) = flight.route.prompts.as_ref().filter(|_| keyed) {
            prompts.stats.ended((charged.usage.cached_input.unwrap_or(0), 0), Money::ZERO, false);
            self.judge_marks(&flight.route, Money::ZERO, Money::ZERO);
        }
    }

    /// What is told of the routes whose prompts are marked.
    pub fn prompts(&self) -> Vec<PromptReport> {
        let report = |route: &Arc<RouteState>| {
            let prompts = route.prompts.as_ref()?;
            Some(PromptReport { route: route.route.name.clone(), remembered: prompts.remembered(), stats: prompts.stats.read() })
        };
        self.live().routes.iter().filter_map(report).collect()
    }
}

/// The marks of a call that has some.
fn marked(flight: &Flight) -> Option<(&Prompts, &Prompted)> {
    flight.route.prompts.as_deref().zip(flight.prompted.as_ref().filter(|prompted| prompted.is_marked()))
}

/// The most that marks could save of a call: all of its input read from the provider's cache.
fn most(usage: &Usage, rates: Option<&PromptRates>) -> Money {
    let input = unmarked(usage).input.unwrap_or(0);
    rates.map_or(Money::ZERO, |rates| Rate::round(rates.input.exact(input) - rates.read.exact(input)))
}
