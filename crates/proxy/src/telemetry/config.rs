//! Which configuration is in force, and what became of others.

use super::Family;
use crate::reload::Standing;

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
