//! Prices in force, the month's volumes, and what of calls could not be priced as it should.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use farthing_contract::log;
use farthing_ledger::usage::estimate::{Seen, estimate};
use farthing_ledger::usage::{Billing, Stopped, service};
use farthing_ledger::{Amounts, Billable, Month, PriceBook, Priced, Reads, Unpriced, Volumes};
use farthing_types::{Batch, BatchAnswer, BatchPart, BatchPrice, CallReport, Money, Time, Usage};
use http::StatusCode;
use parking_lot::Mutex;

use crate::flight::{Done, Flight};
use crate::prompts::{self, Prompted};
use crate::settle::CallEnd;
use crate::state::State;
use crate::stream::Meter;

/// Pairs of provider and target that are told apart; whatever comes later is counted together.
const MAX_TARGETS: usize = 256;
/// The name that later targets share.
const OTHER: &str = "other";

/// Prices and what they need to be applied, shared by all requests.
#[derive(Debug)]
pub struct Pricing {
    book: ArcSwap<PriceBook>,
    volumes: Mutex<Volumes>,
    seen: Mutex<BTreeMap<Pair, Seen>>,
    unpriced: Mutex<BTreeMap<(Pair, Unpriced), u64>>,
    estimated: AtomicU64,
    contradictory: AtomicU64,
    stripped: AtomicU64,
    stopped: [AtomicU64; Stopped::ALL.len()],
    reloaded: AtomicU64,
    refused: AtomicU64,
}

/// Provider and target; the target is empty where none is named.
type Pair = (Arc<str>, Arc<str>);

/// Counts of what went otherwise than it should.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PricingStats {
    /// Attempts without a price: provider, target, reason, how many.
    pub unpriced: Vec<(Arc<str>, Arc<str>, Unpriced, u64)>,
    /// Calls whose usage was estimated, in whole or in part.
    pub estimated: u64,
    /// Answers whose usage contradicts itself.
    pub contradictory: u64,
    /// Events with usage that clients did not ask for, taken out of their streams.
    pub stripped: u64,
    /// Answers that were not read to their end, by reason.
    pub stopped: Vec<(Stopped, u64)>,
    /// Prices reloaded.
    pub reloaded: u64,
    /// Reloads refused.
    pub refused: u64,
    /// Volumes of the month: owner, meter, month, amount.
    pub volumes: Vec<(Arc<str>, Arc<str>, String, f64)>,
}

/// How a call was priced: once, when its body has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charged {
    /// What each attempt costs; `None` is unpriced.
    pub costs: Vec<Option<Money>>,
    /// Why the last attempt has no price.
    pub unpriced: Option<Unpriced>,
    /// The usage that was charged: reported, or estimated.
    pub usage: Usage,
    /// It was estimated, in whole or in part.
    pub estimated: bool,
    /// What meters counted, `name=amount,...`; of the attempts together.
    pub metered: Option<Arc<str>>,
    /// Digest of the prices.
    pub book: Arc<str>,
    /// Where the answer came out of a batch: what it would have cost alone; `None` within is unpriced.
    pub alone: Option<Option<Money>>,
    /// Where another provider than the route's first answered: what the first would have charged; `None` within is unpriced.
    pub first: Option<Option<Money>>,
    /// Where the prompt was marked for the provider's cache: what the call would have cost without; `None` within is unpriced.
    pub unmarked: Option<Option<Money>>,
    /// Where the answer came out of the provider's batch endpoint: what the call would have cost directly; `None` within is unpriced.
    pub direct: Option<Option<Money>>,
    /// What the answer told of its usage.
    told: Option<Usage>,
}

impl Pricing {
    /// These prices, after `volumes` were used.
    pub fn new(book: PriceBook, volumes: Volumes) -> Self {
        Self {
            book: ArcSwap::from_pointee(book),
            volumes: Mutex::new(volumes),
            seen: Mutex::default(),
            unpriced: Mutex::default(),
            estimated: AtomicU64::default(),
            contradictory: AtomicU64::default(),
            stripped: AtomicU64::default(),
            stopped: Default::default(),
            reloaded: AtomicU64::default(),
            refused: AtomicU64::default(),
        }
    }

    /// The prices in force.
    pub fn book(&self) -> Arc<PriceBook> {
        self.book.load_full()
    }

    /// Puts other prices in force, whole; calls that are settled from now on are priced by them. Answers the digest.
    pub fn replace(&self, book: PriceBook) -> Arc<str> {
        let digest = book.digest();
        self.book.store(Arc::new(book));
        self.reloaded.fetch_add(1, Ordering::Relaxed);
        digest
    }

    /// Counts a reload that was refused.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts events that were taken out of a stream.
    pub fn strip(&self, events: u64) {
        self.stripped.fetch_add(events, Ordering::Relaxed);
    }

    /// Prices a call whose body has ended, and counts it in the month's volumes: to be called once for each call. Attempts that were made for
    /// others too are priced as a whole, once for all of them, and shared.
    pub fn charge(&self, flight: &Flight, reports: &[CallReport], end: &CallEnd) -> Charged {
        for part in reports.iter().filter_map(|report| report.batch.as_ref()) {
            part.batch.price(|batch| self.charge_batch(flight, batch));
        }
        self.charge_call((flight, flight.request_bytes), reports, end)
    }

    /// Prices a batch call as one of its members' flights would be.
    fn charge_batch(&self, flight: &Flight, batch: &Batch) -> BatchPrice {
        let read = |answer| read_answer(&self.book(), (&flight.route.route.name, &flight.route.provider.name), answer);
        let end = batch.answer.as_ref().map(read).unwrap_or_default();
        let charged = self.charge_call((flight, Some(batch.request_bytes)), &batch.attempts, &end);
        BatchPrice { costs: charged.costs, metered: charged.metered, unpriced: charged.unpriced.map(Unpriced::as_str) }
    }

    fn charge_call(&self, of: (&Flight, Option<u64>), reports: &[CallReport], end: &CallEnd) -> Charged {
        let (book, flight) = (self.book(), of.0);
        let own: Vec<Option<CallEnd>> = reports.iter().map(|report| own_answer(&book, flight, report)).collect();
        let last = reports.len().saturating_sub(1);
        let mut charged = Charged { book: book.digest(), ..Charged::default() };
        let mut metered = Vec::new();
        let mut volumes = self.volumes.lock();
        for (index, (report, own)) in reports.iter().zip(&own).enumerate() {
            let bills = Bills::of(&book, of, report, own.as_ref().unwrap_or(end));
            let (usage, estimated) = self.usage(&bills, report.status);
            let amounts = bills.end.amounts();
            let of_last = (index == last || own.is_some()).then_some((&usage, &amounts));
            if index == last {
                let told = match flight.billing {
                    Billing::Never => Some(usage),
                    _ => bills.end.usage.usage.filter(|_| !estimated),
                };
                (charged.usage, charged.estimated, charged.told) = (usage, estimated, told);
            }
            if let Some(part) = &report.batch {
                charged.take_share(part, &mut metered);
                charged.alone = of_last.map(|_| bills.price(report, of_last, &volumes).ok().map(|priced| priced.cost));
                continue;
            }
            let priced = bills.price(report, of_last, &volumes);
            if index == last && report.routed.as_ref().is_some_and(|routed| routed.place > 0) {
                charged.first = Some(bills.at_the_first().price(report, of_last, &volumes).ok().map(|priced| priced.cost));
            }
            if index == last && flight.prompted.as_ref().is_some_and(Prompted::is_marked) {
                let plain = prompts::unmarked(&usage);
                let unmarked = bills.price(report, of_last.map(|(_, amounts)| (&plain, amounts)), &volumes);
                charged.unmarked = Some(unmarked.ok().map(|priced| priced.cost));
            }
            if index == last && flight.is_deferred() {
                charged.direct = Some(bills.directly().price(report, of_last, &volumes).ok().map(|priced| priced.cost));
            }
            if let Ok(priced) = &priced {
                priced.enter(&mut volumes);
                metered.extend(priced.metered.iter().map(|(name, amount)| format!("{name}={amount}")));
            }
            charged.unpriced = priced.as_ref().err().copied();
            charged.costs.push(priced.ok().map(|priced| priced.cost));
        }
        volumes.forget_before(Month::of(flight.at));
        drop(volumes);
        charged.metered = (!metered.is_empty()).then(|| metered.join(",").into());
        // What there is to note of a batch was noted when it was priced as a whole.
        if let (None, Some(report), Some(own)) = (charged.alone, reports.last(), own.last()) {
            self.note(&Bills::of(&book, of, report, own.as_ref().unwrap_or(end)), &charged);
        }
        charged
    }

    /// The usage to charge for, and whether it is an estimate.
    fn usage(&self, bills: &Bills<'_>, status: Option<StatusCode>) -> (Usage, bool) {
        let reading = &bills.end.usage;
        if bills.flight.billing == Billing::Never {
            return (Usage::default(), false);
        }
        let known = reading.usage.unwrap_or_default();
        let whole = bills.end.bytes.is_some() && reading.usage.is_some();
        let answered = status.map_or(bills.end.abandoned, |status| status.is_success());
        let flight = bills.flight;
        let names = (&*flight.route.route.name, bills.provider);
        // Whoever answers before the work is done has not forgotten to tell it.
        let tells = flight.billing == Billing::Now;
        let by_token = tells && bills.target.is_some_and(|target| bills.book.by_token(names, target, flight.at));
        match bills.request_bytes {
            Some(bytes) if answered && by_token && !whole => {
                let seen = self.seen.lock().get(&bills.pair()).copied().unwrap_or_default();
                (estimate(reading, bytes, seen), true)
            }
            _ => (known, false),
        }
    }

    /// Counts what was learned, and what is not as it should be.
    fn note(&self, bills: &Bills<'_>, charged: &Charged) {
        let reading = &bills.end.usage;
        // What it tells of is another call's.
        let told = bills.flight.billing != Billing::Never;
        if charged.estimated {
            self.estimated.fetch_add(1, Ordering::Relaxed);
        } else if let (Some(usage), Some(bytes)) = (reading.usage.as_ref().filter(|_| told), bills.request_bytes) {
            let (pair, mut seen) = (bills.pair(), self.seen.lock());
            if seen.len() < MAX_TARGETS || seen.contains_key(&pair) {
                seen.entry(pair).or_default().add(bytes, usage);
            }
        }
        if told && reading.contradictory {
            self.contradictory.fetch_add(1, Ordering::Relaxed);
        }
        let stopped = reading.stopped.and_then(|stopped| self.stopped.get(stopped as usize));
        if let Some(counter) = stopped {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(reason) = charged.unpriced {
            self.note_unpriced(bills.pair(), reason);
        }
    }

    fn note_unpriced(&self, pair: Pair, reason: Unpriced) {
        let mut unpriced = self.unpriced.lock();
        let known = unpriced.contains_key(&(pair.clone(), reason));
        let pair = if known || unpriced.len() < MAX_TARGETS { pair } else { (OTHER.into(), OTHER.into()) };
        let count = unpriced.entry((pair.clone(), reason)).or_default();
        *count += 1;
        // Once for each target and reason: what follows is in the counter.
        if *count == 1 {
            let (provider, target) = pair;
            tracing::warn!(%provider, %target, %reason, remedy = reason.remedy(), "calls have no price");
        }
    }

    /// The counts now.
    pub fn stats(&self) -> PricingStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let unpriced = self.unpriced.lock();
        let volumes = self.volumes.lock();
        PricingStats {
            unpriced: unpriced.iter().map(|(((provider, target), reason), n)| (provider.clone(), target.clone(), *reason, *n)).collect(),
            estimated: read(&self.estimated),
            contradictory: read(&self.contradictory),
            stripped: read(&self.stripped),
            stopped: Stopped::ALL.iter().zip(&self.stopped).map(|(stopped, count)| (*stopped, read(count))).collect(),
            reloaded: read(&self.reloaded),
            refused: read(&self.refused),
            volumes: volumes.iter().map(|(k, n)| (k.owner.clone(), k.meter.clone(), k.month.text(), n.nano() as f64 / 1e9)).collect(),
        }
    }

    /// What a call that uses so much would cost now, with what is left of free quotas; `None` where that hangs on what its answer tells.
    pub fn quote(&self, names: (&str, &str), target: Option<&str>, at: Time, usage: &Usage) -> Option<Money> {
        self.quote_service(names, (target, None), at, usage)
    }

    /// The same in a service tier of the provider.
    pub fn quote_service(
        &self,
        (route, provider): (&str, &str),
        (target, service): (Option<&str>, Option<&str>),
        at: Time,
        usage: &Usage,
    ) -> Option<Money> {
        static NOTHING: Amounts = Amounts::none();
        let (amounts, status, bytes) = (&NOTHING, Some(200), None);
        let billable = Billable { route, provider, target, at, usage, amounts, service, unbilled: false, status, bytes };
        self.book.load().price(&billable, &self.volumes.lock()).ok().map(|priced| priced.cost)
    }

    /// What a call has cost when its answer begins, and what it would have without Farthing. `None` where that hangs on what is to come (meters,
    /// shares of a batch), and of what is no whole answer: an error, or 304, whose worth is that of the entry that it confirms.
    pub fn at_head(&self, flight: &Flight) -> Option<AtHead> {
        let (book, reports) = (self.book(), flight.reports());
        let last = reports.last().filter(|last| last.status.is_some_and(|status| status.is_success()))?;
        if flight.is_deferred() || reports.iter().any(|report| report.batch.is_some()) {
            return None;
        }
        let (end, volumes) = (CallEnd::default(), Volumes::default());
        let price = |bills: &Bills<'_>, report: &CallReport| {
            let is_flat = !report.sent || book.flat(&flight.route.route.name, bills.provider, flight.at).is_some();
            is_flat.then(|| bills.price(report, None, &volumes).ok().map(|priced| priced.cost)).flatten()
        };
        let bills = |report| Bills::of(&book, (flight, None), report, &end);
        let cost = reports.iter().map(|report| price(&bills(report), report)).sum::<Option<Money>>()?;
        let routed = last.routed.as_ref().is_some_and(|routed| routed.place > 0);
        let base = if routed { price(&bills(last).at_the_first(), last)? } else { price(&bills(last), last)? };
        Some(AtHead { cost, base })
    }

    /// The flat price of a plain call of a route now.
    pub fn flat(&self, route: &str, provider: &str, at: Time) -> Option<Money> {
        self.book.load().flat(route, provider, at)
    }
}

/// The money of a call as it is known when its answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtHead {
    /// Paid for all attempts.
    pub cost: Money,
    /// Price of one full answer at the route's first provider.
    pub base: Money,
}

/// What an answer that is held tells of its usage, read as its provider gave it.
pub fn read_answer(book: &PriceBook, names: (&str, &str), answer: &BatchAnswer) -> CallEnd {
    let mut end = CallEnd::default();
    let reads = book.reads(names.0, names.1).cloned();
    let mut meter = Meter::new(&answer.headers, reads.as_ref(), false);
    meter.push(&answer.body);
    meter.read_into(&mut end, answer.complete);
    end
}

/// The same of an attempt whose answer went to the client in another shape, or not at all.
fn own_answer(book: &PriceBook, flight: &Flight, report: &CallReport) -> Option<CallEnd> {
    let routed = report.routed.as_ref()?;
    Some(read_answer(book, (&flight.route.route.name, &routed.provider), routed.answer.as_ref()?))
}

/// What one attempt of a call is priced with.
#[derive(Clone)]
struct Bills<'a> {
    book: &'a PriceBook,
    flight: &'a Flight,
    provider: &'a str,
    end: &'a CallEnd,
    target: Option<&'a str>,
    request_bytes: Option<u64>,
    service: Option<Arc<str>>,
}

impl<'a> Bills<'a> {
    /// For an attempt, which `end` tells the answer of.
    fn of(book: &'a PriceBook, (flight, request_bytes): (&'a Flight, Option<u64>), report: &'a CallReport, end: &'a CallEnd) -> Self {
        let target = end.usage.target.as_deref().or(flight.target.as_deref());
        let told = &end.usage.service;
        let service = if flight.is_deferred() { service::in_batch(told.as_deref()) } else { told.clone() };
        Bills { book, flight, provider: flight.provider(report), end, target, request_bytes, service }
    }

    /// The same at the provider that would have been asked without Farthing.
    fn at_the_first(&self) -> Self {
        Bills { provider: &self.flight.route.provider.name, ..self.clone() }
    }

    /// The same without the provider's batch endpoint.
    fn directly(&self) -> Self {
        Bills { service: service::directly(self.end.usage.service.as_deref()), ..self.clone() }
    }

    /// What was metered belongs to the last attempt; the others are charged for what is flat.
    fn price(&self, report: &CallReport, metered: Option<(&Usage, &Amounts)>, volumes: &Volumes) -> Result<Priced, Unpriced> {
        static NOTHING: Amounts = Amounts::none();
        if !report.sent {
            return Ok(Priced::default());
        }
        let none = Usage::default();
        // A call that we broke off is charged as if it had been answered: the provider cannot know that nobody waits.
        let given_up = metered.is_some() && self.end.abandoned;
        let (usage, amounts) = metered.unwrap_or((&none, &NOTHING));
        let billable = Billable {
            route: &self.flight.route.route.name,
            provider: self.provider,
            target: self.target,
            at: self.flight.at,
            usage,
            amounts,
            service: self.service.as_deref(),
            unbilled: self.flight.billing == Billing::Never,
            status: report.status.map(|status| status.as_u16()).or_else(|| given_up.then_some(200)),
            bytes: metered.and(self.end.bytes.or(self.end.received)),
        };
        self.book.price(&billable, volumes)
    }

    fn pair(&self) -> Pair {
        (self.provider.into(), self.target.unwrap_or_default().into())
    }
}

impl CallEnd {
    /// What stands where meters look: in the body, and in the head.
    fn amounts(&self) -> Amounts {
        let mut amounts = self.usage.amounts.clone();
        amounts.extend(&self.head_amounts);
        amounts
    }
}

impl Charged {
    /// The tokens that the last attempt of a call has used; `None` where its answer does not tell all.
    pub fn tokens_used(&self, reports: &[CallReport]) -> Option<u64> {
        if let Some(usage) = self.told {
            let Usage { input, cached_input, cache_write, cache_write_1h, output, reasoning, .. } = usage;
            return Some(
                [input, cached_input, cache_write, cache_write_1h, output, reasoning].into_iter().flatten().fold(0, u64::saturating_add),
            );
        }
        // An error uses none.
        let refused = reports.last().and_then(|report| report.status).is_some_and(|status| status.as_u16() >= 400);
        refused.then_some(0)
    }

    /// Takes over the share of an attempt that was made for others too; what its meters counted is told by one member for all.
    fn take_share(&mut self, part: &BatchPart, metered: &mut Vec<String>) {
        let whole = part.batch.price(|_| BatchPrice::default());
        if part.counts() && part.attempt == 0 {
            metered.extend(whole.metered.iter().map(ToString::to_string));
        }
        self.unpriced = whole.unpriced.and_then(Unpriced::parse);
        self.costs.push(part.batch.share(part.attempt, part.index));
    }

    /// What the attempt costs; one that was not tried after all costs nothing.
    pub fn cost(&self, attempt: usize) -> Option<Money> {
        self.costs.get(attempt).copied().unwrap_or(Some(Money::ZERO))
    }

    /// Writes into the row of the call's last attempt what it was charged for.
    pub fn enrich(&self, row: &mut log::CallRow) {
        let count = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
        row.tokens_input = count(self.usage.input);
        row.tokens_cached_input = count(self.usage.cached_input);
        row.tokens_cache_write = count(self.usage.cache_write);
        row.tokens_cache_write_1h = count(self.usage.cache_write_1h);
        row.tokens_output = count(self.usage.output);
        row.tokens_reasoning = count(self.usage.reasoning);
        row.usage_estimated = (self.usage != Usage::default()).then_some(self.estimated);
        row.metered = self.metered.clone();
        row.unpriced_reason = self.unpriced.map(Unpriced::as_str);
        row.unmarked_nanousd = self.unmarked.flatten().map(Money::nanos);
    }
}

impl State {
    /// Prices a call whose body has ended. To be done before its readers see the end, because they settle on it.
    pub fn price_call(&self, flight: &Flight, end: &CallEnd) {
        if flight.ended().is_some() {
            return;
        }
        let reports = flight.reports();
        let charged = flight.charged(|| self.pricing.charge(flight, &reports, end));
        let attempts: Option<Money> = charged.costs.iter().copied().sum();
        let billed = reports.last().and_then(|r| r.status).is_some_and(|s| s.is_success());
        let full = match (end.revalidated, billed) {
            (true, _) => end.entry_price,
            // The last attempt brought the full answer; out of a batch, for less than it would have cost alone.
            (false, true) => charged
                .alone
                .or(charged.unmarked)
                .or(charged.direct)
                .unwrap_or_else(|| charged.first.flatten().or(charged.costs.last().copied().flatten())),
            // Without Farthing the same answer would have come, and cost the same.
            (false, false) => attempts,
        };
        let batched = billed && charged.alone.is_some();
        let routed = billed && charged.first.is_some();
        let marked = billed && charged.unmarked.is_some();
        let deferred = billed && charged.direct.is_some();
        flight.finish(Done { full, attempts, revalidated: end.revalidated, batched, routed, marked, deferred });
    }

    /// Where the prices of a call look into its answer.
    pub fn reads(&self, flight: &Flight) -> Option<Arc<Reads>> {
        let routed = flight.routed();
        let provider = routed.as_ref().map_or(&flight.route.provider.name, |routed| &routed.provider);
        self.pricing.book.load().reads(&flight.route.route.name, provider).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_all_bounds_is_the_most_there_is() {
        let told = Some(Usage { input: Some(u64::MAX), output: Some(5), ..Usage::default() });
        assert_eq!(Charged { told, ..Charged::default() }.tokens_used(&[]), Some(u64::MAX));
    }
}
