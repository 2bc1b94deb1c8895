//! Which price a target's name finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::TokenRates;

/// Token rates by target name: exact first, then the longest name that matches.
#[derive(Debug, Default)]
pub(super) struct TargetRates {
    exact: BTreeMap<Arc<str>, TokenRates>,
    /// (name without `*`, whether any continuation matches, rates), longest first.
    prefixes: Vec<(Arc<str>, bool, TokenRates)>,
}

impl TargetRates {
    pub(super) fn new(targets: &BTreeMap<String, TokenRates>) -> Self {
        let mut rates = Self::default();
        for (name, price) in targets {
            match name.strip_suffix('*') {
                Some(stem) => rates.prefixes.push((stem.into(), true, price.clone())),
                None => {
                    let name: Arc<str> = name.as_str().into();
                    rates.exact.insert(name.clone(), price.clone());
                    rates.prefixes.push((name, false, price.clone()));
                }
            }
        }
        // At equal length the plain name is the more precise statement.
        rates.prefixes.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(a.1.cmp(&b.1)));
        rates
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    pub(super) fn find(&self, target: &str) -> Option<&TokenRates> {
        let matches = |(name, open, _): &&(Arc<str>, bool, TokenRates)| {
            target.strip_prefix(name.as_ref()).is_some_and(|rest| *open || is_release(rest))
        };
        self.exact.get(target).or_else(|| self.prefixes.iter().find(matches).map(|found| &found.2))
    }
}

/// Whether `rest` only says which release of the same target is meant: `-2024-08-06`, `-0613`, `@20240229`, `:latest`.
///
/// A single or double digit is not enough: `-5` and `.1` tell other models apart (`claude-3`, `claude-3-5-...`).
fn is_release(rest: &str) -> bool {
    let Some(tail) = rest.strip_prefix(['-', '@', ':']) else { return rest.is_empty() };
    let mut groups = tail.split('-');
    let digits = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    tail == "latest" || (groups.next().is_some_and(|first| first.len() >= 3 && digits(first)) && groups.all(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_the_same_target_and_a_sibling_is_not() {
        for rest in ["", "-2024-08-06", "-0613", "-001", "@20240229", ":latest", "-latest"] {
            assert!(is_release(rest), "{rest}");
        }
        for rest in ["-mini", "-5-sonnet", ".1", "-32k", "-1", "-1-20250805", "o", "-", "-2024-", "-2024-x"] {
            assert!(!is_release(rest), "{rest}");
        }
    }
}
