//! A set of keys that is read again and again, in the background: requests are never held up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use farthing_config::JwksSource;
use farthing_types::{Clock, Span, Time};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::keyset::KeySet;

/// Longest time for one reading.
pub const DEADLINE: Span = Span::from_secs(10);
/// Shortest time between two readings that unknown keys cause: whoever makes names up must not make calls.
pub const GAP: Span = Span::from_secs(10);
/// Waits after failures: doubled from the first to the last.
const FIRST_PAUSE: Span = Span::from_secs(1);
const LONGEST_PAUSE: Span = Span::from_secs(60);

/// Reads a set of keys.
///
/// # Contract
/// It ends by itself or may be dropped at any time; the caller has a deadline.
pub trait FetchKeys: Send + Sync {
    /// One reading.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, String>>;
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The set's text.
    pub text: Bytes,
    /// How long it may be used without asking again, as it says.
    pub max_age: Option<Span>,
}

/// A set of keys as requests see it.
#[derive(Debug)]
pub struct Watched {
    config: JwksSource,
    name: Arc<str>,
    keys: ArcSwapOption<KeySet>,
    /// Counts the changes.
    generation: Arc<AtomicU64>,
    /// When it was read last, on the proxy's clock; ns since 1970, 0 before.
    read_at: AtomicI64,
    troubled: AtomicBool,
    trouble: Mutex<Option<String>>,
    asked: Notify,
    /// Whether a first reading has ended, well or not.
    tried: watch::Sender<bool>,
    /// Readings that worked.
    pub readings: AtomicU64,
    /// Readings that failed.
    pub failures: AtomicU64,
    /// Tokens that were checked by the last known keys because the set could not be read.
    pub by_last_known: AtomicU64,
}

impl Watched {
    /// A set that was not read yet.
    pub fn new(name: Arc<str>, config: JwksSource) -> Self {
        Self {
            config,
            name,
            keys: ArcSwapOption::empty(),
            generation: Arc::default(),
            read_at: AtomicI64::new(0),
            troubled: AtomicBool::new(false),
            trouble: Mutex::default(),
            asked: Notify::new(),
            tried: watch::Sender::new(false),
            readings: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            by_last_known: AtomicU64::new(0),
        }
    }

    /// The keys in force; `None` while none are known.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.load_full()
    }

    /// Counts the changes of the keys.
    pub const fn generation(&self) -> &Arc<AtomicU64> {
        &self.generation
    }

    /// Waits until a first reading has ended, well or not.
    pub async fn tried(&self) {
        let mut tried = self.tried.subscribe();
        let _ended = tried.wait_for(|tried| *tried).await;
    }

    /// Whether the last reading failed.
    pub fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// What is wrong and what happens instead, for the list of parts.
    pub fn problem(&self) -> Option<String> {
        let why = self.trouble.lock().clone().filter(|_| self.is_troubled())?;
        let instead = if self.keys.load().is_some() { "the last known keys are used" } else { "its tokens are refused (503)" };
        Some(format!("the keys of issuer `{}` cannot be read: {why}; {instead}", self.name))
    }

    /// A token says a key that is not known: asks for the set anew. False where that was done just now and would tell nothing new.
    pub fn ask(&self, now: Time) -> bool {
        let read_at = Time::from_nanos(self.read_at.load(Ordering::Relaxed));
        let worth = self.is_troubled() || now.since(read_at) >= GAP;
        if worth {
            self.asked.notify_one();
        }
        worth
    }

    /// Reads the set until it is told to stop.
    pub async fn run(self: Arc<Self>, fetch: Box<dyn FetchKeys>, clock: Arc<dyn Clock>, stop: CancellationToken) {
        let mut failed = 0u32;
        let mut good_until: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let read = tokio::select! {
                () = stop.cancelled() => return,
                read = timeout(DEADLINE, fetch.fetch()) => read.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}"))),
            };
            let pause = match read.and_then(|read| KeySet::read(&read.text).map(|keys| (keys, read.max_age))) {
                Ok((keys, max_age)) => {
                    failed = 0;
                    good_until = Some(Instant::now() + self.config.keep);
                    self.take(keys, clock.now());
                    max_age.map_or(self.config.refresh, |age| age.clamp(GAP, self.config.refresh))
                }
                Err(why) => {
                    self.fail(why, good_until.is_some_and(|until| Instant::now() >= until));
                    failed += 1;
                    pause(failed)
                }
            };
            self.tried.send_replace(true);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                // Not sooner than is decent, however many ask.
                () = async { self.asked.notified().await; tokio::time::sleep_until(began + GAP).await } => {}
            }
        }
    }

    pub(super) fn take(&self, keys: KeySet, now: Time) {
        let changed = self.keys.load().as_deref() != Some(&keys);
        if changed {
            tracing::info!(issuer = &*self.name, keys = keys.len(), "the issuer's keys are in force");
            self.keys.store(Some(Arc::new(keys)));
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.read_at.store(now.nanos(), Ordering::Relaxed);
        self.readings.fetch_add(1, Ordering::Relaxed);
        if self.troubled.swap(false, Ordering::Relaxed) {
            tracing::info!(issuer = &*self.name, "the issuer's keys can be read again");
        }
    }

    fn fail(&self, why: String, too_old: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.troubled.swap(true, Ordering::Relaxed) {
            tracing::warn!(issuer = &*self.name, why, "the issuer's keys cannot be read: the last known ones are used, if any");
        }
        *self.trouble.lock() = Some(why);
        if too_old && self.keys.swap(None).is_some() {
            self.generation.fetch_add(1, Ordering::Release);
            tracing::error!(issuer = &*self.name, "the last known keys are older than `jwks_keep`: the issuer's tokens are refused");
        }
    }
}

fn pause(failed: u32) -> Span {
    FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(LONGEST_PAUSE)
}
