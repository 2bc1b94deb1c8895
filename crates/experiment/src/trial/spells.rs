//! From which window to which a record measures: a window is in it as a whole or not at all, and what is reckoned by time is reckoned by those that were watched.

use super::Trial;

impl Trial {
    /// The same record, measuring from `window` on: for an experiment that begins in the middle of the window before.
    #[must_use]
    pub const fn measuring_from(mut self, window: i64) -> Self {
        self.whole_from = window;
        self
    }

    /// Ends the record in `window`. One that has not ended is left out for all its units, as the rest of a window after a restart is.
    pub fn end(&mut self, window: i64) {
        self.close_before(window);
        if self.last_whole.max(self.whole_from) > i64::MIN {
            self.count_watched(window.saturating_sub(1));
        }
        // What is found out about earlier windows from now on comes too late.
        self.window = self.window.max(window);
        self.whole_from = self.whole_from.max(self.window.saturating_add(1));
        self.close_window();
    }

    /// Another share of the slice takes part by what was done in `window`. Where nobody does any more the record ends, for as long as that is so: units leave at once, and
    /// come with a window.
    pub fn ramped(&mut self, (before, now): (f64, f64), window: i64) {
        if before > 0.0 && now <= 0.0 {
            self.end(window);
        } else if before <= 0.0 && now > 0.0 {
            self.whole_from = self.whole_from.max(window.saturating_add(1));
        }
    }

    /// Counts the windows up to this one that were watched and are not counted yet: also those without a request, and not those before the first that is measured.
    pub(super) fn count_watched(&mut self, upto: i64) {
        let counted = self.last_whole.max(self.whole_from.saturating_sub(1));
        let more = if counted == i64::MIN { 1 } else { upto.saturating_sub(counted) };
        self.watched += u64::try_from(more).unwrap_or(0);
        self.last_whole = self.last_whole.max(upto);
    }
}
