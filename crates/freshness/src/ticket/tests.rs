use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_followers: 5, max_handovers: 2, hit_for_miss: Span::from_secs(10) };

#[derive(Default)]
struct World {
    /// What each follower was told; `None` while it waits.
    told: BTreeMap<Follower, Option<&'static str>>,
    left: Vec<Follower>,
    heirs: u32,
    leader: bool,
    forgotten: bool,
    attached: usize,
}

impl World {
    fn apply(&mut self, actions: Vec<Action>) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Follow(id) => prop_assert!(self.told.insert(id, None).is_none(), "ids are not reused"),
                Action::HandOver(id) => {
                    prop_assert!(!self.leader, "one leader at a time");
                    self.leader = true;
                    self.heirs += 1;
                    self.tell(id, "lead")?;
                }
                Action::Wake(all, wake) => {
                    for id in all {
                        self.tell(
                            id,
                            match wake {
                                Wake::Share => "share",
                                Wake::Alone(_) => "alone",
                                Wake::Another => "another",
                                Wake::Fail => "fail",
                                Wake::LeaderGone => "gone",
                            },
                        )?;
                    }
                }
                Action::Attach => self.attached += 1,
                Action::Forget => self.forgotten = true,
                Action::Pass(_) | Action::Crowded | Action::Supersede => {}
            }
        }
        Ok(())
    }

    fn tell(&mut self, id: Follower, what: &'static str) -> Result<(), TestCaseError> {
        prop_assert!(!self.left.contains(&id), "{} had left", id);
        let before = self.told.get_mut(&id).map(|t| t.replace(what));
        prop_assert_eq!(before, Some(None), "{} is told once", id);
        Ok(())
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Join),
        1 => Just(Event::JoinPlain),
        3 => (0u64..12).prop_map(Event::Leave),
        2 => Just(Event::LeaderGone),
        1 => Just(Event::Share),
        1 => Just(Event::Alone(UncachedReason::Status)),
        1 => any::<bool>().prop_map(|authorized| Event::OfAsker { reason: UncachedReason::Private, authorized }),
        1 => Just(Event::Fail),
        1 => Just(Event::Slid),
        1 => Just(Event::Purged),
        1 => Just(Event::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn every_follower_is_told_exactly_one_thing(own in any::<bool>(), events in proptest::collection::vec((event(), 0u64..3), 0..60)) {
        let mut flight = Flight::new(LIMITS);
        let mut world = World { leader: true, ..World::default() };
        if own {
            let id = flight.own_follower();
            world.told.insert(id, None);
        }
        let mut now = Time::ZERO;
        for (event, seconds) in events {
            now = now + Span::from_secs(seconds);
            // Only a leader does what leaders do.
            let leads = matches!(event, Event::LeaderGone | Event::Share | Event::Alone(_) | Event::OfAsker { .. } | Event::Fail | Event::End | Event::Slid);
            if leads && !world.leader {
                continue;
            }
            if let Event::Leave(id) = event {
                if world.told.get(&id) == Some(&None) {
                    world.left.push(id);
                    world.told.remove(&id);
                } else {
                    prop_assert!(flight.step(event, now).is_empty());
                    continue;
                }
            }
            world.leader &= event != Event::LeaderGone;
            let actions = flight.step(event, now);
            world.apply(actions)?;
            world.leader &= !flight.is_over();
            prop_assert!(world.heirs <= LIMITS.max_handovers);
            let waiting = world.told.values().filter(|t| t.is_none()).count();
            prop_assert_eq!(flight.waiting(), waiting);
            prop_assert!(waiting <= LIMITS.max_followers + 1);
            prop_assert!(!flight.is_over() || waiting == 0, "nobody waits in vain");
        }
        // However it stands, the leader's end frees everyone.
        for _ in 0..=LIMITS.max_handovers {
            if world.leader {
                world.leader = false;
                let actions = flight.step(Event::LeaderGone, now);
                world.apply(actions)?;
            }
        }
        prop_assert_eq!(flight.waiting(), 0);
        prop_assert!(flight.is_over());
        prop_assert!(world.forgotten || flight.marked_until().is_some());
        let nobody_attaches = flight.step(Event::Join, now);
        prop_assert!(matches!(nobody_attaches[..], [Action::Supersede | Action::Pass(_)]));
    }
}

fn step(flight: &mut Flight, event: Event) -> Vec<Action> {
    flight.step(event, Time::ZERO)
}

#[test]
fn joiners_get_what_the_phase_allows() {
    let mut flight = Flight::new(LIMITS);
    assert_eq!(step(&mut flight, Event::Join), [Action::Follow(0)]);
    assert_eq!(step(&mut flight, Event::Share), [Action::Wake(vec![0], Wake::Share)]);
    assert_eq!(step(&mut flight, Event::Join), [Action::Attach]);
    step(&mut flight, Event::Slid);
    assert_eq!(step(&mut flight, Event::Join), [Action::Pass(UncachedReason::TooLarge)]);
    assert_eq!(step(&mut flight, Event::End), [Action::Forget]);
    assert_eq!(step(&mut flight, Event::Join), [Action::Supersede]);
}

#[test]
fn an_answer_about_its_asker_marks_nothing_for_those_who_ask_otherwise() {
    let of = |authorized| Event::OfAsker { reason: UncachedReason::Private, authorized };
    for authorized in [false, true] {
        let mut flight = Flight::new(LIMITS);
        let own = flight.own_follower();
        step(&mut flight, Event::Join);
        let woken = step(&mut flight, of(authorized));
        assert_eq!(woken[..2], [Action::Wake(vec![own], Wake::Share), Action::Wake(vec![1], Wake::Another)]);
        assert_eq!(woken.get(2), (!authorized).then_some(&Action::Forget));
        let passes = if authorized { Action::Pass(UncachedReason::Private) } else { Action::Supersede };
        assert_eq!((step(&mut flight, Event::Join), step(&mut flight, Event::JoinPlain)), (vec![passes], vec![Action::Supersede]));
    }
}

#[test]
fn an_answer_for_one_wakes_its_client_with_it_and_the_rest_without() {
    let mut flight = Flight::new(LIMITS);
    let own = flight.own_follower();
    step(&mut flight, Event::Join);
    let reason = UncachedReason::SetCookie;
    let woken = step(&mut flight, Event::Alone(reason));
    assert_eq!(woken, [Action::Wake(vec![own], Wake::Share), Action::Wake(vec![1], Wake::Alone(reason))]);
    assert_eq!(flight.step(Event::Join, Time::from_millis(9_999)), [Action::Pass(reason)]);
    assert_eq!(flight.step(Event::Join, Time::from_millis(10_000)), [Action::Supersede]);
}

#[test]
fn after_a_hand_over_the_old_own_client_is_one_of_many() {
    let mut flight = Flight::new(LIMITS);
    let own = flight.own_follower();
    step(&mut flight, Event::Join);
    assert_eq!(step(&mut flight, Event::LeaderGone), [Action::HandOver(own)]);
    let woken = step(&mut flight, Event::Alone(UncachedReason::Status));
    assert_eq!(woken, [Action::Wake(vec![1], Wake::Alone(UncachedReason::Status))]);
}

#[test]
fn a_purged_flight_is_left_to_those_in_it() {
    let mut flight = Flight::new(LIMITS);
    step(&mut flight, Event::Join);
    assert_eq!(step(&mut flight, Event::Purged), [Action::Forget]);
    assert_eq!(step(&mut flight, Event::Join), [Action::Supersede]);
    assert_eq!(step(&mut flight, Event::Share), [Action::Wake(vec![0], Wake::Share)]);
    assert_eq!(step(&mut flight, Event::Join), [Action::Supersede]);
}

#[test]
fn who_has_no_room_hands_over_however_often() {
    let (mut flight, now) = (Flight::new(LIMITS), Time::from_millis(1));
    for _ in 0..5 {
        flight.step(Event::Join, now);
    }
    for id in 0..5 {
        assert_eq!(flight.step(Event::HeldBack, now), [Action::HandOver(id)]);
    }
    assert_eq!(flight.step(Event::HeldBack, now), [Action::Forget]);
}
