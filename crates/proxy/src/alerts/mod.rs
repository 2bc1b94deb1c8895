//! Alerts about money: found off the request path, told to log, metrics, admin API and a webhook (J5).

mod deliver;
mod month;
#[cfg(test)]
mod tests;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use farthing_config::{AlertsConfig, Config};
use farthing_ledger::watch::{Alert, AlertKind, Book, BookCounts, BudgetLevels, Delivery, Told};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use watch::{MonthForecast, WatchStats};

use crate::StartError;
use crate::files;
use crate::state::State;

/// Alerts that wait to be posted at most; more are not posted, which is counted.
const MOST_WAITING: usize = 256;
const FILE: &str = "alerts.json";

/// The alerts of an instance.
pub struct Alerts {
    config: ArcSwap<AlertsConfig>,
    book: Mutex<Book>,
    /// Where the book is kept; `None`: nowhere.
    path: Option<PathBuf>,
    saving: Mutex<()>,
    waiting: (mpsc::Sender<Told>, Mutex<Option<mpsc::Receiver<Told>>>),
    watching: Mutex<watch::Watching>,
    budgets: Mutex<Option<Arc<dyn BudgetLevels>>>,
    counts: Counts,
}

/// What became of deliveries, and of the book.
#[derive(Debug, Default)]
struct Counts {
    attempts: AtomicU64,
    failed: AtomicU64,
    delivered: AtomicU64,
    given_up: AtomicU64,
    unsaved: AtomicU64,
}

/// Figures for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertStats {
    /// Told and repeated, by kind.
    pub kinds: Vec<(&'static str, BookCounts)>,
    /// Attempts to post.
    pub attempts: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Alerts that were taken.
    pub delivered: u64,
    /// Alerts that were given up.
    pub given_up: u64,
    /// Times that the book could not be saved.
    pub unsaved: u64,
    /// Of the watch over spend.
    pub watch: WatchStats,
}

impl Alerts {
    /// Without anything told yet; nothing is read or begun before [`start`].
    pub fn new(config: &Config) -> Self {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let path = files::of_instance(config, FILE);
        Self {
            book: Mutex::default(),
            path,
            saving: Mutex::default(),
            waiting: (sender, Mutex::new(Some(receiver))),
            watching: Mutex::new(watch::Watching::new(&config.alerts)),
            config: ArcSwap::from_pointee(config.alerts.clone()),
            budgets: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// What is told of money is told by this from now on; where it is posted to stays as it was.
    pub fn amend(&self, config: &AlertsConfig) {
        self.config.store(Arc::new(config.clone()));
    }

    /// Who tells of budgets that have reached a level.
    pub fn set_budgets(&self, budgets: Arc<dyn BudgetLevels>) {
        *self.budgets.lock() = Some(budgets);
    }

    /// Tells of something, unless it was told of lately. Never blocks.
    pub fn raise(&self, alert: Alert) {
        let (posted, repeat) = {
            let config = self.config.load();
            (config.webhook.is_some(), config.repeat)
        };
        let Some(told) = self.book.lock().raise(alert, repeat, posted) else { return };
        let Alert { id, kind, subject, summary, .. } = &told.alert;
        tracing::warn!(kind = kind.as_str(), %id, %subject, %summary, "alert");
        if posted {
            self.queue(told);
        }
    }

    fn queue(&self, told: Told) {
        let number = told.number;
        if self.waiting.0.try_send(told).is_err() {
            self.counts.given_up.fetch_add(1, Ordering::Relaxed);
            self.note(number, Delivery::GivenUp { attempts: 0, problem: format!("more than {MOST_WAITING} alerts wait to be posted") });
        }
    }

    fn note(&self, number: u64, delivery: Delivery) {
        self.book.lock().note(number, delivery);
    }

    /// The alerts that are kept, newest first, with what became of them.
    pub fn list(&self) -> Vec<Told> {
        self.book.lock().list()
    }

    /// What the month will have cost, of all or of a tenant; `None` with less than two weeks known.
    pub fn forecast(&self, tenant: Option<&str>) -> Option<MonthForecast> {
        self.watching.lock().forecast(tenant, self.config.load().per_month)
    }

    /// Forgets a tenant: its alerts, also in the saved book, and what is known of its spend. Blocks.
    pub fn forget_tenant(&self, tenant: &str) {
        self.watching.lock().forget_tenant(tenant);
        if self.book.lock().forget_tenant(tenant) > 0 {
            self.save();
        }
    }

    /// The same for a proxy that does not run. Blocks.
    pub fn forget_saved(&self, tenant: &str) {
        self.recall();
        self.forget_tenant(tenant);
    }

    /// Figures for metrics.
    pub fn stats(&self) -> AlertStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let book = self.book.lock();
        AlertStats {
            kinds: AlertKind::ALL.iter().map(|kind| (kind.as_str(), book.counts(*kind))).collect(),
            attempts: read(&self.counts.attempts),
            failed: read(&self.counts.failed),
            delivered: read(&self.counts.delivered),
            given_up: read(&self.counts.given_up),
            unsaved: read(&self.counts.unsaved),
            watch: self.watching.lock().stats(),
        }
    }

    /// Reads the book of the run before. One that cannot be read is put aside, so that it can be looked at. Blocks.
    fn recall(&self) {
        let Some(path) = &self.path else { return };
        let read = match files::read(path) {
            Ok(None) => return,
            Ok(Some(bytes)) => Book::read(&bytes),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(book) => {
                let pending = book.pending();
                *self.book.lock() = book;
                if self.config.load().webhook.is_some() {
                    pending.into_iter().for_each(|told| self.queue(told));
                }
            }
            Err(problem) => {
                let aside = path.with_extension("json.unreadable");
                let _ = std::fs::rename(path, &aside);
                tracing::warn!(problem, file = %aside.display(), "the book of alerts cannot be read: some may be told again");
            }
        }
    }

    /// Writes the book. Blocks.
    fn save(&self) {
        let Some(path) = &self.path else { return };
        // One at a time: what is written later is newer.
        let _saving = self.saving.lock();
        let bytes = self.book.lock().write();
        if let Err(error) = files::write(path, &bytes) {
            self.counts.unsaved.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, file = %path.display(), "the book of alerts cannot be saved: after a restart some may be told again");
        }
    }
}

/// Begins to watch and to post.
///
/// # Errors
/// A webhook that cannot be called as it is written.
pub fn start(state: &Arc<State>, stop: &CancellationToken) -> Result<(), StartError> {
    let alerts = &state.alerts;
    let config = alerts.config.load_full();
    if let (Some(webhook), Some(waiting)) = (&config.webhook, alerts.waiting.1.lock().take()) {
        let post = deliver::Post::new(webhook, config.webhook_key.as_ref(), state.clock.clone())?;
        let posting = deliver::run((alerts.clone(), post), waiting, (state.draw, state.clock.clone()));
        let stopped = stop.clone();
        state.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = posting => {}
            }
        });
    }
    state.tasks.spawn(watch::run(state.clone(), stop.clone()));
    Ok(())
}
