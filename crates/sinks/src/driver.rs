//! The loop behind every sink: looks at the log's folder and ships what the sink lacks, oldest first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use farthing_contract::log::Table;
use farthing_ledger::archive::{FinishedFile, HourFolder, finished, hour_folders};
use farthing_types::{Clock, Draw, DrawKind, Span, Time};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backlog::{Backlog, HourKey, Lacking, first_day};
use crate::fault::{blocking, unreadable, within};
use crate::health::Health;
use crate::sink::within_day;
use crate::{Fault, LogId, Shipment, Sink, SinkSpec, SinkState, Work};

/// How often all hours are looked at; in between only the last two days and what is known to wait. Rows of older hours come late only
/// when a process takes over the journal of one that died.
const SWEEP: Span = Span::from_secs(600);
const HOURS_OF_A_DAY: i64 = 24;
const HOUR_NS: i64 = 3_600_000_000_000;
/// Days of which it is remembered between two rounds what the sink holds: of each table today, yesterday and one that is caught up with.
const REMEMBERED: usize = 12;
/// Files that are set aside at most; more are a fault of the sink.
const SET_ASIDE: usize = 100;

/// Days since 1970 UTC, and a table by its place among those that are shipped.
type DayKey = (i64, usize);

/// The log that is shipped, and what is needed to do so.
pub struct Source {
    /// Its folder.
    pub dir: PathBuf,
    /// How long retention keeps the rows of a table there; tables that stay for ever are not named.
    pub kept: BTreeMap<&'static str, Span>,
    /// The time of rows.
    pub clock: Arc<dyn Clock>,
    /// The time of the file system.
    pub real: Arc<dyn Clock>,
    /// Jitter of the waits.
    pub draw: Draw,
}

/// Ships one log to one sink.
pub struct Driver {
    sink: Arc<dyn Sink>,
    spec: SinkSpec,
    source: Arc<Source>,
    state: Arc<SinkState>,
    log: Option<LogId>,
    prepared: bool,
    backlog: Backlog,
    health: Health,
    /// What the sink holds, by day and table, as it last said.
    held: HashMap<DayKey, HashSet<String>>,
    /// Of which of these it has been asked since the last fault.
    asked: HashSet<DayKey>,
    /// Files that cannot be shipped for what is in them.
    aside: HashSet<PathBuf>,
    swept: Option<Instant>,
}

impl Driver {
    /// Of a sink that [`crate::open`] has made.
    pub fn new(sink: Arc<dyn Sink>, spec: SinkSpec, source: Arc<Source>) -> Self {
        let state = Arc::new(SinkState::new(spec.name.clone(), sink.kind()));
        Self {
            sink,
            spec,
            source,
            state,
            log: None,
            prepared: false,
            backlog: Backlog::default(),
            health: Health::default(),
            held: HashMap::new(),
            asked: HashSet::new(),
            aside: HashSet::new(),
            swept: None,
        }
    }

    /// What others see of it.
    pub fn state(&self) -> Arc<SinkState> {
        self.state.clone()
    }

    /// Ships until `stop`, and then `last`, once: what the log's writer finishes at its end.
    pub async fn run(mut self, stop: CancellationToken, last: CancellationToken) {
        loop {
            let wait = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                wait = self.turn() => wait,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        last.cancelled().await;
        // The end waits for no sink that has not answered for long.
        if !self.health.is_open() {
            self.turn().await;
        }
    }

    /// One round; how long to wait until the next.
    async fn turn(&mut self) -> Span {
        match self.round().await {
            Ok(()) => {
                self.recovered();
                self.spec.interval
            }
            Err(fault) => {
                let wait = self.failed(fault);
                self.look_alone().await;
                wait
            }
        }
    }

    fn recovered(&mut self) {
        if self.health.is_open() {
            tracing::info!(sink = &*self.spec.name, "the sink takes files again");
        }
        self.health.done();
        let complete = (self.backlog.waiting() == 0).then(|| self.source.clock.now());
        self.state.change(|stats| {
            (stats.failures, stats.open) = (0, false);
            stats.complete = complete.or(stats.complete);
        });
    }

    fn failed(&mut self, fault: Fault) -> Span {
        // What the sink holds is asked anew: an answer may have been lost, or what it had said it holds.
        self.asked.clear();
        self.backlog.doubt(self.yesterday());
        self.prepared = false;
        let attempt = self.health.failures();
        let uniform = self.source.draw.uniform(DrawKind::Jitter, &self.spec.name, u128::from(attempt), self.source.real.now().nanos());
        let was_open = self.health.is_open();
        let wait = self.health.failed(uniform);
        let waiting = self.backlog.waiting();
        if self.health.is_open() && !was_open {
            tracing::warn!(sink = &*self.spec.name, %fault, waiting, "the sink takes no files: they wait in the log, and it is tried now and then");
        }
        self.note(fault);
        let health = self.health;
        self.state.change(|stats| (stats.failures, stats.open) = (health.failures(), health.is_open()));
        wait
    }

    fn note(&self, fault: Fault) {
        tracing::debug!(sink = &*self.spec.name, %fault, "a sink's operation failed");
        let now = self.source.clock.now();
        self.state.change(|stats| {
            *stats.faults.entry(fault.reason).or_default() += 1;
            stats.last_fault = Some((fault, now));
        });
    }

    /// Looks at the log and ships what the sink lacks.
    ///
    /// # Errors
    /// The sink cannot work now. What was shipped until then is.
    pub async fn round(&mut self) -> Result<(), Fault> {
        let log = self.log().await?;
        if !self.prepared {
            self.within(self.sink.prepare()).await?;
            self.prepared = true;
        }
        let first_day = first_day(self.spec.retention, self.source.clock.now());
        let sweep = self.swept.is_none_or(|at| at.elapsed() >= SWEEP);
        if sweep {
            self.aside.clear();
            self.expire(first_day).await?;
        }
        let since = if sweep { i64::MIN } else { self.recent() };
        for (day, table) in self.look((Some(&log), since, first_day)).await? {
            self.ship_day(&log, day, table).await?;
        }
        if sweep {
            self.swept = Some(Instant::now());
        }
        self.report();
        Ok(())
    }

    /// Looks at the log without asking the sink: what waits while it does not answer is told all the same, by what it last said.
    async fn look_alone(&mut self) {
        let first_day = first_day(self.spec.retention, self.source.clock.now());
        if let Err(fault) = self.look((None, self.recent(), first_day)).await {
            self.note(fault);
        }
        self.report();
    }

    async fn log(&mut self) -> Result<LogId, Fault> {
        if let Some(log) = &self.log {
            return Ok(log.clone());
        }
        let dir = self.source.dir.clone();
        let log = blocking(move || LogId::of(&dir)).await?.map_err(unreadable)?;
        self.log = Some(log.clone());
        Ok(log)
    }

    /// An operation of the sink, within its deadline.
    async fn within<T>(&self, work: Work<'_, T>) -> Result<T, Fault> {
        within(self.spec.deadline, work).await?
    }

    async fn expire(&self, first_day: i64) -> Result<(), Fault> {
        if self.spec.retention.is_none() {
            return Ok(());
        }
        for table in &self.spec.tables {
            let days = self.within(self.sink.expire(table, first_day)).await?;
            if days > 0 {
                tracing::info!(sink = &*self.spec.name, table = table.name, days, "days removed from the sink: older than its retention");
            }
            self.state.change(|stats| stats.expired_days += days);
        }
        Ok(())
    }

    /// The first hour of yesterday.
    fn yesterday(&self) -> i64 {
        (self.source.clock.now().nanos().div_euclid(HOURS_OF_A_DAY * HOUR_NS) - 1) * HOURS_OF_A_DAY
    }

    /// The first hour of yesterday, or of the oldest that is known to wait.
    fn recent(&self) -> i64 {
        let yesterday = self.yesterday();
        let waiting = (0..self.spec.tables.len()).filter_map(|table| self.backlog.oldest_hour(table)).min();
        waiting.map_or(yesterday, |hour| hour.min(yesterday))
    }

    /// The days and tables of which the sink lacks files, oldest first. Without a log's id the sink is not asked.
    async fn look(&mut self, (log, since, first_day): (Option<&LogId>, i64, i64)) -> Result<Vec<DayKey>, Fault> {
        let mut lacking = Vec::new();
        let first = first_day.saturating_mul(HOURS_OF_A_DAY);
        self.backlog.forget_before(first);
        let since = since.max(first);
        for (place, table) in self.spec.tables.clone().into_iter().enumerate() {
            let dir = self.source.dir.clone();
            let folders = blocking(move || hour_folders(&dir, table, since..i64::MAX)).await?;
            let kept = self.source.kept.get(table.name).copied();
            let missed = self.backlog.gone(place, &folders, (since, kept, self.source.clock.now()));
            if missed > 0 {
                let sink = &*self.spec.name;
                tracing::error!(sink, table = table.name, files = missed, "files were removed by retention before they were shipped");
            }
            self.state.change(|stats| stats.missed += missed);
            let mut days: BTreeMap<i64, Vec<HourFolder>> = BTreeMap::new();
            for folder in self.backlog.changed(place, &folders) {
                days.entry(folder.hour.div_euclid(HOURS_OF_A_DAY)).or_default().push(folder.clone());
            }
            for (day, folders) in days {
                let files = self.look_at_day(log, (day, place), folders).await?;
                lacking.extend((files > 0).then_some((day, place)));
            }
            self.report();
        }
        lacking.sort_unstable();
        Ok(lacking)
    }

    /// How many files of a day the sink lacks.
    async fn look_at_day(&mut self, log: Option<&LogId>, (day, place): DayKey, folders: Vec<HourFolder>) -> Result<u64, Fault> {
        if let Some(log) = log {
            self.ask(log, (day, place)).await?;
        }
        let mut all = 0;
        for folder in folders {
            // Not asked is not sure: then it is looked at again.
            let now = log.map_or(folder.changed, |_| self.source.real.now());
            let files = self.lacking(&folder, (day, place)).await?;
            let lacking = Lacking { files: files.len() as u64, oldest: files.iter().map(|file| file.modified).min() };
            self.backlog.looked(place, &folder, lacking, now);
            all += lacking.files;
        }
        Ok(all)
    }

    /// Has it known what the sink holds of a day.
    async fn ask(&mut self, log: &LogId, (day, place): DayKey) -> Result<(), Fault> {
        if self.asked.contains(&(day, place)) && self.held.contains_key(&(day, place)) {
            return Ok(());
        }
        let table = self.table(place);
        let held = self.within(self.sink.held(log, table, day)).await?;
        if self.held.len() >= REMEMBERED
            && let Some(oldest) = self.held.keys().min().copied()
        {
            self.held.remove(&oldest);
        }
        self.asked.retain(|key| self.held.contains_key(key));
        self.asked.insert((day, place));
        self.held.insert((day, place), held);
        Ok(())
    }

    fn table(&self, place: usize) -> &'static Table {
        self.spec.tables[place]
    }

    /// The files of an hour that the sink lacks.
    async fn lacking(&self, folder: &HourFolder, key: DayKey) -> Result<Vec<FinishedFile>, Fault> {
        let (folder, table) = (folder.clone(), self.table(key.1));
        let files = blocking(move || finished(&folder, table)).await?;
        let held = self.held.get(&key);
        Ok(files.into_iter().filter(|file| !held.is_some_and(|held| held.contains(&within_day(file)))).collect())
    }

    async fn ship_day(&mut self, log: &LogId, day: i64, place: usize) -> Result<(), Fault> {
        self.ask(log, (day, place)).await?;
        let (dir, table, first) = (self.source.dir.clone(), self.table(place), day * HOURS_OF_A_DAY);
        let folders = blocking(move || hour_folders(&dir, table, first..first + HOURS_OF_A_DAY)).await?;
        for folder in folders {
            for file in self.lacking(&folder, (day, place)).await? {
                if !self.aside.contains(&file.path) {
                    self.ship(log, (folder.hour, place), file).await?;
                    self.report();
                }
            }
        }
        Ok(())
    }

    async fn ship(&mut self, log: &LogId, key: HourKey, file: FinishedFile) -> Result<(), Fault> {
        let shipment = match self.within(self.sink.ship(log, &file)).await {
            Err(fault) if fault.reason.is_of_file() && self.aside.len() < SET_ASIDE => {
                self.set_aside(file, fault);
                return Ok(());
            }
            shipment => shipment?,
        };
        self.backlog.shipped(key);
        if let Some(held) = self.held.get_mut(&(key.0.div_euclid(HOURS_OF_A_DAY), key.1)) {
            held.insert(within_day(&file));
        }
        self.health.done();
        self.state.change(|stats| match shipment {
            Shipment::Shipped { rows, altered } => {
                (stats.files, stats.rows, stats.bytes) = (stats.files + 1, stats.rows + rows, stats.bytes + file.bytes);
                stats.altered += altered;
            }
            Shipment::Held => stats.repeated += 1,
            Shipment::Gone => {}
        });
        Ok(())
    }

    fn set_aside(&mut self, file: FinishedFile, fault: Fault) {
        tracing::warn!(sink = &*self.spec.name, file = %file.path.display(), %fault, "a file of the log cannot be shipped; the others are");
        self.aside.insert(file.path);
        self.note(fault);
    }

    fn report(&self) {
        let (waiting, oldest, aside, behind) = (self.backlog.waiting(), self.backlog.oldest(), self.aside.len() as u64, self.behind());
        let told = self.state.stats().behind.is_some();
        if let Some(behind) = behind.as_ref().filter(|_| !told) {
            tracing::warn!(sink = &*self.spec.name, behind, "the sink lags behind retention");
        }
        self.state.change(|stats| (stats.waiting, stats.oldest, stats.set_aside, stats.behind) = (waiting, oldest, aside, behind));
    }

    /// Said from half of the way on that retention gives rows that wait.
    fn behind(&self) -> Option<String> {
        let now = self.source.clock.now();
        let (table, age, kept) = self.spec.tables.iter().enumerate().find_map(|(place, table)| {
            let kept = *self.source.kept.get(table.name)?;
            let age = now.since(Time::from_nanos(self.backlog.oldest_hour(place)? * HOUR_NS));
            (age * 2 >= kept).then_some((table.name, age, kept))
        })?;
        let hours = |span: Span| span.as_secs() / 3_600;
        Some(format!(
            "files of `{table}` have waited for {} hours, and retention removes them after {}: mend the sink, or lengthen retention.{table}",
            hours(age),
            hours(kept)
        ))
    }
}
