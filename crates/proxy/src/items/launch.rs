//! The one call for the items of a list that nobody has: admitted, paced and billed as one.

use std::sync::Arc;

use farthing_types::{Body, Purpose};
use farthing_upstream::{ListAnswer, Seat};
use futures_util::future::BoxFuture;
use http::Response;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::find::is_a_part;
use super::part::Part;
use super::{Called, List, One, Stage};
use crate::admission::{self, Admission, HeldBack};
use crate::budgets::Held;
use crate::lookup::Usable;
use crate::passing::pass_on;
use crate::request::{Planned, Through};
use crate::state::State;
use crate::ticketed::{MAX_JOINS, Wanted, brings_back, joined, lead};

/// An item's answer on its way.
pub(super) type Coming<'a> = BoxFuture<'a, Response<Body>>;

impl List {
    /// Admits the call for what is to go: the money and the turn of one call. `None` where nothing is to go.
    ///
    /// # Errors
    /// What holds it back.
    pub(super) async fn admit(&mut self, until: Instant) -> Result<Option<Held>, HeldBack> {
        let mut room = None;
        for _ in 0..MAX_JOINS {
            let Some(mut going) = self.going() else { return Ok(None) };
            if room.is_some() {
                return Ok(room);
            }
            let admission = Admission::of(&self.state, &going, false);
            if let Ok(held) = admission::admit(&self.state, &going.account, &admission, None).await {
                return Ok(Some(held));
            }
            // Whoever waits for the same may have room: the calls are theirs meanwhile.
            self.let_go();
            room = Some(admission::queued(&self.state, &mut going.account, &admission, until).await?);
            for one in &mut self.items {
                one.planned.account.queued += going.account.queued;
            }
            self.whole.account.queued += going.account.queued;
            self.join().await;
        }
        Ok(room)
    }

    /// The request for the items that are to go, as it is admitted.
    fn going(&self) -> Option<Planned> {
        let items: Vec<_> = self.items.iter().filter(|one| one.goes()).map(|one| &one.item).collect();
        if items.is_empty() {
            return None;
        }
        let request = self.batcher.lists()?.only(&self.asked.item(), &items)?;
        Some(self.asked.asking_for(&request).plan(&self.state))
    }

    fn let_go(&mut self) {
        for one in &mut self.items {
            one.stage = match std::mem::replace(&mut one.stage, Stage::Apart) {
                Stage::Leads(wanted, ticket) => {
                    ticket.held_back();
                    Stage::Missing(wanted)
                }
                stage => stage,
            };
        }
    }

    /// Who bears what is charged for the call itself: what goes, or everything where nothing does.
    fn share_call(&mut self) {
        let called = self.items.iter().any(One::goes);
        let bearing = |one: &One| if called { usize::from(one.goes()) } else { one.places() };
        let bearers: Vec<usize> = self.items.iter().map(bearing).collect();
        Part::share(self.items.iter_mut().filter_map(|one| one.planned.account.part.as_mut()), &bearers);
    }

    /// Starts the call, and whatever else brings an item's answer by itself, in the order of the items.
    pub(super) fn launch(&mut self, held: Held) -> (oneshot::Receiver<ListAnswer>, Vec<Coming<'_>>) {
        self.share_call();
        let going = self.items.iter().filter(|one| one.goes()).count();
        let (seats, told) = self.batcher.list(going);
        let purpose = self.purpose();
        let mut places = seats.into_iter().zip(held.shared_by(going)).enumerate();
        let (state, mut coming) = (&self.state, Vec::new());
        for one in &mut self.items {
            let place = if one.goes() { places.next() } else { None };
            coming.extend(one.start(state, purpose, place));
        }
        (told, coming)
    }

    /// The call brings lost copies back where each of its items does.
    fn purpose(&self) -> Purpose {
        let back = |one: &One| match &one.stage {
            Stage::Leads(wanted, ticket) => Some(brings_back(&self.state, &one.planned, wanted, ticket.key())),
            Stage::Rides(_) => Some(false),
            _ => None,
        };
        if self.items.iter().filter_map(back).all(|back| back) { Purpose::Refill } else { Purpose::User }
    }
}

impl One {
    /// Whether it goes with the list's call.
    pub(super) const fn goes(&self) -> bool {
        matches!(self.stage, Stage::Leads(..) | Stage::Rides(_))
    }

    /// How often it stands in the list.
    pub(super) fn places(&self) -> usize {
        self.planned.account.part.as_ref().map_or(1, Part::places)
    }

    /// Starts what brings its answer; the answer where it comes by itself. `place` is there for what goes with the list's call.
    fn start<'a>(&'a mut self, state: &'a Arc<State>, purpose: Purpose, place: Option<(usize, (Seat, Held))>) -> Option<Coming<'a>> {
        let stage = std::mem::replace(&mut self.stage, Stage::Apart);
        let (planned, settled) = (&mut self.planned, &mut self.settled);
        match (stage, place) {
            (Stage::Joins(wanted), _) => Some(Box::pin(settling(settled, joined(state, planned, wanted)))),
            (Stage::Leads(wanted, ticket), Some((nth, (seat, held)))) => {
                planned.goes_with(seat, nth);
                let reason = wanted.reason;
                let old = wanted.previous.clone().filter(is_a_part).zip(wanted.stale);
                let old = old.map(|(entry, age)| Usable::expired(entry, age, planned.variant_name()));
                // The call asks for all of them without conditions.
                let wanted = Wanted { previous: None, ..wanted };
                let flight = lead(state, planned, &wanted, (ticket, purpose, held));
                self.stage = Stage::Called(Called { flight, reason, seat: nth, old });
                None
            }
            (Stage::Rides(reason), Some((nth, (seat, held)))) => {
                planned.goes_with(seat, nth);
                Some(Box::pin(settling(settled, pass_on(state, planned, reason, held))))
            }
            (stage, _) => {
                self.stage = stage;
                None
            }
        }
    }
}

/// Whoever answers settles from then on.
async fn settling(settled: &mut bool, answer: impl Future<Output = Response<Body>>) -> Response<Body> {
    let answer = answer.await;
    *settled = true;
    answer
}

impl Planned {
    /// Its call is part of a list's, which stands in the line before the provider once, and goes on when its client has left.
    fn goes_with(&mut self, seat: Seat, nth: usize) {
        self.through = Some(Through { origin: Arc::new(seat), paces: nth == 0 });
        self.batch = Ok(());
    }
}
