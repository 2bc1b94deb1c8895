//! Single objects of a bucket, with conditional reads and writes: for what instances share beside the log.

use farthing_types::Span;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode, UpdateVersion};

use super::fault::{fault, is_unknown};
use super::names::{below, prefix_of};
use super::{S3Spec, store};
use crate::fault::within;
use crate::{Fault, FaultReason};

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// There is none.
    Absent,
    /// It is the one that was known.
    Unchanged,
    /// It is this.
    Is {
        /// All of it.
        bytes: Vec<u8>,
        /// Changes with it.
        tag: String,
    },
}

/// On what condition an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// None.
    Always,
    /// There is no such object.
    Absent,
    /// It still has this tag.
    Tag(String),
}

/// A bucket, or what is below a prefix in it.
#[derive(Debug)]
pub struct Bucket {
    store: AmazonS3,
    prefix: Path,
    name: String,
    deadline: Span,
}

impl Bucket {
    /// Of a description; nothing is connected to yet. `deadline` holds for each operation.
    ///
    /// # Errors
    /// A prefix, endpoint or certificates that cannot be used.
    pub fn new(spec: &S3Spec, deadline: Span) -> Result<Self, String> {
        let prefix = prefix_of(&spec.prefix)?;
        let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
        let name = format!("s3://{}{slash}{prefix}", spec.bucket);
        Ok(Self { store: store(spec, deadline)?, prefix, name, deadline })
    }

    /// `s3://bucket/prefix`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads an object of at most `most` bytes, unless it is the one known by a tag.
    ///
    /// # Errors
    /// The store cannot be reached or refuses; a longer object.
    pub async fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Object, Fault> {
        let options = GetOptions { if_none_match: unless.map(str::to_owned), ..GetOptions::default() };
        let get = async {
            let answer = match self.store.get_opts(&self.at(object), options).await {
                Err(Error::NotFound { .. }) => return Ok(Object::Absent),
                Err(Error::NotModified { .. }) => return Ok(Object::Unchanged),
                answer => answer.map_err(fault)?,
            };
            if answer.meta.size > most {
                return Err(Fault::new(
                    FaultReason::Rejected,
                    format!("`{object}` has {} bytes, at most {most} are read", answer.meta.size),
                ));
            }
            let tag = answer.meta.e_tag.clone().unwrap_or_default();
            let bytes = answer.bytes().await.map_err(fault)?.to_vec();
            Ok(Object::Is { bytes, tag })
        };
        within(self.deadline, get).await?
    }

    /// Writes an object as a whole; its tag, or `None` when the condition does not hold.
    ///
    /// # Errors
    /// The store cannot be reached, refuses, or knows no conditions. The object may be written all the same.
    pub async fn put(&self, object: &str, bytes: Vec<u8>, condition: Condition) -> Result<Option<String>, Fault> {
        let mode = match condition {
            Condition::Always => PutMode::Overwrite,
            Condition::Absent => PutMode::Create,
            Condition::Tag(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag), version: None }),
        };
        let put = async {
            match self.store.put_opts(&self.at(object), bytes.into(), mode.into()).await {
                Ok(put) => Ok(Some(put.e_tag.unwrap_or_default())),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
                Err(error) if is_unknown(&error) => {
                    let why = "the store takes no conditional writes (If-Match, If-None-Match): two instances could overwrite each other";
                    Err(Fault::new(FaultReason::Refused, why))
                }
                Err(error) => Err(fault(error)),
            }
        };
        within(self.deadline, put).await?
    }

    /// Names of all objects in a folder and below it.
    ///
    /// # Errors
    /// The store cannot be reached or refuses.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let folder = self.at(folder);
        let rest = |name: &Path| below(&self.prefix, name).unwrap_or_default().to_owned();
        let list = async { self.store.list(Some(&folder)).map_ok(|meta| rest(&meta.location)).try_collect().await.map_err(fault) };
        within(self.deadline, list).await?
    }

    /// Removes an object, if there is one.
    ///
    /// # Errors
    /// The store cannot be reached or refuses.
    pub async fn remove(&self, object: &str) -> Result<(), Fault> {
        let remove = async {
            match self.store.delete(&self.at(object)).await {
                Err(Error::NotFound { .. }) => Ok(()),
                done => done.map_err(fault),
            }
        };
        within(self.deadline, remove).await?
    }

    fn at(&self, object: &str) -> Path {
        object.split('/').fold(self.prefix.clone(), Path::join)
    }
}
