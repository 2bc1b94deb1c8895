//! Requests that carry lists (`split` of a route's batches): each item is a request of its own as far as cache, flights, log and money are concerned.
//! Known items come from the cache, those that are under way are joined, the rest go as one call.
//!
//! [`take`] takes a request apart, [`find`] asks the cache, [`launch`] makes the call, [`answer`] puts the answer together. What cannot be proved to be
//! the same as the answer to the whole goes whole, for a reason that is counted.

mod answer;
mod find;
mod launch;
mod part;
mod settling;
mod stats;

use std::collections::HashMap;
use std::sync::Arc;

use farthing_cache::Ticket;
use farthing_policy::batch::Whole;
use farthing_types::{Body, UncachedReason};
use farthing_upstream::{Batcher, Item};
use http::{HeaderMap, Response};

use crate::answer::debug;
use crate::compress::compressed;
use crate::flight::Flight;
use crate::lookup::Usable;
use crate::request::{Asked, Planned};
use crate::serve;
use crate::settle::Account;
use crate::state::State;
use crate::ticketed::Wanted;
pub use part::Part;
pub use stats::{ListStats, Source};

/// A request that was taken apart.
pub struct List {
    state: Arc<State>,
    batcher: Arc<Batcher>,
    stats: Arc<ListStats>,
    /// The request as it came.
    asked: Asked,
    /// The same, planned as if it were to go whole.
    whole: Planned,
    /// Its items, each once.
    items: Vec<One>,
    /// Which of them stands in each place of the list.
    places: Vec<usize>,
}

/// One item.
struct One {
    item: Item,
    planned: Planned,
    stage: Stage,
    /// L2 was not asked for it yet.
    asks_l2: bool,
    /// Its request is settled, or will be by whoever answers it.
    settled: bool,
}

/// How far an item has come.
enum Stage {
    /// Not known; an entry that cannot be used is named by [`Wanted::previous`].
    Missing(Wanted),
    /// There is a copy.
    Known(Usable),
    /// The list's call fills the key.
    Leads(Wanted, Ticket),
    /// The list's call brings it for this list alone, because it is not to be shared.
    Rides(UncachedReason),
    /// Somebody else fills the key, or will tell why not.
    Joins(Wanted),
    /// The list's call for it is under way.
    Called(Called),
    /// Its answer is made like that of a request of its own.
    Apart,
}

/// An item whose call is part of the list's.
struct Called {
    flight: Arc<Flight>,
    /// Why it was needed.
    reason: UncachedReason,
    /// Its seat among those that go.
    seat: usize,
    /// What may stand in for it when the call fails.
    old: Option<Usable>,
}

/// Takes a request apart; `None` when it carries no list, or goes whole.
pub fn take(state: &Arc<State>, asked: &Asked) -> Option<Box<List>> {
    let batching = asked.route().batching.as_ref().filter(|_| !asked.route().switches.leaves_out_lists())?;
    let stats = batching.lists.clone()?;
    let batcher = batching.batcher(asked.swaps()).clone();
    let head = asked.head();
    let items = match batcher.items((&head.method, &head.headers), &asked.item()) {
        Ok(items) => items?,
        Err(reason) => {
            stats.whole(reason);
            return None;
        }
    };
    let mut whole = asked.asking_for(&asked.item()).plan(state);
    let shared = whole.cache.and(whole.dedupe).and(whole.batch);
    if shared.is_err() || whole.facts.only_if_cached {
        stats.whole(Whole::NotShared);
        return None;
    }
    let Some(asked) = asked.weighing(&state.load, weight(&head.headers, &items)) else {
        stats.whole(Whole::Crowded);
        return None;
    };
    whole.account.load = asked.load();
    let (items, places) = planned((state, &whole.account), &asked, items);
    Some(Box::new(List { state: state.clone(), batcher, stats, asked, whole, items, places }))
}

/// What is held for the items, about: each has the head of its list, and a body.
fn weight(head: &HeaderMap, items: &[Item]) -> u64 {
    let fields: usize = head.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    items.iter().map(|item| (fields + item.body.len() + size_of::<One>()) as u64).sum()
}

/// Each item once, planned as a request that carries it alone, and which of them stands in each place.
fn planned((state, account): (&State, &Account), asked: &Asked, items: Vec<Item>) -> (Vec<One>, Vec<usize>) {
    let of_call = state.pricing.book().of_call(&account.route.route.name, &account.route.provider.name, account.at);
    let mut known: HashMap<Item, usize> = HashMap::with_capacity(items.len());
    let (mut distinct, mut often, mut places) = (Vec::new(), Vec::new(), Vec::with_capacity(items.len()));
    for item in items {
        let index = *known.entry(item).or_insert_with_key(|item| {
            distinct.push(item.clone());
            often.push(0);
            distinct.len() - 1
        });
        often[index] += 1;
        places.push(index);
    }
    let one = |(item, often): (Item, usize)| {
        let mut planned = asked.asking_for(&item).plan(state);
        planned.account.part = Some(Part::new(often, of_call));
        One { item, planned, stage: Stage::Apart, asks_l2: true, settled: false }
    };
    (distinct.into_iter().zip(often).map(one).collect(), places)
}

/// Answers a list item by item; whole where that turns out not to be possible.
pub async fn answered(state: Arc<State>, mut list: Box<List>) -> Response<Body> {
    match list.answer().await {
        Ok(mut response) => {
            debug(response.headers_mut(), &list.whole);
            if let Some(traces) = &state.traces {
                traces.list(&list.whole.account, response.status().as_u16(), state.real_now());
            }
            compressed(&state, &list.whole, None, response)
        }
        Err(reason) => {
            list.stats.whole(reason);
            let asked = list.asked.asking_for(&list.asked.item());
            drop(list);
            serve::answered(&state, asked.plan(&state)).await
        }
    }
}

impl Drop for List {
    /// Items that are not settled by now have no answer: the client has left.
    fn drop(&mut self) {
        for one in self.items.iter().filter(|one| !one.settled) {
            serve::left(&self.state, &one.planned.account);
        }
    }
}
