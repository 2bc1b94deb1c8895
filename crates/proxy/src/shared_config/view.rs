//! How the fleet's configuration stands here, and elsewhere as the others say.

use farthing_fleet::{Fault, ShelfMember};
use farthing_types::Span;
use serde::{Deserialize, Serialize};

use super::{Refusal, SharedConfig, Version};
use crate::reload::{Digest, Outcome};

/// Characters of a reason that the others are told.
const LONGEST: usize = 400;

/// What an instance says of itself to the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Says {
    version: u64,
    digest: String,
    #[serde(default)]
    refused: Option<(u64, String)>,
    #[serde(default)]
    restart: bool,
}

/// What an instance goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// Its name.
    pub instance: String,
    /// When it was last heard of, before now.
    pub ago: Span,
    /// The version that it has in force; 0: its own file; `None`: it has only just started, or is of another release.
    pub version: Option<u64>,
    /// Digest of that text; empty for its own file.
    pub digest: String,
    /// The version that it does not have in force, and why.
    pub refused: Option<(u64, String)>,
    /// That one waits for a restart, and nothing else is wrong with it.
    pub restart: bool,
}

/// How it stands here.
#[derive(Clone, Debug)]
pub struct SharedStanding {
    /// The version in force; 0: this instance's own file is.
    pub version: u64,
    /// The newest that is known.
    pub newest: Option<Version>,
    /// Why that one is not in force.
    pub refused: Option<Refusal>,
    /// Redis has answered since the start.
    pub heard: bool,
    /// Why Redis does not answer now.
    pub trouble: Option<Fault>,
    /// Why it could not be written to `state_dir`.
    pub unkept: Option<String>,
    /// What the instances say that were heard of in the last hour, by name.
    pub members: Vec<MemberConfig>,
}

fn member(of: &ShelfMember) -> MemberConfig {
    let says: Option<Says> = serde_json::from_str(&of.says).ok();
    let version = says.as_ref().map(|says| says.version);
    let Says { digest, refused, restart, .. } = says.unwrap_or_default();
    MemberConfig { instance: of.name.clone(), ago: of.ago, version, digest, refused, restart }
}

impl SharedConfig {
    /// See [`SharedStanding`].
    pub fn standing(&self) -> SharedStanding {
        let known = self.known.lock();
        let mut members: Vec<MemberConfig> = known.members.iter().map(member).collect();
        members.sort_by(|a, b| a.instance.cmp(&b.instance));
        SharedStanding {
            version: known.in_force.as_ref().map_or(0, |of| of.version),
            newest: known.newest.clone(),
            refused: known.refusal().map(|(refused, _)| refused.clone()),
            heard: known.heard,
            trouble: known.trouble,
            unkept: known.unkept.clone(),
            members,
        }
    }

    /// What this instance says of itself; nothing before it serves.
    pub(super) fn says(&self) -> String {
        let known = self.known.lock();
        if !known.serves {
            return String::new();
        }
        let refused = known.refusal();
        let says = Says {
            version: known.in_force.as_ref().map_or(0, |of| of.version),
            digest: known.in_force.as_ref().map_or_else(String::new, |of| of.document.digest().to_string()),
            restart: refused.is_some_and(|(refused, _)| refused.restart),
            refused: refused.map(|(refused, newest)| (newest.version, refused.problem.chars().take(LONGEST).collect())),
        };
        // Plain data: nothing of it can fail.
        serde_json::to_string(&says).unwrap_or_default()
    }

    /// What of it was refused at the start.
    pub(super) fn refused_at_start(&self) -> Option<(Outcome, String, Digest)> {
        let known = self.known.lock();
        let (refused, newest) = known.refusal()?;
        Some((Outcome::Invalid, format!("{}: {}", newest.name(), refused.problem), newest.document.digest()))
    }

    /// What is wrong, for the list of parts, beside a version that was refused.
    pub fn problem(&self) -> Option<String> {
        let known = self.known.lock();
        if let Some(foreign) = &known.foreign {
            let error = super::document::Foreign;
            return Some(format!("version {} in the fleet's redis is not used: {error}; push the configuration again", foreign.version));
        }
        if !known.heard {
            let goes_by = known.in_force.as_ref().map_or_else(
                || "none was kept here, so this instance goes by its own file".to_owned(),
                |of| format!("this instance goes by version {}, which it had kept", of.version),
            );
            return Some(format!("the fleet's redis has not answered since the start, and may have another configuration: {goes_by}"));
        }
        known.unkept.as_ref().map(|error| format!("the fleet's configuration could not be written to state_dir: {error}"))
    }
}
