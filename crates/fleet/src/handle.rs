//! The handle: operations with a deadline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use farthing_types::Span;
use parking_lot::RwLock;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::breaker::Breaker;
use crate::config::{ConfigError, RedisConfig};
use crate::keeper::Keeper;
use crate::link::{Connector, Link};
use crate::script::{self, Answer, Script};
use crate::slot;
use crate::stats::{Counters, Fault, HandleStats};

/// What handle and keeper share.
pub(crate) struct Inner {
    pub(crate) deadline: Span,
    write_deadline: Span,
    pub(crate) link: RwLock<Option<Link>>,
    pub(crate) breakers: Box<[Breaker]>,
    pub(crate) counters: Counters,
    /// Tells the keeper that something is wrong.
    pub(crate) wake: Notify,
    in_flight: AtomicUsize,
    max_in_flight: usize,
}

/// The handle. Cheap to clone; the background task ends with the last one.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
    _keeper: Arc<DropGuard>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Keys that a server looks at for one page.
const SCANNED: usize = 500;

impl Handle {
    /// Starts connecting in the background, on a task of `tasks`; nothing needs to be reachable yet.
    ///
    /// # Errors
    /// The configuration says nothing that could ever be reached.
    pub fn start(config: &RedisConfig, tasks: &TaskTracker) -> Result<Self, ConfigError> {
        let connector = Connector::new(config)?;
        let parts = if config.cluster { slot::PARTS } else { 1 };
        let inner = Arc::new(Inner {
            deadline: config.deadline,
            write_deadline: config.write_deadline.max(config.deadline),
            link: RwLock::new(None),
            breakers: (0..parts).map(|_| Breaker::default()).collect(),
            counters: Counters::default(),
            wake: Notify::new(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: config.max_in_flight,
        });
        let ended = CancellationToken::new();
        let keeper = Keeper::new(Arc::clone(&inner), connector, config.connect_timeout);
        let until = ended.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(keeper.run()).await;
        });
        Ok(Self { inner, _keeper: Arc::new(ended.drop_guard()) })
    }

    /// The value of a key, at most its first `most` bytes; empty when there is none.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn get(&self, key: &[u8], most: usize) -> Result<Bytes, Fault> {
        let mut command = cmd("GETRANGE");
        command.arg(key).arg(0).arg(most.saturating_sub(1));
        match self.run(key, &command, self.inner.deadline).await? {
            Value::BulkString(value) => Ok(Bytes::from(value)),
            Value::Nil => Ok(Bytes::new()),
            _ => Err(Fault::Refused),
        }
    }

    /// Sets a key for a time, which is rounded up to whole milliseconds.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn set(&self, key: &[u8], value: &[u8], lifetime: Span) -> Result<(), Fault> {
        let millis = u64::try_from(lifetime.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).clamp(1, i64::MAX as u64 / 4);
        let mut command = cmd("SET");
        command.arg(key).arg(value).arg("PX").arg(millis);
        self.run(key, &command, self.inner.write_deadline).await.map(drop)
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn delete(&self, key: &[u8]) -> Result<(), Fault> {
        self.delete_all(&[key]).await
    }

    /// Deletes keys of one slot at once.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn delete_all(&self, keys: &[&[u8]]) -> Result<(), Fault> {
        let mut command = cmd("UNLINK");
        command.arg(keys);
        self.run(script::place(keys)?, &command, self.inner.write_deadline).await.map(drop)
    }

    /// How long a write may take.
    pub fn write_deadline(&self) -> Span {
        self.inner.write_deadline
    }

    /// A page of the names of keys that begin with `prefix`, and where the next one begins: 0 at the begin and after the last. A key that is
    /// there all the time is in one of the pages at least. Only of a single server: a Cluster has no order of its keys.
    ///
    /// # Errors
    /// See [`Fault`]; a Cluster is [`Fault::Unavailable`].
    pub async fn scan(&self, prefix: &[u8], from: u64) -> Result<(u64, Vec<Vec<u8>>), Fault> {
        if self.inner.breakers.len() > 1 {
            return Err(Fault::Unavailable);
        }
        let mut command = cmd("SCAN");
        command.arg(from).arg("MATCH").arg([prefix, b"*"].concat()).arg("COUNT").arg(SCANNED);
        let Value::Array(answer) = self.run(prefix, &command, self.inner.write_deadline).await? else { return Err(Fault::Refused) };
        let Ok([Value::BulkString(next), Value::Array(names)]) = <[Value; 2]>::try_from(answer) else { return Err(Fault::Refused) };
        let next = std::str::from_utf8(&next).ok().and_then(|next| next.parse().ok()).ok_or(Fault::Refused)?;
        let name = |name| if let Value::BulkString(name) = name { Some(name) } else { None };
        Ok((next, names.into_iter().filter_map(name).collect()))
    }

    /// Runs a script on the server that has the keys, which must all be in one slot: give them a common hash tag (`{..}`). Where the server does not
    /// know the script, its text is sent, all within `deadline`. A fault but for [`Fault::Crossing`], [`Fault::Unavailable`] and [`Fault::Busy`] leaves
    /// open whether the script ran, and on a Cluster one call may run it twice: let it notice a repetition where that matters.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn script(&self, script: &Script, keys: &[&[u8]], args: &[&[u8]], deadline: Span) -> Result<Answer, Fault> {
        let begun = tokio::time::Instant::now();
        let result = match script::place(keys) {
            Ok(place) => match self.inner.admitted(place, &script.call(false, keys, args), deadline, script::known).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => {
                    let left = deadline.saturating_sub(begun.elapsed());
                    self.inner.admitted(place, &script.call(true, keys, args), left, plain).await
                }
                Err(fault) => Err(fault),
            },
            Err(fault) => Err(fault),
        };
        let result = result.and_then(script::read);
        self.inner.counters.outcome(&result);
        result
    }

    /// Whether the server cannot be asked now, or some nodes of a Cluster.
    pub fn is_away(&self) -> bool {
        self.inner.link.read().is_none() || self.inner.breakers.iter().any(Breaker::is_open)
    }

    /// Whether an operation on this key would be tried now.
    pub fn is_available(&self, key: &[u8]) -> bool {
        self.inner.link.read().is_some() && !self.inner.breaker(key).is_some_and(Breaker::is_open)
    }

    /// Counters and state now.
    pub fn stats(&self) -> HandleStats {
        let mut stats = self.inner.counters.read();
        stats.open_breakers = self.inner.breakers.iter().filter(|b| b.is_open()).count();
        stats.in_flight = self.inner.in_flight.load(Ordering::Relaxed);
        stats
    }

    async fn run(&self, key: &[u8], command: &Cmd, deadline: Span) -> Result<Value, Fault> {
        let result = self.inner.admitted(key, command, deadline, plain).await;
        self.inner.counters.outcome(&result);
        result
    }
}

/// Counts an operation while it is under way, also when it is given up.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Inner {
    fn breaker(&self, key: &[u8]) -> Option<&Breaker> {
        // One breaker: one server.
        self.breakers.get(if self.breakers.len() == 1 { 0 } else { slot::part(key) })
    }

    async fn admitted<T>(&self, key: &[u8], command: &Cmd, deadline: Span, read: Read<T>) -> Result<T, Fault> {
        let breaker = self.breaker(key).filter(|b| !b.is_open()).ok_or(Fault::Unavailable)?;
        let link = self.link.read().clone().ok_or(Fault::Unavailable)?;
        let under_way = self.in_flight.fetch_add(1, Ordering::AcqRel);
        let _in_flight = InFlight(&self.in_flight);
        if under_way >= self.max_in_flight {
            return Err(Fault::Busy);
        }
        let result = send_as(link, command, deadline, read).await;
        match result {
            Ok(_) | Err(Fault::Refused) => breaker.success(),
            Err(fault) => {
                let single = self.breakers.len() == 1;
                // The address leads to another server by now, to which only a new connection goes; this one would answer reads for ever.
                if single && fault == Fault::Replica {
                    *self.link.write() = None;
                    // Also where the breaker is open already: its probe may have just been answered, by that server.
                    self.wake.notify_one();
                }
                // A connection to one server that broke stays broken; those to a Cluster's nodes mend themselves.
                let ends = single && matches!(fault, Fault::Broken | Fault::Replica);
                let opened = if ends { breaker.trip() } else { breaker.failure() };
                if opened {
                    self.counters.opened();
                    self.wake.notify_one();
                }
            }
        }
        result
    }
}

/// What an answer is read as, before its error becomes a fault.
type Read<T> = fn(Result<Value, RedisError>) -> Result<T, RedisError>;

/// One operation on a link, whatever the breaker says: what a probe is, too.
pub(crate) async fn send(link: Link, command: &Cmd, deadline: Span) -> Result<Value, Fault> {
    send_as(link, command, deadline, plain).await
}

const fn plain(answer: Result<Value, RedisError>) -> Result<Value, RedisError> {
    answer
}

async fn send_as<T>(mut link: Link, command: &Cmd, deadline: Span, read: Read<T>) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, link.send(command)).await {
        Err(_) => Err(Fault::Late),
        // The client hands on what the server refuses as a value.
        Ok(answer) => read(answer.and_then(Value::extract_error)).map_err(|error| fault(&error)),
    }
}

fn fault(error: &RedisError) -> Fault {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Fault::Replica,
        // How releases before 7 say it where a script was to write.
        ErrorKind::Server(_) if error.detail().is_some_and(|detail| detail.contains("-READONLY ")) => Fault::Replica,
        // The server's own words, and it said them in time.
        ErrorKind::Server(_) | ErrorKind::Extension if !error.is_cluster_error() => Fault::Refused,
        _ if error.is_timeout() => Fault::Late,
        _ => Fault::Broken,
    }
}
