//! Budgets that several instances share: one counter in one place, of which each instance holds an *allowance*.
//!
//! An allowance is what an instance may spend of a counter in a window *in all*; the sum of all allowances never grows beyond the limit by a grant.
//! Each instance spends within its own without asking anybody. It asks for more before it runs out, and gives back what it does not need by telling
//! a lower *claim*. Nobody else lowers an allowance: what an instance holds that is paused, cut off or dead stays counted until the instance itself
//! has told, from its ledger, what it spent. So it does not matter for the bill how late a message comes or how long a pause is: leases of members
//! ([`LEASE`]) tell who is alive, and what of the others is *quarantined*; no allowance hangs on them.
//!
//! Messages state totals, and bear a number that grows over restarts: one that comes late or twice changes nothing. The place where the counters are
//! ([`Server`] is its model, [`script`] what Redis runs) has a *generation*: it ends when the place has lost its data or has become another one (another
//! run of the server, a replica that took over, however much that holds). Then nothing is granted until every member that anybody knows of has told
//! what it may spend by its own ledger. Who the members are, the instances remember durably: one that is new gets nothing before those that
//! live have noted it.
//!
//! What that cannot know: a member that all who survive have never heard of. That takes an instance which joined while all of them were cut off for longer than
//! [`PATIENCE`], a loss of Redis' data after that, and the end of that instance.
//!
//! Amounts here are whole millionths of a dollar: a script's numbers are exact up to 2^53 of them. Claims are rounded up, limits down.

mod agree;
mod member;
mod rows;
pub mod script;
mod server;
mod share;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod wire;

use farthing_types::{Money, Span};

pub use crate::place::Here;
pub use member::{Asked, Member, MemberState, Orders, Refused};
pub(super) use rows::digest;
pub use server::Server;
pub use share::FleetTold;
pub(super) use share::{FleetSide, Share};
pub use wire::{Exchange, Holder, Known, Line, LineTold, MemberView, Reply, Report, Strike, Told};

/// A member that has not told anything for so long counts as away; what it holds is quarantined.
pub const LEASE: Span = Span::from_secs(10);
/// So long after its lease a member that is away is waited for before a new one gets anything.
pub const PATIENCE: Span = Span::from_secs(60);
/// After a loss, members that nobody has named yet have so long to show up; the longer time where none of those who tell can be sure that it knows all.
pub(super) const SETTLE: [Span; 2] = [Span::from_millis(500), Span::from_secs(3)];
/// A window that begins so much later than a generation did is none of which a member that is missing could hold anything.
pub(super) const NEXT: Span = Span::from_secs(600);
/// A member that was not heard of for so long holds nothing that counts: no window with an end is that long.
pub(super) const KEEP: Span = Span::from_secs(45 * 86_400);
/// Members of a fleet at a time, those that are gone included.
pub const MAX_MEMBERS: usize = 256;
/// Numbers of messages in one life of a process.
pub(super) const PER_START: i64 = 1 << 31;
/// Counters that one message tells of.
pub(super) const MAX_LINES: usize = 100;
/// Windows are kept in the fleet's place for a day after their end, in milliseconds: clocks differ.
pub(super) const SWEPT_AFTER: i64 = 86_400_000;
/// So long after somebody found no room, others give back what they do not need.
pub(super) const HUNGRY: Span = Span::from_secs(2);
/// So long it takes others to give back what they do not need.
pub(super) const GIVEN_BACK: Span = Span::from_millis(750);
/// How long Redis may be away, or nothing granted, before calls are held back for that: until then they wait.
pub const GRACE: Span = Span::from_secs(3);
/// The end of a window that has none, in milliseconds.
pub(super) const FOREVER: i64 = 8_640_000_000_000_000;

/// Nano-dollars in the unit of the fleet.
const UNIT: i64 = 1_000;

/// Rounded up.
pub(super) fn up(money: Money) -> i64 {
    let nanos = money.nanos();
    nanos / UNIT + i64::from(nanos % UNIT > 0)
}

/// Rounded down.
pub(super) fn down(money: Money) -> i64 {
    money.nanos().max(0) / UNIT
}

pub(super) const fn money(units: i64) -> Money {
    Money::from_nanos(units.saturating_mul(UNIT))
}
