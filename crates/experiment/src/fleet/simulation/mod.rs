//! Random schedules: instances that pause, die, start anew and are cut off, a holder that changes, messages that are lost, late or come twice, and a place for what is
//! published that is emptied. What is in the evidence is what one record would have that saw every request of every whole window.

mod schedules;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use farthing_types::{Draw, KeyHash, Money, Overrides, Span, Time};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::allocation::AllocationKind;
use crate::assign::{Assigned, Experiment};
use crate::life::{Life, Order, Stage};
use crate::report::Report;
use crate::spec::{ExperimentSpec, Metric, Variant};
use crate::steer::{Steered, steer};
use crate::trial::{Observation, Trial};

const WINDOW_S: u64 = 60;
const LEASE: Span = Span::from_secs(3);

/// How a schedule is drawn.
#[derive(Clone, Copy)]
struct World {
    seed: u64,
    windows: u64,
    units: u64,
    /// Requests in a second.
    rate: u64,
    /// How much goes wrong, 0 to 1.
    trouble: f64,
    /// What b costs of what a does, and how much oftener it fails.
    effect: f64,
    fails: f64,
    adaptive: bool,
    /// Whether there is a c, which is as a is.
    third: bool,
}

const CALM: World = World { seed: 1, windows: 12, units: 40, rate: 6, trouble: 0.0, effect: 1.0, fails: 0.0, adaptive: true, third: false };

/// What the fleet has published, as a version of it travels: the evidence as text, and which windows are in it, which only the test knows.
#[derive(Clone)]
struct Doc {
    version: u64,
    published: Published,
    evidence: Arc<str>,
    /// With who was there: an instance that could not say so has no part in the window.
    windows: Arc<Vec<(i64, BTreeSet<Arc<str>>)>>,
}

#[derive(Default)]
struct Board {
    doc: Option<Doc>,
    holder: Option<(u64, Time)>,
    windows: BTreeMap<i64, BTreeMap<Arc<str>, Option<Vec<u8>>>>,
    /// Writes that are under way: they arrive later.
    late: Vec<(Time, Write)>,
}

#[derive(Clone)]
enum Write {
    /// By the holder of a lease, or by anybody.
    Publish {
        over: u64,
        doc: Box<Doc>,
        holder: Option<u64>,
    },
    Report {
        window: i64,
        member: Arc<str>,
        bytes: Vec<u8>,
    },
}

impl Board {
    fn take(&mut self, write: &Write, now: Time) -> bool {
        match write {
            Write::Publish { over, doc, holder } => {
                let holds = holder.is_none_or(|member| self.holder.is_some_and(|(by, until)| by == member && now < until));
                let version = self.doc.as_ref().map_or(0, |doc| doc.version);
                if !holds || version != *over {
                    return false;
                }
                self.windows.retain(|window, _| *window > doc.published.closed);
                self.doc = Some(Doc::clone(doc));
                true
            }
            Write::Report { window, member, bytes } => {
                self.windows.entry(*window).or_default().insert(member.clone(), Some(bytes.clone()));
                true
            }
        }
    }
}

/// A request: who served it, for which unit, with which variant, and what came of it.
type Served = (Arc<str>, KeyHash, Assigned, Observation);

struct Instance {
    number: u64,
    member: Arc<str>,
    version: u64,
    doc: Option<Doc>,
    life: Life,
    trial: Trial,
    collected: Collected,
    experiment: Option<Experiment>,
    own_off: Vec<crate::guard::SwitchOff>,
    paused_until: Time,
    cut_until: Time,
}

struct Sim {
    world: World,
    spec: ExperimentSpec,
    rng: StdRng,
    board: Board,
    instances: Vec<Instance>,
    started: u64,
    /// All that was served, by window.
    served: BTreeMap<i64, Vec<Served>>,
    folded: u64,
    absent: BTreeSet<Absent>,
}

fn spec(adaptive: bool) -> ExperimentSpec {
    let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
    let allocation = if adaptive { AllocationKind::Thompson { floor: 0.2 } } else { AllocationKind::Fixed };
    let pair = ExperimentSpec::pair("e", variant("a"), variant("b"), Span::from_secs(WINDOW_S));
    ExperimentSpec { allocation, metric: Metric::WithWaiting, ramp: vec![0.5, 1.0], ..pair }
}

fn kept(trial: &Trial) -> Arc<str> {
    serde_json::to_string(trial).unwrap().into()
}

fn read(text: &str) -> Trial {
    serde_json::from_str(text).unwrap()
}

impl Sim {
    fn new(world: World) -> Self {
        let mut spec = spec(world.adaptive);
        if world.third {
            spec.variants.push(Variant { name: "c".into(), overrides: Overrides::default(), share: 0.0 });
            spec.variants.iter_mut().for_each(|variant| variant.share = 1.0 / 3.0);
        }
        let mut sim = Self {
            world,
            spec,
            rng: StdRng::seed_from_u64(world.seed),
            board: Board::default(),
            instances: Vec::new(),
            started: 0,
            served: BTreeMap::new(),
            folded: 0,
            absent: BTreeSet::new(),
        };
        (0..3).for_each(|_| sim.start(Time::ZERO, None));
        sim
    }

    fn goes_wrong(&mut self, chance: f64) -> bool {
        self.rng.random::<f64>() < chance * self.world.trouble
    }

    /// An instance begins, with what one before it has kept.
    fn start(&mut self, now: Time, kept: Option<Doc>) {
        let number = self.started;
        self.started += 1;
        let life = kept.as_ref().map_or_else(|| Life::draft(now), |doc| doc.published.life.clone());
        let base = Experiment::new(self.spec.clone()).unwrap();
        let window = self.spec.window_at(now);
        let mut instance = Instance {
            number,
            member: format!("i{number}").into(),
            version: kept.as_ref().map_or(0, |doc| doc.version),
            trial: kept.as_ref().map_or_else(|| Trial::new(&base), |doc| read(&doc.evidence)),
            doc: kept,
            collected: Collected::new(&base, Some(number + 1), window),
            experiment: life.snapshot(&self.spec).unwrap(),
            life,
            own_off: Vec::new(),
            paused_until: Time::ZERO,
            cut_until: Time::ZERO,
        };
        // It asks before it serves, where it can.
        if let Some(doc) = self.board.doc.clone() {
            self.adopt(&mut instance, doc, now);
        }
        self.instances.push(instance);
    }

    fn adopt(&self, instance: &mut Instance, doc: Doc, now: Time) {
        let window = self.spec.window_at(now);
        let mut life = doc.published.clone().unpacked().life;
        for off in &instance.own_off {
            if life.off.iter().all(|known| known.variant != off.variant) {
                life.off.push(*off);
            }
        }
        instance.collected.follow((&instance.life, &life), window);
        instance.collected.acknowledge(doc.published.closed);
        instance.experiment = life.snapshot(&self.spec).unwrap();
        instance.trial = read(&doc.evidence);
        instance.trial.follow(&life.allocations);
        (instance.version, instance.life) = (doc.version, life);
        instance.doc = Some(doc);
    }

    /// A write that may be lost, late, or come twice; whether its sender hears that it was taken.
    fn send(&mut self, write: &Write, now: Time) -> bool {
        if self.goes_wrong(0.05) {
            return false;
        }
        if self.goes_wrong(0.05) {
            let later = now + Span::from_secs(self.rng.random_range(1..120));
            self.board.late.push((later, write.clone()));
            return false;
        }
        let taken = self.publish(write, now);
        if self.goes_wrong(0.05) {
            self.publish(write, now);
        }
        taken && !self.goes_wrong(0.05)
    }

    fn publish(&mut self, write: &Write, now: Time) -> bool {
        let before = self.board.doc.as_ref().map_or(0, |doc| doc.windows.len());
        let taken = self.board.take(write, now);
        let doc = self.board.doc.as_ref();
        self.folded += u64::from(doc.is_some_and(|doc| doc.windows.len() > before));
        self.absent.extend(doc.and_then(|doc| doc.published.last_absent.as_ref()).map(|absent| absent.why));
        taken
    }

    fn step(&mut self, second: u64) {
        let now = Time::ZERO + Span::from_millis(second * 1_000 + 137);
        let (due, late) = std::mem::take(&mut self.board.late).into_iter().partition(|(at, _)| *at <= now);
        self.board.late = late;
        for (_, write) in due {
            self.publish(&write, now);
        }
        self.disturb(now);
        for _ in 0..self.world.rate {
            self.request(now);
        }
        for index in 0..self.instances.len() {
            // Whose turn it is meanwhile is out of the list.
            let mut instance = self.instances.remove(index);
            if now >= instance.paused_until {
                self.turn(&mut instance, now);
            }
            self.instances.insert(index, instance);
        }
    }

    fn disturb(&mut self, now: Time) {
        if self.goes_wrong(0.002) {
            self.board = Board { late: std::mem::take(&mut self.board.late), ..Board::default() };
        }
        for index in 0..self.instances.len() {
            let spell = Span::from_secs(self.rng.random_range(1..150));
            if self.goes_wrong(0.002) {
                self.instances[index].paused_until = now + spell;
            }
            if self.goes_wrong(0.002) {
                self.instances[index].cut_until = now + spell;
            }
        }
        if self.goes_wrong(0.004) {
            let index = self.rng.random_range(0..self.instances.len());
            let mut gone = self.instances.remove(index);
            if self.rng.random() {
                // In order: it reports what it has.
                gone.collected.leave(&self.spec, now);
                self.report(&mut gone, now);
            }
            let kept = if self.rng.random() { gone.doc } else { None };
            self.start(now, kept);
        }
    }

    fn request(&mut self, now: Time) {
        let index = self.rng.random_range(0..self.instances.len());
        let unit = self.rng.random_range(0..self.world.units);
        let key = KeyHash(u128::from(unit + 1) << 64 | u128::from(unit));
        let (cost, luck) = (self.rng.random_range(1..9i64), self.rng.random::<f64>());
        let instance = &mut self.instances[index];
        if now < instance.paused_until {
            return;
        }
        let Some(experiment) = &instance.experiment else { return };
        let assigned = experiment.assign(&Draw::new(7), key, now);
        let other = assigned.variant == 1;
        let cost = (cost as f64 * 1e6 * if other { self.world.effect } else { 1.0 }) as i64;
        let seen = Observation {
            bill: Some(Money::from_nanos(cost)),
            requests: 1,
            errors: u32::from(other && luck < self.world.fails),
            stale: if luck > 0.9 { 0.5 } else { 0.0 },
            waiting: Money::from_nanos((luck * 3e5) as i64),
            ..Observation::default()
        };
        if instance.life.stage != Stage::Running {
            return;
        }
        let tripped = instance.collected.record(key, &assigned, seen);
        self.served.entry(assigned.window).or_default().push((instance.member.clone(), key, assigned, seen));
        if tripped {
            let steered =
                Steered { life: &instance.life, spec: &self.spec, trial: instance.collected.own(), draw: &Draw::new(7), frozen: true };
            if let Some(turn) = steer(&steered, now) {
                instance.own_off = turn.life.off.clone();
                instance.experiment = turn.life.snapshot(&self.spec).unwrap();
                instance.life = turn.life;
            }
        }
    }

    fn report(&mut self, instance: &mut Instance, now: Time) {
        for (window, bytes) in instance.collected.untold() {
            if self.send(&Write::Report { window, member: instance.member.clone(), bytes }, now) {
                instance.collected.told(window);
            }
        }
    }

    fn turn(&mut self, instance: &mut Instance, now: Time) {
        instance.collected.close(&self.spec, now);
        if now < instance.cut_until || self.goes_wrong(0.02) {
            return;
        }
        for window in attends(&self.spec, now) {
            self.board.windows.entry(window).or_default().entry(instance.member.clone()).or_insert(None);
        }
        self.report(instance, now);
        let published = self.board.doc.clone();
        match published {
            Some(doc) if is_older((doc.version, &doc.published), instance.version) => return self.bring_back(instance, doc.version, now),
            Some(doc) if doc.version > instance.version => self.adopt(instance, doc, now),
            Some(doc) if doc.version == instance.version => {}
            other => return self.bring_back(instance, other.map_or(0, |doc| doc.version), now),
        }
        self.tell_off(instance, now);
        let free = self.board.holder.is_none_or(|(by, until)| by == instance.number || now >= until);
        if free && !self.goes_wrong(0.05) {
            self.board.holder = Some((instance.number, now + LEASE));
            self.hold(instance, now);
        }
    }

    /// What was published is gone, or older than what is known here.
    fn bring_back(&mut self, instance: &Instance, over: u64, now: Time) {
        let window = self.spec.window_at(now);
        let doc = match &instance.doc {
            Some(doc) => {
                let published = doc.published.restored(doc.version, window);
                Doc { version: after_loss(doc.version), published, ..doc.clone() }
            }
            // An order of the configuration; whoever knows better has told by then.
            None if now > Time::ZERO + Span::from_secs(2) && over == 0 && self.started == 3 => {
                let draft = Published::first(BTreeMap::new(), Life::draft(now), window);
                let published = draft.ordered(&Order::Start, &self.spec, (now, window)).unwrap();
                let empty = Trial::new(&Experiment::new(self.spec.clone()).unwrap());
                Doc { version: 1, published, evidence: kept(&empty), windows: Arc::default() }
            }
            None => return,
        };
        self.send(&Write::Publish { over, doc: Box::new(doc), holder: None }, now);
    }

    fn tell_off(&mut self, instance: &Instance, now: Time) {
        let Some(doc) = &instance.doc else { return };
        let known = |variant: usize| doc.published.life.off.iter().any(|off| off.variant == variant);
        if instance.own_off.iter().all(|off| known(off.variant)) {
            return;
        }
        let published = doc.published.living(instance.life.clone(), self.spec.window_at(now));
        let doc = Doc { version: doc.version + 1, published, ..doc.clone() };
        self.send(&Write::Publish { over: instance.version, doc: Box::new(doc), holder: None }, now);
    }

    fn hold(&mut self, instance: &mut Instance, now: Time) {
        let Some(doc) = instance.doc.clone() else { return };
        let holder = Some(instance.number);
        let over = doc.version;
        let next = match due(&self.spec, doc.published.closed, now) {
            Due::Nothing => None,
            Due::Skip(upto) => Some(Doc { published: doc.published.without_upto(upto), ..doc.clone() }),
            Due::Window { window, .. } if !doc.published.measures(window) => {
                Some(Doc { published: doc.published.rested(window), ..doc.clone() })
            }
            Due::Window { window, late } => self.decide(instance, &doc, (window, late)),
        };
        let next = next.or_else(|| {
            let steered = Steered { life: &instance.life, spec: &self.spec, trial: &instance.trial, draw: &Draw::new(7), frozen: false };
            let turn = steer(&steered, now)?;
            Some(Doc { published: doc.published.living(turn.life, self.spec.window_at(now)).packed(), ..doc })
        });
        if let Some(next) = next {
            let doc = Doc { version: over + 1, ..next };
            self.send(&Write::Publish { over, doc: Box::new(doc), holder }, now);
        }
    }

    fn decide(&self, instance: &Instance, doc: &Doc, (window, late): (i64, bool)) -> Option<Doc> {
        let there = self.board.windows.get(&window).cloned().unwrap_or_default();
        if there.is_empty() {
            return late.then(|| Doc { published: doc.published.decided(window, Some((Absent::Nobody, None))), ..doc.clone() });
        }
        if !late && there.values().any(Option::is_none) {
            return None;
        }
        let part = |bytes: Option<Vec<u8>>| bytes.map(|bytes| Part::decode(&bytes).unwrap());
        let parts: Vec<(Arc<str>, Option<Part>)> = there.into_iter().map(|(member, bytes)| (member, part(bytes))).collect();
        let draw = Draw::new(7);
        let folded = Folding::new(&self.spec, &doc.published, (&draw, window)).and_then(|mut folding| {
            parts.iter().try_for_each(|(member, part)| folding.add(member, part.as_ref()))?;
            Ok(folding.whole())
        });
        Some(match folded {
            Err((why, whose)) => Doc { published: doc.published.decided(window, Some((why, whose))), ..doc.clone() },
            Ok(whole) => {
                let mut trial = instance.trial.clone();
                trial.guard_at(FLEET_ALPHA);
                trial.know(&doc.published.life.off);
                trial.take_window(whole);
                let members = parts.iter().map(|(member, _)| member.clone()).collect();
                let windows = doc.windows.iter().cloned().chain([(window, members)]).collect();
                let mut published = doc.published.decided(window, None);
                published.evidence += 1;
                Doc { published, evidence: kept(&trial), windows: Arc::new(windows), ..doc.clone() }
            }
        })
    }

    fn run(mut self) -> Self {
        (0..self.world.windows * WINDOW_S).for_each(|second| self.step(second));
        self
    }

    fn served_by<'a>(&'a self, window: i64, members: &'a BTreeSet<Arc<str>>) -> impl Iterator<Item = &'a Served> {
        self.served.get(&window).into_iter().flatten().filter(|(member, ..)| members.contains(member))
    }

    /// The evidence, and what one record makes of all requests of the same windows.
    fn compared(&self) -> (Report, Report) {
        let doc = self.board.doc.as_ref().expect("published");
        let mut one = Trial::new(&Experiment::new(self.spec.clone()).unwrap());
        for (window, members) in doc.windows.iter() {
            for (_, unit, assigned, seen) in self.served_by(*window, members) {
                one.record(*unit, assigned, *seen);
            }
            one.close_window();
        }
        (read(&doc.evidence).report(), one.report())
    }

    fn assert_alike(&self, what: &str) {
        let Some(doc) = &self.board.doc else { return };
        let numbers: Vec<i64> = doc.windows.iter().map(|(window, _)| *window).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{what}: a window counts once: {numbers:?}");
        assert_eq!(read(&doc.evidence).report().watched, doc.published.whole, "{what}: what is reckoned by time goes by whole windows");
        let off = !doc.published.life.off.is_empty();
        for (window, members) in doc.windows.iter() {
            let mut given: BTreeMap<KeyHash, BTreeSet<usize>> = BTreeMap::new();
            for (_, unit, assigned, _) in self.served_by(*window, members).filter(|(_, _, assigned, _)| assigned.in_slice) {
                given.entry(*unit).or_default().insert(assigned.variant);
            }
            assert!(
                off || given.values().all(|variants| variants.len() == 1),
                "{what}: window {window} has one variant of each unit everywhere"
            );
        }
        if off {
            // What is switched off in the middle of a window is left out by a fleet as a whole.
            return;
        }
        let (fleet, one) = self.compared();
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9);
        for (a, b) in fleet.variants.iter().zip(&one.variants) {
            assert_eq!((a.unit_windows, a.requests, a.units), (b.unit_windows, b.requests, b.units), "{what}");
            assert!(
                near(a.bill_usd, b.bill_usd) && near(a.cost_usd, b.cost_usd) && near(a.stale_share, b.stale_share),
                "{what}: {a:?} {b:?}"
            );
            assert!(near(a.units_drawn as f64, b.units_drawn as f64), "{what}: {a:?} {b:?}");
        }
        for (a, b) in fleet.comparisons.iter().zip(&one.comparisons) {
            assert_eq!((a.rows, a.note), (b.rows, b.note), "{what}");
            assert!(near(a.evidence, b.evidence), "{what}: {a:?} {b:?}");
            for (a, b) in a.effect_usd.iter().zip(&b.effect_usd) {
                assert!(near(a.point, b.point) && near(a.low, b.low) && near(a.high, b.high), "{what}: {a:?} {b:?}");
            }
        }
        assert!(near(fleet.ratio_evidence, one.ratio_evidence), "{what}");
        // Stale answers are priced in floats, and added in another order.
        let caps = (fleet.cap_usd.unwrap_or(-1.0), one.cap_usd.unwrap_or(-1.0));
        assert!(near(caps.0, caps.1), "{what}: {caps:?}");
    }
}
