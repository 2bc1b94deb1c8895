//! Waiting for others that breaks promises of time (SPEC C7): each request with a promise whose call could wait is drawn, and learned from when it
//! has been answered.

use farthing_contract::log;
use farthing_policy::switches::Slice;
use farthing_types::{By, DecisionId, DrawKind, Outcome, SlaOutcome, UncachedReason};

use super::Strategy;
use crate::request::Planned;
use crate::settle::{Account, Settled};
use crate::state::State;

impl State {
    /// Decides whether the call of a request may wait for others, where it otherwise would: not while batching is off, nor in the slice that it is
    /// compared with.
    pub fn draw_waiting(&self, planned: &mut Planned) {
        let account = &mut planned.account;
        // Without a promise there is nothing to compare, and nothing that waiting breaks.
        let drawable = planned.batch.is_ok() && account.sla.is_some();
        let Some(waits) = account.route.switches.batch.get().filter(|_| drawable) else { return };
        let drawn = self.draw.uniform(DrawKind::SwitchSlice, &account.route.route.name, u128::from(account.id.0), 1);
        let (slice, turned) = waits.lock().draw(drawn, account.started);
        if slice.is_none_or(|slice| slice.without) {
            planned.batch = Err(UncachedReason::Disabled);
        }
        account.slice = slice;
        if let Some(slice) = slice {
            self.log_waiting(account, slice, drawn);
        }
        if let Some(to) = turned {
            self.tell(&account.route, Strategy::Batch, to);
        }
    }

    /// Learns from what became of a promise whose request was drawn.
    pub fn learn_waiting(&self, account: &Account, settled: &Settled, kept: Option<SlaOutcome>) {
        let (Some(slice), Some(kept)) = (account.slice, kept) else { return };
        // Who followed another's call, waited for another instance's, or was answered without one, waited by no draw of its own.
        if !account.elsewhere.is_zero() || !matches!(settled.outcome, Outcome::Lead | Outcome::Bypass | Outcome::Failed) {
            return;
        }
        let Some(waits) = account.route.switches.batch.get() else { return };
        let turned = waits.lock().settled(slice, kept != SlaOutcome::Met, self.real_now());
        if let Some(to) = turned {
            self.tell(&account.route, Strategy::Batch, to);
        }
    }

    /// Writes the draw down, so that the comparison can be made again from the log.
    fn log_waiting(&self, account: &Account, slice: Slice, drawn: f64) {
        let Some(log) = &self.log else { return };
        let share = slice.share as f32;
        log.write(log::Decision {
            ts_ns: account.at.nanos(),
            decision_id: DecisionId(self.ids.next()).0,
            kind: "batch",
            request_id: Some(account.id.0),
            route: account.route.route.name.clone(),
            key_hash: account.key.short(),
            eligible_mask: 0b11,
            pmf: vec![share, 1.0 - share],
            action: i32::from(!slice.without),
            action_value: f64::from(u8::from(!slice.without)),
            draw: Some(drawn),
            by: By::Rule("slice").to_string().into(),
            ..log::Decision::default()
        });
    }
}
