//! One client's request once more, for something else: what the items of a list are planned as.

use std::sync::Arc;

use farthing_types::Body;
use farthing_upstream::Item;
use http::header::CONTENT_LENGTH;

use super::{Asked, Received};
use crate::load::Load;

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
            received: Received { id: *id, at: *at, started: *started, route: route.clone(), head, body },
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
