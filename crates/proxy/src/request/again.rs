//! One client's request once more: for something else, which is what the items of a list are planned as, or for a call that it does not wait for.

use std::cell::OnceCell;
use std::sync::Arc;

use farthing_types::Body;
use farthing_upstream::Item;
use http::header::CONTENT_LENGTH;

use super::{Asked, Outbound, Planned, Received};
use crate::load::Load;
use crate::settle::Account;
use crate::switches::Laps;

impl Asked {
    /// The same request, for which so many bytes more are held; `None` where there is no room for them.
    pub fn weighing(&self, load: &Arc<Load>, bytes: u64) -> Option<Self> {
        let held = self.bytes_held() + bytes;
        let loaded = match &self.load {
            Some(loaded) => loaded.grow(held).ok().map(|()| loaded.clone()),
            None => load.enter((&self.identity.tenant, self.wishes.priority), held).ok().map(Arc::new),
        };
        Some(Self { load: Some(loaded?), ..self.asking_for(&self.item()) })
    }

    /// The same request of the same client, for something else.
    pub fn asking_for(&self, item: &Item) -> Self {
        let Received { id, at, started, route, head, .. } = &self.received;
        let mut head = head.clone();
        if head.headers.contains_key(CONTENT_LENGTH) {
            head.headers.insert(CONTENT_LENGTH, item.body.len().into());
        }
        let body = if item.body.is_empty() { Body::empty() } else { Body::full(item.body.clone()) };
        Self {
            received: Received {
                id: *id,
                at: *at,
                started: *started,
                route: route.clone(),
                head,
                body,
                tunnel: false,
                laps: Laps::default(),
                early: None,
            },
            identity: self.identity.clone(),
            facts: self.facts.clone(),
            wishes: self.wishes.clone(),
            steps: self.steps,
            target: item.target.clone(),
            body: item.body.clone(),
            load: self.load.clone(),
        }
    }
}

impl Planned {
    /// The same request for a call in the background; `None` where its body is not held.
    pub fn again(&self) -> Option<Self> {
        let Outbound { target, body, dialect, .. } = &self.outbound;
        let body = Body::full(body.as_full()?);
        Some(Self {
            // The client's own counts for it, and is settled without this.
            account: Account { load: None, noted: None, ..self.account.clone() },
            facts: self.facts.clone(),
            headers: self.headers.clone(),
            outbound: Outbound { target: target.clone(), body, dialect: *dialect, facts: OnceCell::new() },
            cache: self.cache,
            dedupe: self.dedupe,
            batch: self.batch,
            control: self.control,
            deadline: self.deadline,
            waits: crate::defer::Waiting::of(false),
            priority: self.priority,
            debug: self.debug,
            raw: None,
            through: None,
            tunnel: false,
            early: None,
        })
    }
}
