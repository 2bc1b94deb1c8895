//! What schedules showed.

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answers: u64,
    pub hits: u64,
    /// Answers within the grace that were older than a purge that had been told.
    pub late: u64,
    pub told: u64,
    /// Purges that somebody else had told.
    pub known: u64,
    /// Purges told that their server lost.
    pub lost: u64,
    /// Times that an instance noticed a loss.
    pub gaps: u64,
    /// Looks into L2 that were of use.
    pub shared: u64,
    pub restarts: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.hits += other.hits;
        self.late += other.late;
        self.told += other.told;
        self.known += other.known;
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.shared += other.shared;
        self.restarts += other.restarts;
    }

    /// Or the schedules show nothing.
    pub fn assert_that_all_happens(&self, schedules: u64) {
        assert!(self.hits * 4 > self.answers, "memory is of use: {self:?}");
        let all = [self.late, self.told, self.known, self.lost, self.gaps, self.shared, self.restarts];
        assert!(all.iter().all(|count| *count > schedules / 50), "{self:?}");
    }
}
