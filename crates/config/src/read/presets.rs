//! Providers that are known without configuration: the files in `providers/`, compiled in.

use super::providers::{ProviderDraft, fill};
use super::registry;
use super::routes;
use super::section::{Document, Section, System};
use crate::Problem;

/// The presets: name and file content, in the order of names.
pub fn presets() -> impl ExactSizeIterator<Item = (&'static str, &'static str)> + Clone {
    PRESETS.iter().copied()
}

const PRESETS: &[(&str, &str)] = &[
    ("anthropic", include_str!("../../../../providers/anthropic.toml")),
    ("gemini", include_str!("../../../../providers/gemini.toml")),
    ("generic", include_str!("../../../../providers/generic.toml")),
    ("google-geocoding", include_str!("../../../../providers/google-geocoding.toml")),
    ("openai", include_str!("../../../../providers/openai.toml")),
    ("openweather", include_str!("../../../../providers/openweather.toml")),
];

/// The file of the preset called `name`.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, text)| *text)
}

/// A provider as the preset called `name` describes it; `generic` when there is none of that name.
pub(crate) fn start(name: &str) -> ProviderDraft {
    let text = text(name).or_else(|| text("generic")).unwrap_or_default();
    // A test reads all presets and allows no problem.
    read(name, text).0
}

/// Reads a preset's file, with everything that is wrong in it.
pub(crate) fn read(name: &str, text: &str) -> (ProviderDraft, Vec<Problem>) {
    let file = format!("providers/{name}.toml");
    let doc = Document::new(&file, text, &System);
    let mut draft = ProviderDraft::default();
    let table = doc.parse();
    let s = Section::open(&doc, &table, "", registry::PRESET);
    fill(&s, "", &mut draft);
    if let Some(table) = s.table("route") {
        routes::fill(&Section::open(&doc, table, "route", registry::ROUTE), "route", &mut draft.route);
    }
    (draft, doc.into_problems())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_whole() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../providers");
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let known: Vec<String> = presets().map(|(name, _)| format!("{name}.toml")).collect();
        assert_eq!(files, known, "each file in providers/ is a preset and the other way round");
        for (name, text) in presets() {
            let (draft, problems) = read(name, text);
            assert!(problems.is_empty(), "{problems:?}");
            if name == "generic" {
                assert!(!draft.based && draft.provider.prices.is_none());
                continue;
            }
            assert!(draft.based, "{name} has no base_url");
            assert_eq!(draft.provider.base_url.scheme_str(), Some("https"), "{name}");
            assert_ne!(draft.provider.credential_place, crate::CredentialPlace::None, "{name}");
            assert!(draft.provider.terms.source.contains("http"), "{name} does not say where its terms stand");
            assert_eq!(draft.route.path_prefix.as_deref(), Some(format!("/{name}").as_str()));
            let prices = draft.provider.prices.unwrap_or_else(|| panic!("{name} has no prices"));
            assert!(prices.source.is_some_and(|source| source.contains("http")), "{name} does not say where its prices stand");
            assert!(prices.read.is_some(), "{name} does not say when its prices were read");
            assert!(prices.per_call.is_some() || !prices.targets.is_empty(), "{name} charges nothing");
        }
    }

    #[test]
    fn token_rates_are_plausible() {
        for (name, text) in presets() {
            let prices = read(name, text).0.provider.prices.unwrap_or_default();
            for (target, rates) in prices.targets {
                let (Some(input), output) = (rates.input, rates.output) else { panic!("{name} {target}: no input rate") };
                assert!(rates.cached_input.is_none_or(|cached| cached < input), "{name} {target}: reading the cache costs less");
                assert!(rates.cache_write.is_none_or(|write| write > input), "{name} {target}: writing the cache costs more");
                assert!(output.is_none_or(|output| output > input), "{name} {target}: output costs more than input");
            }
        }
    }
}
