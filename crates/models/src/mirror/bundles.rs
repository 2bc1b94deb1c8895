//! Versions on their way: brought here as a whole and checked, or put there with the manifest last.

use farthing_contract::bundle::disk::{MAX_MANIFEST, check_length, parse_manifest, place, sha256, version_dir};
use farthing_contract::bundle::signing::{MAX_SIGNATURES, add_signatures, signatures, together};
use farthing_contract::bundle::{Bundle, BundleError, Check, FileRef, Kind, MANIFEST_FILE, SIGNATURE_FILE, Target};

use super::Mirror;
use crate::{Got, When};

/// How often signatures are put beside those of others that come at the same time.
const TRIES: usize = 5;

impl Mirror {
    /// Brings a version here, if the store has it and the folder does not.
    pub fn bring_version(&self, kind: Kind, version: u32) -> Result<(), BundleError> {
        if version_dir(&self.root, kind, version).is_dir() {
            return Ok(());
        }
        let manifest = self.whole(&object(kind, version, MANIFEST_FILE), MAX_MANIFEST)?;
        manifest.map_or(Ok(()), |bytes| self.fetch((kind, version), bytes))
    }

    /// Has the store have a version before an order is given, so that the order itself is short.
    pub fn offer(&self, kind: Kind, version: u32) -> Result<(), BundleError> {
        let (_, digest, _) = Bundle::read_manifest(&self.root, kind, version)?;
        self.push(kind, &Target { version, digest })
    }

    pub(super) fn bring(&self, kind: Kind, target: &Target) -> Result<(), BundleError> {
        // Another bundle under the number here is told by whoever loads it.
        if version_dir(&self.root, kind, target.version).is_dir() {
            return Ok(());
        }
        let name = format!("{kind}/{}", target.version);
        let Some(bytes) = self.whole(&object(kind, target.version, MANIFEST_FILE), MAX_MANIFEST)? else {
            return Err(BundleError::refused(name, Check::Manifest, format!("{} has none", self.remote.name())));
        };
        let found = sha256(&bytes);
        if found != target.digest {
            let detail = format!("digest {found} in {}, the alias was moved to {}", self.remote.name(), target.digest);
            return Err(BundleError::refused(name, Check::Digest, detail));
        }
        self.fetch((kind, target.version), bytes)
    }

    /// Gets the files of a manifest, checks them, and puts all of it into its place.
    fn fetch(&self, (kind, version): (Kind, u32), manifest_bytes: Vec<u8>) -> Result<(), BundleError> {
        let name = format!("{kind}/{version}");
        let refused = |detail: String| BundleError::refused(name.clone(), Check::Files, detail);
        let manifest = parse_manifest(kind, version, &manifest_bytes)?;
        check_length(&manifest)?;
        let mut files = Vec::new();
        for (file, wanted) in &manifest.files {
            let object = object(kind, version, file);
            let Some(bytes) = self.whole(&object, wanted.bytes)? else {
                return Err(refused(format!("{}/{object} is not there", self.remote.name())));
            };
            if FileRef::of(&bytes) != *wanted {
                return Err(refused(format!("{}/{object} is not what the manifest says", self.remote.name())));
            }
            files.push((file.clone(), bytes));
        }
        let signed = self.whole(&object(kind, version, SIGNATURE_FILE), MAX_SIGNATURES)?;
        files.extend(signed.map(|bytes| (SIGNATURE_FILE.to_owned(), bytes)));
        files.push((MANIFEST_FILE.to_owned(), manifest_bytes));
        place(&self.root, (kind, version), &files)?;
        tracing::info!(bundle = name, from = self.remote.name(), "a version was brought here");
        Ok(())
    }

    /// Has the store have a version: its files, and the manifest last.
    pub(super) fn push(&self, kind: Kind, target: &Target) -> Result<(), BundleError> {
        let manifest = object(kind, target.version, MANIFEST_FILE);
        let name = format!("{kind}/{}", target.version);
        let other = |what: String| BundleError::refused(name.clone(), Check::Digest, format!("{what}: give this one another number"));
        if let Some(bytes) = self.whole(&manifest, MAX_MANIFEST)? {
            if sha256(&bytes) != target.digest {
                return Err(other(format!("{} has another {name}", self.remote.name())));
            }
            return self.share_signatures(kind, target.version);
        }
        let bundle = Bundle::read(&self.root, kind, target.version)?;
        if bundle.digest != target.digest {
            return Err(BundleError::refused(name, Check::Digest, "it is not the one that the alias was moved to"));
        }
        for file in bundle.manifest.files.keys() {
            let (place, bytes) = (object(kind, target.version, file), bundle.file(file).unwrap_or_default());
            if self.put(&place, bytes.to_vec(), When::Absent)?.is_none() {
                // What is left of an upload that broke off may be the same file.
                let there = self.whole(&place, bytes.len() as u64).ok().flatten();
                if there.as_deref() != Some(bytes) {
                    return Err(other(format!("{}/{place} is there and another file", self.remote.name())));
                }
            }
        }
        // Who finds the manifest finds who has signed it.
        self.share_signatures(kind, target.version)?;
        let path = bundle.dir.join(MANIFEST_FILE);
        let bytes = std::fs::read(&path).map_err(|source| BundleError::Io { path, source })?;
        if sha256(&bytes) != target.digest || self.put(&manifest, bytes, When::Absent)?.is_none() {
            return Err(other(format!("{} has got another {name} meanwhile", self.remote.name())));
        }
        Ok(())
    }

    /// Brings signatures that a version has got since it was brought.
    pub(super) fn bring_signatures(&self, kind: Kind, target: &Target) -> Result<(), BundleError> {
        let signed = self.whole(&object(kind, target.version, SIGNATURE_FILE), MAX_SIGNATURES)?;
        signed.map_or(Ok(()), |bytes| add_signatures(&self.root, (kind, target.version), &String::from_utf8_lossy(&bytes)))
    }

    /// Has the store have the signatures that are here, beside those that it has.
    fn share_signatures(&self, kind: Kind, version: u32) -> Result<(), BundleError> {
        let own = signatures(&self.root, kind, version)?;
        let object = object(kind, version, SIGNATURE_FILE);
        // Another instance may be at it, too: once more then.
        for _ in 0..TRIES {
            let (there, tag) = match self.get(&object, MAX_SIGNATURES, None)? {
                Got::Is { bytes, tag } => (String::from_utf8_lossy(&bytes).into_owned(), Some(tag)),
                Got::Absent | Got::Unchanged => (String::new(), None),
            };
            let all = together(&there, &own);
            if all == there || self.put(&object, all.into_bytes(), tag.as_deref().map_or(When::Absent, When::Is))?.is_some() {
                return Ok(());
            }
        }
        Err(self.away("it is written again and again".to_owned(), &object))
    }

    /// Versions that are in the store.
    pub fn versions(&self, kind: Kind) -> Result<Vec<u32>, BundleError> {
        let folder = kind.to_string();
        let names = self.remote.list(&folder).map_err(|why| self.away(why, &folder))?;
        let version =
            |name: &String| name.strip_prefix(&folder)?.strip_prefix('/')?.strip_suffix(MANIFEST_FILE)?.strip_suffix('/')?.parse().ok();
        Ok(names.iter().filter_map(version).collect())
    }
}

/// `ttl/3/model.onnx`.
fn object(kind: Kind, version: u32, file: &str) -> String {
    format!("{kind}/{version}/{file}")
}
