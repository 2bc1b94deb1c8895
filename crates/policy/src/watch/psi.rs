//! Whether features are spread as they were when the predictor learned: the population stability index against bins of a reference, less what chance alone
//! gives. It only ever warns: a feature may move without harm.

/// Bins of a feature.
const BINS: usize = 10;
/// Rows of a window.
const WINDOW: u32 = 1_000;
/// Least share of a bin, so that an empty one does not make the index infinite.
const LEAST: f64 = 1e-3;
/// An index beyond this, less its noise, is told as a shift (a convention of credit scoring).
pub const SHIFTED: f64 = 0.25;

/// What rows are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Upper edges of the bins but the last, for each feature; equal ones were taken together.
    edges: Vec<Vec<f32>>,
    shares: Vec<Vec<f64>>,
    rows: f64,
}

impl Reference {
    /// Bins of about equal weight over `rows`, all as wide as the first; `None` with fewer rows than would fill them.
    pub fn of<'a>(rows: impl Iterator<Item = &'a [f32]>) -> Option<Self> {
        let rows: Vec<&[f32]> = rows.collect();
        let width = rows.first().map(|row| row.len())?;
        if rows.len() < 5 * BINS || rows.iter().any(|row| row.len() != width) {
            return None;
        }
        let edges: Vec<Vec<f32>> = (0..width).map(|feature| edges(rows.iter().map(|row| row[feature]).collect())).collect();
        let mut counts: Vec<Vec<f64>> = edges.iter().map(|edges| vec![0.0; edges.len() + 1]).collect();
        for row in &rows {
            for ((value, edges), counts) in row.iter().zip(&edges).zip(&mut counts) {
                counts[bin(edges, *value)] += 1.0;
            }
        }
        let total = rows.len() as f64;
        let shares = counts.into_iter().map(|counts| counts.into_iter().map(|count| count / total).collect()).collect();
        Some(Self { edges, shares, rows: total })
    }

    /// Rows it was made of.
    pub fn rows(&self) -> u64 {
        self.rows as u64
    }
}

fn edges(mut values: Vec<f32>) -> Vec<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let mut edges: Vec<f32> = (1..BINS).map(|n| values[n * (values.len() - 1) / BINS]).collect();
    edges.dedup();
    // Nothing lies beyond the largest.
    edges.retain(|edge| values.last().is_some_and(|largest| edge < largest));
    edges
}

fn bin(edges: &[f32], value: f32) -> usize {
    edges.partition_point(|edge| value > *edge)
}

/// Counts rows against a reference, window by window.
#[derive(Clone, Debug, PartialEq)]
pub struct Psi {
    reference: Reference,
    counts: Vec<Vec<u32>>,
    rows: u32,
    report: Option<PsiReport>,
}

/// The last whole window.
#[derive(Clone, Debug, PartialEq)]
pub struct PsiReport {
    /// Index of each feature, less the noise; 0 and more.
    pub shifts: Vec<f64>,
    /// What chance alone gives a feature in all bins: `(B - 1) (1/n + 1/m)`.
    pub noise: f64,
}

impl Psi {
    /// Nothing is counted yet.
    pub fn new(reference: Reference) -> Self {
        let counts = reference.edges.iter().map(|edges| vec![0; edges.len() + 1]).collect();
        Self { reference, counts, rows: 0, report: None }
    }

    /// What rows are compared with.
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }
    /// The last whole window; `None` before the first has ended.
    pub const fn report(&self) -> Option<&PsiReport> {
        self.report.as_ref()
    }

    /// Counts a row; true when it has ended a window.
    pub fn add(&mut self, row: &[f32]) -> bool {
        for ((value, edges), counts) in row.iter().zip(&self.reference.edges).zip(&mut self.counts) {
            counts[bin(edges, *value)] += 1;
        }
        self.rows += 1;
        if self.rows < WINDOW {
            return false;
        }
        let (live, noise) = (f64::from(self.rows), |bins: usize, n: f64, m: f64| (bins.max(1) - 1) as f64 * (1.0 / n + 1.0 / m));
        let shift = |(counts, shares): (&Vec<u32>, &Vec<f64>)| {
            let parts = counts.iter().zip(shares).map(|(count, share)| {
                let (now, then) = ((f64::from(*count) / live).max(LEAST), share.max(LEAST));
                (now - then) * (now / then).ln()
            });
            (parts.sum::<f64>() - noise(counts.len(), live, self.reference.rows)).max(0.0)
        };
        let shifts = self.counts.iter().zip(&self.reference.shares).map(shift).collect();
        self.report = Some(PsiReport { shifts, noise: noise(BINS, live, self.reference.rows) });
        self.counts.iter_mut().flatten().for_each(|count| *count = 0);
        self.rows = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// About normal: the sum of twelve uniform numbers.
    fn row(rng: &mut StdRng, shift: f32) -> [f32; 3] {
        let mut normal = || (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        let (a, b) = (normal(), normal() + shift);
        [a, b, if rng.random::<f32>() < 0.3 { 1.0 } else { 0.0 }]
    }

    fn psi(seed: u64) -> (Psi, StdRng) {
        let mut rng = StdRng::seed_from_u64(seed);
        let rows: Vec<_> = (0..256).map(|_| row(&mut rng, 0.0)).collect();
        (Psi::new(Reference::of(rows.iter().map(<[f32; 3]>::as_slice)).unwrap()), rng)
    }

    #[test]
    fn chance_alone_is_no_shift_and_a_shift_of_one_deviation_is() {
        let mut false_alarms = 0;
        for seed in 0..50 {
            let (mut psi, mut rng) = psi(seed);
            assert!((0..10 * WINDOW).filter(|_| psi.add(&row(&mut rng, 0.0))).count() == 10);
            false_alarms += usize::from(psi.report().unwrap().shifts.iter().any(|shift| *shift > SHIFTED));
            (0..WINDOW).for_each(|_| _ = psi.add(&row(&mut rng, 1.0)));
            let shifts = &psi.report().unwrap().shifts;
            assert!(shifts[1] > SHIFTED && shifts[0] < SHIFTED && shifts[2] < 0.05, "{shifts:?}");
        }
        assert_eq!(false_alarms, 0);
    }

    #[test]
    fn a_feature_that_never_differs_has_one_bin() {
        let rows: Vec<[f32; 1]> = vec![[4.0]; 100];
        let mut psi = Psi::new(Reference::of(rows.iter().map(<[f32; 1]>::as_slice)).unwrap());
        (0..WINDOW).for_each(|_| _ = psi.add(&[4.0]));
        assert_eq!(psi.report().unwrap().shifts, [0.0]);
        assert_eq!(Reference::of(rows[..20].iter().map(<[f32; 1]>::as_slice)), None);
    }
}
