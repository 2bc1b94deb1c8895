//! Forgetting a tenant in a bucket: each object that holds rows of it is written anew without them.
//!
//! The same rows go as in the log's own files. An object without any row stays: its name tells every instance that the file was shipped.

use std::sync::Arc;

use bytes::Bytes;
use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row, Table};
use farthing_ledger::archive::{ArchiveError, Elsewhere, Forgetter, without_rows};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::S3;
use super::fault::{fault, is_unknown};
use crate::fault::{blocking, unreadable, within};
use crate::{Erased, Fault, FaultReason};

/// Objects that are got at a time.
const AT_A_TIME: usize = 16;
/// Of these so much is in memory together, in units of [`UNIT`]; a larger object is got alone.
const UNITS: u32 = 64;
const UNIT: u64 = 1 << 20;
/// Files of the log are smaller by far; a larger object is not ours.
const LARGEST: u64 = 1 << 30;
/// How often an object is tried that others write anew meanwhile.
const TRIES: u32 = 10;
/// Objects that could not be read, of which the name is told.
const NAMED: usize = 3;

/// Removes the tenant's rows.
pub async fn forget(s3: &S3, tenant: &str) -> Result<Erased, Fault> {
    let _alone = s3.forgetting.lock().await;
    // Waits for files that are under way. Those that begin from now on are read without the tenant.
    drop(s3.under_way.write().await);
    forestall(s3).await?;
    let mut work = Forgetting { s3, forgetter: Forgetter::new(tenant), unreadable: Vec::new() };
    work.find().await?;
    let mut erased = Erased::default();
    let nothing = work.forgetter.is_empty();
    // Outcomes and decisions first: were the calls gone, nothing would tell any more whose they are.
    for table in [OutcomeRow::TABLE, Decision::TABLE, CallRow::TABLE, Request::TABLE] {
        let rows = if nothing { 0 } else { work.remove(table).await? };
        erased.rows.insert(table.name, rows);
    }
    work.complete(erased)
}

/// What was sent and not confirmed could come after all, with the tenant's rows: an object in its place, made of the file as it is now, keeps it out. Parts
/// are thrown away.
async fn forestall(s3: &S3) -> Result<(), Fault> {
    for (name, sent) in s3.unconfirmed() {
        s3.give_up(&name).await?;
        let file = sent.file;
        let now = blocking(move || match std::fs::read(&file.path) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => without_rows(file.table).map_err(unreadable),
            Err(error) => Err(unreadable(error)),
        });
        let bytes: Bytes = now.await??;
        within(s3.deadline, s3.create(&name, bytes.into())).await??;
        s3.confirmed(&name);
    }
    Ok(())
}

struct Forgetting<'a> {
    s3: &'a S3,
    forgetter: Forgetter,
    unreadable: Vec<String>,
}

/// An object in memory.
struct Got {
    table: &'static Table,
    location: Path,
    version: UpdateVersion,
    bytes: Bytes,
    /// Its part of what may be in memory.
    _room: Option<OwnedSemaphorePermit>,
}

type Step = fn(&mut Forgetter, &Elsewhere<'_>) -> Result<(), ArchiveError>;

impl Forgetting<'_> {
    /// Goes through all rows for what is the tenant's.
    async fn find(&mut self) -> Result<(), Fault> {
        let steps: [(&'static Table, Step); 5] = [
            (Request::TABLE, Forgetter::learn),
            (CallRow::TABLE, Forgetter::learn),
            (Request::TABLE, Forgetter::share),
            (CallRow::TABLE, Forgetter::share),
            (Decision::TABLE, Forgetter::decide),
        ];
        for (number, (table, step)) in steps.into_iter().enumerate() {
            if number >= 2 && self.forgetter.is_empty() {
                break;
            }
            let mut objects = self.s3.objects(table);
            while let Some(object) = objects.try_next().await? {
                self.step(object, step).await?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, object: Found, step: Step) -> Result<(), Fault> {
        let Some(got) = self.read(object) else { return Ok(()) };
        let mut forgetter = std::mem::replace(&mut self.forgetter, Forgetter::new(""));
        let (forgetter, done) = blocking(move || {
            let done = step(&mut forgetter, &got.as_file());
            (forgetter, done)
        })
        .await?;
        self.forgetter = forgetter;
        if let Err(error) = done {
            self.unreadable.push(error.to_string());
        }
        Ok(())
    }

    /// Removes what was found of a table; how many rows that were.
    async fn remove(&mut self, table: &'static Table) -> Result<u64, Fault> {
        // Shared with the threads that read; nothing more is learned from now on.
        let forgetter = Arc::new(std::mem::replace(&mut self.forgetter, Forgetter::new("")));
        let mut removed = 0;
        let mut objects = self.s3.objects(table);
        while let Some(object) = objects.try_next().await? {
            if let Some(got) = self.read(object) {
                removed += self.rewrite(&forgetter, got).await?;
            }
        }
        drop(objects);
        self.forgetter =
            Arc::into_inner(forgetter).ok_or_else(|| Fault::new(FaultReason::Unavailable, "forgetting broke off; forget again"))?;
        Ok(removed)
    }

    /// Writes an object anew without the tenant's rows, unless others have written it meanwhile: then what they have written.
    async fn rewrite(&mut self, forgetter: &Arc<Forgetter>, mut got: Got) -> Result<u64, Fault> {
        for _ in 0..TRIES {
            let own = Arc::clone(forgetter);
            let (of, left) = blocking(move || {
                let left = own.without(&got.as_file());
                drop(own);
                (got, left)
            })
            .await?;
            let (bytes, rows) = match left {
                Ok(Some(left)) => left,
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.unreadable.push(error.to_string());
                    return Ok(0);
                }
            };
            if self.s3.replace(&of, bytes).await? {
                return Ok(rows);
            }
            let Some(meta) = self.s3.head(&of.location).await? else { return Ok(0) };
            match self.s3.get(of.table, meta, None).await?.map(|found| self.read(found)) {
                Some(Some(again)) => got = again,
                _ => return Ok(0),
            }
        }
        Err(Fault::new(FaultReason::Unavailable, "an object is written anew by others all the time; forget again"))
    }

    fn read(&mut self, object: Found) -> Option<Got> {
        match object {
            Found::Got(got) => Some(got),
            Found::TooLarge(name) => {
                self.unreadable.push(name);
                None
            }
        }
    }

    fn complete(self, erased: Erased) -> Result<Erased, Fault> {
        let mut names = self.unreadable;
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Ok(erased);
        }
        let told = names[..names.len().min(NAMED)].join("; ");
        let all = names.len();
        Err(Fault::new(
            FaultReason::Unreadable,
            format!("all else is forgotten, but {all} objects cannot be read and may hold rows of it: remove them ({told})"),
        ))
    }
}

/// What became of getting an object.
enum Found {
    Got(Got),
    TooLarge(String),
}

impl Got {
    fn as_file(&self) -> Elsewhere<'_> {
        Elsewhere { table: self.table, name: self.location.as_ref(), bytes: self.bytes.clone() }
    }
}

impl S3 {
    /// All objects of a table, got some at a time.
    fn objects(&self, table: &'static Table) -> BoxStream<'_, Result<Found, Fault>> {
        let room = Arc::new(Semaphore::new(UNITS as usize));
        let got = self.ours(&self.names.table(table)).map_err(fault).map_ok(move |meta| {
            let room = Arc::clone(&room);
            async move {
                let units = u32::try_from(meta.size / UNIT + 1).unwrap_or(UNITS).min(UNITS);
                let room = room.acquire_many_owned(units).await.ok();
                self.get(table, meta, room).await
            }
        });
        // In the order in which they are done: those that wait for room could wait for one that is done.
        got.try_buffer_unordered(AT_A_TIME).try_filter_map(|found| std::future::ready(Ok(found))).boxed()
    }

    /// An object; `None` when it is gone.
    async fn get(&self, table: &'static Table, meta: ObjectMeta, room: Option<OwnedSemaphorePermit>) -> Result<Option<Found>, Fault> {
        let location = meta.location;
        if meta.size > LARGEST {
            return Ok(Some(Found::TooLarge(format!("`{location}` is larger than any file of the log"))));
        }
        let got = within(self.deadline, async {
            let answer = match self.store.get(&location).await {
                Err(Error::NotFound { .. }) => return Ok(None),
                answer => answer?,
            };
            let version = UpdateVersion { e_tag: answer.meta.e_tag.clone(), version: None };
            Ok(Some((version, answer.bytes().await?)))
        });
        let got = got.await?.map_err(fault)?;
        Ok(got.map(|(version, bytes)| Found::Got(Got { table, location, version, bytes, _room: room })))
    }

    /// Puts other bytes in the place of an object; `false` when it is not as it was any more.
    async fn replace(&self, of: &Got, bytes: Bytes) -> Result<bool, Fault> {
        let put = |mode: PutMode| within(self.deadline, self.store.put_opts(&of.location, bytes.clone().into(), mode.into()));
        if self.is_conditional() && of.version.e_tag.is_some() {
            match put(PutMode::Update(of.version.clone())).await? {
                Ok(_) => return Ok(true),
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => return Ok(false),
                Err(error) if is_unknown(&error) => self.takes_no_conditions(),
                Err(error) => return Err(fault(error)),
            }
        }
        put(PutMode::Overwrite).await?.map_err(fault)?;
        Ok(true)
    }
}
