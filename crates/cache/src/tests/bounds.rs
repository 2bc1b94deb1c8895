//! Nothing grows beyond its bytes, whatever happens.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join(u64),
    Share(usize),
    Push(usize, usize),
    Read(usize),
    DropReader(usize),
    Finish(usize),
    Abort(usize),
    Purge(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let i = 0usize..8;
    prop_oneof![
        3 => (0u64..6).prop_map(Step::Join),
        2 => i.clone().prop_map(Step::Share),
        6 => (i.clone(), 1usize..120).prop_map(|(i, n)| Step::Push(i, n)),
        4 => i.clone().prop_map(Step::Read),
        1 => i.clone().prop_map(Step::DropReader),
        2 => i.clone().prop_map(Step::Finish),
        1 => i.prop_map(Step::Abort),
        1 => (0u64..6).prop_map(Step::Purge),
    ]
}

const SHARE: usize = 200;
const IN_FLIGHT: usize = 500;
const CHUNK: usize = 120;

#[derive(Default)]
struct World {
    tickets: Vec<(Arc<Subject>, Ticket)>,
    fillings: Vec<(Arc<Subject>, Filling)>,
    slots: Vec<Slot>,
    bodies: Vec<Body>,
}

impl World {
    async fn play(&mut self, cache: &Cache, step: Step) {
        match step {
            Step::Join(n) => match join(cache, &subject(n)) {
                Joined::Lead(ticket) => {
                    self.slots.push(ticket.slot());
                    self.tickets.push((subject(n), ticket));
                }
                Joined::Follow(slot) => self.slots.push(slot),
                _ => {}
            },
            Step::Share(i) if i < self.tickets.len() => {
                let (subject, ticket) = self.tickets.remove(i);
                self.fillings.push((subject, ticket.share(head(), NOW)));
            }
            // A push that waits for a reader who stands still ends with its filling.
            Step::Push(i, n) if i < self.fillings.len() => {
                let pushed = tokio::time::timeout(Span::from_secs(1), self.fillings[i].1.push(Bytes::from(vec![7; n]))).await;
                if pushed.is_err() {
                    drop(self.fillings.remove(i));
                }
            }
            Step::Read(i) => self.read(i).await,
            Step::DropReader(i) if i < self.bodies.len() => drop(self.bodies.remove(i)),
            Step::Finish(i) if i < self.fillings.len() => {
                let (subject, filling) = self.fillings.remove(i);
                let filled = filling.finish(None);
                if let Some(body) = filled.body.clone() {
                    drop(filled.store(entry(&subject, body), NOW));
                }
            }
            Step::Abort(i) if i < self.fillings.len() => drop(self.fillings.remove(i)),
            Step::Purge(n) => drop(cache.purge(&Purge::Key(subject(n).key), false, NOW)),
            _ => {}
        }
    }

    async fn read(&mut self, i: usize) {
        let mut waiting = Vec::new();
        for mut slot in self.slots.drain(..) {
            match tokio::time::timeout(Span::ZERO, outcome(&mut slot)).await {
                Ok(Followed::Share(_, body)) => self.bodies.push(body),
                Ok(_) => {}
                Err(_) => waiting.push(slot),
            }
        }
        self.slots = waiting;
        if let Some(body) = self.bodies.get_mut(i) {
            drop(tokio::time::timeout(Span::ZERO, body.frame()).await);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn bytes_stay_within_their_bounds(steps in proptest::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let config = CacheConfig {
                l1_bytes: 6000,
                share_buffer_bytes: SHARE,
                in_flight_bytes: IN_FLIGHT,
                reader_grace: Span::from_millis(10),
                ..config()
            };
            let cache = cache(config);
            let mut world = World::default();
            for step in steps {
                world.play(&cache, step).await;
                let stats = cache.stats();
                prop_assert!(stats.bytes <= 6000, "{stats:?}");
                // One chunk per flight may stand above the bound of all; those whose flight is over count by their readers.
                let streams = world.fillings.len() + world.bodies.len() + world.slots.len();
                prop_assert!(stats.in_flight_bytes <= IN_FLIGHT + streams * CHUNK, "{stats:?}");
            }
            drop(world);
            let stats = cache.stats();
            prop_assert_eq!((stats.in_flight_bytes, stats.flights), (0, 0));
            Ok(())
        })?;
    }

    #[test]
    fn entries_are_evicted_to_fit(sizes in proptest::collection::vec(0usize..5000, 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let ends = Arc::new(Ends::default());
            let cache = Cache::new(CacheConfig { l1_bytes: 20_000, ..config() }, Arc::clone(&ends) as Arc<dyn CacheEvents>);
            let mut refused = 0;
            for (n, size) in sizes.iter().enumerate() {
                let subject = subject(n as u64);
                let filled = lead(join(&cache, &subject)).share(head(), NOW).finish(None);
                refused += usize::from(filled.store(entry(&subject, vec![0; *size]), NOW).is_err());
                let stats = cache.stats();
                prop_assert!(stats.bytes <= 20_000);
                prop_assert_eq!(stats.entries + ends.0.lock().len() + refused, n + 1);
            }
            prop_assert_eq!(refused, 0);
            Ok(())
        })?;
    }
}
