//! What instances tell each other: one stream, in one order for all, from which each reads what came since it read last.
//!
//! Messages have numbers without gaps. A listener says which number it has heard and the nonce of that message; a server that knows no such message
//! has lost something, or trimmed it, and then what is answered does not follow on what was heard. Numbers go on from the server's
//! time in microseconds where a stream begins, and above all that the one who notices the loss has heard: so they grow over a loss, too.
//! Every answer was true at some moment after the question was asked; nothing else is needed to know how fresh it is.

use std::sync::LazyLock;

use bytes::Bytes;
use farthing_types::Span;

use crate::handle::Handle;
use crate::script::{Answer, Script};
use crate::stats::Fault;

/// Messages of one answer at most.
const MOST: &str = "128";
/// Messages that the stream keeps. With [`LONGEST_MESSAGE`] that bounds its bytes.
const KEPT: &str = "32768";
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

/// Where what was told stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusTold {
    /// Its number.
    pub number: u64,
    /// The nonce of the message with the number before it: whoever has heard another one there has missed something.
    pub after: Bytes,
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
    /// Where it does not follow: all flags that are up.
    pub flags: Vec<(String, Bytes)>,
    /// Who listened within the last hour, oneself included.
    pub members: Vec<BusMember>,
}

impl Bus {
    /// A bus under three keys: the stream, the flags that are up, who listens.
    pub fn new(handle: Handle, [stream, flags, members]: [Vec<u8>; 3], deadline: Span) -> Self {
        Self { handle, stream, flags, members, deadline }
    }

    /// What was told since `position`. `nonce` is a new one, for the case that the stream has to begin anew; `member` and `says` are for the others.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn hear(&self, position: &BusPosition, nonce: &str, (member, says): (&str, &str)) -> Result<BusNews, Fault> {
        let number = position.number.to_string();
        let args: [&[u8]; 7] =
            [number.as_bytes(), &position.nonce, nonce.as_bytes(), MOST.as_bytes(), KEPT.as_bytes(), member.as_bytes(), says.as_bytes()];
        let answer = self.handle.script(&HEAR, &[&self.stream, &self.flags, &self.members], &args, self.deadline).await?;
        news(&answer).ok_or(Fault::Refused)
    }

    /// Tells a message, and changes flags with it; where it stands. `known`: the highest number that was heard. After a fault it may have been told.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn tell(
        &self,
        (nonce, body): (&str, &[u8]),
        flags: &[(String, Bytes)],
        beginning: &str,
        known: u64,
    ) -> Result<BusTold, Fault> {
        let known = known.to_string();
        let mut args: Vec<&[u8]> = vec![nonce.as_bytes(), body, KEPT.as_bytes(), beginning.as_bytes(), known.as_bytes()];
        args.extend(flags.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_ref()]));
        let answer = self.handle.script(&TELL, &[&self.stream, &self.flags], &args, self.deadline).await?;
        told(&answer).ok_or(Fault::Refused)
    }
}

fn told(answer: &Answer) -> Option<BusTold> {
    let [number, after] = answer.list() else { return None };
    Some(BusTold { number: u64::try_from(number.int()?).ok()?, after: after.bytes()?.clone() })
}

fn news(answer: &Answer) -> Option<BusNews> {
    let [follows, entries, flags, members, newest] = answer.list() else { return None };
    let messages: Vec<BusMessage> = entries.list().iter().map(message).collect::<Option<_>>()?;
    Some(BusNews {
        follows: follows.int()? == 1,
        more: messages.len().to_string() == MOST,
        messages,
        newest: u64::try_from(newest.int()?).ok()?,
        flags: pairs(flags.list()).filter_map(|(name, value)| Some((name.text()?.to_owned(), value.bytes()?.clone()))).collect(),
        members: members.list().iter().filter_map(member).collect(),
    })
}

fn message(entry: &Answer) -> Option<BusMessage> {
    let [id, fields] = entry.list() else { return None };
    let number = id.text()?.split('-').next()?.parse().ok()?;
    let of =
        |wanted: &str| pairs(fields.list()).find(|(name, _)| name.text() == Some(wanted)).and_then(|(_, value)| value.bytes().cloned());
    Some(BusMessage { at: BusPosition { number, nonce: of("n")? }, body: of("m") })
}

fn pairs(words: &[Answer]) -> impl Iterator<Item = (&Answer, &Answer)> {
    words.chunks_exact(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)))
}

fn member(of: &Answer) -> Option<BusMember> {
    let [name, ago, says] = of.list() else { return None };
    let ago = Span::from_millis(u64::try_from(ago.int()?).unwrap_or_default());
    Some(BusMember { name: name.text()?.to_owned(), ago, says: says.text()?.to_owned() })
}
