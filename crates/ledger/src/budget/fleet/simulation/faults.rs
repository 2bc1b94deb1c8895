//! What goes wrong.

use super::super::server::Server;
use super::{Event, World};

impl World {
    /// Has one thing go wrong, and the next later.
    pub(super) fn fault(&mut self) {
        let n = self.random.below(self.instances.len());
        let most = [300, 3_000, 14_000][self.random.below(3)];
        let span = (100 + self.below(most)).min(self.calm - self.now);
        match self.random.below(15) {
            0 | 1 => {
                self.seen.kills += u64::from(self.instances[n].book.is_some());
                self.die(n);
            }
            2 => self.instances[n].paused_until = self.now + span,
            3 => self.instances[n].cut_until = self.now + span,
            4 => self.frozen_until = self.now + span.min(4_000),
            5 => self.down_until = self.now + span,
            6 => self.lose(Server::default(), false),
            7 => self.lose(Server::default(), true),
            // A replica that lags, or a file of yesterday, takes over.
            8 => self.lose(self.old.clone(), true),
            9 => self.lose(self.server.clone(), true),
            10 => self.old = self.server.clone(),
            13 => {
                // In order: what is under way ends first.
                let calls: Vec<u64> = self.instances[n].calls.keys().copied().collect();
                calls.into_iter().for_each(|id| self.settle(n, id));
                self.instances[n].member.close();
                self.instances[n].closing = true;
                self.send(n, true);
            }
            11 | 12 => {
                self.seen.losses += 1;
                self.answering_since = self.now;
                std::mem::swap(&mut self.server, &mut self.other.0);
                std::mem::swap(&mut self.run, &mut self.other.1);
            }
            _ => {
                // All die, and Redis with them.
                if self.random.below(4) == 0 {
                    (0..self.instances.len()).for_each(|n| self.die(n));
                    self.lose(Server::default(), true);
                }
            }
        }
        let next = self.now + 200 + self.below(2_500);
        if next < self.calm {
            self.at(next, Event::Fault);
        }
    }

    fn lose(&mut self, to: Server, another: bool) {
        self.seen.losses += 1;
        self.answering_since = self.now;
        self.server = to;
        if another {
            self.runs += 1;
            self.run = format!("r{}", self.runs);
        }
    }
}
