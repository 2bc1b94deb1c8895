//! What instances say about themselves: which versions decide in them.

use std::collections::{BTreeMap, BTreeSet};

use farthing_contract::bundle::{Aliases, BundleError, Target};
use farthing_types::{Clock, RealClock, Span, Time};
use serde::{Deserialize, Serialize};

use super::{Mirror, place_of};
use crate::When;

/// Where instances say what decides in them.
const INSTANCES: &str = "instances";
/// Most bytes of what one says.
const MAX_INSTANCE: u64 = 64 << 10;
/// Instances that are listed at most.
const MAX_INSTANCES: usize = 1_000;
/// An instance says anew what decides in it, also when nothing has changed.
const SAID_AGAIN: Span = Span::from_secs(30);
/// One that has said nothing for so long is no more.
const GONE: Span = Span::from_secs(7 * 86_400);

/// What decides in an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// When it said so, ns since the epoch.
    pub said_ns: i64,
    /// By `kind/alias`.
    pub live: BTreeMap<String, Target>,
}

/// An alias that an instance does not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// `kind/alias`.
    pub place: String,
    /// What the alias names.
    pub wanted: Option<Target>,
    /// What decides there.
    pub live: Option<Target>,
}

impl Instance {
    /// The aliases that it does not follow.
    pub fn differs(&self, aliases: &Aliases) -> Vec<Differing> {
        let wanted: BTreeMap<String, Target> =
            aliases.iter().map(|(kind, alias, state)| (place_of(kind, alias), state.current.clone())).collect();
        let places: BTreeSet<&String> = wanted.keys().chain(self.live.keys()).collect();
        let differing = places.into_iter().filter(|place| wanted.get(*place) != self.live.get(*place));
        differing
            .map(|place| Differing { place: place.clone(), wanted: wanted.get(place).cloned(), live: self.live.get(place).cloned() })
            .collect()
    }
}

impl Mirror {
    /// Says what decides here, for whoever asks which instances follow. That it could not be said is no harm to anybody.
    pub fn tell(&self, live: BTreeMap<String, Target>) {
        let mut known = self.known.lock();
        let now = RealClock::default().now();
        let fresh = known.said.as_ref().is_some_and(|(said, at)| *said == live && now.since(*at) < SAID_AGAIN);
        if fresh || known.rest > 0 {
            return;
        }
        let instance = Instance { name: self.instance.to_string(), said_ns: now.nanos(), live: live.clone() };
        let bytes = serde_json::to_vec(&instance).unwrap_or_default();
        match self.put(&format!("{INSTANCES}/{}.json", self.instance), bytes, When::Always) {
            Ok(_) => known.said = Some((live, now)),
            Err(error) => tracing::debug!(%error, "what decides here could not be told"),
        }
    }

    /// What all instances have said; of those that have said nothing for a week nothing is kept.
    pub fn instances(&self) -> Result<Vec<Instance>, BundleError> {
        let names = self.remote.list(INSTANCES).map_err(|why| self.away(why, INSTANCES))?;
        let now = RealClock::default().now();
        let mut all = Vec::new();
        for name in names.iter().take(MAX_INSTANCES) {
            let Some(bytes) = self.whole(name, MAX_INSTANCE)? else { continue };
            let Ok(instance) = serde_json::from_slice::<Instance>(&bytes) else { continue };
            if now.since(Time::from_nanos(instance.said_ns)) < GONE {
                all.push(instance);
            } else if let Err(why) = self.remote.remove(name) {
                tracing::debug!(why, "an instance that is no more is still listed");
            }
        }
        Ok(all)
    }
}
