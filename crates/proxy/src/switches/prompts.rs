//! Marks in prompts that do not pay (docs/llm.md): they rest, and are tried again.

use farthing_types::{Money, Time};

use super::Strategy;
use crate::route::RouteState;
use crate::state::State;

impl State {
    /// Whether prompts of a route may be marked now.
    pub fn may_mark(&self, route: &RouteState, now: Time) -> bool {
        let Some(worth) = &route.switches.prompts else { return false };
        let (may, turned) = worth.lock().worth.may(now);
        self.marks_turned(route, turned, now);
        may
    }

    /// Takes what the marks of a call have saved, and the most that they could have.
    pub fn judge_marks(&self, route: &RouteState, saved: Money, most: Money) {
        let Some(worth) = &route.switches.prompts else { return };
        let now = self.clock.now();
        let turned = worth.lock().worth.take(now, saved, most);
        self.marks_turned(route, turned, now);
    }

    /// The provider refused a prompt for its marks.
    pub fn refuse_marks(&self, route: &RouteState) {
        let Some(worth) = &route.switches.prompts else { return };
        let now = self.clock.now();
        let turned = worth.lock().worth.refused(now);
        self.marks_turned(route, turned, now);
    }

    fn marks_turned(&self, route: &RouteState, turned: Option<farthing_policy::switches::Standing>, now: Time) {
        let (Some(to), Some(worth)) = (turned, &route.switches.prompts) else { return };
        worth.lock().since = now;
        self.tell(route, Strategy::PromptCache, to);
    }
}
