//! One name of a batch's rows as small numbers: text is looked at once for each entry of a dictionary, never for each row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Int32Type;
use arrow::record_batch::RecordBatch;

use super::dimension::{Cell, class, tag};

/// A row's number within a batch; 0 stands for a row without the name.
pub(super) struct Axis {
    keys: Keys,
    /// The names behind the numbers, from 1 on.
    pub(super) names: Vec<Arc<str>>,
}

enum Keys {
    /// No row has the name.
    None,
    /// The dictionary's keys, and the number of each of its entries.
    Dictionary(Int32Array, Vec<u32>),
    /// Classes of statuses: their numbers.
    Plain(Vec<u32>),
}

impl Axis {
    /// An axis on which no row has a name.
    pub(super) const fn empty() -> Self {
        Self { keys: Keys::None, names: Vec::new() }
    }

    /// The axis of `cell`.
    ///
    /// # Errors
    /// A column of another type than the table declares.
    pub(super) fn new(batch: &RecordBatch, cell: &Cell) -> Result<Self, String> {
        // A later column that this file does not have yet.
        let Some(array) = batch.column_by_name(cell.column()) else { return Ok(Self::empty()) };
        match cell {
            Cell::Text(column) => Self::text(array, column, |text| Some(text)),
            Cell::Tag(column, name) => Self::text(array, column, |text| tag(text, name)),
            Cell::Class(column) => Self::classes(array, column),
        }
    }

    fn text(array: &ArrayRef, column: &str, pick: impl Fn(&str) -> Option<&str>) -> Result<Self, String> {
        let wrong = || format!("column `{column}` is {} instead of text", array.data_type());
        let dictionary = array.as_any().downcast_ref::<DictionaryArray<Int32Type>>().ok_or_else(wrong)?;
        let values = dictionary.values().as_any().downcast_ref::<StringArray>().ok_or_else(wrong)?;
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut known = std::collections::HashMap::new();
        let mut number = |text: Option<&str>| -> u32 {
            let Some(text) = text.and_then(&pick) else { return 0 };
            if let Some(&number) = known.get(text) {
                return number;
            }
            let name: Arc<str> = text.into();
            names.push(name.clone());
            let number = u32::try_from(names.len()).unwrap_or(u32::MAX);
            known.insert(name, number);
            number
        };
        let numbers = values.iter().map(&mut number).collect();
        Ok(Self { keys: Keys::Dictionary(dictionary.keys().clone(), numbers), names })
    }

    fn classes(array: &ArrayRef, column: &str) -> Result<Self, String> {
        let wrong = || format!("column `{column}` is {} instead of a number", array.data_type());
        let statuses = array.as_any().downcast_ref::<Int32Array>().ok_or_else(wrong)?;
        let mut names: Vec<Arc<str>> = Vec::new();
        let number = |status: Option<i32>| -> u32 {
            let Some(class) = status.and_then(class) else { return 0 };
            let at = names.iter().position(|name| &**name == class).unwrap_or_else(|| {
                names.push(class.into());
                names.len() - 1
            });
            u32::try_from(at + 1).unwrap_or(u32::MAX)
        };
        let numbers = statuses.iter().map(number).collect();
        Ok(Self { keys: Keys::Plain(numbers), names })
    }

    /// How many numbers there are, 0 among them.
    pub(super) fn width(&self) -> usize {
        self.names.len() + 1
    }

    /// The number of a row.
    #[inline]
    pub(super) fn at(&self, row: usize) -> u32 {
        match &self.keys {
            Keys::None => 0,
            Keys::Dictionary(keys, _) if keys.is_null(row) => 0,
            Keys::Dictionary(keys, numbers) => usize::try_from(keys.value(row)).ok().and_then(|key| numbers.get(key)).copied().unwrap_or(0),
            Keys::Plain(numbers) => numbers.get(row).copied().unwrap_or(0),
        }
    }

    /// The name behind a number.
    pub(super) fn name(&self, number: u32) -> Option<&Arc<str>> {
        usize::try_from(number).ok()?.checked_sub(1).and_then(|index| self.names.get(index))
    }

    /// Keeps the rows in `taken` whose name is one of `values`; the empty value stands for none.
    pub(super) fn keep(&self, values: &[Arc<str>], taken: &mut [bool]) {
        let fits = |name: Option<&Arc<str>>| values.iter().any(|value| name.map_or(value.is_empty(), |name| name == value));
        let wanted: Vec<bool> = std::iter::once(fits(None)).chain(self.names.iter().map(|name| fits(Some(name)))).collect();
        if wanted.iter().all(|wanted| *wanted) {
            return;
        }
        for (row, taken) in taken.iter_mut().enumerate() {
            *taken &= wanted.get(self.at(row) as usize).copied().unwrap_or(false);
        }
    }
}
