//! The line in front of a provider: calls that bring lost copies back wait here for their turn. What decides is
//! [`farthing_policy::Refill`]; a call that waits for a token here is one that clients may join meanwhile.

mod saved;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use farthing_config::Provider;
use farthing_policy::{Demand, Refill, RefillBound, Turn};
use farthing_types::{Purpose, Span, Time};
use parking_lot::Mutex;
use tokio::time::Instant;

pub use saved::Losses;

/// Most bytes of request bodies that wait in one line; a call with more goes beyond the bound.
const MOST_BYTES: usize = 64 << 20;

/// The calls to one provider, over all its routes.
pub struct Pace {
    provider: Arc<str>,
    bound: RefillBound,
    /// Time here is the tokio timeline from this moment: that is what the provider sees, whatever clock decisions run on.
    began: Instant,
    refill: Mutex<Refill>,
    /// Whoever holds it is the first in line.
    first: tokio::sync::Mutex<()>,
    /// Of the bodies of calls that wait.
    bytes: AtomicUsize,
    held: AtomicU64,
    late: AtomicU64,
}

/// Figures of the line in front of a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct PaceStats {
    /// The provider.
    pub provider: Arc<str>,
    /// Calls per second, without refills; `None` while too little is known, and then nothing is held back.
    pub rate: Option<f64>,
    /// Calls that wait now.
    pub waiting: usize,
    /// Calls that had to wait since start.
    pub held: u64,
    /// Calls that went beyond the bound since start, because they would have come too late otherwise.
    pub late: u64,
}

/// Why a call goes out, as the bound sees it.
pub const fn demand(purpose: Purpose) -> Demand {
    match purpose {
        Purpose::Refill => Demand::Refill,
        Purpose::Warm => Demand::Warm,
        Purpose::User | Purpose::Refresh | Purpose::Prefetch | Purpose::Audit | Purpose::Holdout => Demand::Ordinary,
    }
}

impl Pace {
    /// The line in front of `provider`, which nobody has called yet.
    pub fn new(provider: &Provider) -> Self {
        let bound = RefillBound { factor: provider.refill, wait: provider.refill_wait };
        Self {
            provider: provider.name.clone(),
            bound,
            began: Instant::now(),
            refill: Mutex::new(Refill::new(bound, Time::ZERO)),
            first: tokio::sync::Mutex::default(),
            bytes: AtomicUsize::new(0),
            held: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    /// The line in front of the same provider by other bounds: its rate and its counts go on, and who waits in this one goes as it was told.
    pub fn under(&self, provider: &Provider) -> Self {
        let this = Self::new(provider);
        let PaceStats { rate, held, late, .. } = self.stats();
        if let Some(rate) = rate {
            this.recall(rate);
        }
        this.held.store(held, Relaxed);
        this.late.store(late, Relaxed);
        this
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// Figures now.
    pub fn stats(&self) -> PaceStats {
        let refill = self.refill.lock();
        PaceStats {
            provider: self.provider.clone(),
            rate: refill.rate(),
            waiting: refill.waiting(),
            held: self.held.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }

    /// Takes over the rate (1/s) that an earlier process has measured.
    pub fn recall(&self, rate: f64) {
        self.refill.lock().recall(rate, self.now());
    }

    /// Whether nothing is being brought back: then a call that can as well be left out holds up nobody.
    pub fn is_calm(&self) -> bool {
        self.refill.lock().is_calm(self.now())
    }

    /// Notes an attempt beyond a call's first.
    pub fn repeated(&self, purpose: Purpose) {
        self.refill.lock().called(demand(purpose), self.now());
    }

    /// Notes a call, after its turn if it has to wait for one: a refill for no longer than `patience`, while its body of so many `bytes` is held.
    pub async fn admit(&self, purpose: Purpose, (patience, bytes): (Span, usize)) {
        match demand(purpose) {
            Demand::Ordinary => self.refill.lock().called(Demand::Ordinary, self.now()),
            Demand::Warm => self.room().await,
            Demand::Refill => {
                let asked = self.now();
                if !self.turn(asked + patience.min(self.bound.wait), bytes).await {
                    self.late.fetch_add(1, Relaxed);
                }
                // Less is the work of the timer.
                if self.now().since(asked) >= Span::from_millis(1) {
                    self.held.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Waits for the turn of a refill that must have gone at `deadline`; false when it goes beyond the bound.
    async fn turn(&self, deadline: Time, bytes: usize) -> bool {
        let until = self.began + deadline.since(Time::ZERO);
        let place = Place::take(self, deadline, bytes);
        let in_line = async {
            let _first = self.first.lock().await;
            loop {
                let turn = self.refill.lock().turn(deadline, self.now());
                match turn {
                    Turn::Go { within } => return within,
                    Turn::Wait(span) => tokio::time::sleep(span).await,
                }
            }
        };
        let gone = match &place {
            Some(_) => tokio::time::timeout_at(until, in_line).await.ok(),
            None => None,
        };
        gone.unwrap_or_else(|| {
            self.refill.lock().called(Demand::Refill, self.now());
            false
        })
    }

    async fn room(&self) {
        loop {
            let turn = self.refill.lock().turn_to_warm(self.now());
            match turn {
                Turn::Go { .. } => return,
                Turn::Wait(span) => tokio::time::sleep(span).await,
            }
        }
    }
}

/// A place in the line, given back whatever becomes of the call.
struct Place<'a>(&'a Pace, usize);

impl<'a> Place<'a> {
    fn take(pace: &'a Pace, deadline: Time, bytes: usize) -> Option<Self> {
        let mut refill = pace.refill.lock();
        // Under the lock, so that two cannot pass the bound together.
        let fits = pace.bytes.load(Relaxed).saturating_add(bytes) <= MOST_BYTES;
        (fits && refill.enter(deadline)).then(|| {
            pace.bytes.fetch_add(bytes, Relaxed);
            Self(pace, bytes)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut refill = self.0.refill.lock();
        self.0.bytes.fetch_sub(self.1, Relaxed);
        refill.leave();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn pace(rate: f64) -> Pace {
        let pace = Pace::new(&Provider { refill_wait: Span::from_secs(4), ..Provider::default() });
        pace.recall(rate);
        pace
    }

    async fn took(pace: &Pace, purpose: Purpose, patience: Span) -> Span {
        let asked = Instant::now();
        pace.admit(purpose, (patience, 0)).await;
        asked.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn refills_go_one_by_one_and_in_order_while_others_pass() {
        let pace = pace(10.0);
        let patience = Span::from_secs(60);
        let waits = join_all((0..20).map(|_| took(&pace, Purpose::Refill, patience))).await;
        assert!(waits.is_sorted(), "{waits:?}");
        // 18 a second may go.
        assert!(!pace.is_calm(), "what can be left out is, for as long as something is brought back");
        assert!(waits[19] > Span::from_millis(1_000) && waits[19] < Span::from_millis(1_150), "{waits:?}");
        assert_eq!(took(&pace, Purpose::User, patience).await, Span::ZERO);
        let stats = pace.stats();
        assert_eq!((stats.held, stats.late, stats.waiting), (19, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_within_the_bound_goes_beyond_it() {
        let pace = pace(1.0);
        let waits = join_all((0..100).map(|_| took(&pace, Purpose::Refill, Span::from_secs(2)))).await;
        assert!(waits.iter().all(|wait| *wait <= Span::from_millis(2_001)), "{waits:?}");
        assert!(waits[50] > Span::from_millis(900), "spread, not all at the end or at once: {waits:?}");
        assert!(pace.stats().late > 90, "{:?}", pace.stats());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_no_place_behind() {
        let pace = pace(1.0);
        pace.admit(Purpose::Refill, (Span::from_secs(2), 0)).await;
        let gone = tokio::time::timeout(Span::from_millis(10), pace.admit(Purpose::Refill, (Span::from_secs(2), 0))).await;
        assert!(gone.is_err());
        assert_eq!(pace.stats().waiting, 0);
        assert!(took(&pace, Purpose::Refill, Span::from_secs(2)).await < Span::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_wait_are_bounded() {
        let pace = pace(1.0);
        let big = |_| async {
            let asked = Instant::now();
            pace.admit(Purpose::Refill, (Span::from_secs(2), MOST_BYTES / 4)).await;
            asked.elapsed()
        };
        let waits = join_all((0..10).map(big)).await;
        let at_once = waits.iter().filter(|wait| wait.is_zero()).count();
        assert!(at_once >= 5, "the first, and what is too much to hold: {waits:?}");
        assert_eq!(pace.bytes.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn warming_waits_for_room_for_as_long_as_it_takes() {
        let pace = pace(1.0);
        let started = Instant::now();
        for _ in 0..20 {
            pace.admit(Purpose::Warm, (Span::ZERO, 0)).await;
        }
        assert!(started.elapsed() > Span::from_secs(9), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_while_no_rate_is_known() {
        let pace = Pace::new(&Provider::default());
        let waits = join_all((0..500).map(|_| took(&pace, Purpose::Refill, Span::from_secs(60)))).await;
        assert!(waits.iter().all(Span::is_zero));
    }
}
