//! The object store in which instances share predictors, as the store of predictors wants it: every operation blocks, within its deadline.

use std::sync::Arc;

use farthing_config::{Config, ModelStoreConfig};
use farthing_models::{Got, Remote, When};
use farthing_sinks::{Bucket, Condition, Fault, Object};
use farthing_types::Span;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::blocking::wait_for;
use crate::{StartError, fleet};

/// Beyond its deadline an operation is waited for so long: it ends by itself.
const GRACE: Span = Span::from_secs(1);

/// A store, and the name of this instance there.
pub type Shared = (Arc<dyn Remote>, Arc<str>);

/// The object store that the folder of predictors is a mirror of; `None`: it is of none. Within a runtime, which carries operations out. Blocks on a small file.
///
/// # Errors
/// A description that cannot work, a name that cannot be kept.
pub fn of(config: &Config) -> Result<Option<Shared>, StartError> {
    let Some(store) = &config.models.store else { return Ok(None) };
    let configured = config.fleet.as_ref().and_then(|fleet| fleet.instance.as_ref());
    let name = fleet::instance_name(config, configured)?;
    let remote: Arc<dyn Remote> = Arc::new(ModelStore::new(store).map_err(StartError::ModelStore)?);
    Ok(Some((remote, name)))
}

/// See the module.
pub struct ModelStore {
    bucket: Arc<Bucket>,
    wait: Span,
    runtime: Handle,
    tasks: TaskTracker,
}

impl ModelStore {
    fn new(config: &ModelStoreConfig) -> Result<Self, String> {
        let bucket = Bucket::new(&crate::sinks::s3(&config.bucket), config.deadline)?;
        let wait = config.deadline.saturating_add(GRACE);
        Ok(Self { bucket: Arc::new(bucket), wait, runtime: Handle::current(), tasks: TaskTracker::new() })
    }

    fn wait<T: Send + 'static>(&self, work: impl Future<Output = Result<T, Fault>> + Send + 'static) -> Result<T, String> {
        match wait_for((&self.runtime, &self.tasks), self.wait, work) {
            Some(done) => done.map_err(|fault| fault.to_string()),
            None => Err("timeout: it is not known what became of it".to_owned()),
        }
    }
}

impl Remote for ModelStore {
    fn name(&self) -> String {
        self.bucket.name().to_owned()
    }

    fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Got, String> {
        let (bucket, object, unless) = (self.bucket.clone(), object.to_owned(), unless.map(str::to_owned));
        let got = self.wait(async move { bucket.get(&object, most, unless.as_deref()).await })?;
        Ok(match got {
            Object::Absent => Got::Absent,
            Object::Unchanged => Got::Unchanged,
            Object::Is { bytes, tag } => Got::Is { bytes, tag },
        })
    }

    fn put(&self, object: &str, bytes: Vec<u8>, when: When<'_>) -> Result<Option<String>, String> {
        let (bucket, object) = (self.bucket.clone(), object.to_owned());
        let condition = match when {
            When::Always => Condition::Always,
            When::Absent => Condition::Absent,
            When::Is(tag) => Condition::Tag(tag.to_owned()),
        };
        self.wait(async move { bucket.put(&object, bytes, condition).await })
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let (bucket, folder) = (self.bucket.clone(), folder.to_owned());
        self.wait(async move { bucket.list(&folder).await })
    }

    fn remove(&self, object: &str) -> Result<(), String> {
        let (bucket, object) = (self.bucket.clone(), object.to_owned());
        self.wait(async move { bucket.remove(&object).await })
    }
}
