//! Words of the project: money, time, draws, ids, calls and replies, and the closed lists of reasons.
//!
//! Everything here is plain data without a runtime: no tokio, no I/O. The terms are those of `docs/glossary.md`.

pub mod batch;
pub mod body;
pub mod budget;
pub mod call;
pub mod coding;
pub mod draw;
pub mod ids;
pub mod json;
pub mod limit;
pub mod money;
pub mod network;
pub mod overrides;
pub mod price;
pub mod promise;
pub mod reasons;
pub mod time;
pub mod trace;

pub use batch::{Batch, BatchAnswer, BatchPart, BatchPrice, BatchTerms};
pub use body::{Body, BodyError};
pub use budget::{BudgetScope, BudgetSpec, BudgetUnit, BudgetWindow, Enforce, OnExceeded, Priority};
pub use call::{Call, CallReport, CallSink, Failure, FailureKind, MappedAnswer, Purpose, Reply, Reserved, RouteTerms, Routed, Usage};
pub use coding::Coding;
pub use draw::{Draw, DrawKind};
pub use ids::{CallId, DecisionId, KeyHash, RequestId, RouteName, Tenant};
pub use limit::{Claim, LimitScope, LimitSpec, LimitWhy, Limited, OnLimit, RateSpec};
pub use money::{Money, Rate, largest_remainder};
pub use network::{BadNetwork, Network, neighbours};
pub use overrides::{Overrides, PlanField, RoutingWeights, WeightsByPriority};
pub use price::{Currency, Factor, LongContext, Meter, MeterSource, PriceSpec, Tier, TokenRates};
pub use promise::{SlaOutcome, Spent, sla_outcome};
pub use reasons::{By, Choice, Outcome, UncachedReason};
pub use time::{Clock, RealClock, ScaledClock, Span, Time, VirtualClock, civil, day_number, days_of};
pub use trace::{TraceContext, trace_state};
