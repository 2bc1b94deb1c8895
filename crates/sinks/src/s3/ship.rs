//! One file, one object.

use farthing_ledger::archive::{FinishedFile, OpenFile};
use farthing_types::Span;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{Error, MultipartId, ObjectStore, PutMode, PutPayload};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, Take};
use tokio::time::Instant;

use super::S3;
use super::fault::{fault, is_unknown};
use crate::fault::{blocking, unreadable};
use crate::{Fault, FaultReason, LogId, Shipment};

/// Up to this length an object is sent at once; longer ones in parts of it. With what is on the wire all of a file that is in memory.
const PART: u64 = 8 << 20;
/// After so long nothing of a request comes any more.
const OVER: Span = Span::from_secs(3_600);

/// What was sent and not confirmed.
#[derive(Clone, Debug)]
pub(super) struct Unsure {
    /// When it began.
    since: Instant,
    /// Whose it is.
    pub(super) file: FinishedFile,
    /// What its parts belong to.
    pub(super) upload: Option<MultipartId>,
}

impl S3 {
    pub(super) async fn ship_file(&self, log: &LogId, file: &FinishedFile) -> Result<Shipment, Fault> {
        // Before the file is opened: see `forget`.
        let _shared = self.under_way.read().await;
        let Some(open) = opened(file).await? else { return Ok(Shipment::Gone) };
        let name = self.names.of(log, file);
        self.give_up(&name).await?;
        self.note(&name, file);
        let (rows, file) = (open.rows, File::from_std(open.file));
        let new = if open.bytes <= PART { self.put_whole(&name, file).await } else { self.put_parts(&name, file).await }?;
        self.confirmed(&name);
        Ok(if new { Shipment::Shipped { rows, altered: 0 } } else { Shipment::Held })
    }

    fn note(&self, name: &Path, file: &FinishedFile) {
        let mut unsure = self.unsure.lock();
        unsure.retain(|_, sent| sent.since.elapsed() < OVER);
        unsure.insert(name.clone(), Unsure { since: Instant::now(), file: file.clone(), upload: None });
    }

    /// Ends an earlier upload in parts under the name, so that it neither comes nor costs.
    pub(super) async fn give_up(&self, name: &Path) -> Result<(), Fault> {
        let upload = self.unsure.lock().get(name).and_then(|sent| sent.upload.clone());
        let Some(upload) = upload else { return Ok(()) };
        match self.store.abort_multipart(name, &upload).await {
            // It has come, or somebody has ended it.
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(fault(error)),
        }
        if let Some(sent) = self.unsure.lock().get_mut(name) {
            sent.upload = None;
        }
        Ok(())
    }

    async fn put_whole(&self, name: &Path, mut file: File) -> Result<bool, Fault> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).await.map_err(unreadable)?;
        self.create(name, bytes.into()).await
    }

    /// Puts an object where there is none; whether there was none.
    pub(super) async fn create(&self, name: &Path, bytes: PutPayload) -> Result<bool, Fault> {
        if self.is_conditional() {
            match self.store.put_opts(name, bytes.clone(), PutMode::Create.into()).await {
                Ok(_) => return Ok(true),
                // Also said when somebody else was about to put or remove it.
                Err(Error::AlreadyExists { .. }) => return self.is_there(name).await.map(|()| false),
                Err(error) if is_unknown(&error) => self.takes_no_conditions(),
                Err(error) => return Err(fault(error)),
            }
        }
        if self.head(name).await?.is_some() {
            return Ok(false);
        }
        self.store.put_opts(name, bytes, PutMode::Overwrite.into()).await.map_err(fault)?;
        Ok(true)
    }

    async fn is_there(&self, name: &Path) -> Result<(), Fault> {
        let gone = || Fault::new(FaultReason::Unavailable, format!("`{name}` is said to be there, and is not"));
        self.head(name).await?.map(drop).ok_or_else(gone)
    }

    async fn put_parts(&self, name: &Path, mut file: File) -> Result<bool, Fault> {
        // Uploads in parts take no conditions from the library. What might come between is the same file of another process.
        if self.head(name).await?.is_some() {
            return Ok(false);
        }
        let upload = self.store.create_multipart(name).await.map_err(fault)?;
        if let Some(sent) = self.unsure.lock().get_mut(name) {
            sent.upload = Some(upload.clone());
        }
        let mut parts = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let mut part: Take<&mut File> = (&mut file).take(PART);
            part.read_to_end(&mut bytes).await.map_err(unreadable)?;
            if bytes.is_empty() {
                break;
            }
            parts.push(self.store.put_part(name, &upload, parts.len(), bytes.into()).await.map_err(fault)?);
        }
        self.store.complete_multipart(name, &upload, parts).await.map_err(fault)?;
        Ok(true)
    }

    /// Files that were sent and not confirmed.
    pub(super) fn unconfirmed(&self) -> Vec<(Path, Unsure)> {
        self.unsure.lock().iter().map(|(name, sent)| (name.clone(), sent.clone())).collect()
    }

    /// It is known what became of it.
    pub(super) fn confirmed(&self, name: &Path) {
        self.unsure.lock().remove(name);
    }
}

async fn opened(file: &FinishedFile) -> Result<Option<OpenFile>, Fault> {
    let file = file.clone();
    blocking(move || file.open()).await?.map_err(unreadable)
}
