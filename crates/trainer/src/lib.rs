//! Learns when answers change from the request log, and writes what it learned as bundles.
//!
//! Tables are read by polars ([`read`]), learners stand on linfa's trees and a survival table ([`learn`]), models leave as ONNX
//! ([`onnx`]), and evaluation is replay of the log under the rule, fixed TTLs and the model. No polars, ndarray or linfa type
//! appears in a signature. Formulas and their sources are in `docs/learning.md`.

pub mod advise;
pub mod autopilot;
pub mod card;
pub mod choice;
pub mod cost;
mod drafts;
pub mod error;
pub mod evaluate;
pub mod fit;
pub mod foreign;
pub mod gate;
pub mod history;
pub mod import;
pub mod learn;
pub mod onnx;
pub mod ope;
pub mod pack;
pub mod predictor;
pub mod prefetch;
pub mod publish;
pub mod read;
pub mod report;
pub mod results;
pub mod rows;
pub mod strategy;
pub mod trees;
pub mod verify;
pub mod write;

pub use error::TrainError;
