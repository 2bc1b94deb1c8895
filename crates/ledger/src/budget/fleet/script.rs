//! The place of the counters in Redis: scripts, each one step of the server, that do what [`super::Server`] does; how messages become their arguments,
//! and answers what they mean.

use std::sync::Arc;

use super::wire::{Exchange, Holder, Known, LineTold, MemberView, Reply, Report, Strike, Told};
use super::{Asked, FOREVER, HUNGRY, KEEP, LEASE, MAX_MEMBERS, NEXT, PATIENCE, PER_START, SETTLE, SWEPT_AFTER};
use crate::place::{flag, millis};

/// Takes a report; the hash with the counters is its only key.
pub const REPORT: &str = concat!(include_str!("../../place.lua"), include_str!("common.lua"), include_str!("report.lua"));
/// Takes an exchange.
pub const EXCHANGE: &str = concat!(include_str!("../../place.lua"), include_str!("common.lua"), include_str!("exchange.lua"));

/// Waits no longer for a member.
pub const STRIKE: &str = concat!(include_str!("../../place.lua"), include_str!("common.lua"), include_str!("strike.lua"));

/// The arguments of a message; [`REPORT`] or [`EXCHANGE`] takes them.
pub fn arguments(asked: &Asked) -> Vec<String> {
    let mut args = terms();
    match asked {
        Asked::Report(report) => of_report(report, &mut args),
        Asked::Exchange(exchange) => of_exchange(exchange, &mut args),
    }
    args
}

/// The arguments of [`STRIKE`].
pub fn of_strike(Strike { generation, id }: &Strike) -> Vec<String> {
    let mut args = terms();
    args.extend([generation.to_string(), id.to_string()]);
    args
}

fn terms() -> Vec<String> {
    let terms = [LEASE, PATIENCE, SETTLE[0], SETTLE[1], NEXT, KEEP].map(millis);
    let mut args: Vec<String> = terms.iter().map(ToString::to_string).collect();
    args.extend(
        [i64::try_from(MAX_MEMBERS).unwrap_or(i64::MAX), millis(HUNGRY), FOREVER, SWEPT_AFTER, PER_START].map(|number| number.to_string()),
    );
    args
}

fn of_report(report: &Report, args: &mut Vec<String>) {
    let Report { id, name, life, seq, candidate, generation, heard, sure, known, lines, last } = report;
    let generation = generation.as_deref().unwrap_or_default();
    let [name, id] = [name, id].map(ToString::to_string);
    args.extend([id, name, life.to_string(), seq.to_string(), candidate.to_string(), generation.to_owned()]);
    args.extend([heard.0.to_string(), heard.1.to_string(), flag(*sure), flag(*last)]);
    args.push(known.len().to_string());
    for Known { id, name, until } in known {
        args.extend([id.to_string(), name.to_string(), until.to_string()]);
    }
    args.push(lines.len().to_string());
    for line in lines {
        args.push(line.field.to_string());
        args.extend([line.end, line.claim, line.used, line.seen].map(|number| number.to_string()));
    }
}

fn of_exchange(exchange: &Exchange, args: &mut Vec<String>) {
    let Exchange { id, life, seq, generation, ack, closing, sweep, lines } = exchange;
    let sweep = sweep.map(|at| at.to_string()).unwrap_or_default();
    args.extend([
        id.to_string(),
        life.to_string(),
        seq.to_string(),
        generation.to_string(),
        ack.to_string(),
        flag(*closing),
        sweep,
        lines.len().to_string(),
    ]);
    for line in lines {
        args.push(line.field.to_string());
        let numbers = [line.start, line.end, line.limit, line.claim, line.need, line.want, line.must, line.used];
        args.extend(numbers.map(|number| number.to_string()));
    }
}

/// What an answer's strings mean; `None` where a script of ours says no such thing.
pub fn reply(answer: &[&str]) -> Option<Reply> {
    match answer {
        ["lost"] => Some(Reply::Lost),
        ["stale"] => Some(Reply::Stale),
        ["twin"] => Some(Reply::Twin),
        ["full"] => Some(Reply::Full),
        ["fine", generation, epoch, now, version, whole, joined, swept, members, lines @ ..] => Some(Reply::Fine(Told {
            generation: (*generation).into(),
            epoch: epoch.parse().ok()?,
            now: now.parse().ok()?,
            version: version.parse().ok()?,
            whole: *whole == "1",
            joined: *joined == "1",
            swept: swept.parse().ok()?,
            members: members.lines().map(member).collect::<Option<_>>()?,
            lines: lines.iter().map(|line| told(line)).collect::<Option<_>>()?,
        })),
        _ => None,
    }
}

fn member(line: &str) -> Option<MemberView> {
    let mut words = line.split(' ');
    let (id, name) = (words.next()?.into(), words.next()?.into());
    let (until, expires) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(MemberView { known: Known { id, name, until }, expires, here: words.next()? == "1" })
}

fn told(line: &str) -> Option<LineTold> {
    let mut words = line.split(' ');
    let (withheld, hungry) = (words.next()? == "1", words.next()?.parse().ok()?);
    let _seen = words.next()?;
    let holder = |word: &str| {
        let (rest, used) = word.rsplit_once(':')?;
        let (id, allowance) = rest.rsplit_once(':')?;
        Some(Holder { id: Arc::from(id), allowance: allowance.parse().ok()?, used: used.parse().ok()? })
    };
    Some(LineTold { withheld, hungry, holders: words.map(holder).collect::<Option<_>>()? })
}
