//! Ids of the requests of a part.

use std::path::Path;

use farthing_contract::log::{ColumnType, Request, Row};
use polars::prelude::PolarsError;

use super::columns::Columns;
use super::files::{self, Opened, Wanted};
use crate::error::TrainError;

/// The ids of the requests that a file holds; none of one of another table.
///
/// # Errors
/// When it cannot be read, or is not of the log.
pub fn read_request_ids(path: &Path) -> Result<Vec<u64>, TrainError> {
    let mut file = Opened::open(path)?;
    if file.table()?.name != Request::TABLE.name {
        return Ok(Vec::new());
    }
    let wanted = Wanted { name: "request_id", ty: ColumnType::U64, since: 1 };
    let frame = file.columns(&[wanted], files::exact, files::CHANGED)?;
    let bad = |e: PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
    Ok(Columns(&frame).u64s("request_id").map_err(bad)?.into_iter().flatten().collect())
}
