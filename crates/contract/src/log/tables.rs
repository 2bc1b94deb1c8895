//! The declaration of the four tables: the one schema source.

use std::sync::Arc;

use super::{Cell, Column, Row, Table, Value};

macro_rules! since {
    () => {
        1
    };
    ($version:literal) => {
        $version
    };
}

// `field: type = 2` is a column that schema version 2 added.
macro_rules! table {
    ($(#[doc = $doc:literal])+ $row:ident as $name:literal { $(#[doc = $cdoc:literal] $field:ident : $ty:ty $(= $since:literal)?,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $row { $(#[doc = $cdoc] pub $field: $ty,)+ }
        impl Row for $row {
            const TABLE: &'static Table = &Table {
                name: $name,
                doc: concat!($($doc),+),
                columns: &[$(Column {
                    name: stringify!($field),
                    ty: <$ty as Cell>::TYPE,
                    nullable: <$ty as Cell>::NULLABLE,
                    since: since!($($since)?),
                    doc: $cdoc,
                },)+],
            };
            fn ts_ns(&self) -> i64 { self.ts_ns }
            fn extent(&self) -> usize { 0 $(+ Cell::extent(&self.$field))+ }
            #[inline]
            fn cells<P: FnMut(usize, Value<'_>) + ?Sized>(&self, put: &mut P) {
                let mut index = 0;
                $(put(index, Cell::value(&self.$field)); index += 1;)+
                let _ = index;
            }
        }
    };
}

table! {
    /// One client request (above `log.row_rate`: one row per key, variant, tags and 100 ms, with `weight`).
    Request as "requests" {
        /// When the request's head was read, ns since 1970 UTC on the proxy's clock.
        ts_ns: i64,
        /// Id of the request, as in `x-farthing-request-id`. The rows of one list that was answered item by item share one.
        request_id: u64,
        /// Requests that this row stands for.
        weight: i64,
        /// Who pays; for passed-through credentials a keyed digest.
        tenant: Arc<str>,
        /// Team of the tenant.
        team: Option<Arc<str>>,
        /// Service of the tenant.
        service: Option<Arc<str>>,
        /// Free tags `a=b,c=d` of the request.
        tags: Option<Arc<str>>,
        /// Configured route.
        route: Arc<str>,
        /// Path template within the route where one is configured or found.
        endpoint: Option<Arc<str>>,
        /// HTTP method.
        method: Arc<str>,
        /// First 64 bits of the salted cache-key digest.
        key_hash: u64,
        /// `hit`, `stale`, `lead`, `follow`, `bypass`, `refused` or `failed`.
        outcome: &'static str,
        /// Why it was not served from the cache; null for hits.
        uncached_reason: Option<&'static str>,
        /// Tier that served it (`l1`, `l2`); null when none did.
        tier: Option<&'static str>,
        /// Status sent to the client.
        status: i32,
        /// Body bytes sent to the client, before Farthing compressed them; null when the connection ended first. A copy, or an answer of up to 64 KiB that came whole, counts as sent when it begins to go out.
        bytes_out: Option<i64>,
        /// Age of the served entry, ms; null when not served from the cache.
        entry_age_ms: Option<i64>,
        /// TTL in force for the served entry, ms; null when none was served.
        ttl_ms: Option<i64>,
        /// Who chose that TTL (`model:3`, `rule:static` ...).
        ttl_by: Option<Arc<str>>,
        /// Call that answered the request (own or joined); null for hits.
        call_id: Option<u64>,
        /// Decision under which the served entry was cached; what a call's answer was stored under is in `calls`.
        decision_id: Option<u64>,
        /// What the request would have cost without Farthing, nano-dollars; null when unpriced.
        base_nanousd: Option<i64>,
        /// What it cost its payer, nano-dollars; 0 for hits and followers; null when unpriced.
        cost_nanousd: Option<i64>,
        /// Cause of the saving: `l1`, `l2`, `stale`, `revalidated`, `dedupe`, `batch`, `route` (a cheaper provider than the first), `prefetch` (the first use of a call made ahead), `prompt_cache` (marks for the provider's own cache, whose saving may be negative), `defer` (the provider's batch endpoint); null when nothing was saved.
        saved_by: Option<&'static str>,
        /// Whole time from head to last byte, microseconds; null when the client left (as for `bytes_out`).
        latency_us: Option<i64>,
        /// Part of it spent in Farthing, microseconds.
        overhead_us: Option<i64>,
        /// Whether the answer was stale as measured later by a refresh or audit; null when unknown.
        stale_verdict: Option<bool>,
        /// Experiment that assigned the unit.
        experiment: Option<Arc<str>>,
        /// Variant in force.
        variant: Option<Arc<str>>,
        /// Unit of the assignment (key hash).
        unit: Option<u64>,
        /// Assignment window.
        window: Option<i64>,
        /// Probability of the variant in force when it was drawn.
        propensity: Option<f64>,
        /// Whether the key was in the savings holdout.
        holdout: bool,
        /// What went wrong, when something did.
        error_class: Option<&'static str>,
        /// Run of the live statistics that the request entered: a new one at each start; null when it entered none.
        stat_epoch: Option<u64> = 2,
        /// Its place, from 1, among all that entered the statistics of its route in that run.
        stat_seq: Option<i64> = 2,
        /// Key under which the statistics are kept, where it is not `key_hash`: of the answers selected by `Vary`.
        stat_key: Option<u64> = 2,
        /// Whether anything was known of that key before; what was known and is not any more had to make room.
        stat_known: Option<bool> = 2,
        /// What the request asked of caches, in words: its directives, `authorization`, `cookie`, `precondition`, `cache=off` ...; null when nothing.
        asked: Option<Arc<str>> = 2,
        /// Key whose copy, and calls under way, the request dropped: a successful one with an unsafe method; null otherwise.
        invalidates: Option<u64> = 2,
        /// Provider that bills the route's calls; where it has several the one that answered the call, and the first where no call was made.
        provider: Option<Arc<str>> = 3,
        /// W3C trace that the request came with, or that was begun for its call: 32 hexadecimal digits; null where there was none.
        trace_id: Option<Arc<str>> = 4,
        /// How much the request mattered: `high`, `medium` or `low`; null where it was refused early.
        priority: Option<&'static str> = 4,
        /// Within what time it was promised to be answered, ms; null without a promise.
        sla_ms: Option<i64> = 4,
        /// `met`, or where the promise was missed whose time it was: `farthing`, `upstream`, `queue` or `client`; null without a promise, or when the client left in time.
        sla: Option<&'static str> = 4,
        /// Decision of kind `strategy` that was in force on the route when the request was planned; null before the first one.
        plan_id: Option<u64> = 5,
    }
}

table! {
    /// One attempt of a call to a provider.
    CallRow as "calls" {
        /// When the attempt began, ns since 1970 UTC on the proxy's clock.
        ts_ns: i64,
        /// Call the attempt belongs to.
        call_id: u64,
        /// 0 for the first attempt.
        attempt: i32,
        /// Tenant who pays.
        tenant: Arc<str>,
        /// Configured route.
        route: Arc<str>,
        /// Path template within the route.
        endpoint: Option<Arc<str>>,
        /// Provider that bills.
        provider: Arc<str>,
        /// Upstream that was tried.
        upstream: Arc<str>,
        /// LLM or other target named in the request.
        target: Option<Arc<str>>,
        /// First 64 bits of the salted cache-key digest.
        key_hash: u64,
        /// `user`, `refresh`, `refill`, `prefetch`, `warm`, `audit` or `holdout`.
        purpose: &'static str,
        /// Why a fetch was needed: `cold`, `expired`, `revalidate`, `bypass` ...; `deferred-unused`: the provider's batch endpoint answered when nobody waited any more
        fetch_reason: &'static str,
        /// Status; null when no head arrived.
        status: Option<i32>,
        /// `connect`, `timeout` ...; `breaker-open` and `refused` of a call that was not even tried; null when a head arrived.
        error_class: Option<&'static str>,
        /// Whether request bytes were sent.
        sent: bool,
        /// Time to the head, microseconds.
        latency_us: i64,
        /// Body bytes received; null when the transfer broke off.
        bytes_in: Option<i64>,
        /// First 64 bits of the body's digest; null when the body was not read whole.
        body_hash: Option<u64>,
        /// First 64 bits of the digest of the body in canonical form (JSON keys sorted, volatile fields dropped).
        canonical_hash: Option<u64>,
        /// Canonical digest at the previous fetch of the key; null on the first fetch.
        prev_canonical_hash: Option<u64>,
        /// Time since the previous fetch of the key, ms; null on the first fetch.
        gap_ms: Option<i64>,
        /// Whether the canonical body differs from the previous fetch; null on the first fetch.
        changed: Option<bool>,
        /// Whether the validators (ETag, Last-Modified) differ from the previous fetch; null when there are none.
        validator_changed: Option<bool>,
        /// `Last-Modified`, ns since 1970 UTC.
        last_modified_ns: Option<i64>,
        /// Explicit freshness lifetime from the origin, seconds; null when the origin gave none.
        origin_ttl_s: Option<i64>,
        /// Whether the answer was stored.
        stored: bool,
        /// Why it was not stored.
        not_stored_reason: Option<&'static str>,
        /// Decision that this fetch opened.
        decision_id: Option<u64>,
        /// Uncached input tokens.
        tokens_input: Option<i64>,
        /// Input tokens read from the provider's cache.
        tokens_cached_input: Option<i64>,
        /// Output tokens without reasoning.
        tokens_output: Option<i64>,
        /// Version of the price book.
        price_book: Option<Arc<str>>,
        /// What the provider charges for the attempt, nano-dollars; null when unpriced.
        cost_nanousd: Option<i64>,
        /// Run of the live statistics that the answer entered: a new one at each start; null when it entered none.
        stat_epoch: Option<u64> = 2,
        /// Its place, from 1, among all that entered the statistics of its route in that run.
        stat_seq: Option<i64> = 2,
        /// Key under which the statistics are kept, where it is not `key_hash`: of the answers selected by `Vary`.
        stat_key: Option<u64> = 2,
        /// Whether anything was known of that key before; what was known and is not any more had to make room.
        stat_known: Option<bool> = 2,
        /// Time under which the answer entered the statistics and was decided about, ns since 1970 UTC.
        stat_at_ns: Option<i64> = 2,
        /// Canonical digest that entered the statistics: of the body, or of the entry that a 304 confirmed.
        stat_hash: Option<u64> = 2,
        /// Whether the staleness of the copy steers the route's operating point: a predictor chose its TTL.
        steers: Option<bool> = 2,
        /// Whether the answer has an ETag; null when no decision was made about it.
        has_etag: Option<bool> = 2,
        /// Parameters of the request's query.
        query_parameters: Option<i64> = 2,
        /// Length of the answer's body, bytes: of a 304 that of the confirmed entry; null when no decision was made about it.
        body_bytes: Option<i64> = 2,
        /// What the answer's head says about reuse beyond `origin_ttl_s` and `last_modified_ns`, in words: `etag`, `no-store`, `set-cookie`, `age=5` ...; null when nothing.
        answer: Option<Arc<str>> = 2,
        /// When the body had ended, or the call had failed after all attempts, ns since 1970 UTC on the proxy's clock; null when it broke off.
        ended_ns: Option<i64> = 2,
        /// Input tokens written to the provider's cache for its usual lifetime.
        tokens_cache_write: Option<i64> = 3,
        /// Input tokens written to the provider's cache for an hour.
        tokens_cache_write_1h: Option<i64> = 3,
        /// Reasoning tokens.
        tokens_reasoning: Option<i64> = 3,
        /// Whether the token counts are an estimate by bytes: the answer reported none, or broke off; null when there are none.
        usage_estimated: Option<bool> = 3,
        /// Whether the provider's counts contradict its own total; null when it reported none.
        usage_contradictory: Option<bool> = 3,
        /// Service tier that answered, as the provider names it, and what makes its tokens cost other rates, joined by `+` (`batch+us`).
        service_tier: Option<Arc<str>> = 3,
        /// What the prices' meters counted, of all attempts together: `name=amount,name=amount`; started units where those are charged whole, else what the meter's source counts.
        metered: Option<Arc<str>> = 3,
        /// Why there is no price: `no-prices`, `unknown-target`, `no-usage` ...; null when there is one.
        unpriced_reason: Option<&'static str> = 3,
        /// Team of the tenant, of whoever caused the call.
        team: Option<Arc<str>> = 3,
        /// Service of the tenant, of whoever caused the call.
        service: Option<Arc<str>> = 3,
        /// Free tags `a=b,c=d` of the request that caused it; null for calls that no request waited for.
        tags: Option<Arc<str>> = 3,
        /// Experiment that had assigned the key when the call was ordered.
        experiment: Option<Arc<str>> = 3,
        /// Variant then.
        variant: Option<Arc<str>> = 3,
        /// Time that the call waited for its turn under limits, before and between its attempts, microseconds; null when it did not wait.
        limit_wait_us: Option<i64> = 4,
        /// First call of the batch that the attempt was made for; null for a call of its own. The costs of the rows of a batch sum to its bill.
        batch_id: Option<u64> = 4,
        /// Calls in that batch: so many rows are one attempt at the provider.
        batch_size: Option<i64> = 4,
        /// Why the attempt went to its provider, where the route has several: `score`, `only`, `failover`, `trial`, `below-floor`, `cheapest`; null where it has one.
        routed_by: Option<&'static str> = 4,
        /// What was decided about marks for the provider's own prompt cache, and why: `marked`, `keyed`, `few-reads`, `short`, `no-price`, `client`, `unreadable`, `switched-off`, `refused` (and answered without); null where the route has no `prompt_cache`.
        prompt_cache: Option<&'static str> = 5,
        /// Input tokens that a marked call was expected to read from that cache, as far as its bytes tell; `tokens_cached_input` has what it read.
        prompt_read_expected: Option<i64> = 5,
        /// What a marked call would have cost without its marks, all of its input at the plain rate; null when unpriced or not marked.
        unmarked_nanousd: Option<i64> = 5,
        /// What became of a call that could wait for the provider's batch endpoint: `batch` (answered out of it, at its price), `direct` (called directly after all), `unused` (answered out of it when nobody waited any more; no request's call); null where it did not wait.
        deferred: Option<&'static str> = 5,
    }
}

table! {
    /// One decision that used a model or a draw.
    Decision as "decisions" {
        /// When it was made, ns since 1970 UTC on the proxy's clock.
        ts_ns: i64,
        /// Id of the decision.
        decision_id: u64,
        /// `ttl`, `prefetch` (action 1: the key is fetched ahead), `batch` (action 1: the call may wait for others; action 0: the slice that is compared), `strategy` (which of cache, dedupe and batch the route uses; actions are the combinations `bypass`, `dedupe`, `batch`, `dedupe+batch`, `cache`, `cache+batch`), `allocation` (the probabilities of an experiment's variants), `variant` (what a variant changes, in `by`), `assignment` (the draw of a unit for a window under contextual allocation, written when the window is over) ...
        kind: &'static str,
        /// Call whose answer it is about.
        call_id: Option<u64>,
        /// Request that caused it.
        request_id: Option<u64>,
        /// Configured route.
        route: Arc<str>,
        /// First 64 bits of the salted cache-key digest.
        key_hash: u64,
        /// Hash of the feature spec under which `features` were computed.
        spec_hash: Option<Arc<str>>,
        /// Features in the order of the spec; empty when none were used.
        features: Vec<f32>,
        /// What the predictor answered (for `ttl`: log of hazard over live hazard per age interval); empty when none ran.
        outputs: Vec<f32>,
        /// Bit i set: action i was eligible.
        eligible_mask: u64,
        /// Probability of each action.
        pmf: Vec<f32>,
        /// Index of the action taken.
        action: i32,
        /// Action as a value (for `ttl`: seconds; for `prefetch`: the probability of use; for `strategy`: what is expected to be saved per request, nano-dollars; for `assignment`: the unit-window's money cost, dollars).
        action_value: f64,
        /// The uniform draw that chose it; null when nothing was drawn.
        draw: Option<f64>,
        /// Who decided (`model:3`, `table:1`, `rule:static` ...).
        by: Arc<str>,
        /// Digest of the bundle in use.
        model_digest: Option<Arc<str>>,
        /// Experiment.
        experiment: Option<Arc<str>>,
        /// Variant whose choice this is.
        variant: Option<Arc<str>>,
        /// Unit of the assignment.
        unit: Option<u64>,
        /// Assignment window.
        window: Option<i64>,
        /// Price of one call as the decision saw it, nano-dollars.
        price_nanousd: Option<i64>,
        /// For `strategy`: expected mean time until an answer, microseconds; null for other kinds.
        expected_latency_us: Option<i64> = 5,
        /// For `strategy`: time within which nineteen of twenty answers are expected, microseconds; null for other kinds.
        expected_high_us: Option<i64> = 5,
        /// For `strategy`: what the cheapest combination would have contained besides, and why it was left out: `batch=sla,cache=unsure`; null when nothing was.
        dropped: Option<Arc<str>> = 5,
    }
}

table! {
    /// What became of a decision: written when the entry it created is replaced, evicted or purged; of a `strategy` decision when the next one takes its place.
    OutcomeRow as "outcomes" {
        /// When the outcome was settled, ns since 1970 UTC on the proxy's clock.
        ts_ns: i64,
        /// The decision; 0 for a copy under the origin's own freshness, which has a row only when nothing newer took its place.
        decision_id: u64,
        /// Configured route.
        route: Arc<str>,
        /// First 64 bits of the salted cache-key digest; 0 of a `strategy` decision.
        key_hash: u64,
        /// When the decision was made, ns.
        opened_ns: i64,
        /// Why it ended: `replaced`, `revalidated`, `evicted`, `purged`, `shutdown`; of a `prefetch` decision `used` or `unused`; of a `strategy` decision `superseded` or `stopped`; of an `assignment` `window`.
        closed_by: &'static str,
        /// Answers served from the entry; of a `strategy` decision requests of the route that were answered from the cache while it was in force, of an `assignment` requests of the unit in its window.
        hits: i64,
        /// Of these, answers served after the TTL in force had passed.
        served_expired: i64,
        /// Whether the origin's answer had changed when it was next fetched; null when it was not fetched again.
        changed: Option<bool>,
        /// Time from fill to the next fetch, ms; null when it was not fetched again.
        gap_ms: Option<i64>,
        /// Time of the last answer served from the entry, ms after the fill; null without hits.
        last_hit_ms: Option<i64>,
        /// Paid for the fill, nano-dollars; null when unpriced. Of a `strategy` decision: for all calls of the route that were settled while it was in force; of an `assignment` the unit-window's money cost, stale answers included.
        paid_nanousd: Option<i64>,
        /// Saved by the hits, nano-dollars; null when unpriced. Of a `strategy` decision: by all that saved anything on the route meanwhile.
        saved_nanousd: Option<i64>,
    }
}
