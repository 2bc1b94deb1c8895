//! The results as a page for people and a JSON for machines, both of one content: the same figures give the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::section::{Bar, Found, Measured, Section};
use crate::error::TrainError;

/// One section as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Its heading.
    pub title: String,
    /// What it found.
    pub found: Found,
}

/// All sections by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The sections.
    pub sections: BTreeMap<String, Written>,
}

impl Page {
    /// The page as an earlier run left it; an empty one when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| TrainError::Io { path: path.to_path_buf(), source: e.into() }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(TrainError::io(path)(e)),
        }
    }

    /// Puts in what a section found.
    pub fn put(&mut self, section: &dyn Section, found: Found) {
        self.sections.insert(section.name().to_owned(), Written { title: section.title().to_owned(), found });
    }

    /// Whether every promise of every measured section holds.
    pub fn holds(&self) -> bool {
        self.sections.values().all(|s| matches!(&s.found, Found::Absent(_)) || bars(&s.found).iter().all(Bar::holds))
    }

    /// The Markdown, sections in the order of `order`, then any others.
    pub fn markdown(&self, order: &[&str]) -> String {
        let mut out = String::from(
            "# Results of learning\n\nWritten by `make results DATA=dir`; the same figures are in `target/results/learning.json`. Words and measures: `docs/learning.md`.\n",
        );
        let known = order.iter().filter_map(|name| self.sections.get(*name));
        let others = self.sections.iter().filter(|(name, _)| !order.contains(&name.as_str())).map(|(_, section)| section);
        for section in known.chain(others) {
            let _ = write!(out, "\n## {}\n\n", section.title);
            match &section.found {
                Found::Absent(why) => {
                    let _ = writeln!(out, "Not measured: {why}.");
                }
                Found::Measured(measured) => measured_text(&mut out, measured),
            }
        }
        out
    }

    /// Writes both files.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, markdown: &Path, json: &Path, order: &[&str]) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| TrainError::Io { path: json.to_path_buf(), source: e.into() })?;
        for (path, content) in [(markdown, self.markdown(order)), (json, text + "\n")] {
            if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
            }
            std::fs::write(path, content).map_err(TrainError::io(path))?;
        }
        Ok(())
    }
}

fn bars(found: &Found) -> &[Bar] {
    match found {
        Found::Measured(measured) => &measured.bars,
        Found::Absent(_) => &[],
    }
}

fn measured_text(out: &mut String, measured: &Measured) {
    let _ = writeln!(out, "{}", measured.text.trim_end());
    if measured.bars.is_empty() {
        return;
    }
    out.push_str("\n| promise | limit | aim | measured | |\n|---|---|---|---|---|\n");
    for bar in &measured.bars {
        let sign = if bar.at_most { "<=" } else { ">=" };
        let aim = bar.aim.map_or(String::new(), number);
        let verdict = if bar.holds() { "holds" } else { "**missed**" };
        let _ = writeln!(out, "| {} | {sign} {} | {aim} | {} | {verdict} |", bar.what, number(bar.limit), number(bar.measured));
    }
}

/// Four significant places are more than any of these figures is worth.
fn number(x: f64) -> String {
    let text = format!("{x:.4}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short.is_empty() || short == "-0" { "0".to_owned() } else { short.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(bars: Vec<Bar>) -> Written {
        Written { title: "Prefetch".to_owned(), found: Found::Measured(Measured { text: "How.".to_owned(), bars, ..Measured::default() }) }
    }

    #[test]
    fn a_missed_promise_and_absent_data_stand_on_the_page() {
        let mut page = Page::default();
        page.sections.insert("prefetch".to_owned(), section(vec![Bar::at_most("bill", 0.7, 0.62).aiming_at(0.56)]));
        assert!(!page.holds());
        page.sections.insert("worlds".to_owned(), Written { title: "Worlds".to_owned(), found: Found::Absent("no data".to_owned()) });
        let text = page.markdown(&["worlds", "prefetch"]);
        assert!(text.contains("| bill | <= 0.62 | 0.56 | 0.7 | **missed** |"), "{text}");
        assert!(text.contains("Not measured: no data.") && text.find("Worlds") < text.find("Prefetch"), "{text}");
    }

    #[test]
    fn what_is_not_run_again_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (md, json) = (dir.path().join("a/results.md"), dir.path().join("b/learning.json"));
        assert_eq!(Page::read(&json).unwrap(), Page::default());
        let mut page = Page::default();
        page.sections.insert("prefetch".to_owned(), section(vec![Bar::at_least("precision", 0.85, 0.8)]));
        page.write(&md, &json, &[]).unwrap();
        assert_eq!(Page::read(&json).unwrap(), page);
        assert!(page.holds());
        std::fs::write(&json, "{").unwrap();
        assert!(Page::read(&json).is_err());
    }
}
