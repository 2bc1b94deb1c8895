//! Training rows of the `ttl` task: what was known when a copy was fetched, and when it was first seen to have changed.

use crate::learn::{Examples, LOG_RANGE, Priors, derivatives as hazard_derivatives, factors};

/// Rows in columns. Ages are cut into [`Rows::outputs`] intervals (`TTL_HORIZONS`); exposures are counted in changes that the live
/// statistics expected, so a learner that answers zero everywhere says "the live statistics are right".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// How many features a row has.
    pub width: usize,
    /// How many age intervals there are.
    pub outputs: usize,
    /// Features, row after row.
    pub features: Vec<f32>,
    /// Changes expected per age interval while the copy was seen unchanged, row after row.
    pub survived: Vec<f32>,
    /// Changes expected per age interval between the last look without and the first with the change, row after row; all zero when no
    /// change was seen.
    pub within: Vec<f32>,
    /// When each copy was fetched, ns.
    pub at_ns: Vec<i64>,
    /// Weight of each row in the likelihood.
    pub weights: Vec<f32>,
    /// Index of each row's route in [`Rows::routes`].
    pub route: Vec<u32>,
    /// Whose copies they are: equal for the rows of one key in one pass over the log.
    pub keys: Vec<u64>,
    /// Names of the routes.
    pub routes: Vec<String>,
}

/// What became of a copy: its first change lies in `(unchanged_s, changed_s]` seconds after the fetch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fate {
    /// Age at which the copy was last seen unchanged, seconds.
    pub unchanged_s: f32,
    /// Age at which it was first seen changed, seconds; infinite when that was never seen (right-censored).
    pub changed_s: f32,
}

impl Fate {
    /// Whether a change was seen.
    pub fn changed(&self) -> bool {
        self.changed_s.is_finite()
    }
    /// Age at which a change was seen, seconds.
    pub fn seen_s(&self) -> Option<f64> {
        self.changed().then_some(f64::from(self.changed_s))
    }
    /// Whether anything was seen: a change within no time has no likelihood, nor has a copy that was not looked at again.
    pub fn tells(&self) -> bool {
        if self.changed() { self.changed_s > self.unchanged_s } else { self.unchanged_s > 0.0 }
    }
}

/// One row on its way in.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// See [`Rows::features`].
    pub features: &'a [f32],
    /// See [`Rows::survived`].
    pub survived: &'a [f32],
    /// See [`Rows::within`].
    pub within: &'a [f32],
    /// See [`Rows::at_ns`].
    pub at_ns: i64,
    /// See [`Rows::route`].
    pub route: u32,
    /// See [`Rows::keys`].
    pub key: u64,
    /// See [`Rows::weights`].
    pub weight: f32,
}

impl Rows {
    /// No rows yet, of `width` features and `outputs` age intervals.
    pub fn new(width: usize, outputs: usize) -> Self {
        Self { width, outputs, ..Self::default() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.at_ns.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.at_ns.is_empty()
    }
    /// The features of row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        self.features.get(i * self.width..(i + 1) * self.width).unwrap_or_default()
    }
    /// The exposures of row `i`: survived, within.
    pub fn exposure(&self, i: usize) -> (&[f32], &[f32]) {
        let part = i * self.outputs..(i + 1) * self.outputs;
        (self.survived.get(part.clone()).unwrap_or_default(), self.within.get(part).unwrap_or_default())
    }
    /// Whether row `i` saw a change.
    pub fn changed(&self, i: usize) -> bool {
        self.exposure(i).1.iter().any(|w| *w > 0.0)
    }
    /// How many rows saw a change.
    pub fn changes(&self) -> usize {
        (0..self.len()).filter(|i| self.changed(*i)).count()
    }

    /// Adds a row. Numbers that are not finite become zero and short slices are filled with zeros: that only meets damaged logs,
    /// for the spec flags what is missing.
    pub fn push(&mut self, row: &Row<'_>) {
        fill(&mut self.features, row.features, self.width, f32::NEG_INFINITY);
        fill(&mut self.survived, row.survived, self.outputs, 0.0);
        fill(&mut self.within, row.within, self.outputs, 0.0);
        self.at_ns.push(row.at_ns);
        self.weights.push(if row.weight.is_finite() { row.weight.max(0.0) } else { 0.0 });
        self.route.push(row.route);
        self.keys.push(row.key);
    }

    /// Row `i`.
    pub fn get(&self, i: usize) -> Row<'_> {
        let (survived, within) = self.exposure(i);
        Row {
            features: self.row(i),
            survived,
            within,
            at_ns: self.at_ns[i],
            route: self.route[i],
            key: self.keys[i],
            weight: self.weights[i],
        }
    }

    /// The rows that `keep` chooses.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut out = Self { routes: self.routes.clone(), ..Self::new(self.width, self.outputs) };
        for i in (0..self.len()).filter(|i| keep(*i)) {
            out.push(&self.get(i));
        }
        out
    }
}

impl Examples for Rows {
    fn len(&self) -> usize {
        self.at_ns.len()
    }
    fn width(&self) -> usize {
        self.width
    }
    fn outputs(&self) -> usize {
        self.outputs
    }
    fn row(&self, i: usize) -> &[f32] {
        Self::row(self, i)
    }
    fn prepared(&self, answers: &[f32], into: &mut [f32]) {
        factors(answers, into);
    }
    fn derivatives(&self, i: usize, at: &[f32], into: (&mut [f32], &mut [f32])) {
        hazard_derivatives(at, self.exposure(i), self.weights[i], into);
    }
    /// A Gamma prior of mean 1 on the factor.
    fn pull(&self, distance: f64) -> (f64, f64) {
        let ratio = distance.exp();
        (1.0 - ratio, ratio)
    }
    fn range(&self) -> f32 {
        LOG_RANGE
    }
    fn priors(&self) -> Priors {
        Priors { leaf: 5.0, output: 20.0 }
    }
}

fn fill(column: &mut Vec<f32>, values: &[f32], width: usize, least: f32) {
    let end = column.len() + width;
    column.extend(values.iter().take(width).map(|x| if x.is_finite() { x.max(least) } else { 0.0 }));
    column.resize(end, 0.0);
}
