//! What watches decisions that were made: whether changes come as they were foretold (`calibration`), whether a candidate does harm where it
//! decides for a few keys (`canary`) and what it costs there (`contest`), whether features have moved away from what was learned from (`psi`), how stale answers really are
//! (`audit`). Pure: every number is handed in.

pub mod audit;
pub mod calibration;
pub mod canary;
pub mod contest;
pub mod drift;
pub mod psi;

pub use audit::{Audit, AuditMove};
pub use calibration::{Calibration, Ratio};
pub use canary::{Canary, CanaryReport, CanarySpec, Guard, Matured, Stage, Told, Turn};
pub use contest::{Contest, ContestReport, Spent};
pub use drift::{Drift, Trust};
pub use psi::{Psi, PsiReport, Reference};
