//! What a confirmation (304) of a stored entry comes to.

use std::sync::Arc;

use farthing_cache::Ticket;
use farthing_freshness::semantics::{Reach, conditional, may_renew, reach};
use http::StatusCode;

use super::{Job, Landed, Prepared, failed, fetch, head, share};
use crate::fills;
use crate::flight::Came;
use crate::tags;

/// The provider confirmed the stored entry: its body is the answer, its head is renewed.
pub(super) async fn revalidated(mut job: Job, ticket: Ticket, landed: Landed) {
    let Some(previous) = job.previous.take() else { return share(job, ticket, landed, Ok(())).await };
    let Some(renewed) = conditional::merge_304(&previous, &landed.received(), &job.flight.route.rules) else {
        // It confirmed another answer than ours: asked again without conditions.
        return match fetch(&job, None).await {
            Ok(landed) => share(job, ticket, landed, Ok(())).await,
            Err(failure) => failed(&job, ticket, failure),
        };
    };
    // What is one client's alone is neither kept nor handed to those who wait: the entry stays as it was.
    let conditional::Renewed { mut headers, facts, bans } = renewed;
    let renewed = may_renew(&job.request, bans, &job.flight.route.rules);
    let reach = reach((StatusCode::NOT_MODIFIED, bans), renewed, &job.flight.route.rules);
    let tagged = tags::confirmed(previous.tags().map(Arc::from).collect(), &landed.reply.headers, &job.flight.route.provider.base_url);
    let ours = tags::strip(&mut headers, &job.flight.route);
    let state = job.state.clone();
    let Landed { received_at, mut end, .. } = landed;
    end.revalidated = true;
    end.entry_price = previous.price();
    end.bytes = Some(0);
    end.validator_changed = Some(false);
    state.price_call(&job.flight, &end);
    job.flight.came(Came { status: StatusCode::NOT_MODIFIED, kept: renewed });
    let shared = head(&job.flight, (previous.status(), headers.clone()), tagged.clone().ok());
    let mut filling = match reach {
        Reach::All | Reach::Alike => ticket.share(shared, received_at),
        Reach::Asker { reason, authorized } => ticket.of_asker((reason, authorized), shared, received_at),
        Reach::Alone(reason) => ticket.alone(reason, shared, received_at),
    };
    let key = filling.key();
    filling.push(previous.body()).await;
    let filled = filling.finish(previous.trailers());
    end.stored = Some(match renewed.and(tagged) {
        Err(reason) => Err(reason),
        Ok(tags) => {
            let headers = ours.beside(headers);
            let prepared = Prepared { status: previous.status(), headers, facts, body: previous.body(), price: previous.price(), tags };
            let (entry, chosen) = state.prepare(&job.flight, (key, &prepared), previous.canonical_hash(), received_at);
            end.take(chosen);
            entry.and_then(|entry| filled.store(entry, received_at).map(|_| ()))
        }
    });
    fills::note(&job.flight.route, end.stored);
    end.ended = Some(state.clock.now());
    state.settle_call(&job.flight, &end);
}
