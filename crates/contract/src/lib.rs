//! What proxy and trainer agree on, in one place: the four log tables, the feature spec and its extraction,
//! the live statistics on disk, the bundle manifest and the ONNX signatures.

pub mod bundle;
pub mod features;
pub mod log;
pub mod native;
pub mod statistics;
