//! Bundles on disk: publishing by rename, reading with digests. Beside `signing` the only part of the crate that does I/O; blocking, off the request path.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use farthing_types::Time;
use sha2::{Digest, Sha256};

use super::frozen::Frost;
use super::{
    ALIASES_FILE, Aliases, BundleError, Check, Event, FROZEN_FILE, FileRef, Frozen, HISTORY_FILE, History, Kind, MANIFEST_FILE, MODEL_FILE,
    Manifest, NAMED_FILE, Named, SIGNATURE_FILE, SigningKey,
};

/// Largest manifest read, in bytes.
pub const MAX_MANIFEST: u64 = 16 << 20;
/// Most bytes of all other files of a bundle together that are read.
pub const MAX_FILES: u64 = 512 << 20;
/// Tries to take a free version number while others publish too.
const PUBLISH_TRIES: u32 = 64;

/// `<root>/<kind>/<version>`.
pub fn version_dir(root: &Path, kind: Kind, version: u32) -> PathBuf {
    root.join(kind.as_str()).join(version.to_string())
}

/// Versions on disk that have a manifest, ascending. Other names, such as unfinished temporary ones, are passed over.
pub fn versions(root: &Path, kind: Kind) -> Result<Vec<u32>, BundleError> {
    let dir = root.join(kind.as_str());
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(BundleError::io(&dir)(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(BundleError::io(&dir))?.file_name();
        if let Some(version) = name.to_str().and_then(version_of)
            && dir.join(&name).join(MANIFEST_FILE).is_file()
        {
            found.push(version);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The version a directory name stands for: `3`, but not `03`, `0` or `+3`.
fn version_of(name: &str) -> Option<u32> {
    name.parse::<u32>().ok().filter(|version| *version > 0 && version.to_string() == name)
}

/// The number the next published version takes: one above everything on disk, finished or not, and in the aliases.
pub fn next_version(root: &Path, kind: Kind) -> Result<u32, BundleError> {
    let dir = root.join(kind.as_str());
    let names = match fs::read_dir(&dir) {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().to_str().and_then(version_of)).max(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(BundleError::io(&dir)(e)),
    };
    let remembered = read_aliases(root)?.kept(kind).last().copied();
    Ok(names.max(remembered).unwrap_or(0).saturating_add(1))
}

/// Lower-case hexadecimal SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// What [`publish`] wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The manifest as written, with version and files.
    pub manifest: Manifest,
    /// The version's directory.
    pub dir: PathBuf,
    /// The bundle's digest.
    pub digest: String,
}

/// Writes a bundle under the next free version: everything into a temporary directory, synced, then one rename.
/// `version` and `files` of the manifest are filled in here. A killed process leaves at most a directory named `.tmp-..`, never a version.
pub fn publish(root: &Path, manifest: Manifest, files: &[(&str, &[u8])]) -> Result<Published, BundleError> {
    publish_signed(root, manifest, files, None)
}

/// As [`publish`], signed by `key`: the version never lies there without its signature.
///
/// # Errors
/// As [`publish`].
pub fn publish_signed(
    root: &Path,
    manifest: Manifest,
    files: &[(&str, &[u8])],
    key: Option<&SigningKey>,
) -> Result<Published, BundleError> {
    let mut manifest = manifest;
    manifest.files = files.iter().map(|(name, bytes)| ((*name).to_owned(), FileRef::of(bytes))).collect();
    manifest.check()?;
    let kind_dir = root.join(manifest.kind.as_str());
    fs::create_dir_all(&kind_dir).map_err(BundleError::io(&kind_dir))?;
    let temporary = Temporary::create(&kind_dir)?;
    for (name, bytes) in files {
        write_synced(&temporary.0.join(name), bytes)?;
    }
    for _ in 0..PUBLISH_TRIES {
        manifest.version = next_version(root, manifest.kind)?;
        let bytes = manifest.to_bytes()?;
        write_synced(&temporary.0.join(MANIFEST_FILE), &bytes)?;
        if let Some(key) = key {
            let line = key.sign(manifest.kind, manifest.version, &sha256(&bytes));
            write_synced(&temporary.0.join(SIGNATURE_FILE), line.as_bytes())?;
        }
        sync_dir(&temporary.0)?;
        let dir = version_dir(root, manifest.kind, manifest.version);
        match fs::rename(&temporary.0, &dir) {
            Ok(()) => {
                sync_dir(&kind_dir)?;
                return Ok(Published { digest: sha256(&bytes), manifest, dir });
            }
            // Somebody else took the number in between.
            Err(e) if dir.exists() => drop(e),
            Err(e) => return Err(BundleError::io(&dir)(e)),
        }
    }
    Err(BundleError::io(&kind_dir)(io::Error::other("no free version number")))
}

/// Puts a version that was made elsewhere into its place: `files` are all files of the bundle with their bytes, the manifest among them. They are not checked.
/// What is there already under the version's name stays; whether there was nothing.
///
/// # Errors
/// The folder cannot be written.
pub fn place(root: &Path, (kind, version): (Kind, u32), files: &[(String, Vec<u8>)]) -> Result<bool, BundleError> {
    let kind_dir = root.join(kind.as_str());
    fs::create_dir_all(&kind_dir).map_err(BundleError::io(&kind_dir))?;
    let temporary = Temporary::create(&kind_dir)?;
    for (name, bytes) in files {
        write_synced(&temporary.0.join(name), bytes)?;
    }
    sync_dir(&temporary.0)?;
    let dir = version_dir(root, kind, version);
    match fs::rename(&temporary.0, &dir) {
        Ok(()) => sync_dir(&kind_dir).map(|()| true),
        Err(_) if dir.exists() => Ok(false),
        Err(e) => Err(BundleError::io(&dir)(e)),
    }
}

/// A directory that is removed unless it was renamed away.
struct Temporary(PathBuf);

impl Temporary {
    fn create(parent: &Path) -> Result<Self, BundleError> {
        for _ in 0..1_000 {
            let dir = parent.join(temporary_name());
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self(dir)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(BundleError::io(&dir)(e)),
            }
        }
        Err(BundleError::io(parent)(io::Error::other("too many unfinished .tmp-* directories; delete them")))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing under this name, and that is fine.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Never the same twice in a process: removing one's own must not meet that of another thread.
fn temporary_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(".tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(BundleError::io(path))
}

fn sync_dir(dir: &Path) -> Result<(), BundleError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(BundleError::io(dir))
}

/// Replaces a file so that a reader sees the old bytes or the new ones, also after a crash.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let temporary = path.with_file_name(temporary_name());
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(BundleError::io(path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// The aliases under `root`; none when there is no file.
pub fn read_aliases(root: &Path) -> Result<Aliases, BundleError> {
    read_small(&root.join(ALIASES_FILE), Aliases::parse)
}

/// What a small file of the store says; the default where there is none.
fn read_small<T: Default>(path: &Path, parse: impl FnOnce(&Path, &[u8]) -> Result<T, BundleError>) -> Result<T, BundleError> {
    match read_bounded(path, MAX_MANIFEST) {
        Ok(bytes) => parse(path, &bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(e) => Err(BundleError::io(path)(e)),
    }
}

/// Changes the aliases under an advisory lock, so that two processes cannot lose each other's change. The file moves atomically;
/// when `change` fails, nothing is written.
pub fn change_aliases<T>(root: &Path, change: impl FnOnce(&mut Aliases) -> Result<T, BundleError>) -> Result<T, BundleError> {
    let _lock = locked(root)?;
    let before = read_aliases(root)?;
    let mut aliases = before.clone();
    let result = change(&mut aliases)?;
    if aliases != before {
        write_atomic(&root.join(ALIASES_FILE), &aliases.to_bytes())?;
    }
    Ok(result)
}

/// The advisory lock of who changes small files of the store; held until it is dropped. Makes the store's folder.
fn locked(root: &Path) -> Result<File, BundleError> {
    fs::create_dir_all(root).map_err(BundleError::io(root))?;
    let path = root.join(".aliases.lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(BundleError::io(&path))?;
    lock.lock().map_err(BundleError::io(&path))?;
    Ok(lock)
}

/// Who has frozen automation on this store; nobody when there is no file.
///
/// # Errors
/// A file that cannot be read.
pub fn read_frozen(root: &Path) -> Result<Frozen, BundleError> {
    read_small(&root.join(FROZEN_FILE), Frozen::parse)
}

/// Notes that an instance is frozen, or (`None`) is not any more. The file moves atomically.
///
/// # Errors
/// A store that cannot be written, a file that cannot be read.
pub fn note_frozen(root: &Path, instance: &str, frost: Option<Frost>) -> Result<(), BundleError> {
    // Who is not frozen makes no store.
    if frost.is_none() && read_frozen(root).is_ok_and(|frozen| frozen.instances().all(|(name, _)| name != instance)) {
        return Ok(());
    }
    let _lock = locked(root)?;
    let mut frozen = read_frozen(root)?;
    if frozen.set(instance, frost) { write_atomic(&root.join(FROZEN_FILE), &frozen.to_bytes()) } else { Ok(()) }
}

/// The versions that experiments name; none when there is no file.
///
/// # Errors
/// A file that cannot be read. Nothing is to be removed then.
pub fn read_named(root: &Path) -> Result<Named, BundleError> {
    read_small(&root.join(NAMED_FILE), Named::parse)
}

/// Notes which versions of a kind the experiments of an instance name. The file moves atomically.
///
/// # Errors
/// A store that cannot be written, a file that cannot be read.
pub fn note_named(root: &Path, instance: &str, names: (Kind, BTreeSet<u32>), now: Time) -> Result<(), BundleError> {
    // Who names nothing makes no store.
    if names.1.is_empty() && read_named(root).is_ok_and(|named| !named.has(instance)) {
        return Ok(());
    }
    let _lock = locked(root)?;
    let mut named = read_named(root)?;
    named.set(instance, names, now);
    write_atomic(&root.join(NAMED_FILE), &named.to_bytes())
}

/// Removes these versions of a kind, but none that an alias names or remembers, or an experiment names; neither can change meanwhile. Those that
/// are gone.
///
/// # Errors
/// Files of the store that cannot be read: then nothing goes.
pub fn remove_versions(root: &Path, kind: Kind, old: &[u32], now: Time) -> Result<Vec<u32>, BundleError> {
    let _lock = locked(root)?;
    let (kept, named) = (read_aliases(root)?.kept(kind), read_named(root)?.versions(kind, now));
    let may_go = old.iter().copied().filter(|version| !kept.contains(version) && !named.contains(version));
    let remove = |version: &u32| {
        let dir = version_dir(root, kind, *version);
        // Out of sight at once: a killed removal leaves no half version.
        let gone = dir.with_file_name(format!(".tmp-removed-{version}"));
        let is_gone = fs::rename(&dir, &gone).is_ok() || !dir.exists();
        let _ = fs::remove_dir_all(&gone);
        is_gone
    };
    Ok(may_go.filter(remove).collect())
}

/// A history longer than this is written anew.
const LONGEST_HISTORY: u64 = 512 << 10;

/// The changes of aliases that a file tells of; none when there is no file.
pub fn read_history(path: &Path) -> Result<History, BundleError> {
    read_small(path, |_, bytes| Ok(History::parse(bytes)))
}

/// The place of the history within a store.
pub fn history_path(root: &Path) -> PathBuf {
    root.join(HISTORY_FILE)
}

/// Adds an event, durably; a history that has become long is written anew. Makes the file's folder. Of two processes one writes at a time
/// where both do so from within [`change_aliases`].
pub fn append_history(path: &Path, event: &Event) -> Result<(), BundleError> {
    let failed = |e| BundleError::io(path)(e);
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    let mut file = File::options().create(true).append(true).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > LONGEST_HISTORY {
        let mut history = read_history(path)?;
        history.push(event);
        return write_atomic(path, &history.compacted());
    }
    // What a killed process left of a line stays alone.
    let line = [if length > 0 { b"\n".as_slice() } else { b"" }, &History::line(event)].concat();
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(failed)
}

/// A version read from disk, every byte checked against its digests.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the bundle.
    pub digest: String,
    /// Its directory.
    pub dir: PathBuf,
    files: std::collections::BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// Reads manifest and files of a version. What is loaded afterwards comes from these bytes, never again from disk:
    /// a file exchanged in between cannot go live.
    pub fn read(root: &Path, kind: Kind, version: u32) -> Result<Self, BundleError> {
        let (manifest, digest, dir) = Self::read_manifest(root, kind, version)?;
        check_length(&manifest)?;
        let mut files = std::collections::BTreeMap::new();
        for (name, wanted) in &manifest.files {
            files.insert(name.clone(), read_checked(&manifest.name(), &dir.join(name), wanted)?);
        }
        Ok(Self { manifest, digest, dir, files })
    }

    /// The same without the ONNX predictor, for a version of which that is damaged: what it has beside it may still be sound.
    pub fn read_without_model(root: &Path, kind: Kind, version: u32) -> Result<Self, BundleError> {
        let (mut manifest, digest, dir) = Self::read_manifest(root, kind, version)?;
        manifest.files.remove(MODEL_FILE);
        manifest.golden = std::mem::take(&mut manifest.table_golden);
        manifest.check()?;
        let name = manifest.name();
        let read = |(file, wanted): (&String, &FileRef)| Ok((file.clone(), read_checked(&name, &dir.join(file), wanted)?));
        let files = manifest.files.iter().map(read).collect::<Result<_, BundleError>>()?;
        Ok(Self { manifest, digest, dir, files })
    }

    /// Manifest, digest and directory alone: enough for lists, not for deciding.
    pub fn read_manifest(root: &Path, kind: Kind, version: u32) -> Result<(Manifest, String, PathBuf), BundleError> {
        let dir = version_dir(root, kind, version);
        let name = format!("{kind}/{version}");
        if !dir.is_dir() {
            return Err(BundleError::NoVersion { kind, version, root: root.to_path_buf() });
        }
        let path = dir.join(MANIFEST_FILE);
        let bytes = read_bounded(&path, MAX_MANIFEST)
            .map_err(|e| BundleError::refused(&name, Check::Manifest, format!("{}: {e}", path.display())))?;
        Ok((parse_manifest(kind, version, &bytes)?, sha256(&bytes), dir))
    }

    /// The bytes of a file of the bundle.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }
    /// What an alias stores of it.
    pub fn target(&self) -> super::Target {
        super::Target { version: self.manifest.version, digest: self.digest.clone() }
    }
}

/// The manifest of a version, of its bytes.
///
/// # Errors
/// As [`Manifest::parse`]; it is the manifest of another version.
pub fn parse_manifest(kind: Kind, version: u32, bytes: &[u8]) -> Result<Manifest, BundleError> {
    let name = format!("{kind}/{version}");
    let manifest = Manifest::parse(&name, bytes)?;
    if (manifest.kind, manifest.version) != (kind, version) {
        return Err(BundleError::refused(name, Check::Place, format!("the manifest is of {}", manifest.name())));
    }
    Ok(manifest)
}

/// Refuses a bundle of more than [`MAX_FILES`] bytes.
///
/// # Errors
/// The check `files`.
pub fn check_length(manifest: &Manifest) -> Result<(), BundleError> {
    let total = manifest.files.values().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    if total > MAX_FILES {
        let detail = format!("{total} bytes in all, at most {MAX_FILES} are read");
        return Err(BundleError::refused(manifest.name(), Check::Files, detail));
    }
    Ok(())
}

fn read_checked(bundle: &str, path: &Path, wanted: &FileRef) -> Result<Vec<u8>, BundleError> {
    let refuse = |detail: String| BundleError::refused(bundle, Check::Files, format!("{}: {detail}", path.display()));
    let bytes = read_bounded(path, wanted.bytes).map_err(|e| refuse(e.to_string()))?;
    if bytes.len() as u64 != wanted.bytes {
        return Err(refuse(format!("{} bytes, the manifest says {}", bytes.len(), wanted.bytes)));
    }
    let found = sha256(&bytes);
    if found != wanted.sha256 {
        return Err(refuse(format!("SHA-256 {found}, the manifest says {}", wanted.sha256)));
    }
    Ok(bytes)
}

pub(super) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
pub(super) mod tests;
