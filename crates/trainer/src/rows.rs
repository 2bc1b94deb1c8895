//! Training rows of the `ttl` task: what was known when a copy was fetched, and when it was first seen to have changed.

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
}

/// Rows in columns.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// How many features a row has.
    pub width: usize,
    /// Features, row after row.
    pub features: Vec<f32>,
    /// What became of each copy.
    pub fates: Vec<Fate>,
    /// When each copy was fetched, ns.
    pub at_ns: Vec<i64>,
    /// Weight of each row in the likelihood.
    pub weights: Vec<f32>,
    /// Index of each row's route in [`Rows::routes`].
    pub route: Vec<u32>,
    /// Names of the routes.
    pub routes: Vec<String>,
}

impl Rows {
    /// An empty set of rows with `width` features.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.fates.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fates.is_empty()
    }
    /// The features of row `i`.
    pub fn row(&self, i: usize) -> &[f32] {
        self.features.get(i * self.width..(i + 1) * self.width).unwrap_or_default()
    }
    /// How many rows saw a change.
    pub fn changes(&self) -> usize {
        self.fates.iter().filter(|f| f.changed()).count()
    }

    /// Adds a row. Features that are not finite become zero: the spec flags what is missing, so this only meets damaged logs.
    pub fn push(&mut self, features: &[f32], fate: Fate, at_ns: i64, route: u32) {
        let start = self.features.len();
        self.features.extend(features.iter().take(self.width).map(|x| if x.is_finite() { *x } else { 0.0 }));
        self.features.resize(start + self.width, 0.0);
        self.fates.push(fate);
        self.at_ns.push(at_ns);
        self.weights.push(1.0);
        self.route.push(route);
    }

    /// The rows that `keep` chooses.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut out = Self { routes: self.routes.clone(), ..Self::new(self.width) };
        for i in (0..self.len()).filter(|i| keep(*i)) {
            out.push(self.row(i), self.fates[i], self.at_ns[i], self.route[i]);
            if let Some(weight) = out.weights.last_mut() {
                *weight = self.weights[i];
            }
        }
        out
    }
}
