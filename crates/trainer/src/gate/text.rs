//! The judgement as lines for a terminal.

use std::fmt::Write as _;

use super::{Check, Judgement, Verdict};

impl Judgement {
    /// One line per check.
    pub fn text(&self) -> String {
        lines(self.checks.iter())
    }

    /// The same without what was measured of this machine, which must not enter a bundle: the same data and seed give the same bytes.
    pub fn lasting_text(&self) -> String {
        lines(self.checks.iter().filter(|check| !check.name.of_the_machine()))
    }

    /// What failed, by name.
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|c| c.verdict == Verdict::Failed).map(|c| c.name.as_str()).collect()
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        let failed = self.failed();
        if self.checks.is_empty() {
            return "not judged".to_owned();
        }
        if failed.is_empty() { "every check holds".to_owned() } else { format!("fails: {}", failed.join(", ")) }
    }
}

fn lines<'a>(checks: impl Iterator<Item = &'a Check>) -> String {
    let mut out = String::new();
    for check in checks {
        let value = check.value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
        let _ = writeln!(
            out,
            "gate        {:<20}{:>12}  bound {:<8} {:<9} {}",
            check.name.as_str(),
            value,
            check.bound,
            check.verdict.as_str(),
            check.note
        );
    }
    out
}
