//! What a coin is tossed for, and which strategies may be compared that way.

use std::collections::BTreeSet;

use farthing_types::{Overrides, PlanField};
use serde::{Deserialize, Serialize};

/// What the coin is tossed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitKind {
    /// A cache key: the unit for everything that touches the copy of an answer.
    #[default]
    Key,
    /// The keys of one route, principal and path up to its last segment: what is fetched ahead or together stays in one variant.
    Group,
    /// A whole route for the time of a window (switchback): safe for everything, but each window is one observation.
    Block,
    /// A tenant: only for strategies without shared state.
    Tenant,
    /// A client's session, or the client where it names none: only for strategies without shared state.
    Session,
}

impl UnitKind {
    /// All of them, the finest that a strategy may be compared by first.
    pub const ALL: [Self; 5] = [Self::Key, Self::Group, Self::Session, Self::Tenant, Self::Block];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Group => "group",
            Self::Block => "block",
            Self::Tenant => "tenant",
            Self::Session => "session",
        }
    }

    /// The unit of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == text)
    }
}

/// What units share when a field of their plan differs, so that one decides for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Copies of answers: whoever fills one decides for all who read it.
    Copies,
    /// Calls that one key's request causes for another.
    Ahead,
    /// Room and rate towards the provider: calls that wait for each other are not apart.
    Capacity,
    /// What a provider keeps of a conversation.
    Conversation,
}

impl Shared {
    /// What a change of `field` is shared by.
    pub const fn of(field: PlanField) -> Self {
        match field {
            PlanField::Cache | PlanField::Dedupe | PlanField::Ttl | PlanField::BaseTtl => Self::Copies,
            PlanField::ModelVersion | PlanField::RefreshAhead => Self::Copies,
            PlanField::Prefetch | PlanField::PrefetchConfidence => Self::Ahead,
            PlanField::Batch | PlanField::BatchWindow => Self::Capacity,
            PlanField::Routing | PlanField::Weights => Self::Conversation,
        }
    }

    /// The units that keep it apart.
    const fn units(self) -> &'static [UnitKind] {
        match self {
            Self::Copies => &[UnitKind::Key, UnitKind::Group, UnitKind::Block],
            Self::Ahead => &[UnitKind::Group, UnitKind::Block],
            Self::Capacity => &[UnitKind::Block],
            Self::Conversation => &[UnitKind::Tenant, UnitKind::Session, UnitKind::Block],
        }
    }

    /// Why other units do not.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Copies => "whoever fills the shared copy decides for both variants, and the difference measured would be none",
            Self::Ahead => "a call ahead would be paid in the window of a key that nobody asked for, and only one variant makes such calls",
            Self::Capacity => "calls of both variants wait for each other, so neither is seen alone",
            Self::Conversation => "the calls of one conversation would go to several providers, which keep its prompt each for itself",
        }
    }
}

/// Why a field cannot be compared by a unit; `None` where it can.
pub fn unsafe_for(field: PlanField, unit: UnitKind) -> Option<Shared> {
    let shared = Shared::of(field);
    (!shared.units().contains(&unit)).then_some(shared)
}

/// The finest unit that is safe for all of these variants: a bundle of fields that no other has in common is compared by blocks.
pub fn finest<'a>(variants: impl IntoIterator<Item = &'a Overrides>) -> UnitKind {
    let fields: BTreeSet<PlanField> = variants.into_iter().flat_map(Overrides::fields).collect();
    let safe = |unit: &UnitKind| fields.iter().all(|field| unsafe_for(*field, *unit).is_none());
    UnitKind::ALL.into_iter().find(safe).unwrap_or(UnitKind::Block)
}

/// The units that are safe for a field, as a text.
pub fn safe_units(field: PlanField) -> String {
    let units: Vec<&str> = Shared::of(field).units().iter().map(|unit| unit.as_str()).collect();
    units.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [PlanField; 12] = [
        PlanField::Cache,
        PlanField::Dedupe,
        PlanField::Batch,
        PlanField::BatchWindow,
        PlanField::Prefetch,
        PlanField::PrefetchConfidence,
        PlanField::RefreshAhead,
        PlanField::Routing,
        PlanField::Weights,
        PlanField::Ttl,
        PlanField::BaseTtl,
        PlanField::ModelVersion,
    ];

    #[test]
    fn the_table_of_units() {
        let safe =
            |field| UnitKind::ALL.into_iter().filter(|unit| unsafe_for(field, *unit).is_none()).map(UnitKind::as_str).collect::<Vec<_>>();
        let own =
            [PlanField::Cache, PlanField::Dedupe, PlanField::Ttl, PlanField::BaseTtl, PlanField::ModelVersion, PlanField::RefreshAhead];
        for field in own {
            assert_eq!(safe(field), ["key", "group", "block"], "{}", field.as_str());
        }
        assert_eq!(safe(PlanField::Prefetch), ["group", "block"]);
        assert_eq!(safe(PlanField::PrefetchConfidence), ["group", "block"]);
        assert_eq!((safe(PlanField::Batch), safe(PlanField::BatchWindow)), (vec!["block"], vec!["block"]));
        for field in [PlanField::Routing, PlanField::Weights] {
            assert_eq!(safe(field), ["session", "tenant", "block"], "{}", field.as_str());
        }
        assert!(FIELDS.into_iter().all(|field| unsafe_for(field, UnitKind::Block).is_none()), "blocks keep everything apart");
    }

    #[test]
    fn the_finest_safe_unit_is_found() {
        let ttl = Overrides { ttl: Some("rule".into()), ..Overrides::default() };
        let batch = Overrides { batch: Some(false), ..Overrides::default() };
        let routing = Overrides { routing: Some(false), ..Overrides::default() };
        assert_eq!(finest([&Overrides::default(), &ttl]), UnitKind::Key);
        assert_eq!(finest([&Overrides::default(), &routing]), UnitKind::Session);
        assert_eq!(finest([&batch]), UnitKind::Block);
        assert_eq!(finest([&ttl, &routing]), UnitKind::Block, "a bundle with nothing in common");
        assert_eq!(UnitKind::ALL.map(|unit| UnitKind::parse(unit.as_str())), UnitKind::ALL.map(Some));
    }
}
