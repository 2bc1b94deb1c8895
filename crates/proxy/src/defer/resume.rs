//! Batches of an earlier run: whoever waited for them is gone, but what they have run is billed. They are cancelled, and their bill is settled.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch;
use crate::route::RouteState;
use crate::state::State;

impl State {
    /// Takes up what was left in batches, in tasks of its own. Nothing is sent a second time. Blocks.
    pub fn resume_batches(self: &Arc<Self>) {
        let live = self.live();
        let routes: BTreeMap<&str, &Arc<RouteState>> = live.routes.iter().map(|route| (&*route.route.name, route)).collect();
        let Some(place) = super::kept::Place::below(&live.config.state_dir) else { return };
        let (kept, damaged) = match place.read() {
            Ok(read) => read,
            Err(error) => return tracing::error!(%error, "batches of an earlier run cannot be looked up: their bill is not known"),
        };
        for path in damaged {
            tracing::error!(file = %path.display(), "a batch of an earlier run cannot be read: its bill is not known");
        }
        for kept in kept {
            let deferring = routes.get(&*kept.route).and_then(|route| Some((*route, route.defer.as_ref()?)));
            let Some((route, defer)) = deferring else {
                tracing::error!(name = %kept.name, route = %kept.route, remedy = "configure `defer` on the route until it is settled",
                    "a batch of an earlier run belongs to a route that does not defer: its bill is not known");
                continue;
            };
            self.tasks.spawn(batch::resume(self.clone(), route.clone(), defer.clone(), kept));
        }
    }
}
