//! Marks in prompts that do not pay (docs/llm.md): they rest, and are tried again.

use farthing_policy::switches::{MarkWorth, Standing};
use farthing_types::{Money, Time};

use super::Strategy;
use crate::route::RouteState;
use crate::state::State;

impl State {
    /// Whether prompts of a route may be marked now.
    pub fn may_mark(&self, route: &RouteState, now: Time) -> bool {
        let mut may = false;
        self.turn_marks(route, now, |worth| {
            let (allowed, turned) = worth.may(now);
            may = allowed;
            turned
        });
        may
    }

    /// Takes what the marks of a call have saved, and the most that they could have.
    pub fn judge_marks(&self, route: &RouteState, saved: Money, most: Money) {
        let now = self.clock.now();
        self.turn_marks(route, now, |worth| worth.take(now, saved, most));
    }

    /// The provider refused a prompt for its marks.
    pub fn refuse_marks(&self, route: &RouteState) {
        let now = self.clock.now();
        self.turn_marks(route, now, |worth| worth.refused(now));
    }

    fn turn_marks(&self, route: &RouteState, now: Time, turn: impl FnOnce(&mut MarkWorth) -> Option<Standing>) {
        let Some(judged) = route.switches.prompts.get() else { return };
        let turned = {
            let mut judged = judged.lock();
            let turned = turn(&mut judged.worth);
            // Under the same lock, so that nobody reads a new standing with the time of the one before.
            judged.since = if turned.is_some() { now } else { judged.since };
            turned
        };
        if let Some(to) = turned {
            self.tell(route, Strategy::PromptCache, to);
        }
    }
}
