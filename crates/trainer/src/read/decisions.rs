//! Decisions whose action was drawn, joined with what became of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use farthing_contract::bundle::Kind;
use farthing_contract::log::{ColumnType, Decision, OutcomeRow, Row};
use polars::prelude::{DataFrame, DataType, IntoLazy, JoinArgs, JoinType, LazyFrame, NULL, PolarsError, SortMultipleOptions, col, lit};

use super::columns::Columns;
use super::files::{self, Opened, Wanted};
use super::log::{stack, wanted};
use crate::error::TrainError;
use crate::ope;

const DECISIONS: &[&str] = &[
    "ts_ns",
    "decision_id",
    "kind",
    "route",
    "experiment",
    "key_hash",
    "spec_hash",
    "features",
    "eligible_mask",
    "pmf",
    "action",
    "model_digest",
    "unit",
    "window",
];
const OUTCOMES: &[&str] = &["ts_ns", "decision_id", "paid_nanousd", "saved_nanousd"];

/// Reads the decisions of `kind`, and of `experiment` where one is named, among the files that `pattern` matches. Those with fewer than two actions were no choice and are left out. What one has
/// cost is what was paid less what was saved; of a `strategy` decision it is what was paid while it was in force, as there nothing is saved beside it.
///
/// # Errors
/// Names the file, and for foreign ones the column, with what to do about it.
pub fn read_decisions(pattern: &str, (kind, experiment): (&str, Option<&str>)) -> Result<ope::Decisions, TrainError> {
    let files = files::find(pattern)?;
    let (mut decisions, mut outcomes): (Vec<DataFrame>, Vec<DataFrame>) = (Vec::new(), Vec::new());
    let remedy = "the file says it is of this log but was changed by another program: restore or remove it";
    for path in &files {
        let mut file = Opened::open(path)?;
        let table = file.table()?;
        if table.name == Decision::TABLE.name {
            decisions.push(file.columns(&wanted(table, DECISIONS), files::exact, remedy)?);
        } else if table.name == OutcomeRow::TABLE.name {
            outcomes.push(file.columns(&wanted(table, OUTCOMES), files::exact, remedy)?);
        }
    }
    let place = |e: PolarsError| TrainError::Unreadable { path: PathBuf::from(pattern), reason: e.to_string() };
    let mut read = ope::Decisions { digest: files::digest(&files)?, ..ope::Decisions::default() };
    let Some(decisions) = stack(decisions) else { return Ok(read) };
    let decisions = decisions.filter(col("kind").eq(lit(kind.to_owned())));
    let decisions = match experiment {
        Some(name) => decisions.filter(col("experiment").eq(lit(name.to_owned()))),
        None => decisions,
    };
    let joined = with_outcomes(decisions, stack(outcomes));
    let frame = joined.sort(["ts_ns", "decision_id"], SortMultipleOptions::default()).collect().map_err(place)?;
    take(&mut read, (&frame, kind)).map_err(place)?;
    Ok(read)
}

/// Each decision with when it was settled, what was paid and what was saved; nulls where it was not.
fn with_outcomes(decisions: LazyFrame, outcomes: Option<LazyFrame>) -> LazyFrame {
    let Some(outcomes) = outcomes else {
        let none = |name: &str| lit(NULL).cast(DataType::Int64).alias(name);
        return decisions.with_columns(["settled_ns", "paid_nanousd", "saved_nanousd"].map(none));
    };
    // An entry that was confirmed again ends more than once: it was paid for once and saved each time.
    let sums = [col("ts_ns").max().alias("settled_ns"), col("paid_nanousd").first(), col("saved_nanousd").sum()];
    let settled = outcomes.group_by([col("decision_id")]).agg(sums);
    decisions.join(settled, [col("decision_id")], [col("decision_id")], JoinArgs::new(JoinType::Left))
}

/// Probabilities of actions by decision id: columns `decision_id` and `pmf` of a Parquet file.
///
/// # Errors
/// Names the file and the column.
pub fn read_pmf(path: &Path) -> Result<HashMap<u64, Vec<f32>>, TrainError> {
    let names = [Wanted { name: "decision_id", ty: ColumnType::U64, since: 1 }, Wanted { name: "pmf", ty: ColumnType::F32List, since: 1 }];
    let fits = |wanted: ColumnType, found: &DataType| match wanted {
        ColumnType::F32List => matches!(found, DataType::List(inner) if inner.is_float()),
        _ => files::roughly(wanted, found),
    };
    let frame = Opened::open(path)?.columns(&names, fits, "write decision_id as integers and pmf as lists of floats")?;
    let place = |e: PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
    let floats = DataType::List(Box::new(DataType::Float32));
    let frame = frame.lazy().with_columns([col("pmf").cast(floats)]).collect().map_err(place)?;
    let columns = Columns(&frame);
    let (ids, pmfs) = (columns.u64s("decision_id").map_err(place)?, columns.lists("pmf").map_err(place)?);
    Ok(ids.into_iter().zip(pmfs).filter_map(|(id, pmf)| Some((id?, pmf?))).collect())
}

fn take(read: &mut ope::Decisions, (frame, kind): (&DataFrame, &str)) -> Result<(), PolarsError> {
    let columns = Columns(frame);
    let of_routes = kind == Kind::Strategy.as_str();
    let (at, id, key) = (columns.i64s("ts_ns")?, columns.u64s("decision_id")?, columns.u64s("key_hash")?);
    let (eligible, action) = (columns.u64s("eligible_mask")?, columns.i64s("action")?);
    let (unit, window) = (columns.u64s("unit")?, columns.i64s("window")?);
    let (settled, paid, saved) = (columns.i64s("settled_ns")?, columns.i64s("paid_nanousd")?, columns.i64s("saved_nanousd")?);
    let (mut features, mut pmf) = (columns.lists("features")?, columns.lists("pmf")?);
    let (routes, route) = columns.texts("route")?;
    let (experiments, experiment) = columns.texts("experiment")?;
    let (specs, spec) = columns.texts("spec_hash")?;
    let (digests, digest) = columns.texts("model_digest")?;
    let text = |names: &[String], place: Option<u32>| place.and_then(|p| names.get(p as usize)).cloned();
    for i in 0..frame.height() {
        let (Some(at_ns), Some(id), Some(action)) = (at[i], id[i], action[i].and_then(|a| usize::try_from(a).ok())) else { continue };
        read.end_ns = read.end_ns.max(at_ns).max(settled[i].unwrap_or(i64::MIN));
        let Some(pmf) = pmf[i].take().filter(|p| p.len() >= 2) else {
            read.no_choice += 1;
            continue;
        };
        let saved = if of_routes { Some(0) } else { saved[i] };
        let net = paid[i].zip(saved).map(|(paid, saved)| (paid - saved) as f64 / 1e9);
        read.rows.push(ope::Decided {
            id,
            at_ns,
            route: text(&routes, route[i]).unwrap_or_default(),
            experiment: text(&experiments, experiment[i]),
            spec_hash: text(&specs, spec[i]),
            model_digest: text(&digests, digest[i]),
            features: features[i].take().unwrap_or_default(),
            eligible: eligible[i].unwrap_or(u64::MAX),
            pmf,
            action,
            cost_usd: net.filter(|_| settled[i].is_some()),
            // Without a unit each decision had a draw of its own.
            cluster: unit[i].map_or(id, |unit| unit ^ (window[i].unwrap_or(0) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            key: key[i].unwrap_or(0),
        });
    }
    Ok(())
}
