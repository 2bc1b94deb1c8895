//! A stream in Redis as a source of events: each entry has a field `event` with a CloudEvent in JSON.

use std::path::Path;
use std::time::Duration;

use farthing_config::L2Redis;
use farthing_fleet::{ConfigError, RedisConfig, StreamEntry, StreamReader};
use farthing_types::Span;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Arrival, Event, EventSource, News, cloud};
use crate::l2::redis_config;

const FIELD: &[u8] = b"event";
/// A longer event is not read.
const LONGEST: usize = 64 << 10;
/// How long a read waits: several fit into the time after which silence counts as an outage.
const WAITING: (Span, Span) = (Span::from_millis(100), Span::from_secs(1));
/// Pauses between tries, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

pub(super) struct Stream {
    reader: StreamReader,
    pause: Duration,
}

impl Stream {
    /// The stream of a server, from where `kept` says that it was read to.
    ///
    /// # Errors
    /// An address that could never be reached.
    pub(super) fn new((server, stream): (&L2Redis, &str), silence: Option<Span>, kept: Option<&Path>) -> Result<Self, ConfigError> {
        let position = kept.and_then(|path| std::fs::read_to_string(path).ok()).and_then(|text| text.parse().ok());
        let config: RedisConfig = redis_config(server, Span::from_secs(1));
        let waiting = silence.map_or(WAITING.1, |silence| silence / 4).clamp(WAITING.0, WAITING.1);
        Ok(Self { reader: StreamReader::new(&config, stream, position, waiting)?, pause: PAUSES.0 })
    }

    async fn read(&mut self) -> News {
        match self.reader.next().await {
            Ok(news) => {
                self.pause = PAUSES.0;
                let read: Vec<Option<Event>> = news.entries.iter().map(event).collect();
                let malformed = read.iter().filter(|event| event.is_none()).count() as u64;
                let position = Some(news.position.to_string());
                News::Came(Arrival {
                    events: read.into_iter().flatten().collect(),
                    malformed,
                    missed: news.missed,
                    begun: news.begun,
                    anew: news.anew,
                    read_to: Some(news.position.last()),
                    more: news.more,
                    position,
                    obeyed: None,
                })
            }
            Err(fault) => {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(PAUSES.1);
                News::Trouble(format!("redis does not answer ({fault})"))
            }
        }
    }
}

fn event(entry: &StreamEntry) -> Option<Event> {
    let (_, text) = entry.fields.iter().find(|(name, _)| **name == *FIELD)?;
    if text.len() > LONGEST { None } else { cloud::structured(text).ok().map(|event| Event { at: Some(entry.id), ..event }) }
}

impl EventSource for Stream {
    fn next(&mut self) -> BoxFuture<'_, News> {
        self.read().boxed()
    }
    fn remembers(&self) -> bool {
        true
    }
}
