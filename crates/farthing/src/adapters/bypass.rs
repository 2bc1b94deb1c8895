//! The bypass switch, and strategies that switch themselves off.

use farthing_admin::{BypassControl, BypassInfo, BypassRequest, ControlError, OwnTimeInfo, SwitchInfo};
use farthing_ledger::costs::utc;
use farthing_proxy::{BypassError, BypassOrder, OwnPart, SwitchView};
use farthing_types::{Span, Time};

use super::Running;

impl BypassControl for Running {
    fn bypasses(&self) -> Vec<BypassInfo> {
        self.proxy.bypasses().iter().map(info).collect()
    }

    fn bypass_on(&self, request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError> {
        let since = self.proxy.now();
        let until = request.seconds.map(|seconds| since + Span::from_secs(seconds));
        let route = request.route.as_deref().map(Into::into);
        let order = BypassOrder { route, since, until, reason: request.reason.as_str().into() };
        self.proxy.bypass_on(order).map_err(refusal)?;
        Ok(self.bypasses())
    }

    fn bypass_off(&self, request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError> {
        if self.proxy.bypass_off(request.route.as_deref(), &request.reason).map_err(refusal)? {
            return Ok(self.bypasses());
        }
        let what = request
            .route
            .as_ref()
            .map_or_else(|| "nothing passes by".to_owned(), |route| format!("route `{route}` has no bypass of its own"));
        Err(ControlError::NotFound(format!("{what}: see farthing bypass show")))
    }
}

fn refusal(error: BypassError) -> ControlError {
    let text = error.to_string();
    match error {
        BypassError::NoRoute { .. } => ControlError::NotFound(text),
        BypassError::Reason | BypassError::Time => ControlError::Refused(text),
        BypassError::Unwritten { .. } | BypassError::Damaged { .. } => ControlError::Failed(text),
    }
}

/// An order as views tell it.
pub fn info(order: &BypassOrder) -> BypassInfo {
    BypassInfo {
        route: order.route.as_ref().map(ToString::to_string),
        since: utc(order.since),
        until: order.until.map(utc),
        reason: order.reason.to_string(),
    }
}

/// A strategy's standing as views tell it.
pub fn switch(view: &SwitchView) -> SwitchInfo {
    SwitchInfo {
        strategy: view.strategy.to_string(),
        standing: view.standing.to_string(),
        since: (view.since > Time::ZERO).then(|| utc(view.since)),
        evidence: view.evidence,
        tried_again: view.tried_again.map(utc),
        judged: view.judged.map(|(requests, _)| requests),
        net_usd: view.judged.map(|(_, net)| net),
        switched_off: view.switched_off,
        left_out: view.left_out.iter().map(ToString::to_string).collect(),
    }
}

/// Parts of own time as views tell them.
pub fn own_time(own: &[(OwnPart, Span, u64)]) -> Vec<OwnTimeInfo> {
    let one = |(part, took, requests): &(OwnPart, Span, u64)| OwnTimeInfo {
        part: part.to_string(),
        mean_us: took.as_secs_f64() * 1e6 / (*requests).max(1) as f64,
        requests: *requests,
    };
    own.iter().map(one).collect()
}
