//! Looking for a batch whose order was answered by nobody: whether it has come about, and which one it is.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use bytes::BytesMut;
use farthing_types::{Failure, Span, Time};
use http::Method;

use super::super::stats::Step;
use super::super::wire;
use super::{Run, Told, more};

/// Pages of a hundred batches that are looked through.
const PAGES: u32 = 20;
/// An order may be stamped so much before it was sent, by a clock of the provider that differs from the one that dates its answers.
const EARLIER: Span = Span::from_secs(300);
/// And so long after: it may have been under way for as long as its answer was waited for, and may lie at the provider for a while.
const LATER: Span = Span::from_secs(1_200);

impl Run {
    /// Looks for the batch in the provider's list.
    pub(super) async fn find(&mut self) -> Result<Option<wire::Standing>, ()> {
        let (mut next, mut listed, mut stamped) = (Some(String::new()), HashSet::new(), None);
        for _ in 0..PAGES {
            let Some(more) = next.take() else { break };
            let path = format!("{}?limit=100{more}", self.defer.wire.batches());
            let Told { status, date, body } = self.ask(Step::Find, (Method::GET, &path), None).await.map_err(|_| ())?;
            let page = self.defer.wire.page(&body).filter(|_| status.is_success()).ok_or(())?;
            stamped = self.stamped(date);
            let since = stamped.as_ref().map(|stamped| *stamped.start());
            // The newest come first: behind a page of older ones there are no others.
            let older = !page.batches.is_empty() && page.batches.iter().all(|batch| since.zip(batch.created).is_some_and(|(s, at)| at < s));
            for batch in page.batches {
                if self.is_this(&batch, stamped.as_ref()).await {
                    return Ok(Some(batch));
                }
                listed.insert(batch.id);
            }
            next = page.next.filter(|_| !older);
        }
        // Newer batches may have moved one that may be this beyond the pages that are looked through.
        for id in self.perhaps.difference(&listed).cloned().collect::<Vec<_>>() {
            if let Ok(Some(batch)) = self.poll(&id).await
                && self.is_this(&batch, stamped.as_ref()).await
            {
                return Ok(Some(batch));
            }
        }
        // It may be one of those that cannot be told yet, or further down.
        if self.perhaps.is_empty() && next.is_none() { Ok(None) } else { Err(()) }
    }

    /// When the provider has stamped this batch if it has come about, by its own clock, which said `date` just now; `None` where that is not known.
    fn stamped(&self, date: Option<Time>) -> Option<RangeInclusive<Time>> {
        let (date, (timer, wall)) = (date?, self.sent?);
        // Timers stand still while the machine sleeps, and the time of the day may be set: nothing may be called twice for either.
        let gone = [timer.elapsed(), self.state.wall_now().since(wall)];
        let (least, most) = (gone[0].min(gone[1]), gone[0].max(gone[1]));
        Some(date - most - EARLIER..=date - least + LATER)
    }

    /// Whether a batch in the list is this one: by its name, or by the ids of its requests once they can be read. Where that is not known yet, it may be:
    /// unless it was ordered at another time, or is one that is known.
    async fn is_this(&mut self, batch: &wire::Standing, stamped: Option<&RangeInclusive<Time>>) -> bool {
        let Some(requests) = batch.requests else { return batch.name.as_deref() == Some(&self.kept.name) };
        self.perhaps.remove(&batch.id);
        let other_time = stamped.zip(batch.created).is_some_and(|(stamped, at)| !stamped.contains(&at));
        let is_known = self.others.contains(&batch.id) || self.defer.known.lock().contains(&batch.id);
        if requests != self.kept.members.len() as u64 || other_time || is_known {
            return false;
        }
        let first = if batch.has_ended { self.first_id(batch).await } else { None };
        let Some(first) = first else {
            self.perhaps.insert(batch.id.clone());
            return false;
        };
        let is_this = self.kept.members.iter().any(|member| member.id == first);
        if !is_this {
            self.others.insert(batch.id.clone());
        }
        is_this
    }

    /// Whose the first answer of a batch is.
    async fn first_id(&self, batch: &wire::Standing) -> Option<String> {
        let first = self.first_line(batch.answers.first()?).await;
        self.defer.stats.asked(Step::Find, first.is_ok());
        Some(self.defer.wire.line(&first.ok()?).ok()??.0)
    }

    async fn first_line(&self, path: &str) -> Result<BytesMut, Failure> {
        let mut body = self.open(Step::Find, path).await?;
        let mut held = BytesMut::new();
        while !held.contains(&b'\n')
            && let Some(data) = more(&mut body).await?
        {
            held.extend_from_slice(&data);
            self.bound(held.len())?;
        }
        held.truncate(held.iter().position(|byte| *byte == b'\n').unwrap_or(held.len()));
        Ok(held)
    }
}
