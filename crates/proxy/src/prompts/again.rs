//! A provider that refuses a prompt for what was put into it: asked once more, as the client has put it, so that nobody gets an error that
//! would not have come without Farthing.

use std::sync::Arc;

use farthing_policy::prompt_marks::Kept;
use farthing_types::{Call, Failure, Reply};
use farthing_upstream::Origin;
use http::StatusCode;

use crate::flight::Flight;
use crate::state::State;

/// What says that a request is not as it should be; none of it is billed, and nothing has come of it.
const REFUSALS: [StatusCode; 3] = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];

impl State {
    /// Makes a call; one that is refused with a changed prompt is made again with the client's own. Where that is not refused, the change was
    /// at fault: the route's prompts are left alone for a while.
    ///
    /// # Errors
    /// As [`Origin::fetch`].
    pub async fn fetch(&self, flight: &Flight, origin: Arc<dyn Origin>, call: Call) -> Result<Reply, Failure> {
        let Some(plain) = flight.prompted.as_ref().and_then(|prompted| prompted.plain.lock().take()) else {
            return origin.fetch(call).await;
        };
        let (mut again, since) = (call.with_body(plain), self.real_now());
        let reply = origin.fetch(call).await?;
        if !REFUSALS.contains(&reply.status) {
            return Ok(reply);
        }
        drop(reply);
        again.deadline = again.deadline.saturating_sub(self.real_now().since(since));
        let reply = origin.fetch(again).await?;
        if !REFUSALS.contains(&reply.status) {
            self.prompt_refused(flight);
        }
        Ok(reply)
    }

    fn prompt_refused(&self, flight: &Flight) {
        let Some((prompts, prompted)) = flight.route.prompts.as_ref().zip(flight.prompted.as_ref()) else { return };
        prompts.marks.lock().ended(&prompted.digests, Kept::Failed);
        prompted.refuse();
        prompts.stats.refused();
        tracing::warn!(route = %flight.route.route.name, "the provider refuses prompts for what [routes.NAME.prompt_cache] puts into them");
        self.refuse_marks(&flight.route);
    }
}
