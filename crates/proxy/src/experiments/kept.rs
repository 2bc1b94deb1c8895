//! What is kept of experiments in `state_dir/experiments`, for each: where it stands (`NAME.json`), its evidence (`NAME.trial.json`), its
//! closed unit-windows (`NAME.rows.csv`) and who did what (`NAME.audit.jsonl`); and for each route what was found for it (`ROUTE.tuning`).
//!
//! Where it stands and the evidence are written whole and durable. Rows are appended before the evidence that counts them, which says how
//! long the file was; what is beyond belongs to a write that was cut short, and is taken away. So rows and evidence always agree.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_experiment::{COLUMNS, Life, Trial};
use farthing_types::Time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fleet::Lineage;
use super::tuning;
use crate::files;

/// Bytes of rows that are kept of an experiment; the request log has all of them.
const MOST_ROWS_BYTES: u64 = 256 << 20;
/// Bytes of an audit that are read: the latest.
const MOST_AUDIT_BYTES: u64 = 256 << 10;
const FORMAT: u32 = 1;
/// Of an experiment no file ends so, whatever it is called.
const TUNING: &str = "tuning";
const OF_EXPERIMENT: [&str; 4] = ["json", "trial.json", "rows.csv", "audit.jsonl"];

/// Where an experiment stands, and what it said when it began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    format: u32,
    /// What must not change under its name, by key of the configuration.
    pub frozen: BTreeMap<String, String>,
    /// Where it stands.
    pub life: Life,
    /// What the fleet had published, where it is a fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Lineage>,
}

#[derive(Deserialize)]
struct Evidence {
    rows_bytes: u64,
    /// Of a fleet's evidence.
    #[serde(default)]
    number: u64,
    trial: Trial,
}

#[derive(Serialize)]
struct EvidenceOf<'a> {
    format: u32,
    rows_bytes: u64,
    number: u64,
    trial: &'a Trial,
}

/// One line of an audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When.
    pub at: Time,
    /// Who: `operator`, `configuration`, `guardrail`, `evidence`, `ramp`, `budget`, `tuning`.
    pub by: Arc<str>,
    /// What was done.
    pub what: String,
    /// Why, as the operator said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was kept cannot be read, or nothing can be written.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A file is damaged.
    #[error("{}: {reason}; correct the file, or remove it to let the experiment begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// The folder; nothing is kept without one.
#[derive(Clone, Debug, Default)]
pub struct Folder(Option<PathBuf>);

impl Folder {
    /// Below `state_dir`; none where that is empty.
    pub fn below(state_dir: &Path) -> Self {
        Self((!state_dir.as_os_str().is_empty()).then(|| state_dir.join("experiments")))
    }

    fn path(&self, name: &str, what: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|dir| dir.join(format!("{name}.{what}")))
    }

    fn read<T: DeserializeOwned>(&self, name: &str, what: &str) -> Result<Option<T>, KeptError> {
        let Some(path) = self.path(name, what) else { return Ok(None) };
        let Some(bytes) = files::read(&path).map_err(|source| KeptError::Io { path: path.clone(), source })? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| KeptError::Damaged { path, reason: error.to_string() })
    }

    fn write<T: Serialize>(&self, name: &str, what: &str, value: &T) -> Result<(), KeptError> {
        let Some(path) = self.path(name, what) else { return Ok(()) };
        let text = serde_json::to_vec(value).map_err(io::Error::from);
        text.and_then(|text| files::write(&path, &text)).map_err(|source| KeptError::Io { path, source })
    }

    /// Where an experiment stood.
    pub fn standing(&self, name: &str) -> Result<Option<Standing>, KeptError> {
        self.read(name, "json")
    }

    /// Keeps where it stands.
    pub fn keep_standing(
        &self,
        name: &str,
        (frozen, life): (&BTreeMap<String, String>, &Life),
        fleet: Option<Lineage>,
    ) -> Result<(), KeptError> {
        self.write(name, "json", &Standing { format: FORMAT, frozen: frozen.clone(), life: life.clone(), fleet })
    }

    /// What was found for a route.
    pub(super) fn tuning(&self, route: &str) -> Result<Option<tuning::Standing>, KeptError> {
        self.read(route, TUNING)
    }

    /// Keeps what was found for a route, and takes away what experiments have left that are not told of any more.
    pub(super) fn keep_tuning(&self, work: &tuning::Work) -> Result<(), KeptError> {
        self.write(&work.route, TUNING, &work.standing)?;
        let files = work.removed.iter().flat_map(|name| OF_EXPERIMENT.iter().filter_map(|what| self.path(name, what)));
        for path in files {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(KeptError::Io { path, source }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Its evidence, the bytes of rows that belong to it, and its number, where it is a fleet's.
    pub fn evidence(&self, name: &str) -> Result<Option<(Trial, u64, u64)>, KeptError> {
        let found: Option<Evidence> = self.read(name, "trial.json")?;
        Ok(found.map(|found| (found.trial, found.rows_bytes, found.number)))
    }

    /// Appends closed unit-windows behind the first `rows_bytes` and keeps the evidence that counts them; the bytes there are now, and how
    /// many rows found no room.
    pub fn keep_evidence(
        &self,
        name: &str,
        (trial, number): (&Trial, u64),
        (rows, rows_bytes): (impl Iterator<Item = String>, u64),
    ) -> Result<(u64, usize), KeptError> {
        let Some(path) = self.path(name, "rows.csv") else { return Ok((0, 0)) };
        let appended = append(&path, rows, rows_bytes).map_err(|source| KeptError::Io { path, source })?;
        self.write(name, "trial.json", &EvidenceOf { format: FORMAT, rows_bytes: appended.0, number, trial })?;
        Ok(appended)
    }

    /// Up to `most` bytes of whole lines of rows from `from` on, and where the next begin; `None` where there are none.
    pub fn rows(&self, name: &str, (from, upto): (u64, u64), most: usize) -> io::Result<Option<(String, Option<u64>)>> {
        let Some(path) = self.path(name, "rows.csv").filter(|path| path.exists()) else { return Ok(None) };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(upto.saturating_sub(from).min(most as u64)).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        let next = from + bytes.len() as u64;
        let text = String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(Some((text, (next < upto && whole > 0).then_some(next))))
    }

    /// Notes what was done.
    pub fn note(&self, name: &str, line: &AuditLine) -> Result<(), KeptError> {
        let Some(path) = self.path(name, "audit.jsonl") else { return Ok(()) };
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(|source| KeptError::Io { path: path.clone(), source })
    }

    /// What was done, the latest last. Lines that were cut short are left out.
    pub fn audit(&self, name: &str) -> io::Result<Vec<AuditLine>> {
        let Some(path) = self.path(name, "audit.jsonl").filter(|path| path.exists()) else { return Ok(Vec::new()) };
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST_AUDIT_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(MOST_AUDIT_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

fn append(path: &Path, rows: impl Iterator<Item = String>, kept: u64) -> io::Result<(u64, usize)> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    // One that somebody has removed or cut begins anew: what is missing would be read as zeros.
    let kept = if file.metadata()?.len() < kept { 0 } else { kept };
    file.set_len(kept)?;
    file.seek(SeekFrom::Start(kept))?;
    let mut text = if kept == 0 { format!("{COLUMNS}\n") } else { String::new() };
    let mut left_out = 0;
    for row in rows {
        if kept + text.len() as u64 > MOST_ROWS_BYTES {
            left_out += 1;
        } else {
            text += &row;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((kept + text.len() as u64, left_out))
}
