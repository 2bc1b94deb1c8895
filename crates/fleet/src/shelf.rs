//! One document that a fleet keeps in numbered versions, of which the last ones stay, and what its members say of it.
//!
//! A version is put over the one that its writer knew, or not at all. Beside its number each has a *mark*, which tells what is newer also where numbers were given twice,
//! because Redis had lost its data. Nothing expires.

use std::sync::LazyLock;

use bytes::Bytes;
use farthing_types::Span;

use crate::handle::Handle;
use crate::script::{Answer, Script};
use crate::stats::Fault;

static TURN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shelf/turn.lua")));
static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("shelf/put.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('HGET', KEYS[1], 'b:' .. ARGV[1])"));
static ALL: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('HGETALL', KEYS[1])"));

/// A shelf. Its two keys are in one slot of a Cluster.
#[derive(Clone, Debug)]
pub struct Shelf {
    handle: Handle,
    document: Vec<u8>,
    members: Vec<u8>,
    deadline: Span,
}

/// The version that stands in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShelfFront {
    /// Its number; 0: there is none.
    pub version: u64,
    /// Its mark.
    pub mark: String,
}

/// A member as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfMember {
    /// Its name.
    pub name: String,
    /// When it was last heard of, before now, by the server's clock.
    pub ago: Span,
    /// What it says.
    pub says: String,
}

/// A version to be put in front.
#[derive(Clone, Copy, Debug)]
pub struct ShelfPut<'a> {
    /// The number of the one in front as the writer knows it; 0: there is none.
    pub over: u64,
    /// Its own number, below 2^53 and greater than that.
    pub becomes: u64,
    /// Its mark.
    pub mark: &'a str,
    /// The document.
    pub body: &'a [u8],
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShelfSaid {
    /// It stands in front.
    Done,
    /// Another one does, of this number: nothing was done.
    Version(u64),
}

impl Shelf {
    /// So many versions stay.
    pub const KEPT: usize = 32;
    /// How long a large value may take.
    pub const PATIENCE: Span = Span::from_secs(2);

    /// Of two keys: the document, and who says what of it.
    pub fn new(handle: Handle, [document, members]: [Vec<u8>; 2], deadline: Span) -> Self {
        Self { handle, document, members, deadline }
    }

    /// Says what a member has to say, and hears which version stands in front; and, where they are asked for, what the members of the last hour say.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been heard.
    pub async fn turn(&self, (member, says): (&str, &str), all: bool) -> Result<(ShelfFront, Vec<ShelfMember>), Fault> {
        let args: [&[u8]; 3] = [member.as_bytes(), says.as_bytes(), if all { b"1" } else { b"" }];
        let answer = self.handle.script(&TURN, &[&self.document, &self.members], &args, self.deadline).await?;
        turned(&answer).ok_or(Fault::Refused)
    }

    /// A version; `None`: it is not there, or not any more.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn read(&self, version: u64) -> Result<Option<Bytes>, Fault> {
        let answer = self.handle.script(&READ, &[&self.document], &[version.to_string().as_bytes()], Self::PATIENCE).await?;
        Ok(answer.bytes().cloned())
    }

    /// All versions that are still there, the latest first.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn versions(&self) -> Result<Vec<(u64, Bytes)>, Fault> {
        let answer = self.handle.script(&ALL, &[&self.document], &[], Self::PATIENCE).await?;
        let one = |pair: &[Answer]| Some((pair.first()?.text()?.strip_prefix("b:")?.parse().ok()?, pair.get(1)?.bytes()?.clone()));
        let mut out: Vec<(u64, Bytes)> = answer.list().chunks_exact(2).filter_map(one).collect();
        out.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        Ok(out)
    }

    /// Puts a version in front.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been done: the mark tells.
    pub async fn put(&self, put: &ShelfPut<'_>) -> Result<ShelfSaid, Fault> {
        let [over, becomes, kept] = [put.over, put.becomes, Self::KEPT as u64].map(|number| number.to_string());
        let args: [&[u8]; 5] = [over.as_bytes(), becomes.as_bytes(), put.mark.as_bytes(), put.body, kept.as_bytes()];
        let answer = self.handle.script(&PUT, &[&self.document], &args, Self::PATIENCE).await?;
        match answer.list() {
            [done, _] if done.text() == Some("done") => Ok(ShelfSaid::Done),
            [_, version] => version.count().map(ShelfSaid::Version).ok_or(Fault::Refused),
            _ => Err(Fault::Refused),
        }
    }
}

fn turned(answer: &Answer) -> Option<(ShelfFront, Vec<ShelfMember>)> {
    let [version, mark, members] = answer.list() else { return None };
    let member = |triple: &[Answer]| {
        let [name, ago, says] = triple else { return None };
        let ago = Span::from_millis(u64::try_from(ago.int()?).unwrap_or_default());
        Some(ShelfMember { name: name.text()?.to_owned(), ago, says: says.text()?.to_owned() })
    };
    let front = ShelfFront { version: version.count()?, mark: mark.text()?.to_owned() };
    Some((front, members.list().chunks_exact(3).filter_map(member).collect()))
}
