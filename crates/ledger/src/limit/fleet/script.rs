//! The place of the shares in Redis: a script, which is one step of the server and does what [`super::Server`] does; how messages become its arguments, and
//! what its answers mean.

use std::sync::Arc;

use super::wire::{Known, LineTold, MemberView, Message, Reply, Told};
use super::{CLOSED, FRESH, KEPT, LEASE, MAX_MEMBERS, MAX_WANTED, PATIENCE, SETTLE, TERM};
use crate::limit::bucket::WHOLE;
use crate::place::{flag, millis};

/// Takes a message; the hash of the shares is its only key.
pub const EXCHANGE: &str = concat!(include_str!("../../place.lua"), include_str!("exchange.lua"));

/// The arguments of a message.
pub fn arguments(message: &Message) -> Vec<String> {
    let Message { id, life, start, seq, generation, epoch, report, fresh, closing, alone, most, parts, known, sweep, lines } = message;
    let mut args: Vec<String> = [LEASE, SETTLE, TERM, CLOSED, KEPT, FRESH, PATIENCE].iter().map(|span| millis(*span).to_string()).collect();
    args.extend([MAX_MEMBERS, MAX_WANTED].map(|most| most.to_string()));
    args.extend([WHOLE.to_string(), id.to_string(), life.to_string(), start.to_string(), seq.to_string()]);
    args.extend([
        generation.to_string(),
        epoch.to_string(),
        flag(*report),
        flag(*fresh),
        flag(*closing),
        alone.to_string(),
        most.to_string(),
    ]);
    args.extend(parts.map(|part| part.to_string()));
    args.push(sweep.map(|at| at.to_string()).unwrap_or_default());
    args.push(known.len().to_string());
    for Known { id, parts, left } in known {
        args.extend([id.to_string(), parts[0].to_string(), parts[1].to_string(), left.to_string()]);
    }
    args.push(lines.len().to_string());
    for line in lines {
        args.push(format!("{:032x}", line.mark));
        args.extend([line.claim, line.until, line.want].map(|number| number.to_string()));
    }
    args
}

/// What an answer's strings mean; `None` where the script says no such thing.
pub fn reply(answer: &[&str]) -> Option<Reply> {
    match answer {
        ["lost", generation, epoch] => Some(Reply::Lost((*generation).into(), epoch.parse().ok()?)),
        ["stale"] => Some(Reply::Stale),
        ["twin"] => Some(Reply::Twin),
        ["full"] => Some(Reply::Full),
        ["fine", generation, epoch, now, fresh, whole, ready, rates, slots, most_rates, most_slots, swept, members, lines, wanted] => {
            let number = |word: &str| word.parse::<i64>().ok();
            Some(Reply::Fine(Told {
                generation: (*generation).into(),
                epoch: number(epoch)?,
                now: number(now)?,
                fresh: *fresh == "1",
                whole: *whole == "1",
                ready: *ready == "1",
                parts: [number(rates)?, number(slots)?],
                targets: [number(most_rates)?, number(most_slots)?],
                swept: number(swept)?,
                members: members.lines().map(member).collect::<Option<_>>()?,
                lines: lines.lines().map(line).collect::<Option<_>>()?,
                wanted: wanted.split_whitespace().map(|mark| u128::from_str_radix(mark, 16).ok()).collect::<Option<_>>()?,
            }))
        }
        _ => None,
    }
}

fn member(text: &str) -> Option<MemberView> {
    let [id, rates, slots, left, live, here] = words(text)?;
    let known = Known { id: Arc::from(id), parts: [rates.parse().ok()?, slots.parse().ok()?], left: left.parse().ok()? };
    Some(MemberView { known, live: live == "1", here: here == "1" })
}

fn line(text: &str) -> Option<LineTold> {
    let [rate, left, fair] = words(text)?;
    Some(LineTold { rate: rate.parse().ok()?, left: left.parse().ok()?, fair: fair.parse().ok()? })
}

fn words<const N: usize>(text: &str) -> Option<[&str; N]> {
    text.split(' ').collect::<Vec<_>>().try_into().ok()
}
