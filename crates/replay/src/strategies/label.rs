//! Training rows of the strategy predictor: features at some moments of a run, and what every mix did in the window that followed.

use farthing_contract::features::{LiveShares, STRATEGY_FEATURES, STRATEGY_OUTPUTS, strategy_features};
use farthing_policy::strategy::Mix;
use farthing_types::{Span, Time};

use super::route::Bill;
use super::run::{Model, Running, fixed, guard};
use crate::event::{Event, Trace};

/// How rows are taken.
#[derive(Clone, Copy, Debug)]
pub struct LabelOptions {
    /// Length of a window: all rows speak about equally long ones.
    pub window: Span,
    /// Rows per window and route.
    pub per_window: u32,
}

/// One moment of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyRow {
    /// When.
    pub at: Time,
    /// Index of the route.
    pub route: u16,
    /// Features.
    pub features: [f32; STRATEGY_FEATURES],
    /// What the coming window had, less the live share, per request, in the order of the spec's outputs; NaN where the trace cannot tell (the
    /// last two, which are about a fitted predictor, always).
    pub targets: [f32; STRATEGY_OUTPUTS],
    /// Requests in the window.
    pub requests: u64,
}

/// Windows of a route: what each mix did in them.
type Windows = Vec<Vec<Bill>>;

/// Rows of `events`, taken under every fixed mix that may be in force in service (passing by and keeping), with labels from runs of all.
pub fn labels(trace: &Trace, events: &[Event], model: &Model, options: LabelOptions) -> Vec<StrategyRow> {
    let Some(first) = events.first().map(|e| e.at) else { return Vec::new() };
    let window_ns = i64::try_from(options.window.as_nanos()).unwrap_or(i64::MAX).max(1);
    let place = |at: Time| usize::try_from((at.nanos() - first.nanos()) / window_ns).unwrap_or(0);
    let truth: Vec<Windows> = Mix::ALL.iter().map(|mix| windows(trace, events, model, (*mix, &place))).collect();
    [Mix::Bypass, Mix::Cache].into_iter().flat_map(|mix| collect(trace, events, model, (mix, options), (&place, &truth))).collect()
}

/// Runs a mix and cuts its bills by windows.
fn windows(trace: &Trace, events: &[Event], model: &Model, (mix, place): (Mix, &dyn Fn(Time) -> usize)) -> Windows {
    let guarded = guard();
    let mut running = Running::new(trace, model, &guarded).quiet();
    let mut chooser = fixed(vec![mix; trace.routes.len()]);
    let mut windows = Windows::new();
    let mut before: Vec<Bill> = vec![Bill::default(); trace.routes.len()];
    let mut at = 0;
    for event in events {
        while at < place(event.at) {
            windows.push(cut(&running, &mut before));
            at += 1;
        }
        running.step(event, &mut chooser);
    }
    windows.push(cut(&running, &mut before));
    windows
}

fn cut(running: &Running<'_>, before: &mut [Bill]) -> Vec<Bill> {
    let bills = running.bills();
    let cut = bills.iter().zip(before.iter()).map(|(all, before)| all.since(before)).collect();
    before.copy_from_slice(&bills);
    cut
}

type Truth<'a> = (&'a dyn Fn(Time) -> usize, &'a [Windows]);

/// Features at the first requests of each window (and at even distances within it) under a mix, with the labels of the window that begins
/// there or next: only windows that are whole count.
fn collect(
    trace: &Trace,
    events: &[Event],
    model: &Model,
    (mix, options): (Mix, LabelOptions),
    (place, truth): Truth<'_>,
) -> Vec<StrategyRow> {
    let mut rows = Vec::new();
    let guarded = guard();
    let mut running = Running::new(trace, model, &guarded);
    let mut chooser = fixed(vec![mix; trace.routes.len()]);
    let mut taken = vec![usize::MAX; trace.routes.len()];
    let last = events.last().map_or(0, |e| place(e.at));
    let part_ns = (options.window.as_nanos() as i64 / i64::from(options.per_window.max(1))).max(1);
    let origin = events.first().map_or(0, |e| e.at.nanos());
    for event in events {
        let (route, window) = (usize::from(event.route), place(event.at));
        let part = ((event.at.nanos() - origin) / part_ns) as usize;
        // A row speaks of the window after the one it stands in, which has not begun: nothing of its label is in its features.
        if taken.get(route).is_some_and(|t| *t != part) && window < last {
            taken[route] = part;
            let view = running.routes[route].view(event.at);
            if let Some((targets, requests)) = target(truth, window + 1, route, &view.input.stats.live()) {
                let features = strategy_features(&view.input);
                rows.push(StrategyRow { at: event.at, route: event.route, features, targets, requests });
            }
        }
        running.step(event, &mut chooser);
    }
    rows
}

/// What the window had under each mix, less what the live statistics say.
fn target(truth: &[Windows], window: usize, route: usize, live: &LiveShares) -> Option<([f32; STRATEGY_OUTPUTS], u64)> {
    let bill = |mix: Mix| truth.get(mix.index())?.get(window)?.get(route).copied();
    let requests = bill(Mix::Bypass)?.requests;
    if requests == 0 {
        return None;
    }
    let share = |count: u64| (count as f64 / requests as f64).min(1.0) as f32;
    let (dedupe, cache, batch) = (bill(Mix::Dedupe)?, bill(Mix::Cache)?, bill(Mix::Batch)?);
    let (joined, kept) = (bill(Mix::DedupeBatch)?, bill(Mix::CacheBatch)?);
    // Where there is no batching the batched runs have no batches: nothing to learn.
    let batches = |bill: &Bill, live: f32| if batch.batches > 0 { share(bill.batches) - live } else { f32::NAN };
    let items = if batch.batches > 0 { share(joined.items) - live.dedupe_batch_items } else { f32::NAN };
    Some((
        [
            share(dedupe.items) - live.dedupe_items,
            share(cache.items) - live.cache_items,
            share(cache.stale) - live.cache_stale,
            batches(&batch, live.batch_calls),
            items,
            batches(&joined, live.dedupe_batch_calls),
            batches(&kept, live.cache_batch_calls),
            f32::NAN,
            f32::NAN,
        ],
        requests,
    ))
}
