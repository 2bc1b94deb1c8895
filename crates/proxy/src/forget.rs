//! Forgets a tenant: everything of it in cache, L2, log, journal, statistics and totals.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use farthing_cache::Purge;
use farthing_cache::l2::Tier;
use farthing_config::Config;
use farthing_contract::statistics::{FOLDER, Saved};
use farthing_ledger::archive::{self, Forgotten};
use farthing_types::{Clock, RealClock, Span, Time};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use crate::StartError;
use crate::alerts::Alerts;
use crate::assembly::{KEEP_EXPIRED, Proxy, keyer, open_log};
use crate::changes::ChangeBook;
use crate::defer::Place;
use crate::l2::L2;
use crate::limits::Limits;
use crate::sinks::Sinks;
use crate::state::State;

/// How long the log may take to write what it holds.
const LOG_WAIT: Span = Span::from_secs(30);

/// What was removed, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ForgetReport {
    /// Whether all is done that can be.
    pub finished: bool,
    /// Answers in memory.
    pub cache_entries: u64,
    /// Values in L2; `None` without one.
    pub l2_values: Option<u64>,
    /// Rows of the log, by table.
    pub log_rows: BTreeMap<&'static str, u64>,
    /// Files of the log removed or written anew.
    pub log_files: u64,
    /// Rows removed from sinks of the log, by sink.
    pub sink_rows: BTreeMap<String, u64>,
    /// Statistics of keys that only this tenant used, live and saved.
    pub key_statistics: u64,
    /// Whether there were totals of it since start.
    pub totals: bool,
    /// Counters of budgets that it had for itself; their money begins anew. Of a proxy that does not run, lines of the file.
    pub budget_counters: u64,
    /// What may still hold something of it, and what to do.
    pub left: Vec<String>,
}

/// The tenant that is being forgotten, or was last.
#[derive(Debug, Default)]
pub(crate) struct Forgetting(Mutex<Option<(String, watch::Receiver<ForgetReport>)>>);

impl Proxy {
    /// Forgets a tenant, by the name that the log has for it. Asked again meanwhile, it waits for the same work; what has not come to its
    /// end within `patience` goes on, and the answer is not `finished`.
    pub async fn forget(&self, tenant: &str, patience: Span) -> ForgetReport {
        let mut report = self.begin_to_forget(tenant);
        let finished = tokio::time::timeout(patience, report.wait_for(|report| report.finished)).await;
        match finished {
            Ok(Ok(report)) => report.clone(),
            Ok(Err(_)) => {
                ForgetReport { finished: true, left: vec!["forgetting broke off; ask again".to_owned()], ..ForgetReport::default() }
            }
            Err(_) => ForgetReport::default(),
        }
    }

    fn begin_to_forget(&self, tenant: &str) -> watch::Receiver<ForgetReport> {
        let state = self.state();
        let mut last = state.forgetting.0.lock();
        if let Some((of, report)) = &*last
            && of == tenant
            && !report.borrow().finished
            && report.has_changed().is_ok()
        {
            return report.clone();
        }
        let (done, report) = watch::channel(ForgetReport::default());
        *last = Some((tenant.to_owned(), report.clone()));
        let (own, tenant) = (Arc::clone(state), tenant.to_owned());
        state.tasks.spawn(async move {
            let report = forget(&own, &tenant).await;
            tracing::info!(rows = report.log_rows.values().sum::<u64>(), left = report.left.len(), "a tenant was forgotten");
            let _nobody_waits = done.send(report);
        });
        report
    }
}

/// In the order in which nothing comes back: first what answers, then what was written of answers.
pub(crate) async fn forget(state: &Arc<State>, tenant: &str) -> ForgetReport {
    let now = state.clock.now();
    let mut report = ForgetReport { finished: true, ..ForgetReport::default() };
    // Here alone: the others are told to forget by who tells this one, and a purge that is told names the tenant once more.
    report.cache_entries = state.cache.purge(&Purge::Tenant(tenant.into()), false, now).entries as u64;
    if let Some(fleet) = &state.fleet {
        fleet.hearing().forget_tenant(tenant);
        report.left.push(fleet.names_tenants());
    }
    state.shortcuts.clear();
    state.live().clients.tokens.forget();
    state.prefetch.forget();
    state.warmth.forget();
    if let Some(l2) = &state.l2 {
        report.erase(&l2.tier, tenant, now).await;
    }
    if let Some(log) = state.log.clone() {
        let flushed = tokio::task::spawn_blocking(move || log.flush(LOG_WAIT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            report.left.push("rows of the log that could not be written to files yet; forget again when the log is healthy".to_owned());
        }
        let keys = report.files(&state.config().log.dir, tenant).await;
        report.key_statistics += state.cache.forget_key_stats(&keys) as u64;
        report.sinks(&state.sinks, tenant).await;
    }
    report.totals = state.totals.forget(tenant);
    match state.budgets.forget(tenant).await {
        Ok(counters) => report.budget_counters = counters,
        Err(fault) => report.left.push(format!("budgets: {fault}; forget again when they can be written down")),
    }
    let (alerts, limits, of) = (state.alerts.clone(), state.live().limits.clone(), tenant.to_owned());
    let changes = state.changes.clone();
    let stay = tokio::task::spawn_blocking(move || {
        alerts.forget_tenant(&of);
        (limits.forget(&of, now), changes.forget(&of))
    });
    match stay.await {
        Ok((stay, changes)) => {
            report.limits(stay);
            report.changes(changes);
        }
        Err(error) => report.left.push(format!("limits, alerts and the audit log: {error}; forget again")),
    }
    report.batches(&state.config(), tenant).await;
    report
}

/// Forgets a tenant in the folders of a proxy that does not run.
///
/// # Errors
/// A process writes the log, or a folder cannot be opened.
pub async fn forget_offline(config: &Config, tenant: &str) -> Result<ForgetReport, ForgetError> {
    let dir = &config.log.dir;
    if archive::is_written(dir) {
        return Err(ForgetError::Running(dir.display().to_string()));
    }
    let real = Arc::new(RealClock::default());
    let mut report = ForgetReport { finished: true, ..ForgetReport::default() };
    if config.log.enabled && dir.is_dir() {
        // Makes files of what a process that died left in the journal.
        let log = open_log(config, &real)?;
        let _closed = tokio::task::spawn_blocking(move || log.map(farthing_ledger::LogWriter::close)).await;
        report.files(dir, tenant).await;
        report.sinks(&Sinks::open(config, real.clone(), real.clone())?, tenant).await;
    }
    if let Some(l2) = &config.l2 {
        let l2 = L2::open(l2, (keyer(config).0, KEEP_EXPIRED), real.now()).await.map_err(StartError::from)?;
        report.erase(&l2.tier, tenant, real.now()).await;
        l2.close().await;
    }
    report.state(config, tenant).await;
    Ok(report)
}

/// Why nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// A process writes the log.
    #[error("a process writes the log in `{0}`: ask it to forget (without --offline), or end it first")]
    Running(String),
    /// A folder cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
}

impl ForgetReport {
    async fn erase(&mut self, tier: &Tier, tenant: &str, now: Time) {
        match tier.erase(tenant, now).await {
            Ok(values) => self.l2_values = Some(values),
            Err(fault) => self.left.push(format!(
                "L2 ({}) could not be gone through ({}): what is there is not served any more and expires by itself, a Cluster is never gone through; else forget again when it answers",
                tier.kind(),
                fault.as_str()
            )),
        }
    }

    /// Removes what is in the log's folder; the keys that only this tenant used.
    async fn files(&mut self, dir: &Path, tenant: &str) -> HashSet<u64> {
        let (folder, of) = (dir.to_owned(), tenant.to_owned());
        let removed = tokio::task::spawn_blocking(move || {
            let forgotten = archive::forget(&folder, &of)?;
            let saved = forget_saved(&folder.join(FOLDER), &forgotten.keys);
            Ok::<_, archive::ArchiveError>((forgotten, saved))
        });
        match removed.await {
            Ok(Ok((forgotten, saved))) => self.took(forgotten, saved),
            Ok(Err(error)) => self.not_done(&error),
            Err(error) => self.not_done(&error),
        }
    }

    /// Removes what is in the folder of the instance.
    async fn state(&mut self, config: &Config, tenant: &str) {
        let (dir, of, budgets) = (config.state_dir.clone(), tenant.to_owned(), config.budgets.clone());
        let (alerts, limits, now) = (Alerts::new(config), Limits::new(config), RealClock::default().now());
        let changes = ChangeBook::new(config);
        let removed = tokio::task::spawn_blocking(move || {
            alerts.forget_saved(&of);
            limits.recall(now);
            (limits.forget(&of, now), farthing_ledger::budget::forget_in(&dir, &of, &budgets), changes.forget(&of))
        });
        match removed.await {
            Ok((stay, counters, changes)) => {
                self.limits(stay);
                self.changes(changes);
                self.batches(config, tenant).await;
                match counters {
                    Ok(counters) => self.budget_counters = counters,
                    Err(error) => self.left.push(format!("budgets: {error}; forget again")),
                }
            }
            Err(error) => self.left.push(format!("budgets, limits and alerts: {error}; forget again")),
        }
    }

    /// Lines of the audit log stay, without its name.
    fn changes(&mut self, done: std::io::Result<u64>) {
        if let Err(error) = done {
            self.left.push(format!("the audit log: {error}; forget again"));
        }
    }

    /// What is at the provider's batch endpoint is billed to whom it names: that stays until it is.
    async fn batches(&mut self, config: &Config, tenant: &str) {
        let Some(place) = Place::below(&config.state_dir) else { return };
        let of = tenant.to_owned();
        match tokio::task::spawn_blocking(move || place.naming(&of)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => self.left.push(format!(
                "{count} batches at the provider are not billed yet and name it; forget again when they have ended (of a route that does not defer any more: look up the bill, then remove the file below state_dir/defer)"
            )),
            Ok(Err(error)) => self.left.push(format!("batches: {error}; forget again")),
            Err(error) => self.left.push(format!("batches: {error}; forget again")),
        }
    }

    fn limits(&mut self, stay: usize) {
        if stay > 0 {
            self.left.push(format!(
                "limits: {stay} counters stay until what they have given has come back, or it could be had twice; forget again then"
            ));
        }
    }

    /// Removes what was shipped. After the log's files: what is shipped from now on is rid of the tenant.
    async fn sinks(&mut self, sinks: &Sinks, tenant: &str) {
        for (sink, done) in sinks.forget(tenant).await {
            match done {
                Ok(erased) => drop(self.sink_rows.insert(sink, erased.rows.values().sum())),
                Err(fault) => self.left.push(format!("sink `{sink}`: {fault}; forget again when it answers")),
            }
        }
    }

    fn not_done(&mut self, error: &dyn std::fmt::Display) -> HashSet<u64> {
        self.left.push(format!("the log: {error}; forget again"));
        HashSet::new()
    }

    fn took(&mut self, forgotten: Forgotten, saved: io::Result<u64>) -> HashSet<u64> {
        match saved {
            Ok(keys) => self.key_statistics += keys,
            Err(error) => self.left.push(format!("saved statistics: {error}; forget again")),
        }
        if forgotten.segments_left > 0 {
            let of = "segments of the journal, of another process that shares the folder or written meanwhile; forget there, too, and again here";
            self.left.push(format!("{} {of}", forgotten.segments_left));
        }
        self.left.extend(forgotten.skipped.into_iter().map(|file| format!("a file that cannot be read: {file}; remove it by hand")));
        (self.log_rows, self.log_files) = (forgotten.rows, forgotten.files);
        forgotten.keys
    }
}

/// Writes the saved statistics anew without these keys; how many statistics that were.
fn forget_saved(dir: &Path, keys: &HashSet<u64>) -> io::Result<u64> {
    let mut forgotten = 0;
    let files = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        files => files?,
    };
    for path in files.map(|file| file.map(|file| file.path())).collect::<io::Result<Vec<_>>>()? {
        if path.extension().is_none_or(|end| end != "stats") {
            continue;
        }
        // What this build cannot read it does not use either.
        let Ok(mut saved) = Saved::decode(&fs::read(&path)?) else { continue };
        let before = saved.keys.len();
        saved.keys.retain(|state| !keys.contains(&state.key));
        if saved.keys.len() < before {
            crate::files::write(&path, &saved.encode())?;
            forgotten += (before - saved.keys.len()) as u64;
        }
    }
    Ok(forgotten)
}
