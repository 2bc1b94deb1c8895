//! Documents that a fleet shares, one for each name, and what its members report of windows of time.
//!
//! A document has a version that grows by one with each change, and is changed only over the version that the writer knows; what is written on behalf of the fleet goes
//! through the fence of a lease as well, in the same step. Beside it stands its *evidence*, larger and changed less often, in the same step as the document. For each
//! window there is a table of the members who are there, with their reports. Everything expires.
//!
//! When Redis loses its data, versions tell which of the members knows the newest document; who was there in which window is lost, and the members know that it is.

use std::sync::LazyLock;

use bytes::Bytes;
use farthing_types::Span;

use crate::handle::Handle;
use crate::lease::{Holding, LeaseKey, LeaseOp, LeaseSaid};
use crate::script::{Answer, Script, millis};
use crate::stats::Fault;

static TURN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("turn.lua")));
static PUBLISH: LazyLock<Script> = LazyLock::new(|| Script::new(concat!(include_str!("../lease/record.lua"), include_str!("publish.lua"))));
static FIELDS: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('HMGET', KEYS[1], unpack(ARGV))"));
static GET: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('GET', KEYS[1])"));
static REPORT: LazyLock<Script> =
    LazyLock::new(|| Script::new("redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) redis.call('PEXPIRE', KEYS[1], ARGV[3]) return 1"));
// Only who has nothing to report: a report stays.
static LEAVE: LazyLock<Script> =
    LazyLock::new(|| Script::new("if redis.call('HGET', KEYS[1], ARGV[1]) == '' then redis.call('HDEL', KEYS[1], ARGV[1]) end return 1"));
static THERE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local out = {} for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do out[#out + 1] = name out[#out + 1] = redis.call('HSTRLEN', KEYS[1], name) end return out",
    )
});

/// How long a document is kept that nobody asks for.
const KEPT: Span = Span::from_secs(90 * 86_400);

/// The board of a fleet. All its keys are in one slot of a Cluster.
#[derive(Clone, Debug)]
pub struct Board {
    handle: Handle,
    /// Of keys: it ends with the colon after the hash tag.
    prefix: String,
    /// Of turns; documents and reports may be large and have [`Self::PATIENCE`].
    deadline: Span,
}

/// A document that a member looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardPlace {
    /// Its name.
    pub name: String,
    /// The windows in which the member is there: this one, and the next when it begins soon.
    pub windows: [i64; 2],
    /// How long a window's table is kept; zero: the member is there in none.
    pub lasts: Span,
}

/// What a turn brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardNews {
    /// The member's seat: the how manieth to come it was.
    pub seat: u64,
    /// The version of each document; 0: there is none.
    pub versions: Vec<u64>,
}

/// A change of a document.
#[derive(Clone, Debug, Default)]
pub struct BoardWrite<'a> {
    /// Its name.
    pub name: &'a str,
    /// The version that it changes; 0: there is none.
    pub over: u64,
    /// The version that it becomes, below 2^53; 0: the next one.
    pub becomes: u64,
    /// What the writer shows, where it acts on behalf of the fleet.
    pub holding: Option<Holding>,
    /// The document.
    pub body: &'a [u8],
    /// The evidence and its number, where that has changed.
    pub evidence: Option<(u64, &'a [u8])>,
    /// The window that was decided about, and its rows; its table is deleted.
    pub decided: Option<(i64, &'a [u8])>,
    /// How long rows are kept.
    pub rows_last: Span,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoardSaid {
    /// It is published, under this version.
    Done(u64),
    /// The document has this version by now: nothing was done.
    Version(u64),
    /// The lease is not the writer's any more: nothing was done.
    NoLease,
}

/// A document with its version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardDocument {
    /// Its version; 0: there is none.
    pub version: u64,
    /// The text.
    pub body: Bytes,
}

impl Board {
    /// How long a large value may take.
    pub const PATIENCE: Span = Span::from_secs(2);

    /// Below `prefix`, which has a hash tag and ends with a colon.
    pub const fn new(handle: Handle, prefix: String, deadline: Span) -> Self {
        Self { handle, prefix, deadline }
    }

    fn key(&self, what: &str) -> Vec<u8> {
        format!("{}{what}", self.prefix).into_bytes()
    }

    fn document(&self, name: &str) -> Vec<u8> {
        self.key(&format!("doc:{name}"))
    }

    fn table(&self, name: &str, window: i64) -> Vec<u8> {
        self.key(&format!("there:{name}:{window}"))
    }

    fn rows_of(&self, name: &str, window: i64) -> Vec<u8> {
        self.key(&format!("rows:{name}:{window}"))
    }

    fn lease(&self, name: &str) -> Vec<u8> {
        self.key(&format!("control:{name}"))
    }

    /// An operation on the lease under which a document is changed on behalf of the fleet.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn lease_step(&self, name: &str, op: LeaseOp) -> Result<LeaseSaid, Fault> {
        LeaseKey(&self.lease(name)).run(&self.handle, op, self.deadline).await
    }

    /// Says that `member`, on `seat` (0: it wants one), is there, and hears which versions there are.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been heard.
    pub async fn turn(&self, (member, seat): (&str, u64), places: &[BoardPlace]) -> Result<BoardNews, Fault> {
        let mut keys = vec![self.key("seats")];
        let mut args = vec![member.to_owned(), seat.to_string(), millis(KEPT)];
        for place in places {
            keys.push(self.document(&place.name));
            keys.extend(place.windows.map(|window| self.table(&place.name, window)));
            args.push(if place.lasts.is_zero() { "0".to_owned() } else { millis(place.lasts) });
        }
        let answer = self.run(&TURN, (&keys, &args.iter().map(String::as_bytes).collect::<Vec<_>>()), self.deadline).await?;
        let numbers: Option<Vec<u64>> = answer.list().iter().map(Answer::count).collect();
        match numbers.as_deref() {
            Some([seat, versions @ ..]) if versions.len() == places.len() => Ok(BoardNews { seat: *seat, versions: versions.to_vec() }),
            _ => Err(Fault::Refused),
        }
    }

    /// A document.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn read(&self, name: &str) -> Result<BoardDocument, Fault> {
        let (version, body) = self.pair(&self.document(name), ["v", "b"]).await?;
        Ok(BoardDocument { version, body })
    }

    /// Its evidence, and the number of that.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn evidence(&self, name: &str) -> Result<(u64, Bytes), Fault> {
        self.pair(&self.document(name), ["n", "e"]).await
    }

    async fn pair(&self, key: &[u8], fields: [&str; 2]) -> Result<(u64, Bytes), Fault> {
        let answer = self.run(&FIELDS, (&[key.to_vec()], &fields.map(str::as_bytes)), Self::PATIENCE).await?;
        match answer.list() {
            [Answer::Nothing, _] => Ok((0, Bytes::new())),
            [number, Answer::Bytes(body)] => {
                let number = number.count().ok_or(Fault::Refused)?;
                Ok((number, body.clone()))
            }
            _ => Err(Fault::Refused),
        }
    }

    /// Changes a document.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been done: whoever reads the document again knows.
    pub async fn publish(&self, write: &BoardWrite<'_>) -> Result<BoardSaid, Fault> {
        let (window, rows) = write.decided.unwrap_or((i64::MIN, &[]));
        let keys = [self.lease(write.name), self.document(write.name), self.table(write.name, window), self.rows_of(write.name, window)];
        let (number, evidence) = write.evidence.unwrap_or((0, &[]));
        let claim = write.holding.map_or_else(String::new, |holding| format!("{:032x}", holding.claim.0));
        let token = write.holding.map_or(0, |holding| holding.token.0).to_string();
        let (over, number, kept, rows_last) = (write.over.to_string(), number.to_string(), millis(KEPT), millis(write.rows_last));
        let becomes = if write.becomes == 0 { write.over + 1 } else { write.becomes }.to_string();
        let args: [&[u8]; 10] = [
            over.as_bytes(),
            claim.as_bytes(),
            token.as_bytes(),
            write.body,
            number.as_bytes(),
            evidence,
            rows,
            kept.as_bytes(),
            rows_last.as_bytes(),
            becomes.as_bytes(),
        ];
        let answer = self.run(&PUBLISH, (&keys, &args), Self::PATIENCE).await?;
        let [what, version] = answer.list() else { return Err(Fault::Refused) };
        let version = version.count().ok_or(Fault::Refused)?;
        match what.text() {
            Some("done") => Ok(BoardSaid::Done(version)),
            Some("version") => Ok(BoardSaid::Version(version)),
            Some("lease") => Ok(BoardSaid::NoLease),
            _ => Err(Fault::Refused),
        }
    }

    /// Tells a member's report of a window; told again it replaces itself.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been told.
    pub async fn report(&self, (name, window): (&str, i64), (member, report): (&str, &[u8]), lasts: Span) -> Result<(), Fault> {
        let lasts = millis(lasts);
        let args = [member.as_bytes(), report, lasts.as_bytes()];
        self.run(&REPORT, (&[self.table(name, window)], &args), Self::PATIENCE).await.map(drop)
    }

    /// A member will not be there in a window for which it has reported nothing.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn leave(&self, (name, window): (&str, i64), member: &str) -> Result<(), Fault> {
        self.run(&LEAVE, (&[self.table(name, window)], &[member.as_bytes()]), self.deadline).await.map(drop)
    }

    /// Who was there in a window, and how long their reports are; 0: none yet.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn there(&self, name: &str, window: i64) -> Result<Vec<(String, usize)>, Fault> {
        let answer = self.run(&THERE, (&[self.table(name, window)], &[]), Self::PATIENCE).await?;
        let member = |pair: &[Answer]| match pair {
            [name, length] => Some((name.text()?.to_owned(), usize::try_from(length.int()?).ok()?)),
            _ => None,
        };
        answer.list().chunks(2).map(member).collect::<Option<Vec<_>>>().ok_or(Fault::Refused)
    }

    /// A member's report of a window; empty where there is none.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn report_of(&self, name: &str, window: i64, member: &str) -> Result<Bytes, Fault> {
        let answer = self.run(&FIELDS, (&[self.table(name, window)], &[member.as_bytes()]), Self::PATIENCE).await?;
        Ok(answer.list().first().and_then(Answer::bytes).cloned().unwrap_or_default())
    }

    /// The rows of a window that was decided about; empty where there are none, or not any more.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn rows(&self, name: &str, window: i64) -> Result<Bytes, Fault> {
        let answer = self.run(&GET, (&[self.rows_of(name, window)], &[]), Self::PATIENCE).await?;
        Ok(answer.bytes().cloned().unwrap_or_default())
    }

    async fn run(&self, script: &Script, (keys, args): (&[Vec<u8>], &[&[u8]]), deadline: Span) -> Result<Answer, Fault> {
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        self.handle.script(script, &keys, args, deadline).await
    }
}
