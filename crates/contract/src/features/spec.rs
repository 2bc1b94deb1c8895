//! The named, versioned, hashed list of features and horizons that predictors are trained on and called with.

use sha2::{Digest, Sha256};

/// Number of features of the `ttl` predictor.
pub const TTL_FEATURES: usize = 30;
/// Number of outputs of the `ttl` predictor, one per age interval of the copy.
pub const TTL_OUTPUTS: usize = 8;

/// Inner edges of the age intervals, seconds: output `i` is the natural log of (change hazard / live hazard) of a copy whose
/// age lies between edge `i - 1` (0 for the first) and edge `i` (no end for the last). The live hazard is
/// [`super::TtlInput::ahead`]: a predictor corrects what the live statistics say, so all outputs zero mean "as the statistics
/// say", and it cannot be far off on a route it never saw.
pub const TTL_HORIZONS: [f64; TTL_OUTPUTS - 1] = [60.0, 240.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 172_800.0];

/// What a predictor is fed and answers. Two specs agree exactly when their hashes do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeatureSpec {
    /// Kind of predictor.
    pub kind: &'static str,
    /// Counts every change of meaning, scale or order.
    pub version: u32,
    /// Names in order.
    pub names: &'static [&'static str],
    /// See [`TTL_HORIZONS`]; empty for kinds whose outputs have names of their own.
    pub horizons: &'static [f64],
    /// Names of the outputs, in order; empty where [`Self::horizons`] makes them: one per age interval.
    pub answers: &'static [&'static str],
}

impl FeatureSpec {
    /// How many numbers a predictor of this kind answers.
    pub const fn outputs(&self) -> usize {
        if self.answers.is_empty() { self.horizons.len() + 1 } else { self.answers.len() }
    }

    /// First 16 hexadecimal digits of the SHA-256 of kind, version, names, horizons and, where there are any, names of outputs.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{}/{}\n", self.kind, self.version));
        for name in self.names {
            hasher.update(name);
            hasher.update("\n");
        }
        for edge in self.horizons {
            hasher.update(edge.to_le_bytes());
        }
        for answer in self.answers {
            hasher.update(answer);
            hasher.update("\n");
        }
        hex::encode(&hasher.finalize()[..8])
    }
}

/// The spec of the `ttl` predictor.
pub const TTL_SPEC: FeatureSpec = FeatureSpec { kind: "ttl", version: 2, names: &TTL_NAMES, horizons: &TTL_HORIZONS, answers: &[] };

const TTL_NAMES: [&str; TTL_FEATURES] = [
    "key_log_hazard",
    "key_slow_log_hazard",
    "key_log_factor",
    "key_log_expected",
    "key_fetches",
    "key_changes",
    "key_changed_share",
    "key_first_fetch",
    "key_log_age",
    "key_log_since_change",
    "key_never_changed",
    "key_since_change_over_interval",
    "key_log_rate",
    "key_log_last_gap",
    "route_log_hazard",
    "route_cell_log_hazard",
    "route_changed_share",
    "route_log_rate",
    "log_body_bytes",
    "log_last_modified_age",
    "last_modified_missing",
    "log_origin_ttl",
    "origin_ttl_missing",
    "has_etag",
    "query_parameters",
    "hour_sin",
    "hour_cos",
    "minute_sin",
    "minute_cos",
    "weekend",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_edges_rise() {
        assert_eq!(TTL_NAMES.iter().collect::<BTreeSet<_>>().len(), TTL_FEATURES);
        assert!(TTL_HORIZONS.windows(2).all(|w| w[0] < w[1]));
    }

    #[test]
    fn the_hash_follows_the_content() {
        let other = FeatureSpec { version: TTL_SPEC.version + 1, ..TTL_SPEC };
        assert_ne!(other.hash(), TTL_SPEC.hash());
        assert_ne!(FeatureSpec { horizons: &[1.0], ..TTL_SPEC }.hash(), TTL_SPEC.hash());
        assert_ne!(FeatureSpec { answers: &["cost"], ..TTL_SPEC }.hash(), TTL_SPEC.hash());
        assert_eq!(TTL_SPEC.hash().len(), 16);
    }
}
