//! Runs of processes and the segments that belong to them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_types::Time;

use super::{Disk, FOLDER, Guard};

/// One process from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    /// Name of the writer: letters, digits, `_` and `.`.
    instance: Arc<str>,
    /// Microseconds since 1970 at the start, or the next number that was free.
    started: u64,
}

/// A segment, and by their names the Parquet files made of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    pub(crate) run: Run,
    pub(crate) number: u64,
}

impl Run {
    fn text(&self) -> String {
        format!("{}-{:016}", self.instance, self.started)
    }

    fn parse(text: &str) -> Option<Self> {
        let (instance, started) = text.split_once('-')?;
        Some(Self { instance: instance.into(), started: started.parse().ok()? })
    }

    fn lock_name(&self) -> String {
        format!("run-{}.lock", self.text())
    }
    /// Name of the run's reserve.
    pub(crate) fn reserve_name(&self) -> String {
        format!("reserve-{}", self.text())
    }
}

impl SegmentId {
    /// Name of the segment's file.
    pub(crate) fn segment_name(&self) -> String {
        format!("seg-{}-{:06}.fj", self.run.text(), self.number)
    }
    /// Name of the Parquet files made of it.
    pub(crate) fn part_name(&self) -> String {
        format!("part-{}-{:06}.parquet", self.run.text(), self.number)
    }
    /// The segment that a Parquet file was made of.
    pub(crate) fn of_part(path: &Path) -> Option<Self> {
        Self::parse(name(path).strip_prefix("part-")?.strip_suffix(".parquet")?)
    }
    fn of_segment(path: &Path) -> Option<Self> {
        Self::parse(name(path).strip_prefix("seg-")?.strip_suffix(".fj")?)
    }
    fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.rsplit_once('-')?;
        Some(Self { run: Run::parse(run)?, number: number.parse().ok()? })
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The journal's folder.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

/// A run whose process has died; nobody else cares for it as long as this lives.
pub(crate) struct Dead {
    pub(crate) run: Run,
    pub(crate) segments: Vec<SegmentId>,
    guard: Guard,
}

impl Folder {
    /// The journal of the log in `log`.
    pub(crate) fn of(disk: Arc<dyn Disk>, log: &Path) -> Self {
        Self { disk, dir: log.join(FOLDER) }
    }

    pub(crate) fn path(&self, id: &SegmentId) -> PathBuf {
        self.dir.join(id.segment_name())
    }

    /// Begins a run.
    ///
    /// # Errors
    /// What the system says about the folder or the lock.
    pub(crate) fn claim(&self, instance: &str, now: Time) -> io::Result<(Run, Guard)> {
        self.disk.create_dirs(&self.dir)?;
        let mut started = u64::try_from(now.nanos() / 1_000).unwrap_or_default();
        loop {
            let run = Run { instance: instance.into(), started };
            match self.disk.lock(&self.dir.join(run.lock_name()), true) {
                Ok(Some(guard)) => return Ok((run, guard)),
                // Another process began in the same microsecond, or takes this run for a dead one already.
                Ok(None) => started += 1,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => started += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a run without segments.
    pub(crate) fn end(&self, run: &Run) {
        let _ = self.disk.remove(&self.dir.join(run.lock_name()));
    }

    /// The runs whose processes have died, beside `own`; from now on they are ours.
    pub(crate) fn dead(&self, own: Option<&Run>) -> Vec<Dead> {
        let runs = self.runs().into_iter().filter(|run| Some(run) != own);
        runs.filter_map(|run| self.bury(run)).collect()
    }

    /// All runs that left something.
    pub(crate) fn runs(&self) -> BTreeSet<Run> {
        let paths = self.disk.list(&self.dir);
        let of_lock = |path: &PathBuf| Run::parse(name(path).strip_prefix("run-")?.strip_suffix(".lock")?);
        let of_reserve = |path: &PathBuf| Run::parse(name(path).strip_prefix("reserve-")?);
        let of_any = |path: &PathBuf| of_lock(path).or_else(|| of_reserve(path)).or_else(|| Some(SegmentId::of_segment(path)?.run));
        paths.iter().filter_map(of_any).collect()
    }

    /// `None` when its process lives, or another cares for it.
    fn bury(&self, run: Run) -> Option<Dead> {
        let lock = self.dir.join(run.lock_name());
        let locked = match self.disk.lock(&lock, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.lock(&lock, true),
            locked => locked,
        };
        let guard = locked.ok()??;
        // Listed under the lock: whoever had it before has finished.
        let segments = self.segments().into_iter().filter(|id| id.run == run).collect();
        Some(Dead { run, segments, guard })
    }

    /// Whether a run's process lives, or somebody cares for it.
    pub(crate) fn lives(&self, run: &Run) -> bool {
        matches!(self.disk.lock(&self.dir.join(run.lock_name()), false), Ok(None))
    }

    /// All segments, whoever they belong to.
    pub(crate) fn segments(&self) -> Vec<SegmentId> {
        self.disk.list(&self.dir).iter().filter_map(|path| SegmentId::of_segment(path)).collect()
    }

    /// Lets go of a dead run; its lock goes with its last segment.
    pub(crate) fn release(&self, dead: Dead) {
        if !self.segments().iter().any(|id| id.run == dead.run) {
            let _ = self.disk.remove(&self.dir.join(dead.run.reserve_name()));
            self.end(&dead.run);
        }
        drop(dead.guard);
    }
}

#[cfg(test)]
mod tests {
    use super::super::RealDisk;
    use super::*;

    #[test]
    fn names_tell_run_and_number() {
        let run = Run { instance: "eu_1.a".into(), started: 1_790_000_000_000_000 };
        let id = SegmentId { run, number: 7 };
        assert_eq!(id.part_name(), "part-eu_1.a-1790000000000000-000007.parquet");
        assert_eq!(SegmentId::of_part(Path::new(&format!("requests/{}", id.part_name()))), Some(id.clone()));
        assert_eq!(SegmentId::of_segment(Path::new(&id.segment_name())), Some(id));
        for other in ["part-x.parquet", "part-a-1.parquet", ".part-a-1-2.parquet.tmp", "part-a-b-1.parquet", "seg-a-1-1.fj"] {
            assert_eq!(SegmentId::of_part(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_run_belongs_to_one_process_and_the_dead_to_who_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(Arc::new(RealDisk), dir.path());
        let (first, living) = folder.claim("a", Time::from_millis(5)).unwrap();
        let (second, guard) = folder.claim("a", Time::from_millis(5)).unwrap();
        assert_eq!((first.started, second.started), (5_000, 5_001));
        let id = SegmentId { run: second.clone(), number: 3 };
        std::fs::write(folder.path(&id), b"").unwrap();
        assert!(folder.dead(None).is_empty(), "both live");
        drop(guard);
        let mut dead = folder.dead(Some(&first));
        assert_eq!(dead.iter().map(|dead| (dead.run.clone(), dead.segments.clone())).collect::<Vec<_>>(), [(second, vec![id.clone()])]);
        assert!(folder.dead(Some(&first)).is_empty(), "one cares for it already");
        folder.release(dead.remove(0));
        let mut dead = folder.dead(Some(&first));
        assert_eq!(dead.len(), 1, "its segment is still there");
        std::fs::remove_file(folder.path(&id)).unwrap();
        folder.release(dead.remove(0));
        assert!(folder.dead(Some(&first)).is_empty());
        drop(living);
        assert_eq!(folder.disk.list(&folder.dir).len(), 1, "only the first one's lock");
    }
}
