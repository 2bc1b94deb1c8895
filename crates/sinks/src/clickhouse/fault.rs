//! What an answer of ClickHouse means to us.

use std::error::Error as StdError;

use http::StatusCode;

use crate::fault::{found, shortened, with_sources};
use crate::{Fault, FaultReason};

/// Of `throwIf`, which our own column `on_time` calls.
const TOO_LATE: u32 = 395;

/// A request that got no answer.
pub fn failed(error: &(dyn StdError + 'static)) -> Fault {
    let reason = if found::<rustls::Error>(error).is_some() { FaultReason::Refused } else { FaultReason::Unreachable };
    Fault::new(reason, with_sources(error))
}

/// An answer that says what went wrong: `Code: 60, e.displayText() = DB::Exception: ...`, or `Code: 60. DB::Exception: ...`.
pub fn answered(status: StatusCode, text: &str) -> Fault {
    let Some(code) = code_of(text) else { return Fault::new(without_code(status), format!("{status}: {}", shortened(text.trim()))) };
    let reason = reason(code);
    let said = text.split_once("DB::Exception: ").map_or(text, |(_, said)| said);
    let said = said.split(", e.what()").next().unwrap_or(said);
    match reason {
        // Those about data may show what stands in a row.
        FaultReason::Rejected => Fault::new(reason, format!("the server does not take the rows (code {code})")),
        _ if code == TOO_LATE => {
            Fault::new(reason, "the server has taken the rows up too late: it is busy, or the clocks of its replicas do not agree")
        }
        _ => Fault::new(reason, format!("{} (code {code})", shortened(said.trim()))),
    }
}

fn code_of(text: &str) -> Option<u32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Of what stands before the server: a balancer, a proxy.
fn without_code(status: StatusCode) -> FaultReason {
    match status.as_u16() {
        429 | 500.. => FaultReason::Unavailable,
        408 => FaultReason::Timeout,
        _ => FaultReason::Refused,
    }
}

/// The numbers are ClickHouse's own, of its `ErrorCodes.cpp`.
fn reason(code: u32) -> FaultReason {
    match code {
        // Execution, sockets.
        159 | 160 | 209 | TOO_LATE => FaultReason::Timeout,
        // What cannot be read or converted, and nulls where none may be.
        6 | 26 | 27 | 32 | 33 | 38 | 41 | 53 | 69 | 70 | 72 | 117 | 131 | 349 => FaultReason::Rejected,
        // Files and disks, the same query under way, quotas, too many queries or connections, network, ending, no memory, room or parts to spare, read-only or restarting
        // tables, keepers and replicas, cancelled, locks, threads, and what has no name.
        74..=76
        | 201..=203
        | 210
        | 216
        | 225
        | 236
        | 241..=243
        | 252
        | 285
        | 305
        | 319
        | 394
        | 425
        | 439
        | 473
        | 517
        | 733
        | 745
        | 999..=1002 => FaultReason::Unavailable,
        _ => FaultReason::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_told_apart() {
        let said = |status: u16, text: &str| answered(StatusCode::from_u16(status).unwrap(), text);
        let old = said(404, "Code: 60, e.displayText() = DB::Exception: Table d.calls doesn't exist., e.what() = DB::Exception\n");
        assert_eq!(old, Fault::new(FaultReason::Refused, "Table d.calls doesn't exist. (code 60)"));
        let new = said(500, "Code: 252. DB::Exception: Too many parts (300). (TOO_MANY_PARTS) (version 26.9)");
        assert_eq!(new.reason, FaultReason::Unavailable);
        assert!(new.detail.starts_with("Too many parts (300)"), "{new}");
        let row = said(400, "Code: 27. DB::Exception: Cannot parse input: hunter2");
        assert_eq!(row, Fault::new(FaultReason::Rejected, "the server does not take the rows (code 27)"));
        assert_eq!(said(403, "Code: 516. DB::Exception: farthing: Authentication failed").reason, FaultReason::Refused);
        assert_eq!(said(500, "Code: 395. DB::Exception: Value passed to 'throwIf'").reason, FaultReason::Timeout);
        assert_eq!(said(502, "<html>bad gateway").reason, FaultReason::Unavailable);
        assert_eq!(said(407, "").reason, FaultReason::Refused);
    }
}
