//! The unit of a request: what its variant is drawn by.

use std::sync::Arc;

use farthing_config::Mode;
use farthing_experiment::{Assigned, Experiment, UnitKind};
use farthing_freshness::Subject;
use farthing_policy::Plan;
use farthing_policy::plan::Steps;
use farthing_types::{KeyHash, Time};
use http::HeaderMap;

use crate::identify::Identity;
use crate::prefetch::Known;
use crate::request::owner;
use crate::route::{RouteExperiment, RouteState};
use crate::state::State;

/// A client that keeps apart several conversations names them here. Never sent on, as all of our headers.
const SESSION_HEADER: &str = "x-farthing-session";

/// A draw of an experiment.
#[derive(Clone)]
pub struct Variant {
    /// The experiment's snapshot with its plans.
    pub running: Arc<RouteExperiment>,
    /// What was drawn for.
    pub unit: KeyHash,
    /// The draw.
    pub assigned: Assigned,
}

impl Variant {
    /// The variant's name.
    pub fn name(&self) -> &Arc<str> {
        &self.experiment().variants()[self.assigned.variant].name
    }

    /// The name under which entries keep its TTL; `None` where no variant has one of its own.
    pub fn keeps(&self) -> Option<&Arc<str>> {
        self.running.copies.then(|| self.name())
    }

    /// The experiment's snapshot.
    pub fn experiment(&self) -> &Arc<Experiment> {
        &self.running.experiment
    }

    /// Whether it is compared by a request of the route, whose steps are those of the route's own plan.
    pub fn compares(&self, route: &RouteState, steps: Steps, at: Time) -> bool {
        let chooses = || route.routing.is_some() && route.route.mode != Mode::Observe && !route.switches.is_bypassed(at);
        self.running.bears.on(steps, chooses())
    }

    /// The variant's plan.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        self.running.plans.get(self.assigned.variant)
    }
}

/// What a request's unit can be made of.
pub struct Asking<'a> {
    /// Its route.
    pub route: &'a RouteState,
    /// Its client.
    pub identity: &'a Identity,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its path.
    pub path: &'a str,
    /// Its key.
    pub key: KeyHash,
}

impl State {
    /// The draw of the experiment that a request belongs to, where there is one.
    pub fn draw_variant(&self, asking: &Asking<'_>, at: Time) -> Option<Variant> {
        let all = asking.route.experiment.load();
        let all = all.as_ref()?;
        all.iter().find_map(|running| self.drawn(running, self.unit(running.experiment.spec().unit, asking), at))
    }

    fn drawn(&self, running: &Arc<RouteExperiment>, unit: KeyHash, at: Time) -> Option<Variant> {
        running.experiment.holds(&self.draw, unit, at).then(|| Variant {
            assigned: running.experiment.assign(&self.draw, unit, at),
            running: running.clone(),
            unit,
        })
    }

    fn unit(&self, kind: UnitKind, asking: &Asking<'_>) -> KeyHash {
        let Asking { route, identity, headers, path, key } = asking;
        match kind {
            UnitKind::Key => *key,
            UnitKind::Group => self.group(&route.route.name, owner(route, identity), path),
            UnitKind::Block => self.block(&route.route.name),
            UnitKind::Tenant => self.named(&["tenant", &identity.tenant]),
            UnitKind::Session => {
                let session = headers.get(SESSION_HEADER).map_or(&b""[..], |value| value.as_bytes());
                self.named(&["session", &identity.principal, &String::from_utf8_lossy(session)])
            }
        }
    }

    /// The draw for a copy at some time, for what is found out about it later; `None` where its unit cannot be told from it.
    pub(super) fn variant_of_copy(&self, route: &RouteState, subject: &Subject, at: Time) -> Option<Variant> {
        self.variant_by(route, (subject.key, &subject.tenant, &subject.path), at)
    }

    fn variant_by(&self, route: &RouteState, (key, owner, path): (KeyHash, &str, &str), at: Time) -> Option<Variant> {
        let all = route.experiment.load();
        all.as_ref()?.iter().find_map(|running| {
            let unit = match running.experiment.spec().unit {
                UnitKind::Key => key,
                UnitKind::Group => self.group(&route.route.name, owner, path),
                UnitKind::Block => self.block(&route.route.name),
                UnitKind::Tenant | UnitKind::Session => return None,
            };
            self.drawn(running, unit, at)
        })
    }

    /// Least probability of use at which a request is made ahead: that of its own variant, else the one found for the route, else `None`.
    pub(crate) fn confidence_ahead(&self, (route, identity): (&RouteState, &Identity), known: &Known, at: Time) -> Option<f64> {
        let path = known.path.strip_prefix(route.route.strip_prefix.trim_end_matches('/')).unwrap_or(&known.path);
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        // No threshold is compared by the units that cannot be told from a copy.
        let variant = self.variant_by(route, (known.key, owner(route, identity), path), at);
        variant.as_ref().and_then(Variant::plan).and_then(|plan| plan.prefetch_confidence).or_else(|| route.tuned.prefetch_confidence())
    }

    fn group(&self, route: &str, owner: &str, path: &str) -> KeyHash {
        self.named(&["group", route, owner, path.rsplit_once('/').map_or("", |(parent, _)| parent)])
    }

    fn block(&self, route: &str) -> KeyHash {
        self.named(&["block", route])
    }

    /// A keyed digest: the log has it, and it tells nobody who was meant.
    fn named(&self, parts: &[&str]) -> KeyHash {
        self.keyer.principal(parts.join("\0").as_bytes())
    }
}
