//! S3 and what speaks it: each file of the log is one object under the file's name, as it is.
//!
//! The name makes repeating idempotent: an object comes as a whole, and only where there is none. So whoever dies, it is there once or not at all.

mod fault;
mod forget;
mod http;
mod names;
mod objects;
mod ship;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_contract::log::Table;
use farthing_ledger::archive::FinishedFile;
use farthing_types::Span;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use parking_lot::Mutex;
use tokio::sync::RwLock;

use fault::fault;
use http::Connector;
use names::{Names, date_of};
use ship::Unsure;

pub use objects::{Bucket, Condition, Object};

use crate::sink::FORGETTING_IN_OBJECTS;
use crate::{Erased, Fault, FaultReason, LogId, Shipment, Sink, Work};

/// Objects that are removed for their age at a time: the next look goes on.
const EXPIRED_AT_A_TIME: u64 = 20_000;

/// A bucket as it is configured.
#[derive(Clone, Default)]
pub struct S3Spec {
    /// Its name.
    pub bucket: String,
    /// What names of objects begin with; may be empty.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// `https://host:port`; `None`: that of AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path, and not in the host.
    pub path_style: bool,
    /// Who asks.
    pub credentials: S3Credentials,
    /// Certificates of authorities (PEM) in place of the public ones.
    pub authorities: Option<String>,
}

impl fmt::Debug for S3Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Spec").field("bucket", &self.bucket).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone)]
pub enum S3Credentials {
    /// A key.
    Key {
        /// Its id.
        id: Arc<str>,
        /// Its secret.
        secret: Arc<str>,
        /// For keys that end by themselves.
        session_token: Option<Arc<str>>,
    },
    /// The identity of the machine: asked where the platform says, which is told by these variables of the environment and their values, and else of the machine's
    /// metadata server.
    Machine(Vec<(&'static str, String)>),
}

impl Default for S3Credentials {
    fn default() -> Self {
        Self::Machine(Vec::new())
    }
}

/// A bucket.
pub struct S3 {
    store: AmazonS3,
    bucket: String,
    names: Names,
    deadline: Span,
    /// Whether it has no key of its own.
    is_machine: bool,
    /// Whether the server takes conditions of writes; believed until it says that it does not.
    conditional: AtomicBool,
    /// Shared while a file is shipped, from before it is opened until it is there.
    under_way: RwLock<()>,
    /// Held while a tenant is forgotten.
    forgetting: tokio::sync::Mutex<()>,
    /// What was sent and not confirmed: it may come yet.
    unsure: Mutex<HashMap<Path, Unsure>>,
}

impl S3 {
    /// Of a description; what is wrong with it.
    ///
    /// # Errors
    /// A prefix, endpoint or certificates that cannot be used.
    pub fn new(spec: &S3Spec, deadline: Span) -> Result<Self, String> {
        let names = Names::below(&spec.prefix)?;
        Ok(Self {
            store: store(spec, deadline)?,
            bucket: spec.bucket.clone(),
            names,
            deadline,
            is_machine: matches!(spec.credentials, S3Credentials::Machine(_)),
            conditional: AtomicBool::new(true),
            under_way: RwLock::default(),
            forgetting: tokio::sync::Mutex::default(),
            unsure: Mutex::default(),
        })
    }

    /// What is known of an object; `None` when there is none.
    async fn head(&self, name: &Path) -> Result<Option<ObjectMeta>, Fault> {
        match self.store.head(name).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(fault(error)),
        }
    }

    /// A fault of the first request, with what is likely to be wrong.
    fn explained(&self, fault: Fault) -> Fault {
        if fault.detail.contains("NoSuchBucket") {
            return Fault::new(
                FaultReason::Refused,
                format!("there is no bucket `{}`: make it, or name another ({})", self.bucket, fault.detail),
            );
        }
        if self.is_machine {
            let why = "no access_key_id is configured, so the identity of the machine is asked for";
            return Fault::new(fault.reason, format!("{} ({why})", fault.detail));
        }
        fault
    }

    fn is_conditional(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    fn takes_no_conditions(&self) {
        if self.conditional.swap(false, Ordering::Relaxed) {
            tracing::warn!(bucket = self.bucket, "the store takes no conditional writes: forget tenants on one instance at a time");
        }
    }

    /// What is ours below a name.
    fn ours(&self, below: &Path) -> BoxStream<'_, object_store::Result<ObjectMeta>> {
        let is_ours = |meta: &ObjectMeta| std::future::ready(self.names.read(&meta.location).is_some());
        self.store.list(Some(below)).try_filter(is_ours).boxed()
    }

    /// Removes what is ours of a day; how many objects that were.
    async fn remove_day(&self, day: &Path) -> object_store::Result<u64> {
        let found: Vec<Path> = self.ours(day).map_ok(|meta| meta.location).try_collect().await?;
        let count = found.len() as u64;
        let removing = self.store.delete_stream(futures_util::stream::iter(found.into_iter().map(Ok)).boxed());
        removing.try_for_each(|_| std::future::ready(Ok(()))).await?;
        Ok(count)
    }
}

/// The library's client; nothing is connected to yet.
fn store(spec: &S3Spec, deadline: Span) -> Result<AmazonS3, String> {
    // Whole operations are tried again by whoever asks; here only what costs less than its shortest wait.
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: deadline };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&spec.bucket)
        .with_region(&spec.region)
        .with_virtual_hosted_style_request(!spec.path_style)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .with_http_connector(Connector::new(spec.authorities.as_deref(), deadline)?);
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(own_endpoint(endpoint, spec)?);
        // Google's does not know requests that delete several objects.
        builder = builder.with_disable_bulk_delete(endpoint.contains("storage.googleapis.com"));
    }
    builder = match &spec.credentials {
        S3Credentials::Key { id, secret, session_token } => {
            let builder = builder.with_access_key_id(&**id).with_secret_access_key(&**secret);
            session_token.iter().fold(builder, |builder, token| builder.with_token(&**token))
        }
        S3Credentials::Machine(variables) => variables.iter().try_fold(builder, |builder, (name, value)| {
            let key = name.to_ascii_lowercase().parse().map_err(|_| format!("nothing is known of the variable {name}"))?;
            Ok::<_, String>(builder.with_config(key, value))
        })?,
    };
    builder.build().map_err(|error| error.to_string())
}

/// The endpoint as the library wants it: with the bucket in its host, where it is not in the path.
fn own_endpoint(endpoint: &str, spec: &S3Spec) -> Result<String, String> {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, host) = endpoint.split_once("://").ok_or("the endpoint has no scheme")?;
    Ok(if spec.path_style { endpoint.to_owned() } else { format!("{scheme}://{}.{host}", spec.bucket) })
}

impl Sink for S3 {
    fn kind(&self) -> &'static str {
        "s3"
    }

    fn forgets_within(&self) -> Span {
        FORGETTING_IN_OBJECTS
    }

    fn prepare(&self) -> Work<'_, ()> {
        Box::pin(async {
            let one = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
            match self.store.list_paginated(Some(self.names.table(farthing_contract::log::ALL[0]).as_ref()), one).await {
                Ok(_) => Ok(()),
                Err(error) => Err(self.explained(fault(error))),
            }
        })
    }

    fn held<'a>(&'a self, log: &'a LogId, table: &'static Table, day: i64) -> Work<'a, HashSet<String>> {
        Box::pin(async move {
            let within_day = |meta: ObjectMeta| {
                let named = self.names.read(&meta.location).filter(|named| named.log == log.as_str())?;
                Some(format!("{}/{}", named.hour, named.name))
            };
            let found = self.store.list(Some(&self.names.day(table, day))).try_filter_map(|meta| std::future::ready(Ok(within_day(meta))));
            found.try_collect().await.map_err(fault)
        })
    }

    fn ship<'a>(&'a self, log: &'a LogId, file: &'a FinishedFile) -> Work<'a, Shipment> {
        Box::pin(self.ship_file(log, file))
    }

    fn forget<'a>(&'a self, tenant: &'a str) -> Work<'a, Erased> {
        Box::pin(forget::forget(self, tenant))
    }

    fn expire(&self, table: &'static Table, day: i64) -> Work<'_, u64> {
        Box::pin(async move {
            let days = self.store.list_with_delimiter(Some(&self.names.table(table))).await.map_err(fault)?.common_prefixes;
            let dated = |path: Path| Some((date_of(path.filename()?)?, path));
            let mut due: Vec<(i64, Path)> = days.into_iter().filter_map(dated).filter(|(of, _)| *of < day).collect();
            due.sort_unstable();
            let (mut removed, mut objects) = (0, 0);
            for (_, path) in due {
                if objects >= EXPIRED_AT_A_TIME {
                    break;
                }
                let count = self.remove_day(&path).await.map_err(fault)?;
                objects += count;
                removed += u64::from(count > 0);
            }
            Ok(removed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_stands_where_it_is_told_to() {
        let spec = |path_style| S3Spec { bucket: "b".to_owned(), path_style, ..S3Spec::default() };
        assert_eq!(own_endpoint("http://h:9000/", &spec(true)).unwrap(), "http://h:9000");
        assert_eq!(own_endpoint("https://h:9000", &spec(false)).unwrap(), "https://b.h:9000");
        assert!(own_endpoint("h:9000", &spec(true)).is_err());
    }

    #[test]
    fn what_cannot_work_is_said() {
        let wrong = |spec: S3Spec| S3::new(&spec, Span::from_secs(1)).err().unwrap();
        let spec = S3Spec { bucket: "b".to_owned(), ..S3Spec::default() };
        assert!(wrong(S3Spec { authorities: Some("none".to_owned()), ..spec.clone() }).contains("no certificate"));
        assert!(wrong(S3Spec { prefix: "a//b".to_owned(), ..spec.clone() }).contains("prefix"));
        assert!(S3::new(&spec, Span::from_secs(1)).is_ok());
        let key = S3Credentials::Key { id: "id".into(), secret: "hunter2".into(), session_token: None };
        assert!(!format!("{:?}", S3Spec { credentials: key, ..spec }).contains("hunter2"));
    }
}
