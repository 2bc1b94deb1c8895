//! The switch that stops all automation.

use farthing_admin::{ControlError, FreezeControl, FreezeInfo, FreezeRequest};
use farthing_ledger::costs::utc;
use farthing_proxy::FreezeError;

use super::Running;

impl FreezeControl for Running {
    fn frozen(&self) -> FreezeInfo {
        let order = self.proxy.frozen();
        FreezeInfo {
            frozen: order.is_some(),
            since: order.as_ref().map(|order| utc(order.since)),
            reason: order.map(|order| order.reason.to_string()),
        }
    }

    fn freeze(&self, on: bool, request: &FreezeRequest) -> Result<FreezeInfo, ControlError> {
        let news = self.proxy.freeze(on, &request.reason).map_err(|error| match error {
            FreezeError::Reason => ControlError::Refused(error.to_string()),
            FreezeError::Unwritten { .. } | FreezeError::Damaged { .. } => ControlError::Failed(error.to_string()),
        })?;
        if news || on {
            Ok(self.frozen())
        } else {
            Err(ControlError::NotFound("automation is not frozen: see farthing freeze show".to_owned()))
        }
    }
}
