//! Decides where rows are recorded: in the journal, when the disk is full only records of money and in the space set aside,
//! and when that is used up, too, in bounded memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use farthing_types::{Span, Time};

use super::metrics::Counters;
use super::tick::Entry;
use super::{LogConfig, gathered::Gathered};
use crate::journal::{Folder, Framer, Guard, Run, Segment, SegmentId, Unsynced, Writer, header};

/// Where the next row goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is no journal.
    Off,
    /// Everything is recorded.
    Plenty,
    /// Only records of money are.
    Tight,
    /// Nothing can be; records of money are held in memory.
    None,
}

/// What became of rows.
pub(super) enum Recorded {
    /// They are to be gathered, all but those at the places named, which break their table's declaration.
    All(Vec<usize>),
    /// As `All`, records of money alone.
    Billing(Vec<usize>),
    /// They are held or dropped.
    Nothing,
    /// Not recorded: the disk refused. Ask again after [`Recorder::worsen`].
    Full(io::Error),
}

pub(super) struct Recorder {
    folder: Folder,
    config: LogConfig,
    counters: Arc<Counters>,
    /// The run and its lock; absent as long as the folder refuses.
    writer: Option<(Writer, Guard)>,
    framer: Framer,
    room: Room,
    /// Frames that found no room.
    held: Vec<u8>,
    /// What the disk said last.
    trouble: String,
    synced: Time,
}

impl Recorder {
    pub(super) fn new(folder: Folder, config: LogConfig, counters: Arc<Counters>) -> Self {
        let room = if config.journal { Room::None } else { Room::Off };
        let framer = Framer::default();
        Self { folder, config, counters, writer: None, framer, room, held: Vec::new(), trouble: String::new(), synced: Time::ZERO }
    }

    pub(super) const fn room(&self) -> Room {
        self.room
    }
    pub(super) fn run(&self) -> Option<&Run> {
        self.writer.as_ref().map(|(writer, _)| writer.run())
    }
    pub(super) fn current(&self) -> Option<SegmentId> {
        self.writer.as_ref().map(|(writer, _)| writer.current())
    }
    pub(super) fn in_trouble(&self) -> bool {
        matches!(self.room, Room::Tight | Room::None)
    }
    /// What is wrong, in words for whoever flushes.
    pub(super) fn problem(&self) -> Option<String> {
        match self.room {
            Room::Off | Room::Plenty => None,
            Room::Tight => Some(format!("the journal finds no room ({}): only records of money are kept", self.trouble)),
            Room::None => Some(format!("the journal takes nothing ({}): records of money wait in memory", self.trouble)),
        }
    }
    /// Whether the open segment must be kept, because there would be no room for another.
    pub(super) fn clings(&self) -> bool {
        self.room == Room::Tight && self.is_in_reserve()
    }
    /// Whether the open segment is in the space that was set aside.
    pub(super) fn is_in_reserve(&self) -> bool {
        self.writer.as_ref().is_some_and(|(writer, _)| writer.in_reserve() == Some(true))
    }

    fn set_room(&mut self, room: Room) {
        if room != self.room {
            match self.problem_of(room) {
                Some(problem) => tracing::error!(error = %self.trouble, "{problem}"),
                None if !self.trouble.is_empty() => tracing::info!("the journal records everything again"),
                None => {}
            }
        }
        if room == Room::Plenty {
            // Files that cannot be written say so again.
            self.trouble.clear();
            self.counters.wrote();
        }
        self.room = room;
        self.counters.journal.set_room(room);
    }

    fn problem_of(&self, room: Room) -> Option<&'static str> {
        match room {
            Room::Off | Room::Plenty => None,
            Room::Tight => Some("the journal finds no room: only records of money are kept, other log rows are dropped and counted"),
            Room::None => Some("the journal takes nothing: records of money wait in memory and are lost if the process dies"),
        }
    }

    /// Records rows, or says that there is no room for them any more.
    pub(super) fn record(&mut self, entries: &[Entry<'_>], crowded: bool) -> Recorded {
        match self.room {
            Room::Off => return Recorded::All(Vec::new()),
            Room::None => {
                self.drop_others(entries);
                self.hold(entries);
                return Recorded::Nothing;
            }
            Room::Plenty | Room::Tight => {}
        }
        let only_billing = self.room == Room::Tight || crowded;
        let refused = self.frame(entries, only_billing);
        let appended = match &mut self.writer {
            Some((writer, _)) => writer.append(self.framer.bytes()),
            None => Err(io::Error::other(if self.trouble.is_empty() { "no run has begun" } else { &*self.trouble }.to_owned())),
        };
        self.framer.clear();
        match appended {
            Err(error) => return Recorded::Full(error),
            Ok(()) => refused.iter().filter_map(|place| entries.get(*place)).for_each(|entry| self.refuse(entry)),
        }
        if only_billing {
            self.drop_others(entries);
            Recorded::Billing(refused)
        } else {
            Recorded::All(refused)
        }
    }

    /// Puts rows into frames; answers the places of those that cannot be.
    fn frame(&mut self, entries: &[Entry<'_>], only_billing: bool) -> Vec<usize> {
        let mut refused = Vec::new();
        for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.billing || !only_billing) {
            if let Err(column) = self.framer.put(entry.table, entry.row) {
                self.counters.failed(format!("{}: a row breaks the declaration of column `{column}`", entry.table.name));
                refused.push(place);
            }
        }
        refused
    }

    fn refuse(&self, entry: &Entry<'_>) {
        self.counters.of(entry.table).dropped_write.fetch_add(1, Relaxed);
    }

    fn drop_others(&self, entries: &[Entry<'_>]) {
        for entry in entries.iter().filter(|entry| !entry.billing) {
            self.counters.of(entry.table).dropped_disk.fetch_add(1, Relaxed);
        }
    }

    /// Keeps records of money in memory, as long as that is within its bound.
    fn hold(&mut self, entries: &[Entry<'_>]) {
        for entry in entries.iter().filter(|entry| entry.billing) {
            if self.held.len() + self.framer.len() + entry.bytes > self.config.max_file_bytes {
                self.counters.of(entry.table).dropped_billing.fetch_add(1, Relaxed);
            } else if self.framer.put(entry.table, entry.row).is_err() {
                self.refuse(entry);
            }
        }
        self.held.extend_from_slice(self.framer.bytes());
        self.framer.clear();
        self.counters.journal.held_bytes.store(self.held.len() as u64, Relaxed);
    }

    /// The disk refused: from now on there is less room. The segment before must have been sealed where there was plenty.
    pub(super) fn worsen(&mut self, error: &io::Error) {
        self.trouble = error.to_string();
        self.counters.failed(self.trouble.clone());
        let reserve = match (&mut self.writer, self.room) {
            (Some((writer, _)), Room::Plenty) => writer.begin_in_reserve().is_ok(),
            _ => false,
        };
        self.set_room(if reserve { Room::Tight } else { Room::None });
    }

    /// Begins the run where that was not possible yet.
    pub(super) fn begin_run(&mut self, now: Time) -> bool {
        if self.writer.is_none() {
            match self.folder.claim(&self.config.instance, now) {
                Ok((run, guard)) => self.writer = Some((Writer::new(self.folder.clone(), run, self.config.journal_reserve), guard)),
                Err(error) => {
                    let trouble = format!("{}: {error}", self.folder.dir.display());
                    // Once, however often it is tried.
                    if self.trouble != trouble {
                        tracing::error!(%error, dir = %self.folder.dir.display(), "the folder log.dir cannot be written: nothing is logged");
                    }
                    self.counters.failed(trouble.clone());
                    self.trouble = trouble;
                    self.counters.journal.set_room(self.room);
                }
            }
        }
        self.writer.is_some()
    }

    /// Whether all the space that is to be set aside is.
    pub(super) fn set_aside(&mut self) -> bool {
        let Some((writer, _)) = &self.writer else { return false };
        match writer.set_aside() {
            Ok(()) => true,
            Err(error) => {
                self.trouble = error.to_string();
                false
            }
        }
    }

    pub(super) fn inherit(&self, from: &Run) {
        if let Some((writer, _)) = &self.writer {
            writer.inherit(from);
        }
    }

    /// Ends the open segment, or takes the next number where there is no journal.
    pub(super) fn seal(&mut self) -> Option<(SegmentId, u64, Option<Unsynced>)> {
        let (writer, _) = self.writer.as_mut()?;
        match self.room {
            Room::Off => Some((writer.skip(), 0, None)),
            _ => writer.seal().map(|(id, length, unsynced)| (id, length, Some(unsynced))),
        }
    }

    /// Begins the next segment after one was sealed.
    pub(super) fn begin(&mut self) {
        let Some((writer, _)) = &mut self.writer else { return };
        if self.room != Room::Off
            && let Err(error) = writer.begin()
        {
            self.worsen(&error);
        }
    }

    /// There is room again, at least for records of money: begins a segment, and puts into it what was held. Answers these
    /// rows, to be gathered; none when the disk refuses still.
    pub(super) fn recover(&mut self, set_aside: bool) -> Option<Gathered> {
        let (writer, _) = self.writer.as_mut()?;
        let begun = if writer.in_reserve().is_some() { Ok(()) } else { writer.begin() };
        if let Err(error) = begun.and_then(|()| writer.append(&self.held)) {
            self.trouble = error.to_string();
            self.set_room(Room::None);
            return None;
        }
        let held = self.held();
        self.held = Vec::new();
        self.counters.journal.held_bytes.store(0, Relaxed);
        self.set_room(if set_aside { Room::Plenty } else { Room::Tight });
        Some(held)
    }

    /// The rows that are held in memory.
    pub(super) fn held(&self) -> Gathered {
        let (mut gathered, bytes) = (Gathered::default(), [&header(), self.held.as_slice()].concat());
        if let Ok(segment) = Segment::read(&bytes) {
            segment.rows(&mut |table, row| gathered.push(table, row, 0));
        }
        gathered
    }

    /// What is to be synced by now.
    pub(super) fn sync_due(&mut self, now: Time) -> Option<Unsynced> {
        if now.since(self.synced) < self.config.journal_sync {
            return None;
        }
        self.synced = now;
        let (writer, _) = self.writer.as_mut()?;
        writer.unsynced().unwrap_or_else(|error| {
            self.counters.unsynced(&error);
            None
        })
    }

    /// Ends the run; what is held still is lost, and counted.
    pub(super) fn end(&mut self) {
        let (lost, _) = self.held().finish();
        for part in &lost {
            let rows = part.batch.num_rows() as u64;
            tracing::error!(table = part.table.name, rows, "records of money were lost: the disk took nothing up to the end");
            self.counters.of(part.table).dropped_billing.fetch_add(rows, Relaxed);
        }
        if let Some((writer, _)) = &self.writer
            && !self.folder.segments().iter().any(|id| id.run == *writer.run())
        {
            self.folder.end(writer.run());
        }
    }
}

/// How often it is tried whether the disk has room again.
pub(super) const HEAL_EVERY: Span = Span::from_secs(1);
