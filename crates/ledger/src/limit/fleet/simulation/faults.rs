//! What goes wrong, and how loads change.

use super::{Event, World};

impl World {
    /// When a message arrives; some never do, some when nobody waits for them any more.
    pub(super) fn arrives(&mut self, n: usize) -> Option<i64> {
        let trouble = self.now <= self.calm;
        let lost = self.random.below(100) < self.loss || self.instances[n].cut_until > self.now;
        let late = self.random.below(200) < self.loss;
        let delay = if trouble && late { 6_000_000 } else { 4_000 };
        let at = self.now + 200 + self.below(delay);
        (!trouble || !lost).then_some(at)
    }

    pub(super) fn shift(&mut self, n: usize) {
        let idle = self.instances[n].load == 0;
        self.instances[n].load = [0, 0, 15, 60, 400, 1_000][self.random.below(6)];
        if idle && self.instances[n].load > 0 {
            self.at(self.now + 1, Event::Call(n, self.instances[n].life));
        }
        let next = self.now + 500_000 + self.below(5_000_000);
        if next < self.calm {
            self.at(next, Event::Shift(n));
        } else {
            self.instances[n].load = self.loads[n];
            if idle && self.loads[n] > 0 {
                self.at(self.now + 1, Event::Call(n, self.instances[n].life));
            }
        }
    }

    pub(super) fn fault(&mut self) {
        let n = self.random.below(self.instances.len());
        let span = [300_000, 2_600_000, 13_000_000][self.random.below(3)];
        let span = span / 2 + self.below(span as usize);
        match self.random.below(9) {
            0 | 1 => self.die(n, true),
            2 => self.die(n, !self.disks_are_lost),
            3 => self.instances[n].paused_until = (self.now + span).min(self.calm),
            4 => self.instances[n].cut_until = (self.now + span).min(self.calm),
            5..8 if self.disks_are_lost => {}
            5 => self.server.flush(),
            6 => self.run += 1,
            7 => {
                // A replica that lacks the latest takes over.
                self.run += 1;
                std::mem::swap(&mut self.server, &mut self.old);
            }
            _ => self.down_until = (self.now + span).min(self.calm),
        }
        if self.random.below(3) == 0 {
            self.old = self.server.clone();
        }
        let next = self.now + 200_000 + self.below(4_000_000);
        if next < self.calm {
            self.at(next, Event::Fault);
        }
    }
}
