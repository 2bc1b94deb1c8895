//! Lua scripts: several steps that the server takes as one.
//!
//! Time in a script is the server's: `redis.call('TIME')` gives seconds and microseconds, and is the same for all who ask one server.

use std::fmt::Write;

use bytes::Bytes;
use farthing_types::Span;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::slot::slot;
use crate::stats::Fault;

/// A script; servers keep it by its digest, so that its text travels once.
#[derive(Clone, Debug)]
pub struct Script {
    text: &'static str,
    digest: String,
}

impl Script {
    /// A script of this text. All keys that it touches are among those it is called with.
    pub fn new(text: &'static str) -> Self {
        // What Redis names scripts by; nothing is kept secret by it.
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _never_fails = write!(hex, "{byte:02x}");
            hex
        });
        Self { text, digest }
    }

    /// The call by digest, or with the whole text.
    pub(crate) fn call(&self, whole: bool, keys: &[&[u8]], args: &[&[u8]]) -> Cmd {
        let mut command = if whole { cmd("EVAL") } else { cmd("EVALSHA") };
        command.arg(if whole { self.text } else { &self.digest }).arg(keys.len()).arg(keys).arg(args);
        command
    }
}

/// What a script answers. Lua's false and nil are [`Answer::Nothing`], true is 1, numbers lose their fraction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nothing,
    /// A number.
    Int(i64),
    /// A string.
    Bytes(Bytes),
    /// A table, up to its first nil.
    List(Vec<Answer>),
}

impl Answer {
    /// The number, also where it is written as text.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            Self::Nothing | Self::List(_) => None,
        }
    }

    /// The number, where it is not negative.
    pub fn count(&self) -> Option<u64> {
        u64::try_from(self.int()?).ok()
    }

    /// The string's bytes.
    pub const fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Nothing | Self::Int(_) | Self::List(_) => None,
        }
    }

    /// The string, where it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// The table's values; none where it is no table.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(list) => list,
            Self::Nothing | Self::Int(_) | Self::Bytes(_) => &[],
        }
    }

    /// The table's values, where all are UTF-8 strings; none where it is no table.
    pub fn texts(&self) -> Option<Vec<&str>> {
        self.list().iter().map(Self::text).collect()
    }
}

/// A time as a script is given it.
pub(crate) fn millis(span: Span) -> String {
    span.as_millis().clamp(1, i64::MAX as u128 / 4).to_string()
}

/// The first of the keys, by which the server is found; all have to be in its slot, also where there is no Cluster: a script that works here works there.
pub(crate) fn place<'a>(keys: &[&'a [u8]]) -> Result<&'a [u8], Fault> {
    let (first, others) = keys.split_first().ok_or(Fault::Crossing)?;
    if others.iter().all(|key| slot(key) == slot(first)) { Ok(first) } else { Err(Fault::Crossing) }
}

/// The answer; `None` where the server does not have the script.
pub(crate) fn known(answer: Result<Value, RedisError>) -> Result<Option<Value>, RedisError> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Reads what came; what no script answers in this protocol is refused.
pub(crate) fn read(value: Value) -> Result<Answer, Fault> {
    Ok(match value {
        Value::Nil => Answer::Nothing,
        Value::Int(number) => Answer::Int(number),
        Value::BulkString(bytes) => Answer::Bytes(Bytes::from(bytes)),
        Value::SimpleString(text) => Answer::Bytes(Bytes::from(text)),
        Value::Okay => Answer::Bytes(Bytes::from_static(b"OK")),
        Value::Array(values) => Answer::List(values.into_iter().map(read).collect::<Result<_, _>>()?),
        _ => return Err(Fault::Refused),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_go_by_the_digest_that_servers_give_them() {
        assert_eq!(Script::new("return 1").digest, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
    }

    #[test]
    fn keys_share_a_slot_or_nothing_is_sent() {
        assert_eq!(place(&[b"{a}x", b"{a}y"]), Ok(b"{a}x".as_slice()));
        assert_eq!(place(&[b"{a}x", b"{b}x"]), Err(Fault::Crossing));
        assert_eq!(place(&[]), Err(Fault::Crossing));
    }

    #[test]
    fn answers_are_read_whole() {
        let value = Value::Array(vec![Value::Int(1), Value::BulkString(b"17".to_vec()), Value::Okay, Value::Nil]);
        let answer = read(value).unwrap();
        let ints: Vec<Option<i64>> = answer.list().iter().map(Answer::int).collect();
        assert_eq!(ints, [Some(1), Some(17), None, None]);
        assert_eq!(answer.list()[2].text(), Some("OK"));
        assert_eq!(read(Value::Boolean(true)), Err(Fault::Refused));
    }
}
