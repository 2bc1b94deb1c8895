//! An operator puts another version of the configuration into the fleet's Redis.

use std::fmt;
use std::sync::Arc;

use farthing_config::Change;
use farthing_fleet::{Fault, ShelfFront, ShelfPut, ShelfSaid};
use farthing_types::{RouteName, Span};

use super::document::{Document, LONGEST_TEXT};
use super::{SharedConfig, Version};
use crate::assembly::Proxy;
use crate::blocking::wait_for;
use crate::fleet::message::Said;
use crate::reload::{Digest, NotReloaded, ReloadError, Reloaded};

/// How long an operator waits for Redis; some large values' deadlines.
const PATIENCE: Span = Span::from_secs(10);
/// Times that a version is put over a number that has moved because somebody brought the same one back.
const TRIES: usize = 4;

/// What is to be pushed, by whom.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// The text (TOML): what the fleet shares, and nothing that is an instance's own.
    pub text: String,
    /// The version that it was made from; 0, or nothing: there is none.
    pub over: Option<u64>,
    /// It may need a restart.
    pub restart: bool,
    /// It is judged, and nothing else.
    pub dry_run: bool,
    /// By what right, as in the audit log.
    pub by: String,
    /// Who that said it was.
    pub said: Option<String>,
    /// What is said about it.
    pub note: Option<String>,
    /// The version that it says again.
    pub again: Option<u64>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its number; `None`: it was judged only.
    pub version: Option<u64>,
    /// Digest of its text.
    pub digest: Digest,
    /// What is another than what was in force on this instance, and what of it needs a restart.
    pub changes: Vec<Change>,
    /// Routes of this instance whose copies were purged.
    pub purged: Vec<RouteName>,
    /// Why it is not in force here: it waits for a restart, or came to nothing after all.
    pub refused: Option<String>,
}

/// Why nothing was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushError {
    /// It was not made from the version that the fleet has.
    Conflict(Option<Box<Version>>),
    /// It cannot be read, or could not run on this instance.
    Invalid(String),
    /// It needs a restart, and nobody has said that it may.
    Restart(Vec<Change>),
    /// Redis was not reached; whether it was done is told.
    Away {
        /// Why.
        fault: Option<Fault>,
        /// It may have been done.
        perhaps: bool,
    },
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(None) => f.write_str("the fleet has no configuration yet: say --over 0, or nothing"),
            Self::Conflict(Some(newest)) => {
                let Document { by, said, instance, .. } = &newest.document;
                let who = said.as_ref().map_or_else(|| by.clone(), |said| format!("{said} ({by})"));
                let version = newest.version;
                write!(
                    f,
                    "the fleet has version {version} by now, pushed by {who} at {instance}, and this was not made from it: see what that changed \
                     (farthing config show {version}), and say --over {version}"
                )
            }
            Self::Invalid(problem) => f.write_str(problem),
            Self::Restart(changes) => {
                let told =
                    |change: &Change| format!("{} ({} -> {}): {}", change.key, change.from, change.to, change.restart.unwrap_or_default());
                let told: Vec<String> = changes.iter().map(told).collect();
                write!(
                    f,
                    "nothing was pushed, because running instances cannot take this over: {}; push it with --restart, and then restart them one after the other",
                    told.join("; ")
                )
            }
            Self::Away { fault, perhaps } => {
                let why = fault.map_or_else(|| "timeout".to_owned(), |fault| fault.to_string());
                let done = if *perhaps { "it may have been pushed: see farthing config status" } else { "nothing was pushed" };
                write!(f, "the fleet's redis does not answer ({why}); {done}")
            }
        }
    }
}

impl From<NotReloaded> for PushError {
    fn from(refused: NotReloaded) -> Self {
        Self::Invalid(refused.problem)
    }
}

impl SharedConfig {
    /// Judges a configuration as a start does, and puts it into the fleet's Redis over the version that it was made from; then it is in force here, or waits for a
    /// restart, and the others are told. One at a time. Blocks.
    ///
    /// # Errors
    /// See [`PushError`].
    pub fn push(self: &Arc<Self>, proxy: &Proxy, push: Push) -> Result<Pushed, PushError> {
        if push.text.len() > LONGEST_TEXT {
            return Err(PushError::Invalid(format!(
                "the text has {} bytes, and {LONGEST_TEXT} are the most that a fleet keeps",
                push.text.len()
            )));
        }
        self.up_to_date()?;
        let newest = self.newest();
        if push.over.unwrap_or_default() != newest.as_ref().map_or(0, |newest| newest.version) {
            return Err(PushError::Conflict(newest.map(Box::new)));
        }
        let (digest, changes) = self.judge(proxy, &push)?;
        if push.dry_run {
            return Ok(Pushed { version: None, digest, changes, purged: Vec::new(), refused: None });
        }
        let document = self.document(push, newest.as_ref());
        let version = self.put(document, newest)?;
        self.keep();
        let done = self.apply(proxy).unwrap_or_else(|| Ok((Reloaded::default(), digest.clone())));
        if let Some(fleet) = &proxy.state().fleet {
            fleet.say(Said::Config);
        }
        // It says so itself at its next turn, a moment later.
        self.wake();
        let (purged, refused) = match done {
            Ok((reloaded, _)) => (reloaded.purged, None),
            Err(refused) => (Vec::new(), Some(refused.problem)),
        };
        Ok(Pushed { version: Some(version), digest, changes, purged, refused })
    }

    /// Looks what the fleet has.
    fn up_to_date(self: &Arc<Self>) -> Result<(), PushError> {
        let shared = self.clone();
        let looked = wait_for((&self.runtime, &self.tasks), PATIENCE, async move { shared.look().await });
        let away = |fault| PushError::Away { fault, perhaps: false };
        looked.ok_or_else(|| away(None))?.map_err(|fault| away(Some(fault)))
    }

    fn judge(&self, proxy: &Proxy, push: &Push) -> Result<(Digest, Vec<Change>), PushError> {
        let read = (self.read)("the pushed configuration", &push.text);
        let (config, digest) = read.map_err(|unread| PushError::Invalid(unread.problem))?;
        crate::assembly::could_run(&config).map_err(PushError::Invalid)?;
        let changes = proxy.foresee(&config).map_err(|error: ReloadError| PushError::Invalid(error.to_string()))?;
        let restart: Vec<Change> = changes.iter().filter(|change| change.restart.is_some()).cloned().collect();
        if restart.is_empty() || push.restart || push.dry_run { Ok((digest, changes)) } else { Err(PushError::Restart(restart)) }
    }

    fn document(&self, push: Push, newest: Option<&Version>) -> Document {
        let later = newest.map(|newest| newest.document.at + Span::from_nanos(1));
        let now = self.clock.now();
        let Push { text, by, said, note, again, .. } = push;
        let document = Document::new(&self.fleet, text, later.map_or(now, |later| later.max(now))).with_note(note.as_deref());
        Document { by, said, again, instance: self.instance.to_string(), ..document }
    }

    /// Puts it in front of what it was made from; its number.
    fn put(self: &Arc<Self>, document: Document, newest: Option<Version>) -> Result<u64, PushError> {
        let shared = self.clone();
        let work = async move { shared.put_over(document, newest).await };
        wait_for((&self.runtime, &self.tasks), PATIENCE, work).unwrap_or(Err(PushError::Away { fault: None, perhaps: true }))
    }

    async fn put_over(self: &Arc<Self>, document: Document, newest: Option<Version>) -> Result<u64, PushError> {
        let (mark, body) = (document.mark(), document.seal(&self.key));
        let made_from = newest.as_ref().map(|newest| newest.document.mark());
        for _ in 0..TRIES {
            self.look().await.map_err(|fault| PushError::Away { fault: Some(fault), perhaps: false })?;
            let now = self.newest();
            if now.as_ref().map(|now| now.document.mark()) != made_from {
                return Err(PushError::Conflict(now.map(Box::new)));
            }
            let front = self.front().await.map_err(|fault| PushError::Away { fault: Some(fault), perhaps: false })?;
            // Somebody may have pushed since that look: only what this was made from, what is nobody's, or nothing is put over.
            let is_seen =
                front.version == 0 || Some(&front.mark) == made_from.as_ref() || self.known.lock().foreign.as_ref() == Some(&front);
            if !is_seen {
                continue;
            }
            let becomes = front.version.max(now.map_or(0, |now| now.version)) + 1;
            let put = ShelfPut { over: front.version, becomes, mark: &mark, body: body.as_bytes() };
            let said = match self.shelf.load_full().put(&put).await {
                Ok(said) => said,
                Err(fault) => self.found_done(&mark).await.ok_or(PushError::Away { fault: Some(fault), perhaps: true })?,
            };
            if said == ShelfSaid::Done {
                let mut known = self.known.lock();
                (known.newest, known.foreign) = (Some(Version { version: becomes, document }), None);
                return Ok(becomes);
            }
        }
        Err(PushError::Conflict(self.newest().map(Box::new)))
    }

    /// What stands in front now.
    pub(super) async fn front(&self) -> Result<ShelfFront, Fault> {
        let (front, _) = self.shelf.load_full().turn((&self.instance, &self.says()), false).await?;
        Ok(front)
    }

    /// Whether what broke off was done after all.
    async fn found_done(&self, mark: &str) -> Option<ShelfSaid> {
        let front = self.front().await.ok()?;
        (front.mark == mark).then_some(ShelfSaid::Done)
    }

    /// The versions that the fleet still has, the latest first; what is not its own is left out. Blocks.
    ///
    /// # Errors
    /// Redis does not answer.
    pub fn history(self: &Arc<Self>) -> Result<Vec<Version>, PushError> {
        let shared = self.clone();
        let asked = wait_for((&self.runtime, &self.tasks), PATIENCE, async move { shared.shelf.load_full().versions().await });
        let away = |fault| PushError::Away { fault, perhaps: false };
        let found = asked.ok_or_else(|| away(None))?.map_err(|fault| away(Some(fault)))?;
        let open = |(version, body): (u64, bytes::Bytes)| {
            Document::open_any(&body, &self.fleet, &self.key).ok().map(|document| Version { version, document })
        };
        Ok(found.into_iter().filter_map(open).collect())
    }
}
