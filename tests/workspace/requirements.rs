//! docs/requirements.md: every id once, a state from the closed list, and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

struct Requirement {
    id: String,
    state: String,
    shown_by: String,
}

fn requirements() -> Vec<Requirement> {
    let text = fs::read_to_string(super::root().join("docs/requirements.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    text.lines()
        .filter(|l| l.starts_with("| ") && l.as_bytes().get(2).is_some_and(u8::is_ascii_uppercase))
        .map(cells)
        .filter(|c| c[0].len() <= 3 && c[0][1..].bytes().all(|b| b.is_ascii_digit()))
        .map(|c| {
            assert_eq!(c.len(), 4, "{}: id, text, state, shown by", c[0]);
            Requirement { id: c[0].clone(), state: c[2].clone(), shown_by: c[3].clone() }
        })
        .collect()
}

#[test]
fn every_requirement_stands_once_with_a_known_state() {
    let all = requirements();
    let ids: BTreeSet<_> = all.iter().map(|r| r.id.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "an id stands twice");
    assert_eq!(all.len(), 93, "a requirement was lost or added");
    for requirement in &all {
        assert!(["done", "part", "open"].contains(&requirement.state.as_str()), "{}: state {}", requirement.id, requirement.state);
        let shown = !requirement.shown_by.is_empty();
        assert_eq!(shown, requirement.state != "open", "{}: done and part name what shows it, open names nothing", requirement.id);
    }
}

#[test]
fn what_shows_a_requirement_exists() {
    for requirement in requirements() {
        for place in requirement.shown_by.split('`').skip(1).step_by(2) {
            let (path, name) = place.split_once("::").unwrap_or((place, ""));
            if path.starts_with("make ") {
                let target = path.trim_start_matches("make ").split(' ').next().unwrap();
                let makefile = fs::read_to_string(super::root().join("Makefile")).unwrap();
                assert!(makefile.contains(&format!("\n{target}:")), "{}: no make target {target}", requirement.id);
                continue;
            }
            let file = super::root().join(path);
            assert!(file.exists(), "{}: {path} does not exist", requirement.id);
            assert!(
                name.is_empty() || contains(&file, &format!("fn {name}(")) || contains(&file, name),
                "{}: {path} has no {name}",
                requirement.id
            );
        }
    }
}

fn contains(path: &Path, needle: &str) -> bool {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().any(|e| contains(&e.unwrap().path(), needle));
    }
    fs::read_to_string(path).is_ok_and(|text| text.contains(needle))
}
