//! The volumes of the month, from the log.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Row, Value};
use farthing_types::Time;

use super::{Amount, Month, PriceBook, VolumeKey, Volumes};
use crate::read::{self, ReadError};

/// What the `calls` of this month and the one before in the log `dir` add up to, meter by meter; and what kept a part of it from being read.
/// Nothing is read where there is no meter.
pub fn volumes(book: &PriceBook, dir: &Path, now: Time) -> (Volumes, Option<ReadError>) {
    let mut volumes = Volumes::default();
    if !book.has_meters() {
        return (volumes, None);
    }
    let month = Month::of(now);
    let wanted = [format!("date={}-", month.text()), format!("date={}-", month.before().text())];
    let recent = |file: &std::path::PathBuf| wanted.iter().any(|date| file.to_string_lossy().contains(date.as_str()));
    let mut problem = None;
    for file in read::files(dir, CallRow::TABLE).into_iter().filter(recent) {
        // One damaged file does not cost what the others tell.
        let read = read::rows_of(&[file], CallRow::TABLE, &["ts_ns", "route", "provider", "metered"], &mut |cells| {
            if let [Value::I64(at), Value::Text(route), Value::Text(provider), Value::Text(metered)] = cells {
                count(book, (route, provider), (Time::from_nanos(*at), metered), &mut volumes);
            }
            ControlFlow::Continue(())
        });
        problem = problem.or(read.err());
    }
    (volumes, problem)
}

/// Counts one row: `name=amount,name=amount`.
fn count(book: &PriceBook, (route, provider): (&str, &str), (at, metered): (Time, &str), volumes: &mut Volumes) {
    let Some((owner, meters)) = book.owner(route, provider).zip(book.meters(route, provider)) else { return };
    for (name, amount) in metered.split(',').filter_map(|pair| pair.split_once('=')) {
        if let Some(amount) = Amount::parse(amount.as_bytes()).filter(|_| meters.contains(name)) {
            volumes.add(VolumeKey { owner: owner.clone(), meter: Arc::from(name), month: Month::of(at) }, amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use farthing_types::{Meter, MeterSource, PriceSpec, RealClock};

    use super::*;
    use crate::{LogConfig, LogWriter};

    fn book() -> PriceBook {
        let meter = |name: &str, free| Meter { free, ..Meter::new(name, MeterSource::Call, "0.1".parse().unwrap()) };
        let spec = PriceSpec { meters: vec![meter("lookups", 10), meter("flat", 0)], ..PriceSpec::default() };
        PriceBook::new(&BTreeMap::from([("p".into(), spec.clone())]), &BTreeMap::from([("own".into(), spec)])).unwrap()
    }

    #[test]
    fn a_restart_forgets_no_volume() {
        let dir = tempfile::tempdir().unwrap();
        let now = Time::from_millis(1_794_268_800_000); // 2026-11-10
        let month = 31 * 86_400_000_000_000;
        let log = LogWriter::open(dir.path().to_owned(), LogConfig::default(), Arc::new(RealClock::default())).unwrap();
        for (ago, route, metered) in [
            (0, "r", Some("lookups=2.5,flat=1")),
            (1_000, "r", Some("lookups=1,lookups=1")),
            (0, "own", Some("lookups=7")),
            (0, "r", None),
            (month, "r", Some("lookups=3")),
            (3 * month, "r", Some("lookups=100")),
        ] {
            let row = CallRow {
                ts_ns: now.nanos() - ago,
                route: route.into(),
                provider: "p".into(),
                metered: metered.map(Into::into),
                ..CallRow::default()
            };
            log.handle().write(row);
        }
        log.close();
        let (volumes, problem) = volumes(&book(), dir.path(), now);
        assert!(problem.is_none());
        let all: Vec<(String, String)> =
            volumes.iter().map(|(key, amount)| (format!("{} {} {}", key.owner, key.meter, key.month.text()), amount.to_string())).collect();
        let told = [
            ("provider:p flat 2026-11", "1"),
            ("provider:p lookups 2026-10", "3"),
            ("provider:p lookups 2026-11", "4.5"),
            ("route:own lookups 2026-11", "7"),
        ];
        assert_eq!(all, told.map(|(key, amount)| (key.to_owned(), amount.to_owned())));
        assert!(super::volumes(&PriceBook::default(), dir.path(), now).0.is_empty());
    }
}
