//! What an instance does about the version that stands in front, given the one that it knows. Pure.
//!
//! Numbers count for people and never go back on an instance. Which of two versions is newer their marks tell: after Redis has lost its data, numbers may be given
//! twice.

use farthing_fleet::ShelfFront;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: what is known stands in front.
    Rest,
    /// What stands in front is newer: read it.
    Read,
    /// What is known stands in front under a greater number: it has that one from now on.
    Renumber(u64),
    /// What is known is newer, or stands there under a number that went back, or nothing does: put it there.
    Restore {
        /// Over this one.
        over: u64,
        /// Under this number.
        becomes: u64,
    },
}

/// See the module.
pub fn step(known: Option<(u64, &str)>, front: &ShelfFront) -> Step {
    let Some((version, mark)) = known else { return if front.version == 0 { Step::Rest } else { Step::Read } };
    if front.version == 0 {
        return Step::Restore { over: 0, becomes: version };
    }
    let over = front.version;
    match front.mark.as_str().cmp(mark) {
        std::cmp::Ordering::Greater => Step::Read,
        std::cmp::Ordering::Less => Step::Restore { over, becomes: version.max(over + 1) },
        std::cmp::Ordering::Equal if over > version => Step::Renumber(over),
        std::cmp::Ordering::Equal if over < version => Step::Restore { over, becomes: version },
        std::cmp::Ordering::Equal => Step::Rest,
    }
}

/// The number under which an instance knows what it has read from the front, where it knew another one.
pub fn adopted(known: Option<u64>, front: u64) -> u64 {
    known.map_or(front, |version| front.max(version + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn each_case_has_its_step() {
        let front = |version: u64, mark: &str| ShelfFront { version, mark: mark.to_owned() };
        assert_eq!(step(None, &front(0, "")), Step::Rest);
        assert_eq!(step(None, &front(3, "c")), Step::Read);
        assert_eq!(step(Some((3, "c")), &front(0, "")), Step::Restore { over: 0, becomes: 3 });
        assert_eq!(step(Some((3, "c")), &front(3, "c")), Step::Rest);
        assert_eq!(step(Some((3, "c")), &front(4, "d")), Step::Read);
        assert_eq!(step(Some((3, "c")), &front(3, "d")), Step::Read, "a number that was given twice");
        assert_eq!(step(Some((3, "c")), &front(5, "c")), Step::Renumber(5));
        assert_eq!(step(Some((3, "c")), &front(1, "c")), Step::Restore { over: 1, becomes: 3 });
        assert_eq!(step(Some((3, "c")), &front(2, "b")), Step::Restore { over: 2, becomes: 3 });
        assert_eq!(step(Some((3, "c")), &front(7, "b")), Step::Restore { over: 7, becomes: 8 });
        assert_eq!((adopted(None, 3), adopted(Some(2), 3), adopted(Some(9), 3)), (3, 3, 10));
    }

    type Known = Option<(u64, String)>;

    /// A fleet: what its Redis has, what it had when a replica saw it last, and what each instance knows.
    #[derive(Default)]
    struct World {
        front: ShelfFront,
        replica: ShelfFront,
        known: Vec<Known>,
        /// All that was acknowledged, by mark.
        pushed: BTreeMap<String, usize>,
    }

    impl World {
        /// One look of an instance; an answer that is lost leaves it with what it knew.
        fn look(&mut self, who: usize, lost: bool) {
            let known = self.known[who].clone();
            match step(known.as_ref().map(|(version, mark)| (*version, mark.as_str())), &self.front) {
                Step::Rest => {}
                Step::Read => {
                    let version = adopted(known.as_ref().map(|(version, _)| *version), self.front.version);
                    self.knows(who, (version, self.front.mark.clone()));
                }
                Step::Renumber(version) => self.knows(who, (version, self.front.mark.clone())),
                Step::Restore { over, becomes } => {
                    assert!(becomes > over, "{becomes} over {over}");
                    let mark = known.unwrap().1;
                    self.front = ShelfFront { version: becomes, mark: mark.clone() };
                    if !lost {
                        self.knows(who, (becomes, mark));
                    }
                }
            }
        }

        fn knows(&mut self, who: usize, next: (u64, String)) {
            if let Some((version, mark)) = &self.known[who] {
                assert!(next.0 >= *version, "a number went back: {version} to {}", next.0);
                assert!(next.0 > *version || next.1 == *mark, "one number for two");
                assert!(next.1 >= *mark, "an older one over a newer one");
            }
            self.known[who] = Some(next);
        }

        /// An operator pushes over what the instance and the store agree about.
        fn push(&mut self, who: usize, at: usize) {
            self.look(who, false);
            self.look(who, false);
            let known = self.known[who].clone();
            let version = known.as_ref().map_or(0, |(version, _)| *version);
            let mark = format!("{at:08}");
            self.front = ShelfFront { version: version.max(self.front.version) + 1, mark: mark.clone() };
            self.knows(who, (self.front.version, mark.clone()));
            self.pushed.insert(mark, who);
        }
    }

    /// Whatever Redis loses, whoever is cut off: when all have looked again they have the last push that any of them knows, under one number.
    #[test]
    fn all_come_to_the_last_push_and_no_number_goes_back() {
        for seed in 0..5_000_u64 {
            let mut draws = StdRng::seed_from_u64(seed);
            let mut pick = |most: usize| draws.random_range(0..most);
            let size = 2 + pick(4);
            let mut world = World { known: vec![None; size], ..World::default() };
            for at in 0..40 {
                let who = pick(size);
                match pick(12) {
                    0 | 1 => world.push(who, at),
                    2 => world.front = ShelfFront::default(),
                    3 => world.replica = world.front.clone(),
                    4 => world.front = world.replica.clone(),
                    // A new machine; a replica of Redis may be as old.
                    5 => world.known[who] = None,
                    6 => world.look(who, true),
                    _ => world.look(who, false),
                }
            }
            let last = world.known.iter().flatten().map(|(_, mark)| mark.clone()).chain([world.front.mark.clone()]).max();
            for _ in 0..3 * size {
                (0..size).for_each(|who| world.look(who, false));
            }
            let last = last.filter(|mark| !mark.is_empty());
            assert_eq!(world.known.iter().flatten().count(), if last.is_some() { size } else { 0 }, "seed {seed}");
            for (version, mark) in world.known.iter().flatten() {
                assert_eq!((Some(mark), *version), (last.as_ref(), world.front.version), "seed {seed}");
            }
            assert!(last.is_none_or(|mark| world.pushed.contains_key(&mark)), "seed {seed}");
        }
    }
}
