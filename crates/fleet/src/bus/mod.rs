//! What instances tell each other: one stream, in one order for all, from which each reads what came since it read last.
//!
//! Messages have numbers that grow. A listener says which number it has heard and the nonce of that message; a server that knows no such message
//! has lost something, or trimmed it, and then what is answered does not follow on what was heard. A number is the server's time in
//! microseconds, or higher where one is known that is not lower: so they grow over a loss, too, and none that was lost is given again by a server whose clock is
//! not behind.
//! Every answer was true at some moment after the question was asked; nothing else is needed to know how fresh it is.

mod listen;
mod model;

use std::sync::LazyLock;

use bytes::Bytes;
use farthing_types::{Span, Time};

use crate::handle::Handle;
use crate::script::{Answer, Script};
use crate::stats::Fault;
use crate::stream::EntryId;

pub use listen::{BusHeard, BusListener, BusTurn};
pub use model::BusServer;

/// Messages of one answer at most.
const MOST: usize = 128;
/// Messages that the stream keeps. With [`LONGEST_MESSAGE`] that bounds its bytes.
const KEPT: usize = 32_768;
/// No message should be longer, bytes.
pub const LONGEST_MESSAGE: usize = 2048;

static HEAR: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hear.lua")));
static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("tell.lua")));

/// A bus. Its keys must be in one slot of a Cluster.
#[derive(Debug)]
pub struct Bus {
    handle: Handle,
    stream: Vec<u8>,
    flags: Vec<u8>,
    members: Vec<u8>,
    sources: Vec<u8>,
    deadline: Span,
}

/// The last message that was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusPosition {
    /// Its number; 0: none.
    pub number: u64,
    /// Its nonce.
    pub nonce: Bytes,
}

/// What a listener asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusAsked {
    /// The last message that it has heard.
    pub after: BusPosition,
    /// The last one that it has told itself and has not met: a server that does not know it has lost something.
    pub told: BusPosition,
}

/// Where what was told stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusTold {
    /// Its number; where it had been told by somebody else, one that is not lower than that.
    pub number: u64,
    /// The nonce of the message before it: whoever has heard another one last has missed something.
    pub after: Bytes,
    /// Whether this has told it.
    pub told: bool,
}

/// A flag that a message changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusFlag {
    /// Its name.
    pub name: String,
    /// When that was ordered: of two orders the later one holds, whichever is told last.
    pub at: Time,
    /// What it says; nothing takes it down.
    pub value: Bytes,
}

/// How far a message tells what came from a source that all instances read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusPlace {
    /// The source's name.
    pub source: String,
    /// Up to there. Whoever tells of the same part after that tells nothing.
    pub place: EntryId,
    /// It is told in any case: the source may have begun anew.
    pub anew: bool,
}

/// What is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusSaid {
    /// A nonce of its own.
    pub nonce: String,
    /// The message.
    pub body: Vec<u8>,
    /// Flags that it changes.
    pub flags: Vec<BusFlag>,
    /// What it tells of a source.
    pub of: Option<BusPlace>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusMessage {
    /// Where it stands.
    pub at: BusPosition,
    /// What it says; `None`: the stream begins here, and what was told before may be lost.
    pub body: Option<Bytes>,
}

/// A member as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusMember {
    /// Its name.
    pub name: String,
    /// When it was last heard of, before now, by the server's clock.
    pub ago: Span,
    /// What it says of itself.
    pub says: String,
}

/// What listening brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusNews {
    /// Whether the messages follow on the position without a gap; else they are the first that there are.
    pub follows: bool,
    /// Messages, oldest first.
    pub messages: Vec<BusMessage>,
    /// There may be more already.
    pub more: bool,
    /// The number of the newest message that there was.
    pub newest: u64,
    /// Where it does not follow: all flags that are up. The times of those that were taken down are not told.
    pub flags: Vec<BusFlag>,
    /// Who listened within the last hour, oneself included.
    pub members: Vec<BusMember>,
}

impl Bus {
    /// A bus under four keys: the stream, the flags that are up, who listens, what was told of other sources.
    pub fn new(handle: Handle, [stream, flags, members, sources]: [Vec<u8>; 4], deadline: Span) -> Self {
        Self { handle, stream, flags, members, sources, deadline }
    }

    /// What was told after what was `asked` for. `nonce` is a new one, for the case that the stream has to begin anew; `member` and `says` are for the others.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn hear(&self, asked: &BusAsked, nonce: &str, (member, says): (&str, &str)) -> Result<BusNews, Fault> {
        let BusAsked { after, told } = asked;
        let [number, own, most, kept] = [after.number.to_string(), told.number.to_string(), MOST.to_string(), KEPT.to_string()];
        let mut args: Vec<&[u8]> = vec![number.as_bytes(), &after.nonce, nonce.as_bytes(), most.as_bytes(), kept.as_bytes()];
        args.extend([member.as_bytes(), says.as_bytes(), own.as_bytes(), &told.nonce]);
        let answer = self.handle.script(&HEAR, &[&self.stream, &self.flags, &self.members], &args, self.deadline).await?;
        news(&answer).ok_or(Fault::Refused)
    }

    /// Tells a message, and changes flags with it; where it stands. `beginning` is a nonce for the case that the stream has to begin anew, `known` the
    /// highest number that was heard. After a fault it may have been told.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn tell(&self, said: &BusSaid, beginning: &str, known: u64) -> Result<BusTold, Fault> {
        let [known, kept] = [known.to_string(), KEPT.to_string()];
        let (source, place, anew) = match &said.of {
            Some(of) => (of.source.as_str(), of.place.padded(), if of.anew { "1" } else { "" }),
            None => ("", String::new(), ""),
        };
        let mut args: Vec<&[u8]> = vec![said.nonce.as_bytes(), &said.body, kept.as_bytes(), beginning.as_bytes(), known.as_bytes()];
        args.extend([source.as_bytes(), place.as_bytes(), anew.as_bytes()]);
        let times: Vec<String> = said.flags.iter().map(|flag| format!("{:020}", flag.at.nanos().max(0))).collect();
        args.extend(said.flags.iter().zip(&times).flat_map(|(flag, at)| [flag.name.as_bytes(), at.as_bytes(), flag.value.as_ref()]));
        let answer = self.handle.script(&TELL, &[&self.stream, &self.flags, &self.sources], &args, self.deadline).await?;
        told(&answer).ok_or(Fault::Refused)
    }
}

fn told(answer: &Answer) -> Option<BusTold> {
    let [number, after, told] = answer.list() else { return None };
    Some(BusTold { number: number.count()?, after: after.bytes()?.clone(), told: told.int()? == 1 })
}

fn news(answer: &Answer) -> Option<BusNews> {
    let [follows, entries, flags, members, newest] = answer.list() else { return None };
    let messages: Vec<BusMessage> = entries.list().iter().map(message).collect::<Option<_>>()?;
    Some(BusNews {
        follows: follows.int()? == 1,
        more: messages.len() == MOST,
        messages,
        newest: newest.count()?,
        flags: flags_of(flags.list()),
        members: members.list().iter().filter_map(member).collect(),
    })
}

fn message(entry: &Answer) -> Option<BusMessage> {
    let [id, fields] = entry.list() else { return None };
    let number = id.text()?.split('-').next()?.parse().ok()?;
    let of = |wanted: &str| field(fields.list(), wanted)?.bytes().cloned();
    Some(BusMessage { at: BusPosition { number, nonce: of("n")? }, body: of("m") })
}

fn flags_of(words: &[Answer]) -> Vec<BusFlag> {
    let flag = |(name, value): (&Answer, &Answer)| {
        let name = name.text().filter(|name| !name.starts_with('@'))?;
        // Without a time it is of an earlier release.
        let at = Time::from_nanos(field(words, &format!("@{name}")).and_then(Answer::int).unwrap_or_default());
        Some(BusFlag { name: name.to_owned(), at, value: value.bytes()?.clone() })
    };
    pairs(words).filter_map(flag).collect()
}

fn field<'a>(words: &'a [Answer], wanted: &str) -> Option<&'a Answer> {
    pairs(words).find(|(name, _)| name.text() == Some(wanted)).map(|(_, value)| value)
}

fn pairs(words: &[Answer]) -> impl Iterator<Item = (&Answer, &Answer)> {
    words.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)))
}

fn member(of: &Answer) -> Option<BusMember> {
    let [name, ago, says] = of.list() else { return None };
    let ago = Span::from_millis(u64::try_from(ago.int()?).unwrap_or_default());
    Some(BusMember { name: name.text()?.to_owned(), ago, says: says.text()?.to_owned() })
}
