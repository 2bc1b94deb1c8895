//! Which predictors this instance runs.

use farthing_models::{AliasInfo, Status};

use super::Family;

/// One row for each alias that decides or should.
pub fn families<'a>(status: &'a Status, versions: &'a [String]) -> [Family<'a>; 2] {
    let mut info = Family::gauge("model_info", "1 for each predictor in force, with version, digest and what runs of it");
    let mut stands_in =
        Family::gauge("model_stands_in", "1 while another version, a table alone or the rule stands in for what an alias names");
    for (alias, version) in status.aliases.iter().zip(versions) {
        let labels = || vec![("kind", alias.kind.as_str()), ("alias", alias.alias.as_str())];
        if let (Some(digest), Some(engine)) = (&alias.digest, alias.engine) {
            let told = vec![("version", version.as_str()), ("digest", digest.as_str()), ("engine", engine)];
            info.add([labels(), told].concat(), 1.0);
        }
        stands_in.add(labels(), f64::from(u8::from(alias.problem.is_some())));
    }
    [info, stands_in]
}

/// The live versions as labels; the families above borrow them.
pub fn versions(status: &Status) -> Vec<String> {
    let live = |alias: &AliasInfo| alias.live.map_or_else(String::new, |version| version.to_string());
    status.aliases.iter().map(live).collect()
}
