//! Which experiments may run at the same time: what changes the same field of a plan, or the same copies, belongs in one layer.

use std::collections::BTreeSet;
use std::sync::Arc;

use farthing_types::{PlanField, RouteName, Span};

use crate::spec::{ExperimentSpec, Slot};
use crate::unit::{Shared, UnitKind};

/// What an experiment lays claim to.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The experiment.
    pub name: Arc<str>,
    /// Its routes; none means all.
    pub routes: Vec<RouteName>,
    /// What its variants change.
    pub fields: BTreeSet<PlanField>,
    /// What its coin is tossed for.
    pub unit: UnitKind,
    /// The length of its windows.
    pub window: Span,
    /// Its part of a layer.
    pub slot: Option<Slot>,
}

impl Claim {
    /// The claim of an experiment on routes.
    pub fn of(spec: &ExperimentSpec, routes: &[RouteName]) -> Self {
        Self {
            name: spec.name.clone(),
            routes: routes.to_vec(),
            fields: spec.variants.iter().flat_map(|v| v.overrides.fields()).collect(),
            unit: spec.unit,
            window: spec.window,
            slot: spec.slot.clone(),
        }
    }

    /// Whether both run on one route.
    pub fn meets(&self, other: &Self) -> bool {
        self.routes.is_empty() || other.routes.is_empty() || self.routes.iter().any(|name| other.routes.contains(name))
    }
}

/// Why two experiments cannot run at the same time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// Both change the same field.
    #[error("experiments {a} and {b} both change `{}` on a route: put them into one `layer` with parts that do not overlap, or stop one", field.as_str())]
    Field {
        /// The first.
        a: Arc<str>,
        /// The second.
        b: Arc<str>,
        /// What both change.
        field: PlanField,
    },
    /// What they change bears on the same state.
    #[error(
        "experiments {a} and {b} change the same {what} of a route: put them into one `layer` with parts that do not overlap, or stop one"
    )]
    State {
        /// The first.
        a: Arc<str>,
        /// The second.
        b: Arc<str>,
        /// What both change.
        what: &'static str,
    },
    /// They are in one layer, but their parts overlap.
    #[error("experiments {a} and {b} overlap in layer {layer}: let `layer_upto` of one end where `layer_from` of the other begins")]
    Overlap {
        /// The first.
        a: Arc<str>,
        /// The second.
        b: Arc<str>,
        /// Their layer.
        layer: Arc<str>,
    },
    /// They are in one layer, but what a coin is tossed for is not the same, so a request could be in both.
    #[error("experiments {a} and {b} of layer {layer} have different units or (for blocks) windows: a layer has one `unit`")]
    Units {
        /// The first.
        a: Arc<str>,
        /// The second.
        b: Arc<str>,
        /// Their layer.
        layer: Arc<str>,
    },
}

/// Whether two experiments may run at the same time.
///
/// # Errors
/// Why not.
pub fn compatible(a: &Claim, b: &Claim) -> Result<(), Conflict> {
    if !a.meets(b) {
        return Ok(());
    }
    let names = || (a.name.clone(), b.name.clone());
    if let (Some(mine), Some(other)) = (&a.slot, &b.slot)
        && mine.layer == other.layer
    {
        return in_layer((a, mine), (b, other));
    }
    if let Some(field) = a.fields.intersection(&b.fields).next() {
        let (a, b) = names();
        return Err(Conflict::Field { a, b, field: *field });
    }
    let touches = |claim: &Claim, shared| claim.fields.iter().any(|field| Shared::of(*field) == shared);
    let states = [
        (Shared::Copies, "copies of answers"),
        (Shared::Capacity, "calls that wait for each other"),
        (Shared::Conversation, "choice of providers"),
    ];
    match states.into_iter().find(|(shared, _)| touches(a, *shared) && touches(b, *shared)) {
        Some((_, what)) => {
            let (a, b) = names();
            Err(Conflict::State { a, b, what })
        }
        None => Ok(()),
    }
}

fn in_layer((a, mine): (&Claim, &Slot), (b, other): (&Claim, &Slot)) -> Result<(), Conflict> {
    let (layer, names) = (mine.layer.clone(), (a.name.clone(), b.name.clone()));
    if a.unit != b.unit || (a.unit == UnitKind::Block && a.window != b.window) {
        return Err(Conflict::Units { a: names.0, b: names.1, layer });
    }
    if mine.from < other.upto && other.from < mine.upto {
        return Err(Conflict::Overlap { a: names.0, b: names.1, layer });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, fields: &[PlanField]) -> Claim {
        Claim {
            name: name.into(),
            routes: Vec::new(),
            fields: fields.iter().copied().collect(),
            unit: UnitKind::Key,
            window: Span::from_secs(60),
            slot: None,
        }
    }

    fn part(claim: Claim, from: f64, upto: f64) -> Claim {
        Claim { slot: Some(Slot { layer: "l".into(), from, upto }), ..claim }
    }

    #[test]
    fn a_conflicting_pair_is_refused_and_both_are_named() {
        let (ttl, cache) = (claim("ttl", &[PlanField::Ttl]), claim("cache", &[PlanField::Cache]));
        let text = compatible(&ttl, &claim("other", &[PlanField::Ttl])).unwrap_err().to_string();
        assert!(text.contains("ttl") && text.contains("other") && text.contains("layer"), "{text}");
        let text = compatible(&ttl, &cache).unwrap_err().to_string();
        assert!(text.contains("copies of answers") && text.contains("cache"), "{text}");
        let routing = claim("routing", &[PlanField::Routing]);
        assert_eq!(compatible(&ttl, &routing), Ok(()), "nothing in common");
        let elsewhere = |claim: &Claim, route: &str| Claim { routes: vec![route.into()], ..claim.clone() };
        assert_eq!(compatible(&elsewhere(&ttl, "a"), &elsewhere(&cache, "b")), Ok(()), "they do not meet");
    }

    #[test]
    fn one_layer_keeps_them_apart() {
        let (a, b) = (claim("a", &[PlanField::Ttl]), claim("b", &[PlanField::Ttl]));
        assert_eq!(compatible(&part(a.clone(), 0.0, 0.5), &part(b.clone(), 0.5, 1.0)), Ok(()));
        let overlap = compatible(&part(a.clone(), 0.0, 0.6), &part(b.clone(), 0.5, 1.0));
        assert!(matches!(overlap, Err(Conflict::Overlap { .. })), "{overlap:?}");
        let units = compatible(&part(a.clone(), 0.0, 0.5), &Claim { unit: UnitKind::Group, ..part(b.clone(), 0.5, 1.0) });
        assert!(matches!(units, Err(Conflict::Units { .. })), "{units:?}");
        assert!(compatible(&part(a, 0.0, 0.5), &b).is_err(), "one of them is in no layer");
    }
}
