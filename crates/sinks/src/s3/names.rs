//! Names of objects: those of the log's files, so that what is below the prefix is a log; pure.

use farthing_contract::log::{ALL, Table, partition};
use farthing_ledger::archive::{FinishedFile, day_number};
use object_store::path::Path;

use crate::LogId;

/// Where a log's files are in a bucket: `PREFIX/TABLE/date=YYYY-MM-DD/hour=HH/LOG-NAME`. The log's id stands before the name, which is unique in its log only.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: Path,
}

/// What a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// The table.
    pub table: &'static Table,
    /// Days since 1970 UTC.
    pub day: i64,
    /// `hour=HH`.
    pub hour: &'a str,
    /// The log's id.
    pub log: &'a str,
    /// The file's name in that log.
    pub name: &'a str,
}

impl Names {
    /// Below a prefix; what is wrong with it.
    ///
    /// # Errors
    /// It cannot be a path.
    pub fn below(prefix: &str) -> Result<Self, String> {
        prefix_of(prefix).map(|prefix| Self { prefix })
    }

    /// The object of a file.
    pub fn of(&self, log: &LogId, file: &FinishedFile) -> Path {
        let partition = partition(file.hour);
        let parts = partition.split('/');
        parts.fold(self.table(file.table), Path::join).join(format!("{log}-{}", file.name()))
    }

    /// All of a table.
    pub fn table(&self, table: &Table) -> Path {
        self.prefix.clone().join(table.name)
    }

    /// All of a day.
    pub fn day(&self, table: &Table, day: i64) -> Path {
        let partition = partition(day.saturating_mul(24));
        self.table(table).join(partition.split('/').next().unwrap_or_default())
    }

    /// What a name says; `None` for an object that is none of ours.
    pub fn read<'a>(&self, location: &'a Path) -> Option<Named<'a>> {
        let [table, date, hour, file] = below(&self.prefix, location)?.split('/').collect::<Vec<_>>()[..] else { return None };
        let table = ALL.into_iter().find(|known| known.name == table)?;
        let (log, name) = file.split_once('-')?;
        let own = LogId::is_one(log) && name.ends_with(".parquet");
        let named = Named { table, day: date_of(date)?, hour, log, name };
        (own && hour_of(hour)).then_some(named)
    }
}

/// What names of objects begin with; what is wrong with it.
pub fn prefix_of(text: &str) -> Result<Path, String> {
    Path::parse(text).map_err(|error| format!("the prefix cannot be a path: {error}"))
}

/// The rest of a name below a prefix; `None` where it does not begin so.
pub fn below<'a>(prefix: &Path, location: &'a Path) -> Option<&'a str> {
    let rest = location.as_ref().strip_prefix(prefix.as_ref())?;
    if prefix.as_ref().is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The day of `date=YYYY-MM-DD`.
pub fn date_of(part: &str) -> Option<i64> {
    day_number(part.strip_prefix("date=")?)
}

fn hour_of(part: &str) -> bool {
    part.strip_prefix("hour=").is_some_and(|hour| hour.len() == 2 && hour.parse::<u8>().is_ok_and(|hour| hour < 24))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use farthing_contract::log::{CallRow, Row};
    use farthing_types::Time;

    use super::*;

    fn file(hour: i64, name: &str) -> FinishedFile {
        FinishedFile { table: CallRow::TABLE, hour, path: PathBuf::from("x").join(name), bytes: 1, modified: Time::ZERO }
    }

    #[test]
    fn names_are_those_of_the_log_and_say_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let log = LogId::of(dir.path()).unwrap();
        for prefix in ["", "logs", "a/b=c/d.e"] {
            let names = Names::below(prefix).unwrap();
            let file = file(24 * 20_784 + 7, "part-local-1-2.parquet");
            let location = names.of(&log, &file);
            let slash = if prefix.is_empty() { "" } else { "/" };
            assert_eq!(location.as_ref(), format!("{prefix}{slash}calls/date=2026-11-27/hour=07/{log}-part-local-1-2.parquet"));
            let named = names.read(&location).unwrap();
            assert_eq!((named.table.name, named.day, named.hour, named.name), ("calls", 20_784, "hour=07", "part-local-1-2.parquet"));
            assert_eq!(named.log, log.as_str());
            assert!(
                location.prefix_matches(&names.day(CallRow::TABLE, 20_784)) && !location.prefix_matches(&names.day(CallRow::TABLE, 20_785))
            );
        }
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let names = Names::below("p").unwrap();
        let log = "0123456789abcdef0123456789abcdef";
        let good = format!("p/calls/date=2026-11-27/hour=07/{log}-part.parquet");
        assert!(names.read(&Path::from(good.clone())).is_some());
        for (from, to) in [
            ("p/", ""),
            ("p/", "p2/"),
            ("calls", "costs"),
            ("2026-11", "2026-13"),
            ("hour=07", "hour=7"),
            ("hour=07", "hour=24"),
            ("-part", "part"),
            ("0123", "xyz4"),
            (".parquet", ".csv"),
            ("/hour", "/more/hour"),
        ] {
            assert_eq!(names.read(&Path::from(good.replacen(from, to, 1))), None, "{from} {to}");
        }
        assert!(Names::below("a//b").is_err());
    }
}
