//! The loop of an instance: it hears what was published, tells its reports, passes on orders and what was switched off, and holds
//! the leases of experiments that nobody else decides about.

use std::cmp::Ordering as Order;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use farthing_experiment::fleet::{KEPT_WINDOWS, Published, after_loss, is_older};
use farthing_fleet::lease::{Ask, Claim, Ending, Hold, Holding, LeaseOp, LeaseSaid, Next, Terms, Token};
use farthing_fleet::{Board, BoardPlace, BoardSaid, BoardWrite, Fault};
use farthing_types::{Span, Time};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::adopt::News;
use super::codec;
use super::orders::Proposal;
use crate::fleet::Fleet;
use crate::state::State;

/// How often it is asked what is new: several times within the second in which what was switched off holds everywhere.
const TURN: Duration = Duration::from_millis(250);
/// How the lease of who decides is held. What the holder writes goes through its fence.
const TERMS: Terms = Terms { lasts: Span::from_secs(3), margin: Span::from_millis(500) };
/// Before the first requests are served, it is asked for what the fleet has published for so long at most.
const FIRST: Duration = Duration::from_secs(1);
/// Whoever knows what was published brings it back within this time; then it begins anew.
const ANEW_AFTER: Duration = Duration::from_secs(2);
/// How long the end of the process waits for its last reports to be told.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Times that a change is tried over what others have published meanwhile.
const TRIES: usize = 4;

/// Turns between two warnings about the same.
const SAID_EVERY: u64 = 240;

/// A change that is to be published.
pub struct Change<'a> {
    pub name: &'a str,
    pub over: u64,
    pub becomes: u64,
    pub holding: Option<Holding>,
    pub published: Published,
    pub evidence: Option<farthing_experiment::Trial>,
    /// The window that was decided about, and its rows.
    pub decided: Option<(i64, Vec<u8>)>,
}

/// An instance at the fleet's board.
pub struct Member {
    pub state: Arc<State>,
    pub fleet: Arc<Fleet>,
    pub board: Board,
    name: String,
    began: Instant,
    holds: BTreeMap<String, Hold>,
    claims: u64,
    floor: Token,
    turns: u64,
}

impl Member {
    fn new(state: Arc<State>, fleet: Arc<Fleet>) -> Self {
        let board = fleet.board();
        let name = fleet.member().to_owned();
        let began = Instant::now();
        Self { state, fleet, board, name, began, holds: BTreeMap::new(), claims: 0, floor: Token(0), turns: 0 }
    }
}

/// Asks for what the fleet has published before anything is served, so that the first requests have the variants of all; waits for a moment only.
pub async fn first(state: &Arc<State>) {
    let Some(fleet) = state.fleet.clone().filter(|_| state.shares_experiments()) else { return };
    let member = Member::new(state.clone(), fleet);
    let asking = async {
        while !member.hear().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(FIRST, asking).await.is_err() {
        tracing::warn!("the fleet was not heard before serving: experiments go by what was kept, until it is");
    }
}

/// Starts the loop, where experiments are a fleet's; it ends with the fleet.
pub fn start(state: &Arc<State>) {
    let Some(fleet) = state.fleet.clone() else { return };
    let stop = fleet.closing();
    state.tasks.spawn(run(Member::new(state.clone(), fleet), stop));
}

async fn run(mut member: Member, stop: CancellationToken) {
    let state = member.state.clone();
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = turn.tick() => {}
            () = state.trials.desk.wake.notified() => {}
        }
        member.turn().await;
    }
    let _in_time = tokio::time::timeout(LAST_WORDS, member.leave()).await;
}

impl Member {
    async fn turn(&mut self) {
        self.turns += 1;
        let now = self.state.clock.now();
        self.state.close_parts(now);
        self.state.refuse_late();
        if !self.hear().await {
            self.note_held();
            return;
        }
        self.tell_off().await;
        self.begin().await;
        for proposal in self.state.proposals() {
            self.propose(proposal).await;
        }
        self.report().await;
        let steers = self.turns.is_multiple_of(4);
        for (name, fit) in self.state.deciding() {
            self.lease(&name, fit).await;
            if let Some(holding) = self.holding(&name) {
                self.decide(&name, holding, steers).await;
            }
        }
        self.note_held();
    }

    /// What it shows as who decides about an experiment, while it may.
    fn holding(&self, name: &str) -> Option<Holding> {
        self.holds.get(name).filter(|hold| hold.may_act(self.lease_time())).map(|hold| hold.holding)
    }

    fn note_held(&self) {
        self.state.note_deciding(|name| self.holding(name).is_some());
    }

    fn lease_time(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// Hears what is new and takes it over; whether the fleet was heard.
    async fn hear(&self) -> bool {
        let now = self.state.clock.now();
        let places = self.state.places(now);
        if places.is_empty() {
            return true;
        }
        let asked: Vec<BoardPlace> = places.iter().map(|(place, _)| place.clone()).collect();
        let seat = self.state.trials.desk.seat.load(Ordering::Relaxed);
        let news = match self.board.turn((&self.name, seat), &asked).await {
            Ok(news) => news,
            Err(fault) => {
                self.fleet.trouble(fault);
                return false;
            }
        };
        if seat == 0 {
            self.state.trials.desk.seat.store(news.seat, Ordering::Relaxed);
            self.state.take_seat(news.seat);
        }
        let mut heard = true;
        for ((place, known), version) in places.iter().zip(news.versions) {
            let done = match version.cmp(&known.version) {
                Order::Greater => self.fetch(&place.name).await,
                Order::Less => self.bring_back(&place.name, version).await,
                Order::Equal if version == 0 => {
                    self.state.note_nothing(&place.name);
                    Ok(())
                }
                Order::Equal if known.lacks_evidence => self.fetch(&place.name).await,
                Order::Equal => Ok(()),
            };
            if let Err(fault) = done {
                self.fleet.trouble(fault);
                heard = false;
            }
        }
        heard
    }

    /// Takes over what was published of an experiment.
    async fn fetch(&self, name: &str) -> Result<(), Fault> {
        let document = self.board.read(name).await?;
        if document.version == 0 {
            return Ok(());
        }
        let (version, body) = (document.version, document.body);
        let published = blocking(move || codec::read_document(&body)).await;
        let Some(known) = self.state.known_of(name) else { return Ok(()) };
        let mut news = News { version, published: Err(String::new()), evidence: None, lines: String::new() };
        match published {
            Ok(published) if is_older((version, &published), known.version) => return self.bring_back(name, version).await,
            Ok(published) => {
                if published.evidence != known.evidence {
                    // Where it stands is not to wait for what it stands on: that is asked for again with the next turn.
                    match self.board.evidence(name).await {
                        Ok((number, bytes)) if number == published.evidence => {
                            news.evidence = blocking(move || codec::read_evidence(&bytes)).await.ok();
                            news.lines = self.rows(name, (known.rows_to, published.closed)).await;
                        }
                        Ok(_) => {}
                        Err(fault) => self.fleet.trouble(fault),
                    }
                }
                news.published = Ok(published);
            }
            Err(error) => news.published = Err(format!("another release has published what this one cannot read: {error}")),
        }
        self.adopt(name, news).await;
        Ok(())
    }

    /// Rows of windows that were decided about since those that are here. What does not come is counted as missing.
    async fn rows(&self, name: &str, (known, closed): (i64, i64)) -> String {
        let mut lines = String::new();
        for window in known.max(closed.saturating_sub(KEPT_WINDOWS)).saturating_add(1)..=closed {
            match self.board.rows(name, window).await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => lines += &blocking(move || codec::read_rows(&bytes)).await.unwrap_or_default(),
                Err(fault) => self.fleet.trouble(fault),
            }
        }
        lines
    }

    async fn adopt(&self, name: &str, news: News) {
        let (state, name) = (self.state.clone(), name.to_owned());
        if tokio::task::spawn_blocking(move || state.adopt_published(&name, news)).await.is_err() {
            self.state.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("taking over an experiment of the fleet broke off");
        }
    }

    /// Publishes a change and takes it over; whether it was done. Where it was not, the next turn hears why.
    pub(super) async fn publish(&self, change: Change<'_>) -> Result<bool, Fault> {
        let Change { name, over, becomes, holding, mut published, evidence, decided } = change;
        published.at = self.state.clock.now();
        published.by = self.state.instance_name();
        let number = published.evidence;
        let packed = blocking(move || {
            let proof = evidence.as_ref().map(codec::evidence).transpose()?;
            Ok((codec::document(published)?, proof))
        });
        let (body, proof) = match packed.await {
            Ok(packed) => packed,
            Err(error) => {
                tracing::error!(experiment = name, %error, "cannot be published");
                return Ok(false);
            }
        };
        let write = BoardWrite {
            name,
            over,
            becomes,
            holding,
            body: &body,
            evidence: proof.as_deref().map(|proof| (number, proof)),
            decided: decided.as_ref().map(|(window, rows)| (*window, rows.as_slice())),
            rows_last: self.state.lasts(name),
        };
        let said = self.board.publish(&write).await?;
        let BoardSaid::Done(version) = said else {
            tracing::debug!(experiment = name, ?said, "another has published meanwhile");
            return Ok(false);
        };
        // Everyone goes by what was written, to the last digit.
        let rows = decided.map(|(_, rows)| rows).filter(|rows| !rows.is_empty());
        let read = blocking(move || {
            let published = codec::read_document(&body)?;
            let evidence = proof.as_deref().map(codec::read_evidence).transpose()?;
            let lines = rows.as_deref().map(codec::read_rows).transpose()?.unwrap_or_default();
            Ok(News { version, published: Ok(published), evidence, lines })
        });
        match read.await {
            Ok(news) => self.adopt(name, news).await,
            Err(error) => tracing::error!(experiment = name, %error, "what was published cannot be read"),
        }
        Ok(true)
    }

    /// What was published is gone, or older than what is known here.
    async fn bring_back(&self, name: &str, over: u64) -> Result<(), Fault> {
        let now = self.state.clock.now();
        let Some((known, published, trial)) = self.state.brought_back(name, now) else { return Ok(()) };
        let change = Change { name, over, becomes: after_loss(known), holding: None, published, evidence: Some(trial), decided: None };
        if self.publish(change).await? {
            tracing::warn!(
                experiment = name,
                "what the fleet had published was lost and is brought back: windows up to this one do not count"
            );
        }
        Ok(())
    }

    /// Tells the fleet of variants that were switched off here.
    async fn tell_off(&self) {
        let now = self.state.clock.now();
        for (name, over, published) in self.state.untold_off(now) {
            let change = Change { name: &name, over, becomes: 0, holding: None, published, evidence: None, decided: None };
            self.note(self.publish(change).await);
        }
    }

    /// Publishes what nobody has published, and begins what the configuration says.
    async fn begin(&self) {
        let now = self.state.clock.now();
        for (name, published, evidence) in self.state.unpublished(now, ANEW_AFTER) {
            let change = Change { name: &name, over: 0, becomes: 0, holding: None, published, evidence, decided: None };
            self.note(self.publish(change).await);
        }
        for (name, order) in self.state.configured_orders() {
            let (proposal, answered) = Proposal::new(&name, order, ("configuration", None));
            self.propose(proposal).await;
            // Tried again with each turn; said once in a while.
            if let Ok(Err(error)) = answered.try_recv()
                && self.turns % SAID_EVERY == 1
            {
                tracing::warn!(experiment = name, %error, "the experiment does not begin as the configuration says");
            }
        }
    }

    async fn propose(&self, proposal: Proposal) {
        for _ in 0..TRIES {
            let now = self.state.clock.now();
            let (published, evidence) = match self.state.proposed(&proposal, now) {
                Ok(next) => next,
                Err(error) => return proposal.answer(Err(error)),
            };
            let name = proposal.name.clone();
            let Some(known) = self.state.known_of(&name) else { return };
            let change = Change { name: &name, over: known.version, becomes: 0, holding: None, published, evidence, decided: None };
            match self.publish(change).await {
                Ok(true) => {
                    if let Some(view) = self.state.trials.view(&name, now) {
                        proposal.answer(Ok(view));
                    }
                    return;
                }
                Ok(false) => self.note(self.fetch(&name).await.map(|()| true)),
                Err(fault) => {
                    self.fleet.trouble(fault);
                    return proposal.answer(Err(super::super::ExperimentError::Fleet(
                        "the fleet's Redis does not answer: look with `show` whether the order is in force",
                    )));
                }
            }
        }
        proposal.answer(Err(super::super::ExperimentError::Fleet("nothing was done: others change it at the same time; try again")));
    }

    pub(super) fn note(&self, done: Result<bool, Fault>) {
        if let Err(fault) = done {
            self.fleet.trouble(fault);
        }
    }

    async fn report(&self) {
        for (name, window, bytes) in self.state.untold_reports() {
            let told = self.board.report((&name, window), (&self.name, &bytes), self.state.lasts(&name)).await;
            match told {
                Ok(()) => self.state.report_told(&name, window),
                Err(fault) => return self.fleet.trouble(fault),
            }
        }
    }

    /// Holds the lease of an experiment, or asks for it; who is not fit to decide leaves it to others.
    async fn lease(&mut self, name: &str, fit: bool) {
        let now = self.lease_time();
        match self.holds.get(name).map(|hold| (hold.holding, hold.next(now))) {
            Some((holding, Next::Wait(_) | Next::Renew)) if !fit => self.give_back(name, holding).await,
            Some((_, Next::Wait(_))) => {}
            Some((holding, Next::Renew)) => self.renew(name, holding, now).await,
            Some((_, Next::Over)) | None => {
                self.holds.remove(name);
                if fit {
                    self.ask(name, now).await;
                }
            }
        }
    }

    async fn give_back(&mut self, name: &str, holding: Holding) {
        self.holds.remove(name);
        let op = LeaseOp::End(holding, Ending::Released, TERMS.lasts);
        self.note(self.board.lease_step(name, op).await.map(|_| true));
    }

    async fn renew(&mut self, name: &str, holding: Holding, now: Time) {
        let said = self.board.lease_step(name, LeaseOp::Renew(holding, TERMS.lasts)).await;
        match (said, self.holds.get_mut(name)) {
            (Ok(LeaseSaid::Yours(_)), Some(hold)) => hold.renewed(now),
            (Err(_), Some(hold)) => hold.unanswered(now),
            (Ok(_), _) => drop(self.holds.remove(name)),
            (Err(_), None) => {}
        }
    }

    async fn ask(&mut self, name: &str, now: Time) {
        self.claims += 1;
        let claim = Claim(u128::from(self.fleet.identity().incarnation) << 64 | u128::from(self.claims));
        let ask = Ask { claim, lasts: TERMS.lasts, floor: self.floor, past: Token(u64::MAX) };
        match self.board.lease_step(name, LeaseOp::Ask(ask)).await {
            Ok(LeaseSaid::Yours(token)) => {
                self.floor = self.floor.max(token);
                self.holds.insert(name.to_owned(), Hold::granted(Holding { claim, token }, TERMS, now));
                tracing::info!(experiment = name, token = token.0, "this instance decides about the experiment for its fleet");
            }
            Ok(LeaseSaid::Taken(token, _) | LeaseSaid::Ended(token, _)) => self.floor = self.floor.max(token),
            Ok(LeaseSaid::Lost) | Err(_) => {}
        }
    }

    /// Reports what it has, the window that runs included, and leaves what it holds to others.
    async fn leave(&mut self) {
        let now = self.state.clock.now();
        self.state.leave_parts(now);
        self.report().await;
        for (place, _) in self.state.places(now) {
            if place.windows[1] != place.windows[0] {
                self.note(self.board.leave((&place.name, place.windows[1]), &self.name).await.map(|()| true));
            }
        }
        let held: Vec<(String, Holding)> = self.holds.iter().map(|(name, hold)| (name.clone(), hold.holding)).collect();
        for (name, holding) in held {
            self.give_back(&name, holding).await;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
