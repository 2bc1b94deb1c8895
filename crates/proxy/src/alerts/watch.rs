//! Watching: once a minute the budgets and the log's health, once an hour what calls have cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::AlertsConfig;
use farthing_ledger::costs::{CostError, CostQuery, CostReport, CostStore, Dimension, Limits, RecentRows, Window, money};
use farthing_ledger::watch::{Alert, Forecast, HourRow, Overrun, SeriesKey, Watcher, anomaly, billing_at_risk, budget, overrun, unpriced};
use farthing_types::{Money, Span, Time};
use tokio_util::sync::CancellationToken;

use super::Alerts;
use super::month::{AGAIN, Month, month_of};
use crate::state::State;

const HOUR: i64 = 3_600_000_000_000;
/// How far back the log is read at the start: six weeks say what is usual, three more how far it wavers.
const BACK_HOURS: i64 = 63 * 24;
/// Changes that ended longer ago than this when the instance started are not told any more.
const TOLD_HOURS: i64 = 24;
/// Time after an hour until its rows are in the log.
const GRACE: i64 = 2 * 60 * 1_000_000_000;
const TURN: Span = Span::from_secs(60);
/// Longest time for reading a day.
const LONGEST: Span = Span::from_secs(60);
/// Unpriced routes and targets that are told of an hour, those with most calls.
const MOST_UNPRICED: usize = 20;

/// What the month will have cost.
#[derive(Clone, Debug, PartialEq)]
pub struct MonthForecast {
    /// The month: `2026-11`.
    pub month: String,
    /// Spent until the last hour that is over.
    pub so_far: Money,
    /// Its end: the total that is not exceeded with probability 0.1, 0.5 and 0.9, dollars.
    pub quantiles: [f64; 3],
    /// Probability that it exceeds `alerts.per_month`; `None` without one, or of a tenant.
    pub over: Option<f64>,
}

/// Figures of the watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchStats {
    /// Series under watch.
    pub series: usize,
    /// Times that a series was not watched for want of room, once an hour each.
    pub unwatched: u64,
    /// Hours that were taken.
    pub hours: u64,
    /// Times that the log could not be read.
    pub failed: u64,
}

/// What is known of spend.
pub(super) struct Watching {
    watcher: Watcher,
    month: Month,
    /// Whether the month is bound to cost more than it may.
    overrun: Overrun,
    hours: u64,
    failed: u64,
    /// Rows of the log that had been dropped at the last look.
    dropped: u64,
}

impl Watching {
    pub(super) fn new(config: &AlertsConfig) -> Self {
        let bytes = usize::try_from(config.memory_bytes).unwrap_or(usize::MAX);
        let watcher = Watcher::new(bytes, config.floor.as_usd_f64());
        Self { watcher, month: Month::default(), overrun: Overrun::default(), hours: 0, failed: 0, dropped: 0 }
    }

    pub(super) fn stats(&self) -> WatchStats {
        WatchStats { series: self.watcher.len(), unwatched: self.watcher.unwatched(), hours: self.hours, failed: self.failed }
    }

    /// Takes an hour that is over; answers what is to be told.
    pub(super) fn hour(&mut self, hour: i64, rows: &[HourCosts], at: Time) -> Vec<Alert> {
        self.hours += 1;
        self.month.turn(hour);
        self.again(hour, rows);
        let found = self.watcher.hour(hour, &rows.iter().map(|row| row.row.clone()).collect::<Vec<_>>());
        let mut told: Vec<Alert> = found.iter().map(|found| anomaly(found, at)).collect();
        let mut without: Vec<&HourCosts> = rows.iter().filter(|row| row.unpriced > 0).collect();
        without.sort_by_key(|row| std::cmp::Reverse(row.unpriced));
        told.extend(without.iter().take(MOST_UNPRICED).map(|row| {
            let key = &row.row.key;
            unpriced((&key.provider, &key.route, row.row.target.as_deref()), row.unpriced, at)
        }));
        told
    }

    /// Sets what an hour came to in the month.
    pub(super) fn again(&mut self, hour: i64, rows: &[HourCosts]) {
        self.month.set(hour, rows.iter().map(|row| (&row.row.key.tenant, row.nanos)));
    }

    pub(super) fn forecast(&self, tenant: Option<&str>, limit: Option<Money>) -> Option<MonthForecast> {
        let (so_far, told) = self.foretold(tenant)?;
        let over = limit.filter(|_| tenant.is_none()).map(|limit| told.over(limit.as_usd_f64()));
        Some(self.told(so_far, &told, over))
    }

    /// Spent so far in the month, nano-dollars, and what it will have been.
    fn foretold(&self, tenant: Option<&str>) -> Option<(i128, Forecast)> {
        let so_far = self.month.so_far(tenant)?;
        // The same hour, the same forecast.
        let seed = self.watcher.next()?.unsigned_abs();
        let told = self.watcher.forecast(tenant, (so_far as f64 / 1e9, self.month.until()), seed)?;
        Some((so_far, told))
    }

    fn told(&self, so_far: i128, told: &Forecast, over: Option<f64>) -> MonthForecast {
        let (_, month) = month_of(self.month.until() - 1);
        MonthForecast { month, so_far: money(so_far), quantiles: [0.1, 0.5, 0.9].map(|q| told.quantile(q)), over }
    }

    /// What is to be told of the month after the hour that was taken last, where it is bound to cost more than `limit`.
    fn overrun(&mut self, limit: Money) -> Option<MonthForecast> {
        let hour = self.watcher.next()? - 1;
        let (so_far, told) = self.foretold(None)?;
        let over = self.overrun.hour((hour, self.month.until()), &told, limit.as_usd_f64())?;
        Some(self.told(so_far, &told, Some(over)))
    }

    pub(super) fn forget_tenant(&mut self, tenant: &str) {
        self.watcher.forget_tenant(tenant);
        self.month.forget_tenant(tenant);
    }

    /// The hours that are over and have not been taken.
    fn due(&self, now: Time) -> std::ops::Range<i64> {
        let over = now.nanos().saturating_sub(GRACE).div_euclid(HOUR);
        self.watcher.next().unwrap_or(over - BACK_HOURS)..over
    }
}

/// What an hour had of a series and a target.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HourCosts {
    pub(super) row: HourRow,
    pub(super) nanos: i128,
    pub(super) unpriced: u64,
}

/// Calls by the hour, in `hours`, and whether all of them could be read.
fn read(
    store: &CostStore,
    hours: std::ops::Range<i64>,
    late: &(dyn Fn() -> bool + Sync),
) -> Result<(BTreeMap<i64, Vec<HourCosts>>, bool), CostError> {
    let time = |hour: i64| Time::from_nanos(hour.saturating_mul(HOUR));
    let query = CostQuery {
        by: vec![Dimension::Tenant, Dimension::Provider, Dimension::Route, Dimension::Target],
        top: usize::MAX,
        step: Some(HOUR),
        calls_only: true,
        ..CostQuery::of(Window { from: time(hours.start), to: time(hours.end) })
    };
    let report = store.answer(&query, late)?;
    if let Some(problem) = report.unreadable.first() {
        tracing::warn!(%problem, "the spend that is watched lacks rows of the log; they are looked for again for two days");
    }
    Ok((by_hour(&report), report.unreadable.is_empty()))
}

fn by_hour(report: &CostReport) -> BTreeMap<i64, Vec<HourCosts>> {
    let mut hours: BTreeMap<i64, Vec<HourCosts>> = BTreeMap::new();
    for group in &report.groups {
        let name = |at: usize| group.names.get(at).cloned().flatten();
        let of = |at: usize| name(at).unwrap_or_else(|| "-".into());
        let key = SeriesKey { tenant: of(0), provider: of(1), route: of(2) };
        for point in &group.series {
            let calls = point.sums.calls.unwrap_or_default();
            let row = HourRow { key: key.clone(), target: name(3), calls: calls.calls as f64, usd: calls.bill as f64 / 1e9 };
            let unpriced = u64::try_from(calls.unpriced).unwrap_or(0);
            hours.entry(point.at.nanos().div_euclid(HOUR)).or_default().push(HourCosts { row, nanos: calls.bill, unpriced });
        }
    }
    hours
}

/// Watches until told to stop. At the start the log of the last weeks is read.
pub(super) async fn run(state: Arc<State>, stop: CancellationToken) {
    let recalled = state.clone();
    let _ = tokio::task::spawn_blocking(move || recalled.alerts.recall()).await;
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        let (watched, stopped) = (state.clone(), stop.clone());
        let turned = tokio::task::spawn_blocking(move || watched.watch(&stopped)).await;
        if let Err(error) = turned {
            tracing::error!(%error, "watching over spend broke off; it goes on in a minute");
        }
    }
}

impl State {
    /// One look at everything. Blocks.
    fn watch(&self, stop: &CancellationToken) {
        let before = self.alerts.told();
        self.look(self.clock.now());
        self.take_hours(stop);
        if self.alerts.told() != before {
            self.alerts.save();
        }
    }

    /// Budgets, and whether the log takes its rows.
    fn look(&self, now: Time) {
        let alerts = &self.alerts;
        let levels = alerts.budgets.lock().as_ref().map(|budgets| budgets.levels()).unwrap_or_default();
        levels.iter().for_each(|level| alerts.raise(budget(level, now)));
        if let Some(metrics) = self.log.as_ref().map(farthing_ledger::LogHandle::metrics) {
            alerts.log_seen(metrics.dropped(), metrics.healthy, now);
        }
    }

    /// Hours that are over, day by day. What has come late of the last two days is taken over before.
    fn take_hours(&self, stop: &CancellationToken) {
        let Some(log) = &self.log else { return };
        let alerts = &self.alerts;
        let (due, begun) = {
            let watching = alerts.watching.lock();
            (watching.due(self.clock.now()), watching.watcher.next().is_some())
        };
        let open: Arc<dyn RecentRows> = Arc::new(farthing_ledger::costs::OpenLog::new(log.clone(), LONGEST));
        let last = due.start - AGAIN + 1..due.start;
        if begun && !due.is_empty() {
            // Some hours at a time: groups are bounded. What cannot be read now, or not whole, stays as it was.
            for from in last.clone().step_by(12) {
                let hours = from..(from + 12).min(last.end);
                if let Some((spent, true)) = self.spent_in(hours.clone(), Some(open.clone()), stop) {
                    alerts.again(hours, &spent);
                }
            }
        }
        for from in due.clone().step_by(24) {
            let to = (from + 24).min(due.end);
            // Only the last day can have rows that are in no file yet.
            let Some((hours, _)) = self.spent_in(from..to, (to == due.end).then(|| open.clone()), stop) else { return };
            alerts.take(from..to, &hours, self.clock.now());
        }
    }

    /// What was spent in each of some hours, and whether all of it could be read; `None` when that cannot be read, or the watch ends.
    fn spent_in(
        &self,
        hours: std::ops::Range<i64>,
        open: Option<Arc<dyn RecentRows>>,
        stop: &CancellationToken,
    ) -> Option<(BTreeMap<i64, Vec<HourCosts>>, bool)> {
        let store = CostStore::new(&self.config().log.dir, open, Limits { threads: 1, ..Limits::default() });
        let until = self.real.now() + LONGEST;
        let read = read(&store, hours, &|| stop.is_cancelled() || self.real.now() > until);
        if stop.is_cancelled() {
            return None;
        }
        self.alerts.watching.lock().failed += u64::from(!matches!(read, Ok((_, true))));
        read.inspect_err(|error| tracing::warn!(%error, "calls of some hours cannot be read: their spend is not watched until they can"))
            .ok()
    }
}

impl Alerts {
    /// Alerts told so far.
    fn told(&self) -> u64 {
        let book = self.book.lock();
        farthing_ledger::watch::AlertKind::ALL.iter().map(|kind| book.counts(*kind).told).sum()
    }

    /// Rows that were dropped since the last look, or a log that takes none, are money that may be in no bill.
    pub(super) fn log_seen(&self, dropped: u64, healthy: bool, now: Time) {
        let new = dropped.saturating_sub(std::mem::replace(&mut self.watching.lock().dropped, dropped));
        if new > 0 || !healthy {
            let problem =
                if healthy { format!("{new} rows were dropped") } else { format!("it cannot be written ({dropped} rows dropped so far)") };
            self.raise(billing_at_risk("request log", &problem, now));
        }
    }

    /// Takes hours in order and tells of what is still news.
    pub(super) fn take(&self, hours: std::ops::Range<i64>, rows: &BTreeMap<i64, Vec<HourCosts>>, now: Time) {
        let over = now.nanos().div_euclid(HOUR);
        let news = over - TOLD_HOURS;
        for hour in hours {
            let told = self.watching.lock().hour(hour, rows.get(&hour).map_or(&[], Vec::as_slice), now);
            if hour >= news {
                told.into_iter().for_each(|alert| self.raise(alert));
            }
            // What was likely before a restart counts.
            if hour >= over - Overrun::HOURS {
                self.predict(now, hour >= news);
            }
        }
    }

    /// Takes over what has come late of hours that were taken.
    pub(super) fn again(&self, hours: std::ops::Range<i64>, rows: &BTreeMap<i64, Vec<HourCosts>>) {
        let mut watching = self.watching.lock();
        hours.for_each(|hour| watching.again(hour, rows.get(&hour).map_or(&[], Vec::as_slice)));
    }

    /// Tells when the month is bound to cost more than it may, as far as the hour tells that was taken last.
    fn predict(&self, now: Time, is_news: bool) {
        let Some(limit) = self.config.load().per_month else { return };
        let told = self.watching.lock().overrun(limit);
        if let Some((told, over)) = told.filter(|_| is_news).and_then(|told| told.over.map(|over| (told, over))) {
            self.raise(overrun(("all spend", &told.month), (limit, over), told.quantiles, now));
        }
    }
}
