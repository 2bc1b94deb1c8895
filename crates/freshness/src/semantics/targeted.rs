//! Targeted cache control (RFC 9213): `Farthing-Cache-Control` for us alone, `CDN-Cache-Control` for shared caches in front of the origin.
//!
//! A targeted field is a Structured Field dictionary. The first one on the target list of a route that is valid and not empty takes the place of `Cache-Control` and
//! `Expires`; one that is not valid counts as absent. What is for others is passed on, what is for us alone goes no further.

use http::{HeaderMap, HeaderName};

use super::Rules;
use super::sf::{Value, dictionary};

/// For us alone.
pub const OWN: HeaderName = HeaderName::from_static(OWN_NAME);
/// Its name.
pub const OWN_NAME: &str = "farthing-cache-control";
const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

/// A targeted field that a route may heed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `Farthing-Cache-Control`.
    Own,
    /// `CDN-Cache-Control`.
    Cdn,
}

impl Target {
    const fn field(self) -> HeaderName {
        match self {
            Self::Own => OWN,
            Self::Cdn => CDN,
        }
    }
}

/// The target list of a route (RFC 9213 section 2.2): which targeted fields it heeds, the first one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Targets([Option<Target>; 2]);

impl Targets {
    /// Heeds nothing but `Cache-Control` and `Expires`.
    pub const NONE: Self = Self([None, None]);

    /// What is heeded where nothing else is said: our own field, and on shared routes that for shared caches.
    pub const fn usual(shared: bool) -> Self {
        Self([Some(Target::Own), if shared { Some(Target::Cdn) } else { None }])
    }

    /// These; what comes again counts once.
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let mut out = Self::NONE;
        for target in targets {
            if !out.0.contains(&Some(target))
                && let Some(free) = out.0.iter_mut().find(|place| place.is_none())
            {
                *free = Some(target);
            }
        }
        out
    }
}

/// The members of the field that governs a response on a route, if one does.
pub(super) fn select(headers: &HeaderMap, rules: &Rules) -> Option<Vec<(String, Value)>> {
    let members = |target: Target| dictionary(headers, &target.field()).filter(|members| !members.is_empty());
    rules.targets().0.into_iter().flatten().find_map(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;
    use crate::semantics::oracle::map;

    #[test]
    fn the_nearest_valid_target_governs() {
        let of = |headers: &[(&str, &str)], rules: &Rules| select(&map(headers), rules).map(|m| m[0].1.clone());
        let member = |headers: &[(&str, &str)], shared| of(headers, &Rules { shared, ..Rules::new(Mode::Respect) });
        let both = [("cdn-cache-control", "max-age=1"), ("farthing-cache-control", "max-age=2")];
        assert_eq!(member(&both, true), Some(Value::Integer(2)));
        assert_eq!(member(&both[..1], true), Some(Value::Integer(1)));
        assert_eq!(member(&both[..1], false), None, "a private cache is no CDN");
        assert_eq!(member(&[("farthing-cache-control", "?"), both[0]], true), Some(Value::Integer(1)));
        assert_eq!(member(&[("cdn-cache-control", "")], true), None);
        let two_lines = [both[0], ("cdn-cache-control", "no-store")];
        let shared = Rules { shared: true, ..Rules::new(Mode::Respect) };
        assert_eq!(select(&map(&two_lines), &shared).unwrap().len(), 2, "lines are one list");
        for (targets, expected) in [
            (vec![Target::Cdn, Target::Own, Target::Cdn], Some(Value::Integer(1))),
            (vec![Target::Own], Some(Value::Integer(2))),
            (vec![], None),
        ] {
            for shared in [false, true] {
                let rules = Rules { shared, targets: Some(Targets::new(targets.clone())), ..Rules::new(Mode::Respect) };
                assert_eq!(of(&both, &rules), expected, "{targets:?}");
            }
        }
    }
}
