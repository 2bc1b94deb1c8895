//! The loop of an instance: it looks which version stands in front, takes it over, and says what it made of it.

use std::sync::Arc;
use std::time::Duration;

use farthing_fleet::{Fault, ShelfFront, ShelfPut, ShelfSaid};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::document::Document;
use super::step::{Step, adopted, step};
use super::{Refusal, SharedConfig, Version};
use crate::assembly::Proxy;
use crate::changes::ChangeRecord;
use crate::reload::{Digest, NotReloaded, Outcome, Reloaded};

/// How often it is looked, also where nothing is said.
const TURN: Duration = Duration::from_secs(1);
/// Turns between two looks at what the others say.
const ALL_EVERY: u64 = 2;
/// Steps of one look: read, then put it back under a higher number, and each again because somebody else was quicker.
const STEPS: usize = 8;

impl Proxy {
    /// Follows the fleet's configuration from now on, until the instance ends.
    pub fn follow_config(self: &Arc<Self>, shared: &Arc<SharedConfig>) {
        let state = self.state();
        let Some(fleet) = &state.fleet else { return };
        shared.settle(fleet);
        if let Some((outcome, problem, digest)) = shared.refused_at_start() {
            self.refused_config(outcome, &problem, Some(digest));
        }
        if state.shared_config.set(shared.clone()).is_err() {
            return;
        }
        state.tasks.spawn(run(shared.clone(), self.clone(), fleet.closing()));
    }

    /// The configuration that its fleet keeps; `None` where it goes by its own file alone.
    pub fn shared_config(&self) -> Option<&Arc<SharedConfig>> {
        self.state().shared_config.get()
    }
}

async fn run(shared: Arc<SharedConfig>, proxy: Arc<Proxy>, stop: CancellationToken) {
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turns = 0_u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
            () = shared.wake.notified() => {}
        }
        turns += 1;
        // What is wrong is noted, and it is looked again at the next turn.
        let looked = shared.look().await;
        let due = shared.is_due();
        if due {
            let (shared, proxy) = (shared.clone(), proxy.clone());
            if tokio::task::spawn_blocking(move || shared.take_over(&proxy)).await.is_err() {
                tracing::error!("taking over the fleet's configuration broke off: it is tried again");
            }
        }
        if looked.is_ok() && (due || turns % ALL_EVERY == 1) {
            shared.tell().await;
        }
    }
}

impl SharedConfig {
    /// Looks which version stands in front until that is the newest that is known here, which it may become by this.
    ///
    /// # Errors
    /// See [`Fault`]; what was known stays known.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), Fault> {
        let looked = self.look_on().await;
        let mut known = self.known.lock();
        known.heard |= looked.is_ok();
        known.trouble = looked.err();
        looked
    }

    async fn look_on(self: &Arc<Self>) -> Result<(), Fault> {
        for _ in 0..STEPS {
            let front = self.front().await?;
            self.known.lock().foreign.take_if(|foreign| *foreign != front);
            let known = self.newest();
            let mark = known.as_ref().map(|known| known.document.mark());
            match step(known.as_ref().map(|known| known.version).zip(mark.as_deref()), &front) {
                Step::Rest => return Ok(()),
                Step::Read if self.known.lock().foreign.as_ref() == Some(&front) => return Ok(()),
                Step::Read => self.read_front(&front).await?,
                Step::Renumber(version) => self.renumber(version),
                Step::Restore { over, becomes } => {
                    let Some(known) = known else { return Ok(()) };
                    self.restore(&known, (over, becomes)).await?;
                }
            }
        }
        Ok(())
    }

    async fn read_front(self: &Arc<Self>, front: &ShelfFront) -> Result<(), Fault> {
        let Some(body) = self.shelf.load_full().read(front.version).await? else { return Ok(()) };
        match Document::open(&body, (&self.fleet, &front.mark), &self.key) {
            Ok(document) => {
                let mut known = self.known.lock();
                // Meanwhile something newer may have been pushed here.
                if known.newest.as_ref().is_none_or(|newest| newest.document.mark() < front.mark) {
                    let version = adopted(known.newest.as_ref().map(|newest| newest.version), front.version);
                    tracing::info!(version, by = document.by, instance = document.instance, "the fleet has another configuration");
                    known.newest = Some(Version { version, document });
                }
            }
            Err(error) => {
                tracing::error!(version = front.version, %error, "a configuration in the fleet's redis is not used");
                self.known.lock().foreign = Some(front.clone());
            }
        }
        self.keep_soon().await;
        Ok(())
    }

    /// What is known stands in front under this number.
    fn renumber(&self, version: u64) {
        let known = &mut *self.known.lock();
        let Some(mark) = known.newest.as_ref().map(|newest| newest.document.mark()) else { return };
        let same = known.newest.iter_mut().chain(&mut known.in_force).filter(|of| of.document.mark() == mark);
        same.for_each(|of| of.version = of.version.max(version));
    }

    /// Puts what is known in front again, where somebody who knew less, or nobody, has left something else.
    async fn restore(self: &Arc<Self>, known: &Version, (over, becomes): (u64, u64)) -> Result<(), Fault> {
        let (mark, body) = (known.document.mark(), known.document.seal(&self.key));
        let put = ShelfPut { over, becomes, mark: &mark, body: body.as_bytes() };
        if self.shelf.load_full().put(&put).await? == ShelfSaid::Done {
            tracing::warn!(version = becomes, over, "the fleet's redis had lost its configuration, or had an older one: it is there again");
            self.renumber(becomes);
            self.keep_soon().await;
        }
        Ok(())
    }

    /// Whether the newest version is to be put in force.
    fn is_due(&self) -> bool {
        let known = self.known.lock();
        let Some(newest) = &known.newest else { return false };
        known.in_force.as_ref().is_none_or(|in_force| in_force.document != newest.document) && known.refusal().is_none()
    }

    /// Puts the newest version in force, because the fleet has it, and notes that. Blocks.
    fn take_over(&self, proxy: &Proxy) {
        let _turn = self.turn.lock();
        // Somebody who pushed here, or ordered a reload, may have been quicker.
        let Some(newest) = self.newest().filter(|_| self.is_due()) else { return };
        let before = proxy.config_standing().digest.to_string();
        let outcome = if self.put_in_force(proxy, newest.clone()).is_ok() { "done" } else { "refused" }.to_owned();
        let Document { by, said, instance, note, .. } = newest.document;
        let what = format!("version {} of the fleet's configuration, pushed by {by} at {instance}", newest.version);
        let (with, after) = (note.unwrap_or_default(), proxy.config_standing().digest.to_string());
        let record = ChangeRecord { at: proxy.wall_now(), by: "fleet".to_owned(), said, what, with, outcome, before, after, peer: None };
        proxy.note_change(record);
    }

    /// Puts the newest version in force with the instance's own part as it is now, all of it or nothing; `None`: there is no version. Blocks.
    pub fn apply(&self, proxy: &Proxy) -> Option<Result<(Reloaded, Digest), NotReloaded>> {
        let _turn = self.turn.lock();
        self.newest().map(|newest| self.put_in_force(proxy, newest))
    }

    /// The same with the turn.
    fn put_in_force(&self, proxy: &Proxy, newest: Version) -> Result<(Reloaded, Digest), NotReloaded> {
        let done = proxy.reload(|| (self.read)(&newest.name(), &newest.document.text));
        {
            let mut known = self.known.lock();
            // What is wrong when it is in force already is wrong in the instance's own part.
            let anew = known.in_force.as_ref().is_none_or(|in_force| in_force.document != newest.document);
            match &done {
                Ok(_) => {
                    known.refused = None;
                    // Its number may have moved meanwhile.
                    let now = known.newest.clone().filter(|now| now.document == newest.document);
                    known.in_force = Some(now.unwrap_or(newest));
                }
                Err(refused) if anew => {
                    let restart = refused.outcome == Outcome::Restart;
                    known.refused = Some(Refusal { mark: newest.document.mark(), problem: refused.problem.clone(), restart });
                }
                Err(_) => {}
            }
        }
        self.keep();
        done
    }

    /// Says how it stands here, and hears how it stands elsewhere. Who does not hear that now does so the next time.
    async fn tell(&self) {
        if let Ok((_, members)) = self.shelf.load_full().turn((&self.instance, &self.says()), true).await {
            self.known.lock().members = members;
        }
    }

    /// Keeps what is known, on a thread that may wait for a disk.
    pub(super) async fn keep_soon(self: &Arc<Self>) {
        let shared = self.clone();
        if tokio::task::spawn_blocking(move || shared.keep()).await.is_err() {
            tracing::error!("keeping the fleet's configuration broke off");
        }
    }
}
