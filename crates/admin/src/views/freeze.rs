//! The switch that stops all automation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// The freeze of this instance.
pub trait FreezeControl: Send + Sync {
    /// Whether automation is frozen, and why.
    fn frozen(&self) -> FreezeInfo;
    /// Stops automation, or lets it go on. Blocks until that is written down.
    ///
    /// # Errors
    /// No reason; nothing that could end; a disk that does not take it (it is in force all the same, and the text says so).
    fn freeze(&self, on: bool, request: &FreezeRequest) -> Result<FreezeInfo, ControlError>;
}

/// An order to freeze automation, or to end that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    /// Why; kept with it and logged.
    pub reason: String,
}

/// Whether automation is frozen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FreezeInfo {
    /// It is.
    pub frozen: bool,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// Why.
    pub reason: Option<String>,
}
