//! One file, one transaction.

use std::pin::pin;

use bytes::Bytes;
use farthing_contract::log::Value;
use farthing_ledger::archive::FinishedFile;
use futures_util::SinkExt;
use tokio::sync::mpsc;
use tokio_postgres::{Client, Transaction};

use super::copy::Encoder;
use super::{fault, schema};
use crate::fault::unreadable;
use crate::sink::within_day;
use crate::{Fault, FaultReason, LogId, Shipment};

/// Bytes that are sent at a time.
const CHUNK: usize = 64 << 10;
/// Chunks between the reader of the file and the connection: with those on either end all of a file that is in memory.
const CHUNKS: usize = 4;

/// Ships a file into partitions that are there.
pub async fn ship(client: &mut Client, schema: &str, (log, file, day): (&LogId, &FinishedFile, i32)) -> Result<Shipment, Fault> {
    let transaction = client.transaction().await.map_err(fault)?;
    let name = within_day(file);
    // Before the file is opened: see `forget`. Waits for another process that ships the same file.
    let insert =
        format!("INSERT INTO \"{schema}\".{} (log, table_name, day, file) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", schema::FILES);
    if transaction.execute(&insert, &[&log.as_str(), &file.table.name, &day, &name]).await.map_err(fault)? == 0 {
        transaction.rollback().await.map_err(fault)?;
        return Ok(Shipment::Held);
    }
    let Some((rows, altered)) = copy(&transaction, schema, file).await? else {
        transaction.rollback().await.map_err(fault)?;
        return Ok(Shipment::Gone);
    };
    let count = i64::try_from(rows).unwrap_or(i64::MAX);
    let update =
        format!("UPDATE \"{schema}\".{} SET rows = $5 WHERE log = $1 AND table_name = $2 AND day = $3 AND file = $4", schema::FILES);
    transaction.execute(&update, &[&log.as_str(), &file.table.name, &day, &name, &count]).await.map_err(fault)?;
    transaction.commit().await.map_err(fault)?;
    Ok(Shipment::Shipped { rows, altered })
}

/// Copies the rows; how many, and how many cells were altered. `None` when there is no such file any more.
async fn copy(transaction: &Transaction<'_>, schema: &str, file: &FinishedFile) -> Result<Option<(u64, u64)>, Fault> {
    if !tokio::fs::try_exists(&file.path).await.unwrap_or(true) {
        return Ok(None);
    }
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(&schema::copy(schema, file.table)).await.map_err(fault)?);
    let (chunks, mut waiting) = mpsc::channel(CHUNKS);
    let read = file.clone();
    let reader = tokio::task::spawn_blocking(move || encode(&read, &chunks));
    while let Some(chunk) = waiting.recv().await {
        sink.feed(chunk).await.map_err(fault)?;
    }
    // Dropped before its end, the copy and its transaction come to nothing.
    let (rows, altered) = reader.await.map_err(unreadable)??;
    let copied = sink.finish().await.map_err(fault)?;
    if copied == rows {
        Ok(Some((rows, altered)))
    } else {
        Err(Fault::new(FaultReason::Unavailable, format!("the server counts {copied} rows of {rows} that were sent")))
    }
}

/// Reads a file and sends it in chunks; ends early when nobody takes them any more. On a thread that may block.
fn encode(file: &FinishedFile, chunks: &mpsc::Sender<Bytes>) -> Result<(u64, u64), Fault> {
    let mut encoder = Encoder::default();
    let send = |encoder: &mut Encoder| drop(chunks.blocking_send(encoder.take().into()));
    let read = file.rows(&mut |cells: &[Value<'_>]| {
        if !chunks.is_closed() {
            encoder.row(cells);
        }
        if encoder.pending() >= CHUNK {
            send(&mut encoder);
        }
    });
    let rows = read.map_err(unreadable)?;
    encoder.end();
    send(&mut encoder);
    Ok((rows, encoder.altered()))
}
