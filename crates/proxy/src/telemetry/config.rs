//! Which configuration is in force, and what became of others.

use super::Family;
use crate::reload::Standing;
use crate::shared_config::SharedStanding;

/// Families about the configuration.
pub fn families(standing: &Standing, (written, unwritten): (u64, u64)) -> Vec<Family<'_>> {
    let mut reloads = Family::counter("config_reloads", "Reloads of the configuration by what became of them");
    for (outcome, count) in &standing.outcomes {
        reloads.add(vec![("outcome", outcome.as_str())], *count as f64);
    }
    vec![
        Family::gauge("config_info", "Digest of the configuration in force").with(vec![("digest", &standing.digest)], 1.0),
        Family::gauge("config_since_timestamp_seconds", "When the configuration in force came into force")
            .with(vec![], standing.since.nanos() as f64 / 1e9),
        Family::gauge("config_reload_refused", "1 while the last reload was refused")
            .with(vec![], f64::from(u8::from(standing.refused.is_some()))),
        reloads,
        Family::counter("audit_lines", "Changes that are in the audit log").with(vec![], written as f64),
        Family::counter("audit_unwritten", "Changes that are not, because it could not be written").with(vec![], unwritten as f64),
    ]
}

/// Families about the configuration that the fleet keeps.
pub fn shared(standing: &SharedStanding) -> Vec<Family<'_>> {
    let flag = |on: bool| f64::from(u8::from(on));
    vec![
        Family::gauge("fleet_config_version", "Version of the fleet's configuration that is in force; 0: this instance's own file is")
            .with(vec![], standing.version as f64),
        Family::gauge("fleet_config_newest", "The newest version that is known; 0: there is none")
            .with(vec![], standing.newest.as_ref().map_or(0, |newest| newest.version) as f64),
        Family::gauge("fleet_config_refused", "1 while the newest version is not in force here, because it needs a restart or cannot run")
            .with(
                vec![("restart", if standing.refused.as_ref().is_some_and(|refused| refused.restart) { "true" } else { "false" })],
                flag(standing.refused.is_some()),
            ),
        Family::gauge("fleet_config_unheard", "1 while it could not be asked for since the start").with(vec![], flag(!standing.heard)),
        Family::gauge("fleet_config_unkept", "1 while it could not be written to state_dir").with(vec![], flag(standing.unkept.is_some())),
    ]
}
