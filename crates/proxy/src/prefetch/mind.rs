//! What is known of who asks for what after what, and what follows from that for a request: pure, but for the predictor that is asked.

use farthing_contract::features::{Associations, Candidate, Capacity, LiveOdds, PREFETCH_FEATURES, Visit, prefetch_features, thing_of};
use farthing_policy::prefetch::{
    Allowance, Awaited, Likelihood, Permits, PrefetchParams, PrefetchSource, Question, Tries, Try, Watch, likelihood,
};
use farthing_policy::{Champion, Guarded};
use farthing_types::{By, DecisionId, Draw, DrawKind, KeyHash, Money, RequestId, Span, Time};

use super::reasons::Refused;
use super::requests::{Known, Requests};

/// Outcomes awaited at a time.
const WATCHED: usize = 65_536;
/// Over how long spending is capped.
const HOUR: Span = Span::from_secs(3_600);
/// How near to the threshold decisions are drawn.
const NEAR: f64 = 0.1;
/// Of what is not likely enough one in so many is written down, as an even sample.
const SAMPLED: f64 = 1.0 / 16.0;
/// Least probability at which what costs nothing is fetched without a permit.
const LEAST_FREE: f64 = 0.03;

/// What is configured about a route.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What is at stake.
    pub params: PrefetchParams,
    /// Least probability of use.
    pub confidence: f64,
    /// Share of what its calls cost that may be spent ahead.
    pub budget: f64,
    /// Which routes earn a permit with it.
    pub pool: usize,
    /// How long a copy fetched now would be fresh.
    pub life: Span,
}

/// A request as it is learned from.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Its id.
    pub request: RequestId,
    /// What was asked for, by whom and when.
    pub visit: Visit,
    /// Hash of whose copies it may see: of nobody's in particular on shared routes.
    pub owner: u64,
    /// What a call costs on its route, where that is known.
    pub price: Option<Money>,
}

/// What the decisions about a request need to know of the world.
pub struct World<'a> {
    /// The source of draws.
    pub draw: &'a Draw,
    /// Share of the decisions near the threshold that are drawn.
    pub explore: f64,
    /// Asks the predictor.
    pub guarded: &'a Guarded,
    /// The predictor in force on a route; `true` where it may not act yet.
    pub champion: &'a dyn Fn(u16) -> (Champion, bool),
    /// Whose copies a request of the same client may see on a route; `None` where its credential is not for that route.
    pub owner: &'a dyn Fn(u16) -> Option<u64>,
    /// Whether there is a fresh copy.
    pub fresh: &'a dyn Fn(&Known) -> bool,
    /// Least probability of use at which a request is made ahead, where it is not what the route says.
    pub confidence: &'a dyn Fn(&Known) -> Option<f64>,
    /// What a call costs on a route now.
    pub price: &'a dyn Fn(u16) -> Option<Money>,
}

/// A thing that may be asked for next, with everything that was said about it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Id of the decision.
    pub decision: DecisionId,
    /// The candidate.
    pub candidate: Candidate,
    /// How it was asked for.
    pub known: Known,
    /// What a call costs.
    pub price: Option<Money>,
    /// How likely its use is.
    pub said: Likelihood,
    /// What the predictor says that may not act yet.
    pub shadow: Option<Likelihood>,
    /// The probability above which a call ahead pays.
    pub threshold: f64,
    /// Whether it is wanted, before anybody asks whether it may be.
    pub wanted: bool,
    /// Probability that it is.
    pub propensity: f64,
    /// The draw that decided, where one did.
    pub draw: Option<f64>,
    /// Its features, where the decision is written down.
    pub features: Option<[f32; PREFETCH_FEATURES]>,
}

/// What is remembered of a candidate until its outcome is known.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Its route.
    pub route: u16,
    /// The uncorrected probability.
    raw: f32,
    /// The decision that was written down, and what was fetched for it.
    pub logged: Option<Logged>,
}

/// A decision that was written down.
#[derive(Clone, Copy, Debug)]
pub struct Logged {
    /// Its id.
    pub decision: DecisionId,
    /// What it is about.
    pub key: KeyHash,
    /// When it was made.
    pub at: Time,
    /// Price of the call that it made; `None` where it made none.
    pub fetched: Option<Money>,
}

/// See the module. All of it is bounded.
pub struct Mind {
    seen: Associations,
    requests: Requests,
    odds: Vec<LiveOdds>,
    watch: Watch<Note>,
    tries: Tries,
    allowances: Vec<Allowance>,
    terms: Vec<Option<Terms>>,
    capacity: Capacity,
    found: Vec<Candidate>,
}

impl Mind {
    /// Nothing seen yet. `terms` of each route, `None` where nothing is fetched ahead.
    pub fn new(terms: Vec<Option<Terms>>, capacity: Capacity, horizon: Span) -> Self {
        let pools = terms.iter().map(|terms| terms.map_or(0, |terms| terms.pool)).collect();
        Self {
            seen: Associations::new(capacity, horizon),
            requests: Requests::default(),
            odds: vec![LiveOdds::default(); terms.len()],
            watch: Watch::new(WATCHED),
            tries: Tries::new(Permits::new(pools), WATCHED),
            allowances: terms.iter().map(|terms| Allowance::new(terms.map_or(0.0, |terms| terms.budget), HOUR)).collect(),
            terms,
            capacity,
            found: Vec::new(),
        }
    }

    /// Forgets who asked for what; what routes have earned stays, as it names nobody.
    pub fn forget(&mut self) {
        self.seen = Associations::new(self.capacity, self.seen.horizon());
        self.requests.forget();
        self.watch = Watch::new(WATCHED);
        self.tries.forget();
    }

    /// The permits.
    pub fn permits(&self) -> &Permits {
        self.tries.permits()
    }
    /// Requests that had to make room for others.
    pub fn evicted(&self) -> u64 {
        self.requests.evicted
    }
    /// Candidates whose outcome could not be awaited.
    pub fn unwatched(&self) -> u64 {
        self.watch.unwatched()
    }

    /// Judges what was awaited until now; true where permits may have changed.
    pub fn settle(&mut self, now: Time, told: &mut dyn FnMut(&Note, bool)) -> bool {
        let odds = &mut self.odds;
        self.watch.expire(now, |note| mature(odds, &note, false, told));
        self.tries.settle(now) > 0
    }

    /// Learns from a request; `how` says how it can be asked for again.
    pub fn learn(&mut self, asked: &Asked, how: impl FnOnce() -> Option<Known>, told: &mut dyn FnMut(&Note, bool)) {
        let Visit { thing, at, missed, route, .. } = asked.visit;
        let odds = &mut self.odds;
        self.watch.asked(thing, at, |note| mature(odds, &note, true, told));
        self.tries.asked(thing, at);
        self.seen.on_visit(&asked.visit);
        self.requests.remember(thing, at, how);
        if let Some((allowance, price)) = self.allowances.get_mut(usize::from(route)).zip(asked.price).filter(|_| missed) {
            allowance.called(at, price);
        }
    }

    /// What may be asked for next and has no fresh copy, the likeliest first. `ids` names decisions.
    pub fn offers(&mut self, asked: &Asked, world: &World<'_>, ids: &mut dyn FnMut() -> u64) -> Vec<Offer> {
        let mut found = std::mem::take(&mut self.found);
        self.seen.candidates(&asked.visit, &mut found);
        let mut offers: Vec<Offer> = found.iter().filter_map(|candidate| self.offer(asked, candidate, (world, &mut *ids))).collect();
        self.found = found;
        offers.sort_by(|a, b| b.said.choice.value.total_cmp(&a.said.choice.value).then(a.candidate.thing.cmp(&b.candidate.thing)));
        offers
    }

    fn offer(&mut self, asked: &Asked, candidate: &Candidate, (world, ids): (&World<'_>, &mut dyn FnMut() -> u64)) -> Option<Offer> {
        let route = usize::from(candidate.route);
        let terms = (*self.terms.get(route)?)?;
        let known = self.requests.get(candidate.thing).filter(|known| known.route == candidate.route)?;
        // Another principal's request is none of this client's business, and a fresh copy leaves nothing to do.
        if (world.owner)(candidate.route) != Some(known.owner) || (world.fresh)(known) {
            return None;
        }
        let known = known.clone();
        let question = Question { seen: &self.seen, visit: &asked.visit, candidate, life: terms.life };
        let (champion, barred) = (world.champion)(candidate.route);
        let ask = |source| likelihood(world.guarded, &champion.levels, source, question, &self.odds[route]);
        let mut said = ask(if barred { PrefetchSource::Rule } else { terms.params.source });
        if barred {
            said.choice.by = By::Fallback("shipped-untried");
        }
        let price = (world.price)(candidate.route);
        let threshold = price.map_or(f64::INFINITY, |price| terms.params.stakes(price, 0.0).threshold());
        let confidence = (world.confidence)(&known).unwrap_or(terms.confidence);
        let chosen = choose(&said, (threshold, confidence), (asked, candidate), world);
        let decision = DecisionId(ids());
        let sampled = || world.draw.uniform(DrawKind::Sample, "prefetch.row", u128::from(decision.0), 0) < SAMPLED;
        let written = chosen.wanted || chosen.draw.is_some() || sampled();
        let features = written.then(|| said.features.unwrap_or_else(|| prefetch_features(&self.seen, &asked.visit, candidate, terms.life)));
        let shadow = (written && barred).then(|| ask(PrefetchSource::Model));
        let Chosen { wanted, propensity, draw } = chosen;
        Some(Offer { decision, candidate: *candidate, known, price, said, shadow, threshold, wanted, propensity, draw, features })
    }

    /// Notes that an offer is wanted, as one of `together`, and takes the money for it where it may be spent; unless it is not `able` to be
    /// carried out anyway.
    ///
    /// # Errors
    /// Why not.
    pub fn spend(&mut self, offer: &Offer, together: u32, now: Time, able: bool) -> Result<(), Refused> {
        let route = usize::from(offer.candidate.route);
        let Some(terms) = self.terms.get(route).copied().flatten() else { return Err(Refused::Unearned) };
        let Candidate { thing, route: number, .. } = offer.candidate;
        self.tries.begin(Try { thing, route: number, until: now + terms.life, threshold: offer.threshold, together }, now);
        // What costs nothing cannot lose money.
        let free = offer.threshold <= 0.0 && f64::from(offer.said.choice.value) >= LEAST_FREE;
        if !free && terms.params.must_earn && !self.tries.permits().is_live(route) {
            return Err(Refused::Unearned);
        }
        if !able {
            return Ok(());
        }
        let price = terms.params.tariff.ahead(offer.price.unwrap_or_default());
        let room = self.allowances.get_mut(route).is_some_and(|allowance| allowance.spend(now, price));
        if room { Ok(()) } else { Err(Refused::Allowance) }
    }

    /// Awaits the outcome of an offer.
    pub fn watch(&mut self, offer: &Offer, now: Time, fetched: bool) {
        let route = offer.candidate.route;
        let Some(terms) = self.terms.get(usize::from(route)).copied().flatten() else { return };
        let fetched = offer.price.filter(|_| fetched);
        let logged = offer.features.map(|_| Logged { decision: offer.decision, key: offer.known.key, at: now, fetched });
        let until = now + terms.life.min(self.seen.horizon());
        self.watch.add(Awaited { thing: offer.candidate.thing, until, note: Note { route, raw: offer.said.raw, logged } });
    }
}

fn mature(odds: &mut [LiveOdds], note: &Note, used: bool, told: &mut dyn FnMut(&Note, bool)) {
    if let Some(odds) = odds.get_mut(usize::from(note.route)) {
        odds.learn(note.raw, used);
    }
    told(note, used);
}

struct Chosen {
    wanted: bool,
    propensity: f64,
    draw: Option<f64>,
}

/// Whether a thing is wanted: by its probability, near the threshold sometimes by a draw.
fn choose(said: &Likelihood, (threshold, confidence): (f64, f64), (asked, candidate): (&Asked, &Candidate), world: &World<'_>) -> Chosen {
    let (p, least) = (f64::from(said.choice.value), threshold.max(confidence));
    let greedy = p > least;
    let near = (p - least).abs() <= NEAR && world.explore > 0.0;
    if !near {
        return Chosen { wanted: greedy, propensity: f64::from(u8::from(greedy)), draw: None };
    }
    let unit = (u128::from(asked.request.0) << 64) | u128::from(candidate.thing);
    let draw = world.draw.uniform(DrawKind::Exploration, "prefetch", unit, 0);
    // The lower half of the explored share turns the decision round.
    let turned = draw < world.explore / 2.0;
    let wanted = greedy != turned;
    let propensity = if greedy { 1.0 - world.explore / 2.0 } else { world.explore / 2.0 };
    Chosen { wanted, propensity, draw: Some(draw) }
}

/// What a key is called among the associations: as the trainer calls it when it reads the log.
pub const fn thing(key: KeyHash) -> u64 {
    thing_of(0, key.short())
}
