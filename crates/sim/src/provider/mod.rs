//! Simulated paid APIs on loopback: documents that change by a known truth, a price per call, latency, errors.

mod chat;
pub mod document;
mod embeddings;
pub mod messages;
mod meter;
pub mod prompts;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::{Clock, Money, Span};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use chat::{ChatPrices, ChatRequest};
pub use meter::{Meter, Reading};

use self::prompts::{PromptKeeper, PromptPrices};
use crate::truth::Truth;

/// One simulated API.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiSpec {
    /// Name: the first segment of its paths, `/<name>/.../<key>`.
    pub name: Arc<str>,
    /// What each answered call costs, 304 included; injected errors are free.
    pub price: Money,
    /// Time until the head, in real time.
    pub latency: Span,
    /// Answers carry an ETag and honour `If-None-Match`.
    pub etag: bool,
    /// Answers carry Last-Modified.
    pub last_modified: bool,
    /// Each answer differs in content from every other.
    pub nondeterministic: bool,
    /// Answers carry `/generated_at`, which changes without meaning.
    pub volatile: bool,
    /// Explicit freshness (`Cache-Control: max-age`), seconds.
    pub max_age: Option<u64>,
    /// Length of the text in a document.
    pub bytes: usize,
}

impl ApiSpec {
    /// An API with an ETag, 300 bytes a document and no latency.
    pub fn new(name: impl Into<Arc<str>>, price: Money) -> Self {
        Self {
            name: name.into(),
            price,
            latency: Span::ZERO,
            etag: true,
            last_modified: false,
            nondeterministic: false,
            volatile: false,
            max_age: None,
            bytes: 300,
        }
    }
}

/// Shortest prefix of messages that is kept, tokens.
const MIN_KEPT: u64 = 1_024;

struct Api {
    spec: ApiSpec,
    meter: Meter,
    /// Share of calls that fail, in millionths.
    errors_ppm: AtomicU64,
}

struct Shared {
    apis: Vec<Api>,
    chat: ChatPrices,
    chat_meter: Meter,
    messages: PromptPrices,
    message_meter: Meter,
    kept: Mutex<PromptKeeper>,
    embedded: AtomicU64,
    truth: Arc<dyn Truth>,
    clock: Arc<dyn Clock>,
    serial: AtomicU64,
}

/// A running provider. Stops when dropped; [`Provider::stop`] also waits.
pub struct Provider {
    addr: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Provider {
    /// Listens on a free loopback port. `apis[i]` serves the documents of the truth's route `i`; its clock dates changes.
    ///
    /// # Errors
    /// No port could be opened.
    pub async fn start(apis: Vec<ApiSpec>, truth: Arc<dyn Truth>, clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let apis = apis.into_iter().map(|spec| Api { spec, meter: Meter::default(), errors_ppm: AtomicU64::new(0) }).collect();
        // 2.50 and 10 dollars per million tokens.
        let chat = ChatPrices { input: per_million(2_500_000_000), output: per_million(10_000_000_000) };
        // Anthropic's proportions: writes 1.25 and 2 times plain input, reads a tenth of it.
        let messages = PromptPrices {
            input: per_million(3_000_000_000),
            read: per_million(300_000_000),
            write: per_million(3_750_000_000),
            write_1h: per_million(6_000_000_000),
            output: per_million(15_000_000_000),
        };
        let shared = Arc::new(Shared {
            apis,
            chat,
            chat_meter: Meter::default(),
            messages,
            message_meter: Meter::default(),
            kept: Mutex::new(PromptKeeper::new(MIN_KEPT)),
            embedded: AtomicU64::new(0),
            truth,
            clock,
            serial: AtomicU64::new(0),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(serve::accept(listener, shared.clone(), tasks.clone(), stop.clone()));
        Ok(Self { addr, shared, tasks, stop })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
    /// What it charges for chat tokens.
    pub fn chat_prices(&self) -> ChatPrices {
        self.shared.chat
    }
    /// The meter of API number `api`; zeros when there is none.
    pub fn reading(&self, api: usize) -> Reading {
        self.shared.apis.get(api).map(|a| a.meter.read()).unwrap_or_default()
    }
    /// The meter of the chat endpoint.
    pub fn chat_reading(&self) -> Reading {
        self.shared.chat_meter.read()
    }
    /// What it charges for messages.
    pub fn message_prices(&self) -> PromptPrices {
        self.shared.messages
    }
    /// The meter of the endpoint of messages.
    pub fn message_reading(&self) -> Reading {
        self.shared.message_meter.read()
    }
    /// Texts of which embeddings were computed; their money is in the chat endpoint's meter.
    pub fn embedded(&self) -> u64 {
        self.shared.embedded.load(Ordering::Relaxed)
    }
    /// The whole bill.
    pub fn bill(&self) -> Money {
        self.shared.apis.iter().map(|a| a.meter.read().billed).sum::<Money>() + self.chat_reading().billed + self.message_reading().billed
    }
    /// From now on, answers this share of API number `api`'s calls with 503.
    pub fn fail(&self, api: usize, share: f64) {
        if let Some(api) = self.shared.apis.get(api) {
            api.errors_ppm.store((share.clamp(0.0, 1.0) * 1e6) as u64, Ordering::Relaxed);
        }
    }
    /// Stops listening and waits for open connections to end.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A rate from nano-dollars per million units.
fn per_million(nanos: i64) -> farthing_types::Rate {
    // Nano-dollars per million units are femto-dollars per unit: fifteen decimals.
    format!("0.{nanos:015}").parse().unwrap_or_default()
}
