//! Leases in Redis: one script, which does what [`super::step`] says, on the server's time.
//!
//! The record is text under the lease's key: a letter (`h` held, or an end's), token, claim in hexadecimal, and until when, separated by spaces.
//! It outlives that time by as long again, so that a server whose clock is set back still knows the last token.

use std::sync::LazyLock;

use farthing_types::Span;

use super::book::{Ask, Ending, Holding, LeaseOp, LeaseSaid, Token};
use crate::handle::Handle;
use crate::script::{Answer, Script, millis};
use crate::stats::Fault;

const TEXT: &str = concat!(
    include_str!("record.lua"),
    r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local op, claim, lasts = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state, token, holder, untill = lease_of(KEYS[1])
local function text(number) return string.format('%.0f', number) end
local function write(letter, who)
  local kept = math.ceil(2 * lasts / 1000)
  redis.call('SET', KEYS[1], letter .. ' ' .. text(token) .. ' ' .. who .. ' ' .. text(now + lasts), 'PX', text(math.max(kept, 1)))
end
local function put(letter)
  write(letter, claim)
  return {'y', text(token), 0}
end
if op == 'ask' then
  local floor, past = tonumber(ARGV[4]), tonumber(ARGV[5])
  local current = state and untill > now
  if current and state == 'h' and holder ~= claim then
    if untill > now + lasts then
      write('h', holder)
      untill = now + lasts
    end
    return {'t', text(token), untill - now}
  end
  if current and state == 'h' then return put('h') end
  if current and state ~= 'r' and token > past then return {state, text(token), 0} end
  token = math.max(now, token + 1, floor + 1)
  return put('h')
end
if state ~= 'h' or holder ~= claim or token ~= tonumber(ARGV[4]) then return {'l', '0', 0} end
if op == 'write' then
  redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6])
  return put('d')
end
return put(op)
"
);

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TEXT));

/// The letter of a lease that is held.
const HELD: &str = "h";

const fn letter(how: Ending) -> &'static str {
    match how {
        Ending::Released => "r",
        Ending::Done => "d",
        Ending::Unkept => "u",
        Ending::Failed => "f",
    }
}

/// The key under which a lease's record stands.
#[derive(Clone, Copy, Debug)]
pub struct LeaseKey<'a>(pub &'a [u8]);

/// An operation as the script is given it.
struct Args {
    op: &'static str,
    claim: String,
    lasts: String,
    more: [Option<String>; 2],
}

impl Args {
    fn own(op: &'static str, holding: Holding, lasts: Span) -> Self {
        Self { op, claim: format!("{:032x}", holding.claim.0), lasts: micros(lasts), more: [Some(holding.token.0.to_string()), None] }
    }

    fn of(op: LeaseOp) -> Self {
        match op {
            LeaseOp::Ask(Ask { claim, lasts, floor, past }) => Self {
                op: "ask",
                claim: format!("{:032x}", claim.0),
                lasts: micros(lasts),
                more: [Some(floor.0.to_string()), Some(past.0.to_string())],
            },
            LeaseOp::Renew(holding, lasts) => Self::own(HELD, holding, lasts),
            LeaseOp::End(holding, how, told) => Self::own(letter(how), holding, told),
        }
    }

    fn list(&self) -> Vec<&[u8]> {
        let mut list = vec![self.op.as_bytes(), self.claim.as_bytes(), self.lasts.as_bytes()];
        list.extend(self.more.iter().flatten().map(String::as_bytes));
        list
    }
}

fn micros(span: Span) -> String {
    span.as_micros().to_string()
}

impl LeaseKey<'_> {
    /// Does an operation.
    ///
    /// # Errors
    /// See [`Fault`]; it may have been done where that leaves it open. An asking that is repeated with its claim gets the same token.
    pub async fn run(&self, handle: &Handle, op: LeaseOp, deadline: Span) -> Result<LeaseSaid, Fault> {
        read(&handle.script(&SCRIPT, &[self.0], &Args::of(op).list(), deadline).await?)
    }

    /// Sets a key of the same slot for a time and ends the lease as done, told for `told`, at once: or, where the lease is not the
    /// holder's any more, does nothing and says so. Within the deadline of writes.
    ///
    /// # Errors
    /// See [`Fault`].
    pub async fn write(
        &self,
        handle: &Handle,
        (holding, told): (Holding, Span),
        (key, value, lifetime): (&[u8], &[u8], Span),
    ) -> Result<LeaseSaid, Fault> {
        let args = Args::own("write", holding, told);
        let lifetime = millis(lifetime);
        let mut list = args.list();
        list.extend([value, lifetime.as_bytes()]);
        read(&handle.script(&SCRIPT, &[self.0, key], &list, handle.write_deadline()).await?)
    }
}

fn read(answer: &Answer) -> Result<LeaseSaid, Fault> {
    let [what, token, left] = answer.list() else { return Err(Fault::Refused) };
    let (what, token) = what.text().zip(token.text().and_then(|token| token.parse().ok())).ok_or(Fault::Refused)?;
    let left = left.count().unwrap_or_default();
    let ended = || Ending::ALL.iter().copied().find(|how| letter(*how) == what);
    Ok(match what {
        "y" => LeaseSaid::Yours(Token(token)),
        "t" => LeaseSaid::Taken(Token(token), Span::from_micros(left)),
        "l" => LeaseSaid::Lost,
        _ => LeaseSaid::Ended(Token(token), ended().ok_or(Fault::Refused)?),
    })
}
