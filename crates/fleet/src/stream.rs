//! Reading a stream from where one was, and knowing when something was missed.
//!
//! A reader has a connection of its own, because its reads wait. Where it stands is the id of the last entry it was given, and how many entries had
//! ever been added by then: so it notices when entries beyond that were trimmed or deleted, or when the stream was begun anew.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use farthing_types::Span;
use redis::{Cmd, Value, cmd};

use crate::config::{ConfigError, RedisConfig};
use crate::handle::send;
use crate::link::{Connector, Link};
use crate::stats::Fault;

/// Entries of one read at most.
const MOST_ENTRIES: usize = 128;
/// How long a question that does not wait may take.
const DEADLINE: Span = Span::from_secs(1);

/// The id of an entry: milliseconds and a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(pub u64, pub u64);

impl EntryId {
    /// As a text that compares as it does.
    pub(crate) fn padded(self) -> String {
        format!("{:020}-{:020}", self.0, self.1)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for EntryId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (millis, number) = text.split_once('-').ok_or(())?;
        Ok(Self(millis.parse().map_err(drop)?, number.parse().map_err(drop)?))
    }
}

/// Where a reader stands; its text can be kept and read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    last: EntryId,
    /// Entries added by then; servers before version 7 do not tell.
    added: Option<u64>,
}

impl Position {
    /// The id of the last entry.
    pub const fn last(&self) -> EntryId {
        self.last
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.added {
            Some(added) => write!(f, "{} {added}", self.last),
            None => write!(f, "{}", self.last),
        }
    }
}

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a stream")]
pub struct PositionError;

impl FromStr for Position {
    type Err = PositionError;
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut words = text.split_whitespace();
        let last = words.next().and_then(|word| word.parse().ok()).ok_or(PositionError)?;
        let added = words.next().map(|word| word.parse().map_err(|_| PositionError)).transpose()?;
        if words.next().is_some() { Err(PositionError) } else { Ok(Self { last, added }) }
    }
}

/// An entry: its fields in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Its id.
    pub id: EntryId,
    /// Name and value.
    pub fields: Vec<(Bytes, Bytes)>,
}

/// What a read brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamNews {
    /// Entries, oldest first; none when none came in time.
    pub entries: Vec<StreamEntry>,
    /// Entries before this are not known, or are gone: where the reader began without a position, or something was trimmed.
    pub missed: bool,
    /// The reader has only begun, without a position: what it missed is nothing that it was to know.
    pub begun: bool,
    /// The stream ends before what was read of it: it is another one.
    pub anew: bool,
    /// More are there already.
    pub more: bool,
    /// Where the reader stands now.
    pub position: Position,
}

/// Reads one stream.
pub struct StreamReader {
    connector: Connector,
    connecting: Span,
    link: Option<Link>,
    name: String,
    position: Option<Position>,
    /// The connection is new: a server that does not count may have lost anything.
    anew: bool,
    waiting: Span,
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader").field("name", &self.name).field("position", &self.position).finish_non_exhaustive()
    }
}

/// What a server says about a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Info {
    last: EntryId,
    added: Option<u64>,
    length: u64,
}

impl StreamReader {
    /// A reader of the stream `name`, from `position` or from the end as it will be found. A read waits for `waiting` at most.
    ///
    /// # Errors
    /// The configuration says nothing that could ever be reached.
    pub fn new(config: &RedisConfig, name: &str, position: Option<Position>, waiting: Span) -> Result<Self, ConfigError> {
        // What bounds operations on the connection must be longer than a read that waits.
        let connecting = config.connect_timeout.max(waiting + DEADLINE);
        let connector = Connector::new(&RedisConfig { connect_timeout: connecting, ..config.clone() })?;
        Ok(Self { connector, connecting, link: None, name: name.to_owned(), position, anew: true, waiting })
    }

    /// Waits for entries, and connects first where that is needed. After a fault the next call connects anew.
    ///
    /// # Errors
    /// See [`Fault`]; nothing that was added meanwhile is lost by that.
    pub async fn next(&mut self) -> Result<StreamNews, Fault> {
        let news = self.read().await;
        if news.is_err() {
            (self.link, self.anew) = (None, true);
        }
        news
    }

    async fn read(&mut self) -> Result<StreamNews, Fault> {
        let link = match &self.link {
            Some(link) => link.clone(),
            None => {
                let connected = tokio::time::timeout(self.connecting, self.connector.connect()).await.map_err(|_| Fault::Late)?;
                self.link.insert(connected.map_err(|_| Fault::Unavailable)?).clone()
            }
        };
        let info = self.info(link.clone()).await?;
        let anew = std::mem::take(&mut self.anew);
        let position = match self.position.filter(|position| !lost(position, &info, anew)) {
            Some(position) => position,
            None => {
                let position = Position { last: info.last, added: info.added };
                let before = self.position.replace(position);
                let (begun, anew) = (before.is_none(), before.is_some_and(|before| position.last < before.last));
                return Ok(StreamNews { entries: Vec::new(), missed: true, begun, anew, more: false, position });
            }
        };
        let (entries, last) = self.wait(link, position.last).await?;
        let position = Position { last, added: position.added.map(|added| added + entries.len() as u64) };
        self.position = Some(position);
        Ok(StreamNews { more: entries.len() == MOST_ENTRIES, entries, missed: false, begun: false, anew: false, position })
    }

    async fn info(&self, link: Link) -> Result<Info, Fault> {
        let mut command = cmd("XINFO");
        command.arg("STREAM").arg(&self.name);
        match send(link.clone(), &command, DEADLINE).await {
            Ok(value) => info(&value).ok_or(Fault::Refused),
            Err(Fault::Refused) => self.absent(link).await,
            Err(fault) => Err(fault),
        }
    }

    /// A stream that does not exist yet is an empty one; anything else that is refused is a fault.
    async fn absent(&self, link: Link) -> Result<Info, Fault> {
        let mut command = cmd("EXISTS");
        command.arg(&self.name);
        match send(link, &command, DEADLINE).await? {
            Value::Int(0) => Ok(Info { added: Some(0), ..Info::default() }),
            _ => Err(Fault::Refused),
        }
    }

    async fn wait(&self, link: Link, after: EntryId) -> Result<(Vec<StreamEntry>, EntryId), Fault> {
        let mut command: Cmd = cmd("XREAD");
        command.arg("COUNT").arg(MOST_ENTRIES).arg("BLOCK").arg(u64::try_from(self.waiting.as_millis()).unwrap_or(u64::MAX).max(1));
        command.arg("STREAMS").arg(&self.name).arg(after.to_string());
        match send(link, &command, self.waiting + DEADLINE).await? {
            Value::Nil => Ok((Vec::new(), after)),
            value => entries(value, after).ok_or(Fault::Refused),
        }
    }
}

/// Whether entries after a position are gone, or may be.
fn lost(position: &Position, info: &Info, anew: bool) -> bool {
    if info.last < position.last {
        return true;
    }
    match (position.added, info.added) {
        (Some(known), Some(added)) => {
            let gone = added.saturating_sub(info.length);
            added < known || gone > known || (info.last == position.last && added != known)
        }
        _ => anew,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn info(value: &Value) -> Option<Info> {
    let Value::Array(words) = value else { return None };
    let of = |name: &str| words.chunks_exact(2).find_map(|pair| pair.first().filter(|key| text(key) == Some(name)).and(pair.get(1)));
    let number = |name: &str| match of(name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    };
    Some(Info { last: text(of("last-generated-id")?)?.parse().ok()?, added: number("entries-added"), length: number("length")? })
}

/// The entries of a read of one stream, and the id of the last.
fn entries(value: Value, after: EntryId) -> Option<(Vec<StreamEntry>, EntryId)> {
    let array = |value: Value| if let Value::Array(values) = value { Some(values) } else { None };
    let stream = array(array(value)?.into_iter().next()?)?;
    let (mut out, mut last) = (Vec::new(), after);
    for entry in array(stream.into_iter().nth(1)?)? {
        let mut parts = array(entry)?.into_iter();
        last = text(&parts.next()?)?.parse().ok()?;
        // An entry that was deleted since has no fields.
        let words = parts.next().and_then(array).unwrap_or_default();
        let mut words =
            words.into_iter().filter_map(|word| if let Value::BulkString(bytes) = word { Some(Bytes::from(bytes)) } else { None });
        let mut fields = Vec::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            fields.push((name, value));
        }
        out.push(StreamEntry { id: last, fields });
    }
    Some((out, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back() {
        for text in ["5-1 17", "1700000000000-0", "0-0 0"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for text in ["", "5", "5-", "5-1 x", "5-1 2 3", "-1-1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_gone_is_noticed() {
        let at = |last, added| Position { last: EntryId(last, 0), added };
        let info = |last, added, length| Info { last: EntryId(last, 0), added: Some(added), length };
        assert!(!lost(&at(5, Some(5)), &info(5, 5, 0), true), "all read, then trimmed away");
        assert!(!lost(&at(5, Some(5)), &info(9, 9, 4), true), "four to come");
        assert!(lost(&at(5, Some(5)), &info(9, 9, 3), false), "one of them is gone");
        assert!(lost(&at(5, Some(5)), &info(5, 6, 5), false), "one came and was deleted");
        assert!(lost(&at(5, Some(5)), &info(3, 3, 3), false), "begun anew");
        assert!(lost(&at(5, Some(5)), &info(9, 2, 2), false), "begun anew");
        let untold = Info { added: None, ..info(9, 0, 4) };
        assert!(lost(&at(5, None), &untold, true) && !lost(&at(5, None), &untold, false));
    }
}
