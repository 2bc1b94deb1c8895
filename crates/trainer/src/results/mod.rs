//! `results`: measures what the learners are promised to be worth, section by section, and writes it down with the bars.
//!
//! One section is one file and one line in [`ALL`]. A section whose data is absent says so; nothing is passed over in silence.

pub mod api_changes;
mod page;
mod prefetch;
mod section;
mod strategy;
pub mod worlds;

pub use page::{Page, Written};
pub use section::{Bar, Found, Ground, Measured, Section};

use crate::error::TrainError;

/// Every section, in the order of the page.
pub static ALL: [&dyn Section; 7] = [
    &worlds::Worlds,
    &api_changes::ApiChanges,
    &strategy::Strategies,
    &strategy::traces::StrategyTraces,
    &strategy::prompts::PromptCaches,
    &strategy::costs::CostOfCalls,
    &prefetch::Prefetch,
];

/// Runs the sections named in `only` (all when empty) and puts what they found into `page`; what is not run stays as it was.
///
/// # Errors
/// When a section fails otherwise than by absent data.
pub fn run(ground: &Ground<'_>, only: &[String], page: &mut Page) -> Result<(), TrainError> {
    for section in ALL.iter().filter(|s| only.is_empty() || only.iter().any(|name| name == s.name())) {
        ground.watch.step(section.name(), 0, 1);
        let found = section.run(ground)?;
        ground.watch.step(section.name(), 1, 1);
        page.put(*section, found);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sections_have_names_of_their_own() {
        assert_eq!(ALL.iter().map(|s| s.name()).collect::<BTreeSet<_>>().len(), ALL.len());
        assert!(ALL.iter().all(|s| !s.title().is_empty()));
    }
}
