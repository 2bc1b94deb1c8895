//! One file, one block.

use std::hash::Hasher;

use bytes::Bytes;
use farthing_contract::log::Value;
use farthing_ledger::archive::FinishedFile;
use farthing_types::Span;
use siphasher::sip::SipHasher13;

use super::native::{Encoder, Origin};
use super::schema::{self, quoted};
use super::{Clickhouse, in_calendar};
use crate::fault::{blocking, unreadable};
use crate::sink::within_day;
use crate::{Fault, FaultReason, LogId, Shipment};

/// What names of queries that bring rows begin with.
pub const SHIPPING: &str = "farthing-ship-";

/// So long after it was asked for the time a server takes the rows of a file that was opened then. Whoever asked waits no longer than `deadline`; the second is for clocks that tell no parts of one.
pub fn grace(deadline: Span) -> u32 {
    u32::try_from(deadline.as_secs()).unwrap_or(u32::MAX).saturating_add(1)
}

/// Ships a file.
pub async fn ship(sink: &Clickhouse, log: &LogId, file: &FinishedFile) -> Result<Shipment, Fault> {
    let origin = Origin { log: log.as_str().to_owned(), file: within_day(file) };
    // Before the file is opened: see `forget`.
    let (now, held) = look(sink, &origin, file).await?;
    if held {
        return Ok(Shipment::Held);
    }
    if !tokio::fs::try_exists(&file.path).await.unwrap_or(true) {
        return Ok(Shipment::Gone);
    }
    let (read, from, takes_until) = (file.clone(), origin.clone(), now.saturating_add(grace(sink.deadline)));
    let (rows, block) = blocking(move || encode(&read, from, takes_until)).await??;
    if rows == 0 {
        note_empty(sink, &origin, file).await?;
    } else {
        let insert = schema::insert(&sink.database, file.table);
        sink.server.insert(&insert, &query_id(&origin, file), block).await?;
    }
    Ok(Shipment::Shipped { rows, altered: 0 })
}

/// The server's time, and whether the file is there.
async fn look(sink: &Clickhouse, origin: &Origin, file: &FinishedFile) -> Result<(u32, bool), Fault> {
    let day = in_calendar(file.hour.div_euclid(24))?;
    let of_file = format!("log = {} AND file = {}", quoted(&origin.log), quoted(&origin.file));
    let ask = format!(
        "SELECT toUnixTimestamp(now()), sum(rows) FROM (SELECT count() AS rows FROM {} WHERE {} AND {of_file} \
         UNION ALL SELECT count() AS rows FROM {} WHERE table_name = '{}' AND day = {} AND {of_file})",
        schema::rows(&sink.database, file.table),
        schema::within_hour(file.hour),
        schema::done(&sink.database),
        file.table.name,
        schema::date(day),
    );
    let rows = sink.server.ask(&ask).await?;
    let cell = |place: usize| rows.first().and_then(|row| row.get(place)?.parse::<u64>().ok());
    let (Some(now), Some(rows)) = (cell(0), cell(1)) else {
        return Err(Fault::new(FaultReason::Unavailable, "the server did not say what it has of a file"));
    };
    Ok((u32::try_from(now).unwrap_or(u32::MAX), rows > 0))
}

/// A file without rows leaves none that would tell that it was shipped.
async fn note_empty(sink: &Clickhouse, origin: &Origin, file: &FinishedFile) -> Result<(), Fault> {
    let note = format!(
        "INSERT INTO {} (log, table_name, day, file) VALUES ({}, '{}', {}, {})",
        schema::done(&sink.database),
        quoted(&origin.log),
        file.table.name,
        schema::date(file.hour.div_euclid(24)),
        quoted(&origin.file),
    );
    sink.server.ask(&note).await.map(drop)
}

/// Reads a file. On a thread that may block.
fn encode(file: &FinishedFile, origin: Origin, takes_until: u32) -> Result<(u64, Vec<Bytes>), Fault> {
    let mut encoder = Encoder::new(file.table, origin);
    file.rows(&mut |cells: &[Value<'_>]| encoder.row(cells)).map_err(unreadable)?;
    if encoder.is_too_large() {
        return Err(Fault::new(FaultReason::Rejected, format!("{} is too large for one block", file.path.display())));
    }
    Ok((encoder.rows(), encoder.finish(takes_until)))
}

/// The same for each time that a file is sent: a server refuses a second query of a name while the first is under way.
fn query_id(origin: &Origin, file: &FinishedFile) -> String {
    let mut hasher = SipHasher13::new();
    for text in [&*origin.log, file.table.name, &*schema::date(file.hour.div_euclid(24)), &*origin.file] {
        hasher.write(text.as_bytes());
        hasher.write_u8(0xff);
    }
    format!("{SHIPPING}{:016x}", hasher.finish())
}
