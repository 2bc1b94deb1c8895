//! Limits that a fleet shares: what the [`Member`] has to tell goes to Redis from one task, some times a second; no call waits for that.

use std::sync::Arc;

use farthing_config::FleetConfig;
use farthing_fleet::Script;
use farthing_ledger::limit::Book;
use farthing_ledger::limit::bucket::WHOLE;
use farthing_ledger::limit::fleet::{ANSWER, Asked, Kept, Member, MemberState, Reply, SharesView, Terms, script};
use farthing_types::{Span, Time};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::desk::Desk;
use crate::fleet::Fleet;
use crate::fleet::teller::{Teller, beats, run, understood};

/// Group of the keys.
const KEYS: &str = "limits";
/// Messages of one beat: the first may tell of something that is to be answered at once.
const ROUNDS: usize = 3;
/// How long a process that ends tries to say so.
const LEAVE: Span = Span::from_secs(1);

/// How limits reach their fleet.
pub struct Link {
    teller: Teller,
    terms: Terms,
    /// `None` until what a process before has left is read. Locked after the book.
    member: Mutex<Option<Member>>,
}

/// How shared limits stand, as this instance knows it.
#[derive(Clone, Debug)]
pub struct LimitsFleet {
    /// This instance.
    pub id: Arc<str>,
    /// What it has.
    pub shares: SharesView,
    /// The members, and what they wait for.
    pub state: MemberState,
    /// How long nothing was heard.
    pub away: Option<Span>,
    /// Messages answered, and without an answer.
    pub messages: [u64; 2],
}

/// What does not change of an instance's part in its fleet.
fn terms(config: &FleetConfig, (id, incarnation): (Arc<str>, u64), now: Time) -> Terms {
    let first = config.instances.map(|count| WHOLE / count);
    Terms {
        id,
        life: format!("{incarnation:x}").into(),
        start: now.millis(),
        alone: config.limits_alone,
        most: first.unwrap_or(WHOLE),
        first: first.unwrap_or_default(),
    }
}

impl Link {
    pub fn new(fleet: Arc<Fleet>, now: Time) -> Self {
        let identity = fleet.identity();
        Self {
            terms: terms(fleet.config(), (identity.name.clone(), identity.incarnation), now),
            teller: Teller::new(fleet),
            member: Mutex::new(None),
        }
    }

    /// Begins with what a process before has left, before anything of the book is restored; nothing of that when it has begun.
    pub fn begin(&self, book: &mut Book, kept: Option<Kept>, times: (Time, Time)) {
        let mut member = self.member.lock();
        if member.is_none() {
            *member = Some(Member::new(book, self.terms.clone(), kept, times));
        }
    }

    /// What is to outlive the process.
    pub fn kept(&self, book: &Book, times: (Time, Time)) -> Option<Kept> {
        self.member.lock().as_ref().map(|member| member.kept(book, times))
    }

    /// How long what is kept may be older than it could be.
    pub fn keeps_every(&self) -> Span {
        (self.terms.alone / 16).min(Span::from_secs(30))
    }

    /// Begins to tell the fleet.
    pub fn start(self: &Arc<Self>, desk: &Arc<Desk>) {
        let (link, desk) = (self.clone(), desk.clone());
        self.teller.tasks.spawn(async move {
            let agent = Agent::new(&link.teller.fleet);
            let mut beat = beats();
            while tokio::select! { () = link.teller.stop.cancelled() => false, _ = beat.tick() => true } {
                agent.rounds(&link, &desk).await;
            }
            if let Some(member) = &mut *link.member.lock() {
                member.close();
            }
            let _in_time = timeout(LEAVE, agent.round(&link, &desk)).await;
        });
    }

    /// Uses nothing more, and says so.
    pub async fn leave(&self) {
        self.teller.leave(LEAVE * 2).await;
    }

    /// How it stands; `None` before it has begun.
    pub fn report(&self, book: &mut Book, now: Time) -> Option<LimitsFleet> {
        let shares = book.shares_view(now)?;
        let state = self.member.lock().as_ref()?.state().clone();
        Some(LimitsFleet {
            id: self.terms.id.clone(),
            shares,
            away: state.away.as_ref().map(|(since, _)| now.since(*since)),
            state,
            messages: self.teller.messages(),
        })
    }
}

impl LimitsFleet {
    /// What is wrong, for people.
    pub fn problem(&self) -> Option<String> {
        if let Some(why) = self.state.refused {
            return Some(format!("{why}: this instance has no share of the limits"));
        }
        let nothing = self.shares.standing.rate == 0;
        let share = f64::from(self.shares.standing.rate) * 100.0 / f64::from(WHOLE);
        match &self.state.away {
            Some((_, why)) if nothing => Some(format!("{why}: this instance has no share of the limits until it hears of the fleet")),
            Some((_, why)) => Some(format!("{why}: this instance goes on with its share of the limits, {share:.1} %")),
            None if nothing && !self.state.whole && self.missing().next().is_some() => {
                let names: Vec<&str> = self.missing().map(|id| &**id).collect();
                Some(format!(
                    "this instance gets no share of the limits before these have told of themselves, or a minute has gone: {}",
                    names.join(", ")
                ))
            }
            None => None,
        }
    }

    /// Members that have not told of themselves since a loss; nothing more is given before they have, or a minute has gone.
    pub fn missing(&self) -> impl Iterator<Item = &Arc<str>> {
        self.state.members.iter().filter(|view| !view.here).map(|view| &view.known.id)
    }
}

struct Agent {
    script: Script,
    key: Vec<u8>,
}

impl Agent {
    fn new(fleet: &Fleet) -> Self {
        Self { script: Script::new(script::EXCHANGE), key: fleet.key(KEYS, "shares") }
    }

    async fn rounds(&self, link: &Link, desk: &Arc<Desk>) {
        for _ in 0..ROUNDS {
            if !self.round(link, desk).await {
                return;
            }
        }
    }

    /// One message; whether there is something to tell at once.
    async fn round(&self, link: &Link, desk: &Arc<Desk>) -> bool {
        let asked = desk.tell(|book, now| link.member.lock().as_mut().map(|member| member.next(book, now)));
        let Some(asked) = asked else { return false };
        let answer = self.send(&link.teller.fleet, &asked).await;
        let (again, said) = desk.tell(|book, now| {
            let mut member = link.member.lock();
            let Some(member) = &mut *member else { return (false, None) };
            let before = Said::of(member.state());
            let again = match &answer {
                Ok(reply) => member.answered(book, &asked, (reply, now)),
                Err(why) => {
                    member.failed(why, now);
                    false
                }
            };
            let after = Said::of(member.state());
            (again, (before != after).then_some((before, after)))
        });
        link.teller.count(answer.is_ok());
        if let Some((before, after)) = said {
            after.log(&before);
        }
        again
    }

    async fn send(&self, fleet: &Fleet, asked: &Asked) -> Result<Reply, String> {
        let answer = run(fleet, &self.script, (&self.key, &script::arguments(&asked.message)), ANSWER).await;
        understood(&answer.map_err(|fault| format!("the fleet's redis does not answer ({fault})"))?, script::reply)
    }
}

/// What is written to the log when it changes.
#[derive(PartialEq)]
struct Said {
    refused: Option<&'static str>,
    away: Option<String>,
    losses: u64,
}

impl Said {
    fn of(state: &MemberState) -> Self {
        Self { refused: state.refused, away: state.away.as_ref().map(|(_, why)| why.clone()), losses: state.losses }
    }

    fn log(&self, before: &Self) {
        match (self.refused, before.refused) {
            (Some(why), old) if old != Some(why) => tracing::warn!(why, "this instance has no share of the limits"),
            (None, Some(_)) => tracing::info!("this instance has a share of the limits again"),
            _ => {}
        }
        match (&self.away, &before.away) {
            (Some(why), None) => tracing::warn!(why, "limits: this instance goes on with its standing shares"),
            (None, Some(_)) => tracing::info!("limits are shared again"),
            _ => {}
        }
        if self.losses > before.losses {
            tracing::warn!("the fleet's redis has lost what it knew of limits: nothing more is given until all instances have told");
        }
    }
}
