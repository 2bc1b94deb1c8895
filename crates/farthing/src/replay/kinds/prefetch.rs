//! Kind `prefetch`: what is fetched ahead, by the predictor and by the plain conditional share.
//!
//! Traces of reads and changes do not say who asked, so the kind is replayed on the shipped sessions (`data/sessions.toml`) under the
//! scene's seed: with a batch endpoint of ten, where fetching ahead saves money.

use farthing_models::Kind;
use farthing_policy::Levels;
use farthing_policy::prefetch::{PrefetchParams, PrefetchSource, Tariff};
use farthing_replay::prefetch::{Engine, SessionRecipe, Sessions, Setup, Visited};
use farthing_types::Span;

use super::{Deciders, KindOutcome, KindReplay, Scene};

const SESSIONS: &str = include_str!("../../../../../data/sessions.toml");
const HORIZON: Span = Span::from_secs(30);

/// See the module.
pub struct PrefetchReplay;

impl KindReplay for PrefetchReplay {
    fn kind(&self) -> Kind {
        Kind::Prefetch
    }

    fn replay(&self, scene: &Scene<'_>) -> anyhow::Result<KindOutcome> {
        let recipe: SessionRecipe = toml::from_str(SESSIONS)?;
        let params = |source| PrefetchParams { source, tariff: Tariff::Batch(10), ..PrefetchParams::default() };
        let measure = "bill with a batch endpoint of ten, on data/sessions.toml".to_owned();
        let mut outcome = KindOutcome { measure, ..KindOutcome::default() };
        // Another seed than the one that the shipped bundle learned under.
        let seed = scene.seed.wrapping_add(1_000);
        let predicted = recipe.generate(seed, params(PrefetchSource::Model)).map_err(anyhow::Error::msg)?;
        let levels = scene.bundle(Kind::Prefetch).levels();
        outcome.deciders = run(scene, &predicted, levels, &mut |visit, nanos| outcome.money.first(visit.thing, visit.at, nanos));
        let ruled = recipe.generate(seed, params(PrefetchSource::Rule)).map_err(anyhow::Error::msg)?;
        run(scene, &ruled, Levels::default(), &mut |visit, nanos| outcome.money.second(visit.thing, visit.at, nanos));
        Ok(outcome)
    }
}

/// Watches the first part, replays the rest and tells the money of each request and of what it made fetched ahead.
fn run(scene: &Scene<'_>, sessions: &Sessions, levels: Levels, pay: &mut dyn FnMut(&Visited, i64)) -> Deciders {
    let mut engine = Engine::new(sessions, Setup::new(levels, HORIZON));
    let cut = sessions.split(scene.warm);
    engine.run(&sessions.visits[..cut]);
    engine.judge_from_here();
    let mut before = 0;
    for visit in &sessions.visits[cut..] {
        engine.run(std::slice::from_ref(visit));
        let total = engine.total();
        let after = total.bill.nanos() - total.latency.nanos();
        pay(visit, after - before);
        before = after;
    }
    let mut deciders = Deciders::default();
    for (by, count) in engine.deciders() {
        (0..*count).for_each(|_| deciders.count(by));
    }
    deciders
}
