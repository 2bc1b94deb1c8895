//! One turn of the control loop over a running experiment: guardrails, leader, ramp, and the probabilities of the next window. Pure: who
//! calls it publishes what comes of it, keeps it, and notes it in the audit.

use std::sync::Arc;

use farthing_types::{Draw, Span, Time};

use crate::allocation::{Allocation, AllocationKind, Belief, SharedContexts, cheapest, with_floor};
use crate::assign::Experiment;
use crate::conserve::restrained;
use crate::guard::{GuardKind, SwitchOff};
use crate::life::{Life, Ramp, Stage};
use crate::report::Report;
use crate::spec::{ExperimentSpec, MAX_VARIANTS};
use crate::trial::Trial;

/// Unit-windows on a step of the ramp before the next one.
const RAMP_ROWS: u64 = 100;
/// Evidence of harm that keeps a ramp where it is.
const RAMP_HARM: f64 = 10.0;
/// Probabilities that change by less than this share are left, where the money bounds them.
const NEARLY: f64 = 0.02;

/// Something that the control loop did, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What made it do so: `guardrail`, `evidence`, `ramp`, `budget`.
    pub by: &'static str,
    /// What it did.
    pub what: String,
}

/// What a turn came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Where the experiment stands now.
    pub life: Life,
    /// What is to be told. Published probabilities are not: they are in each draw.
    pub notes: Vec<Note>,
}

/// What a turn is about.
pub struct Steered<'a> {
    /// Where the experiment stands.
    pub life: &'a Life,
    /// Its description.
    pub spec: &'a ExperimentSpec,
    /// Its record.
    pub trial: &'a Trial,
    /// The source of draws.
    pub draw: &'a Draw,
    /// Whether automation is frozen: guardrails act, nothing else does.
    pub frozen: bool,
}

/// One turn at `now`; `None` when nothing changes.
pub fn steer(what: &Steered<'_>, now: Time) -> Option<Turn> {
    if what.life.stage != Stage::Running {
        return None;
    }
    let mut turn = Turn { life: what.life.clone(), notes: Vec::new() };
    guards(what, &mut turn, now);
    if !what.frozen {
        let report = what.trial.report();
        lead(what, &report, &mut turn);
        climb(what, &report, &mut turn, now);
        publish(what, &mut turn, now);
    }
    conserve(what, &mut turn, now);
    (turn.life != *what.life).then_some(turn)
}

fn guards(what: &Steered<'_>, turn: &mut Turn, now: Time) {
    let (life, spec) = (&mut turn.life, what.spec);
    let tripped: Vec<SwitchOff> = what.trial.switch_off().filter(|off| life.off.iter().all(|known| known.variant != off.variant)).collect();
    if tripped.is_empty() {
        return;
    }
    for off in &tripped {
        let name = spec.variants.get(off.variant).map_or("", |v| &*v.name);
        let what = format!("variant {name} is switched off: more {} than control (evidence {:.0})", harm(off.guard), off.evidence);
        turn.notes.push(Note { by: "guardrail", what });
    }
    let next = life.without_variants(&tripped, spec, (now, spec.window_at(now)));
    if next.ramp.share != life.ramp.share {
        turn.notes.push(Note { by: "guardrail", what: "traffic goes back to 0: no challenger is left".to_owned() });
    }
    *life = next;
}

const fn harm(guard: GuardKind) -> &'static str {
    match guard {
        GuardKind::Errors => "errors",
        GuardKind::Stale => "stale answers",
        GuardKind::Latency => "late answers",
    }
}

/// Once they differ and a challenger is cheaper, units outside the slice follow the cheapest.
fn lead(what: &Steered<'_>, report: &Report, turn: &mut Turn) {
    let life = &mut turn.life;
    let is_off = |variant: usize| life.off.iter().any(|off| off.variant == variant);
    let cheaper = report.comparisons.iter().enumerate().filter(|(index, c)| c.differs && !is_off(index + 1));
    let best = cheaper.filter_map(|(index, c)| c.effect_usd.filter(|i| i.high < 0.0).map(|i| (index + 1, i.point)));
    if let Some((leader, _)) = best.min_by(|a, b| a.1.total_cmp(&b.1))
        && leader != life.leader
    {
        life.leader = leader;
        let name = what.spec.variants.get(leader).map_or("", |v| &*v.name);
        turn.notes.push(Note { by: "evidence", what: format!("variant {name} leads: units that are not measured follow it") });
    }
}

/// The next step of the ramp, when this one has lasted long enough, enough was seen on it and nothing speaks against it.
fn climb(what: &Steered<'_>, report: &Report, turn: &mut Turn, now: Time) {
    let (life, spec) = (&mut turn.life, what.spec);
    let Ramp { share, since, rows, auto } = life.ramp;
    let Some(next) = spec.ramp.iter().copied().find(|step| *step > share).filter(|_| auto && share > 0.0) else { return };
    let seen: u64 = report.variants.iter().map(|v| v.unit_windows).sum();
    let held = now.since(since) >= spec.ramp_hold.max(spec.window) && seen.saturating_sub(rows) >= RAMP_ROWS;
    if !held || what.trial.harm() >= RAMP_HARM {
        return;
    }
    *life = life.with_share(spec, (now, spec.window_at(now).saturating_add(1)), next);
    life.ramp.rows = seen;
    turn.notes.push(Note { by: "ramp", what: format!("traffic {:.0} % -> {:.0} % of the slice", share * 100.0, next * 100.0) });
}

/// No more of the challengers in the next window than the money allows, once half of this one has passed. Under a freeze they may become less likely, and not more.
fn conserve(what: &Steered<'_>, turn: &mut Turn, now: Time) {
    let (life, spec) = (&mut turn.life, what.spec);
    // Whose windows others count knows nothing of what they cost.
    let Some(conservative) = spec.conservative.filter(|_| passed(spec, now) >= 0.5 && !what.trial.hands_over()) else { return };
    let next = spec.window_at(now).saturating_add(1);
    // What holds in this window, and, where other probabilities were published for the next one by now, those.
    let Some(under_way) = life.allocations.iter().rev().find(|allocation| allocation.from < next) else { return };
    let thompson = matches!(spec.allocation, AllocationKind::Thompson { .. });
    let adaptive = thompson && life.allocations.last().is_some_and(|last| last.from == next);
    let wanted = match life.allocations.last() {
        Some(last) if adaptive => last.pmf,
        // Nothing but the money moves what holds.
        _ if thompson && what.frozen => under_way.pmf,
        _ => spec.declared(),
    };
    let pmf = restrained(&what.trial.report(), conservative, (&wanted, &under_way.pmf));
    let (before, ramp) = (under_way.pmf, life.ramp.share);
    let more = pmf[0] < before[0];
    let nearly = (pmf[0] - before[0]).abs() < NEARLY * (1.0 - before[0]);
    if (more && what.frozen) || nearly || pmf == before {
        if adaptive {
            *life = life.clone().publishing(Allocation { from: next, pmf: before, ramp, contexts: None });
        }
        return;
    }
    *life = life.clone().publishing(Allocation { from: next, pmf, ramp, contexts: None });
    let (full, none) = (|pmf: &[f64; MAX_VARIANTS]| pmf[0] <= wanted[0], |pmf: &[f64; MAX_VARIANTS]| pmf[0] >= 1.0);
    if full(&pmf) != full(&before) || none(&pmf) != none(&before) {
        let [from, to] = [before, pmf].map(|pmf| 100.0 * (1.0 - pmf[0]));
        let most = 100.0 * conservative.most;
        turn.notes.push(Note {
            by: "budget",
            what: format!("challengers have {from:.1} % -> {to:.1} % of the slice: they may cost {most} % of it"),
        });
    }
}

/// How much of the window has passed, 0 to 1.
fn passed(spec: &ExperimentSpec, now: Time) -> f64 {
    now.nanos().rem_euclid(spec.window_ns()) as f64 / spec.window_ns() as f64
}

/// The probabilities of the next window, once half of this one has passed: what is known then is of windows that are over, and the snapshot
/// is in place before the next one begins.
fn publish(what: &Steered<'_>, turn: &mut Turn, now: Time) {
    let (life, spec) = (&turn.life, what.spec);
    let passed = passed(spec, now);
    let next = spec.window_at(now).saturating_add(1);
    if passed < 0.5 || spec.window.mul_f64(1.0 - passed) < Span::from_millis(1) || life.allocations.last().is_some_and(|a| a.from > next) {
        return;
    }
    match spec.allocation {
        AllocationKind::Fixed => {}
        AllocationKind::Thompson { floor } => publish_shares(what, turn, (next, floor)),
        AllocationKind::Contextual(_) => publish_contexts(what, turn, next),
    }
}

fn publish_shares(what: &Steered<'_>, turn: &mut Turn, (next, floor): (i64, f64)) {
    let life = &mut turn.life;
    let Some(beliefs) = what.trial.beliefs() else { return };
    let Ok(Some(experiment)) = life.snapshot(what.spec) else { return };
    let pmf = allocate(&experiment, (&beliefs, floor), what.draw, next);
    let last = life.allocations.last();
    if last.is_some_and(|a| a.from == next && a.pmf == pmf) {
        return;
    }
    let ramp = last.map_or(0.0, |a| a.ramp);
    *life = life.clone().publishing(Allocation { from: next, pmf, ramp, contexts: None });
}

/// Once for each window; anew where a restart has lost them.
fn publish_contexts(what: &Steered<'_>, turn: &mut Turn, next: i64) {
    let life = &mut turn.life;
    let last = life.allocations.last();
    let before = last.and_then(|a| a.contexts.as_ref()).map(|shared| &shared.0);
    if before.is_some_and(|contexts| contexts.window() == next) {
        return;
    }
    let live = std::array::from_fn(|v| v < what.spec.variants.len() && !life.off.iter().any(|off| off.variant == v));
    let Some(contexts) = what.trial.contexts(what.spec, next, live) else { return };
    let was_short = before.is_some_and(|before| before.appetite() < 1.0);
    if contexts.appetite() < 1.0 && !was_short {
        let what = "the day's money for exploration runs out: beside the uniform slice each unit gets what is predicted to be the cheapest";
        turn.notes.push(Note { by: "budget", what: what.to_owned() });
    }
    let (pmf, ramp) = (contexts.pmf(), last.map_or(0.0, |a| a.ramp));
    *life = life.clone().publishing(Allocation { from: next, pmf, ramp, contexts: Some(SharedContexts(Arc::new(contexts))) });
}

/// The probabilities of a window by what is believed of the challengers' effects.
pub fn allocate(experiment: &Experiment, (beliefs, floor): (&[Option<Belief>], f64), draw: &Draw, window: i64) -> [f64; MAX_VARIANTS] {
    with_floor(cheapest(beliefs, draw, experiment.name(), window), experiment.live(), floor)
}

#[cfg(test)]
mod tests {
    use farthing_types::{KeyHash, Money, Overrides};

    use super::*;
    use crate::life::Order;
    use crate::spec::Variant;
    use crate::trial::Observation;

    const WINDOW_S: u64 = 60;

    fn spec() -> ExperimentSpec {
        let variant = |name: &str| Variant { name: name.into(), overrides: Overrides::default(), share: 0.5 };
        let pair = ExperimentSpec::pair("e", variant("a"), variant("b"), Span::from_secs(WINDOW_S));
        ExperimentSpec { allocation: AllocationKind::Thompson { floor: 0.2 }, ramp: vec![0.5, 1.0], burn_in: Span::ZERO, ..pair }
    }

    fn at(seconds: f64) -> Time {
        Time::ZERO + Span::from_secs_f64(seconds)
    }

    /// 300 units in each of so many windows; b costs half as much, and fails as often as said.
    fn watched(spec: &ExperimentSpec, life: &Life, windows: u64, fails: f64) -> Trial {
        let experiment = life.snapshot(spec).unwrap().unwrap();
        let mut trial = Trial::new(&experiment);
        for window in 0..windows {
            for unit in 0..300u64 {
                let key = KeyHash(u128::from(unit) << 64);
                let assigned = experiment.assign(&Draw::new(1), key, at((window * WINDOW_S) as f64));
                let other = assigned.variant == 1;
                let cost = 1_000 * (1 + (unit * 7 + window) as i64 % 5) / if other { 2 } else { 1 };
                let failed = other && ((unit * 31 + window * 17) % 100) as f64 / 100.0 < fails;
                let seen =
                    Observation { bill: Some(Money::from_nanos(cost)), requests: 1, errors: u32::from(failed), ..Observation::default() };
                trial.record(key, &assigned, seen);
            }
        }
        trial.close_window();
        trial
    }

    fn running(spec: &ExperimentSpec) -> Life {
        Life::draft(Time::ZERO).step(&Order::Start, spec, (Time::ZERO, 0)).unwrap()
    }

    #[test]
    fn probabilities_are_published_before_their_window_and_alike_by_everyone() {
        let spec = ExperimentSpec { ramp: vec![1.0], ..spec() };
        let life = running(&spec);
        let trial = watched(&spec, &life, 12, 0.0);
        let turn = |now: Time| {
            steer(&Steered { life: &life, spec: &spec, trial: &trial, draw: &Draw::new(9), frozen: false }, now).map(|turn| turn.life)
        };
        let early = turn(at(12.2 * 60.0)).unwrap();
        assert_eq!(early.allocations, life.allocations, "in the first half of a window nothing is published");
        let published = turn(at(12.7 * 60.0)).unwrap();
        let last = published.allocations.last().unwrap();
        assert!(last.from == 13 && last.pmf[1] > 0.79 && (last.pmf[0] - 0.2).abs() < 0.01, "{last:?}");
        assert_eq!(turn(at(12.9 * 60.0)), Some(published.clone()), "what is known is the same, so is what follows from it");
        let experiment = published.snapshot(&spec).unwrap().unwrap();
        assert_eq!(experiment.pmf(12), [0.5, 0.5, 0.0, 0.0], "the window that runs stays as it is");
        let again = Steered { life: &published, spec: &spec, trial: &trial, draw: &Draw::new(9), frozen: false };
        assert_eq!(steer(&again, at(12.95 * 60.0)), None, "once");
        assert_eq!(published.leader, 1, "and the others follow");
    }

    #[test]
    fn a_ramp_goes_on_with_time_and_rows_and_not_over_signs_of_harm() {
        let spec = spec();
        let life = running(&spec);
        let share = |trial: &Trial, now: f64| {
            let turn = steer(&Steered { life: &life, spec: &spec, trial, draw: &Draw::new(9), frozen: false }, at(now));
            turn.map_or(life.ramp.share, |turn| turn.life.ramp.share)
        };
        let good = watched(&spec, &life, 3, 0.0);
        assert_eq!((share(&good, 59.0), share(&good, 61.0)), (0.5, 1.0), "a window at least");
        assert_eq!(share(&watched(&spec, &life, 0, 0.0), 600.0), 0.5, "nothing was seen");
        let doubtful = (1..40).map(|n| watched(&spec, &life, 2, f64::from(n) / 100.0)).find(|trial| trial.harm() > RAMP_HARM).unwrap();
        assert!(doubtful.switch_off().next().is_none() && share(&doubtful, 600.0) == 0.5, "{}", doubtful.harm());
        let bad = watched(&spec, &life, 3, 0.5);
        assert_eq!(share(&bad, 600.0), 0.0, "and back to none");
    }

    #[test]
    fn frozen_nothing_moves_but_guardrails() {
        let spec = spec();
        let life = running(&spec);
        let turn = |trial: &Trial| steer(&Steered { life: &life, spec: &spec, trial, draw: &Draw::new(9), frozen: true }, at(600.0));
        assert_eq!(turn(&watched(&spec, &life, 30, 0.0)), None, "no leader, no step of the ramp, no probabilities");
        assert_eq!(turn(&watched(&spec, &life, 3, 0.5)).map(|turn| turn.life.ramp.share), Some(0.0));
    }
}
