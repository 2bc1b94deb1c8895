//! One world, played in virtual time: as an experiment, or with all of its traffic on one variant.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use farthing_config::Salt;
use farthing_experiment::Order;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{ExperimentView, Inside};
use farthing_types::{Body, Clock, Span};
use farthing_upstream::{Origin, UpstreamSpec};
use http::Request;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Study;
use crate::world::{Answer, Asked, Ledger, Meter, PausedClock, START, Wire, configured};

/// The control loop's turns: what is kept at each of them goes to the disk.
const TURN: Span = Span::from_secs(60);

/// A request of a client.
pub struct Visit {
    /// When, from the start.
    pub at: Span,
    pub path: String,
    pub headers: Vec<(&'static str, String)>,
}

/// A unit in a window.
pub type Place = (String, i64);

/// What happened, by who was asked and by whom.
#[derive(Default)]
pub struct Book {
    /// Billed by the provider, and lost by stale answers, in the measured part of a window, USD.
    pub cost: HashMap<Place, f64>,
    /// Requests in the measured part of a window.
    pub asked: BTreeMap<Place, u32>,
    /// Billed by the provider in the measured part of a window.
    pub billed: HashMap<i64, f64>,
    /// What a whole window cost, its first part with it.
    pub whole: HashMap<i64, f64>,
}

/// The provider's count.
struct Counter {
    study: &'static dyn Study,
    seed: u64,
    begin: Instant,
    book: Mutex<Book>,
    nanos: Mutex<(i64, u64)>,
}

impl Counter {
    /// The window of a moment, and whether it is in its measured part.
    fn place(&self, at: Span) -> (i64, bool) {
        let (now, window) = ((START + at).nanos(), self.study.window().as_nanos() as i64);
        (now.div_euclid(window), now.rem_euclid(window) >= window / 6)
    }

    fn add(&self, unit: String, at: Span, usd: f64) {
        let (window, measured) = self.place(at);
        let mut book = self.book.lock();
        *book.whole.entry(window).or_default() += usd;
        if measured {
            *book.cost.entry((unit, window)).or_default() += usd;
        }
    }

    fn asked(&self, path: &str, at: Span) {
        let (window, measured) = self.place(at);
        if measured {
            *self.book.lock().asked.entry((self.study.unit(path), window)).or_default() += 1;
        }
    }
}

impl Meter for Counter {
    fn begin(&self) -> Instant {
        self.begin
    }

    fn bill(&self, asked: &Asked) -> Answer {
        let answer = self.study.answer(self.seed, asked);
        let usd = answer.nanos as f64 / 1e9;
        self.add(self.study.unit(&asked.path), asked.at, usd);
        let (window, measured) = self.place(asked.at);
        if measured {
            *self.book.lock().billed.entry(window).or_default() += usd;
        }
        let mut nanos = self.nanos.lock();
        *nanos = (nanos.0 + answer.nanos, nanos.1 + 1);
        answer
    }
}

/// What a world came to.
pub struct Played {
    pub view: ExperimentView,
    pub rows: String,
    pub book: Book,
}

/// Plays a world: as an experiment, or as decided for one of its variants from the same moment on.
///
/// # Panics
/// The ledger is not what the provider has counted.
pub fn play(study: &'static dyn Study, seed: u64, all: Option<&str>) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(played(study, seed, all))
}

async fn played(study: &'static dyn Study, seed: u64, all: Option<&str>) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let counter = Arc::new(Counter { study, seed, begin, book: Mutex::default(), nanos: Mutex::default() });
    let inside = Arc::new(start(&counter, dir.path()));
    let mut asks = JoinSet::new();
    let (window, (before, measured)) = (study.window(), study.windows());
    let lasts = window * (before + measured);
    // In the middle of a window.
    let (ordered, mut next) = (window * before - window / 3, TURN.max(window / 8));
    let mut order_at = Some(ordered);
    for visit in study.visits(seed, lasts) {
        if let Some(at) = order_at.take_if(|at| *at <= visit.at) {
            sleep_until(begin + at).await;
            order(&inside, study.name(), all);
        }
        while next <= visit.at {
            sleep_until(begin + next).await;
            inside.control();
            next += TURN.max(window / 8);
        }
        sleep_until(begin + visit.at).await;
        asks.spawn(ask(inside.clone(), counter.clone(), visit));
        while asks.try_join_next().is_some() {}
    }
    // Beyond the first part of a window, in which something can still be found out about the one before.
    sleep_until(begin + lasts + window / 4).await;
    asks.join_all().await;
    inside.settle().await;
    inside.control();
    if all.is_none() {
        inside.order_experiment(study.name(), &Order::Stop, "it has run long enough").unwrap();
    }
    let mut ledger = Ledger::default();
    ledger.add(&inside);
    let (nanos, calls) = *counter.nanos.lock();
    assert_eq!((ledger.nanos, ledger.calls, ledger.unpriced), (nanos, calls, 0), "{}", study.name());
    let (view, rows) = (inside.experiment(study.name()).unwrap(), inside.experiment_rows(study.name()).unwrap());
    let book = std::mem::take(&mut *counter.book.lock());
    Played { view, rows, book }
}

fn start(counter: &Arc<Counter>, dir: &Path) -> Inside {
    let mut config = configured(&format!("seed = {}\n{}", counter.seed, counter.study.config()), dir);
    config.salt = Salt::default();
    // On a busy machine predictors would be late, and the rule decide.
    config.models.deadline = Span::from_secs(60);
    config.models.dir = counter.study.models().map_or_else(|| dir.join("models"), Into::into);
    let wire = counter.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
    // Without the native library, so that all machines decide alike: tables hold the same trees.
    let store = Store::open(config.models.dir.clone(), StoreOptions::default());
    let clock: Arc<dyn Clock> = Arc::new(PausedClock(counter.begin));
    Inside::timed(&Arc::new(config), clock, store, &client).unwrap()
}

/// What an operator does.
fn order(inside: &Inside, name: &str, all: Option<&str>) {
    inside.order_experiment(name, &Order::Start, "to know what it is worth").unwrap();
    if let Some(variant) = all {
        inside.order_experiment(name, &Order::Decide { variant: variant.into() }, "to know the truth").unwrap();
    }
}

async fn ask(inside: Arc<Inside>, counter: Arc<Counter>, visit: Visit) {
    let asked_at = counter.begin.elapsed();
    counter.asked(&visit.path, asked_at);
    let mut request = Request::builder().uri(&visit.path).header("host", "trial.test");
    for (name, value) in &visit.headers {
        request = request.header(*name, value);
    }
    let response = inside.ask(request.body(Body::empty()).unwrap()).await;
    assert!(response.status().is_success(), "{}: {}", visit.path, response.status());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let lost = counter.study.stale_usd(counter.seed, (&visit.path, &body), counter.begin.elapsed());
    if lost > 0.0 {
        counter.add(counter.study.unit(&visit.path), asked_at, lost);
    }
}
