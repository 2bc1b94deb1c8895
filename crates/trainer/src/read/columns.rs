//! Columns of a data frame as plain vectors.

use polars::prelude::{ChunkedArray, DataFrame, DataType, PolarsDataType, PolarsError};

/// Takes columns out of a frame by name. After the schema check each of these succeeds; what they return instead of failing
/// is the error of polars, for the message.
pub(super) struct Columns<'a>(pub &'a DataFrame);

macro_rules! column {
    ($($(#[$doc:meta])* $name:ident: $t:ty = $ty:expr, $get:ident;)+) => { $(
        $(#[$doc])*
        pub(super) fn $name(&self, name: &str) -> Result<Vec<Option<$t>>, PolarsError> {
            let column = self.0.column(name)?.cast(&$ty)?;
            Ok(plain(column.$get()?))
        }
    )+ };
}

fn plain<'a, T: PolarsDataType>(array: &'a ChunkedArray<T>) -> Vec<Option<T::Physical<'a>>>
where
    ChunkedArray<T>: 'a,
{
    array.iter().collect()
}

impl Columns<'_> {
    column! {
        /// Whole numbers.
        i64s: i64 = DataType::Int64, i64;
        /// Hashes and ids.
        u64s: u64 = DataType::UInt64, u64;
        /// Numbers.
        f64s: f64 = DataType::Float64, f64;
        /// Yes or no.
        bools: bool = DataType::Boolean, bool;
    }

    /// Text, with each distinct value once: the values, and each row's place among them (none for null).
    pub(super) fn texts(&self, name: &str) -> Result<(Vec<String>, Vec<Option<u32>>), PolarsError> {
        let column = self.0.column(name)?.cast(&DataType::String)?;
        let (mut values, mut places) = (Vec::new(), std::collections::HashMap::new());
        let mut place = |text: &str| {
            *places.entry(text.to_owned()).or_insert_with(|| {
                values.push(text.to_owned());
                values.len() as u32 - 1
            })
        };
        let rows = column.str()?.iter().map(|text| text.map(&mut place)).collect::<Vec<_>>();
        Ok((values, rows))
    }

    /// Lists of ids; null gives an empty one.
    pub(super) fn id_lists(&self, name: &str) -> Result<Vec<Vec<u64>>, PolarsError> {
        let list = self.0.column(name)?.list()?;
        let mut rows = Vec::with_capacity(self.0.height());
        for i in 0..list.len() {
            let series = list.get_as_series(i).map(|series| series.cast(&DataType::UInt64)).transpose()?;
            rows.push(match &series {
                Some(series) => series.u64()?.iter().flatten().collect(),
                None => Vec::new(),
            });
        }
        Ok(rows)
    }

    /// Lists of f32; null and empty lists give none.
    pub(super) fn lists(&self, name: &str) -> Result<Vec<Option<Vec<f32>>>, PolarsError> {
        let list = self.0.column(name)?.list()?;
        let mut rows = Vec::with_capacity(self.0.height());
        for i in 0..list.len() {
            let row = match list.get_as_series(i) {
                Some(series) if !series.is_empty() => Some(series.f32()?.iter().map(|x| x.unwrap_or(f32::NAN)).collect()),
                _ => None,
            };
            rows.push(row);
        }
        Ok(rows)
    }
}
