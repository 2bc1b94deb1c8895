//! The background task: connects, and probes what is broken until it answers again.

use std::sync::Arc;
use std::time::Duration;

use farthing_types::Span;
use redis::cmd;

use crate::handle::{Inner, send};
use crate::link::{Connector, Link};
use crate::slot;
use crate::stats::Fault;

/// The first pause between two tries, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Rounds of probes without success after which the connections are made anew.
const PATIENCE: u32 = 2;

pub(crate) struct Keeper {
    inner: Arc<Inner>,
    connector: Connector,
    /// How long making connections may take in all: several nodes may have to be tried.
    connecting: Span,
    probe_keys: Vec<String>,
}

impl Keeper {
    pub(crate) fn new(inner: Arc<Inner>, connector: Connector, connect_timeout: Span) -> Self {
        let probe_keys = (0..inner.breakers.len()).map(slot::probe_key).collect();
        Self { inner, connector, connecting: connect_timeout * 3, probe_keys }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            self.repair().await;
            // What connects and is of no use (a replica) is not connected to for ever without a pause.
            tokio::time::sleep(FIRST_PAUSE).await;
            self.inner.wake.notified().await;
        }
    }

    /// Returns when there is a connection and every breaker is closed. Connecting to a Cluster with a frozen node takes long; meanwhile the other
    /// nodes go on being probed.
    async fn repair(&self) {
        let (mut pause, mut in_vain) = (FIRST_PAUSE, 0);
        let mut connecting = None;
        loop {
            if connecting.is_none() && (in_vain >= PATIENCE || self.inner.link.read().is_none()) {
                connecting = Some(Box::pin(self.connect(pause)));
                in_vain = 0;
            }
            match self.probe().await {
                Probed::AllWell => return,
                Probed::Some => (in_vain, pause) = (in_vain + 1, FIRST_PAUSE),
                Probed::None => in_vain += 1,
            }
            tokio::select! {
                () = finished(&mut connecting) => connecting = None,
                () = self.inner.wake.notified() => pause = FIRST_PAUSE,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Makes the connections anew, and waits for `pause` where that fails. The old ones stay until then: in a Cluster they may serve most keys.
    async fn connect(&self, pause: Duration) {
        let error = match tokio::time::timeout(self.connecting, self.connector.connect()).await {
            Ok(Ok(link)) => {
                *self.inner.link.write() = Some(link);
                self.inner.counters.connected();
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(error, "redis cannot be reached");
        tokio::time::sleep(pause).await;
    }

    /// Asks behind every open breaker.
    async fn probe(&self) -> Probed {
        let Some(link) = self.inner.link.read().clone() else { return Probed::None };
        let (mut closed, mut open) = (0, 0);
        for (breaker, key) in self.inner.breakers.iter().zip(&self.probe_keys).filter(|(breaker, _)| breaker.is_open()) {
            if self.answers(link.clone(), key).await {
                breaker.close();
                closed += 1;
            } else {
                open += 1;
            }
        }
        match (closed, open) {
            (_, 0) => Probed::AllWell,
            (0, _) => Probed::None,
            _ => Probed::Some,
        }
    }

    async fn answers(&self, link: Link, key: &str) -> bool {
        let mut command = cmd("EXISTS");
        command.arg(key);
        // Also a no, in time, is an answer.
        matches!(send(link, &command, self.inner.deadline).await, Ok(_) | Err(Fault::Refused))
    }
}

/// Resolves when what is under way has finished; never when nothing is.
async fn finished<F: Future<Output = ()> + Unpin>(under_way: &mut Option<F>) {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// What a round of probes showed.
enum Probed {
    /// Nothing is open any more.
    AllWell,
    /// Something closed, something did not.
    Some,
    /// Nothing answered.
    None,
}
