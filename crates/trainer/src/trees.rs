//! Tree ensembles with several outputs: what each learner produces, what the ONNX file holds, what Rust evaluates.
//!
//! `table.bin` is an ensemble in a flat little-endian form: the magic `FTREES01`, u32 features, u32 outputs, the base (f32 per
//! output), u32 trees; per tree u32 nodes, u32 leaves, the nodes (u32 feature or `u32::MAX` for a leaf, f32 threshold, u32 low child
//! or number of the leaf, u32 high child), the leaf values (f32, leaf-major). Digests are the manifest's business.

/// Marks a leaf in [`Node::feature`].
const LEAF: u32 = u32::MAX;

/// A node of a tree: an inner node asks `x[feature] < threshold`; a leaf carries one value per output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    feature: u32,
    threshold: f32,
    low: u32,
    high: u32,
}

impl Node {
    /// An inner node: features below `threshold` go to node `low`, all others (also NaN) to `high`.
    pub const fn split(feature: u32, threshold: f32, low: u32, high: u32) -> Self {
        Self { feature, threshold, low, high }
    }
    /// The leaf with number `leaf` in its tree.
    pub const fn leaf(leaf: u32) -> Self {
        Self { feature: LEAF, threshold: 0.0, low: leaf, high: 0 }
    }
    /// Feature, threshold, and the nodes below and not below it; `None` for leaves.
    pub const fn as_split(&self) -> Option<(u32, f32, u32, u32)> {
        if self.feature == LEAF { None } else { Some((self.feature, self.threshold, self.low, self.high)) }
    }
    /// The number of the leaf; `None` for inner nodes.
    pub const fn as_leaf(&self) -> Option<u32> {
        if self.feature == LEAF { Some(self.low) } else { None }
    }
}

/// One tree; node 0 is the root, children come after their parent.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    nodes: Vec<Node>,
    /// Leaf-major: `values[leaf * outputs + output]`.
    values: Vec<f32>,
    outputs: usize,
}

impl Tree {
    /// A tree of `nodes` with `values` of its leaves, `outputs` each. `None` when the parts do not fit together.
    pub fn new(nodes: Vec<Node>, values: Vec<f32>, outputs: usize) -> Option<Self> {
        let leaves = nodes.iter().filter(|n| n.as_leaf().is_some()).count();
        let sound = nodes.iter().enumerate().all(|(i, node)| match (node.as_split(), node.as_leaf()) {
            (Some((_, threshold, low, high)), _) => {
                let inside = |n: u32| n as usize > i && (n as usize) < nodes.len();
                inside(low) && inside(high) && threshold.is_finite()
            }
            (None, Some(leaf)) => (leaf as usize) < leaves,
            (None, None) => false,
        });
        let whole = !nodes.is_empty() && outputs > 0 && values.len() == leaves * outputs;
        (sound && whole).then_some(Self { nodes, values, outputs })
    }

    /// The leaf that `row` falls into.
    pub fn leaf_of(&self, row: &[f32]) -> usize {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if node.feature == LEAF {
                return node.low as usize;
            }
            let below = row.get(node.feature as usize).is_some_and(|x| *x < node.threshold);
            at = if below { node.low } else { node.high } as usize;
        }
        0
    }

    /// The values of a leaf.
    pub fn leaf_values(&self, leaf: usize) -> &[f32] {
        self.values.get(leaf * self.outputs..(leaf + 1) * self.outputs).unwrap_or_default()
    }

    /// The nodes, root first.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> usize {
        self.values.len() / self.outputs
    }

    /// The longest way from the root to a leaf, in questions.
    pub fn depth(&self) -> usize {
        let mut depth = vec![0usize; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            if let Some((_, _, low, high)) = node.as_split() {
                depth[low as usize] = depth[i] + 1;
                depth[high as usize] = depth[i] + 1;
            }
        }
        depth.into_iter().max().unwrap_or(0)
    }

    fn scaled(&self, factor: f32) -> Self {
        Self { nodes: self.nodes.clone(), values: self.values.iter().map(|v| v * factor).collect(), outputs: self.outputs }
    }
}

/// A sum of trees over a base value, per output.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// How many features a row has.
    pub features: usize,
    /// Value per output before the trees.
    pub base: Vec<f32>,
    /// The trees.
    pub trees: Vec<Tree>,
}

impl Ensemble {
    /// Adds the trees' values for `row` to the base, into `out` (one place per output; longer slices keep their rest).
    pub fn eval(&self, row: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for tree in &self.trees {
            for (place, value) in out.iter_mut().zip(tree.leaf_values(tree.leaf_of(row))) {
                *place += value;
            }
        }
        // Last, as ONNX Runtime does it: the same roundings in the same order.
        for (place, base) in out.iter_mut().zip(&self.base) {
            *place += base;
        }
    }

    /// How many outputs there are.
    pub fn outputs(&self) -> usize {
        self.base.len()
    }

    /// The depth of the deepest tree.
    pub fn depth(&self) -> usize {
        self.trees.iter().map(Tree::depth).max().unwrap_or(0)
    }

    /// The weighted sum of ensembles over the same features and outputs, again as one ensemble. With logs and
    /// weights that sum to 1 this is the weighted geometric mean. `None` when the shapes differ.
    pub fn blend(parts: &[(f32, &Self)]) -> Option<Self> {
        let (_, first) = parts.first()?;
        let same = parts.iter().all(|(_, e)| e.features == first.features && e.outputs() == first.outputs());
        if !same {
            return None;
        }
        let mut base = vec![0.0; first.outputs()];
        let mut trees = Vec::new();
        for (weight, part) in parts.iter().filter(|(weight, _)| *weight != 0.0) {
            for (sum, value) in base.iter_mut().zip(&part.base) {
                *sum += weight * value;
            }
            trees.extend(part.trees.iter().map(|tree| tree.scaled(*weight)));
        }
        Some(Self { features: first.features, base, trees })
    }
}

impl Ensemble {
    /// One output repeated `outputs` times; `None` when there is more than one.
    pub fn repeated(&self, outputs: usize) -> Option<Self> {
        let [base] = self.base.as_slice() else { return None };
        let wide = |tree: &Tree| {
            let values = tree.values.iter().flat_map(|v| std::iter::repeat_n(*v, outputs)).collect();
            Tree { nodes: tree.nodes.clone(), values, outputs }
        };
        Some(Self { features: self.features, base: vec![*base; outputs], trees: self.trees.iter().map(wide).collect() })
    }
}

/// First bytes of the flat form.
const MAGIC: &[u8; 8] = b"FTREES01";

/// Bytes that are not an ensemble in the flat form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a table of trees: {0}")]
pub struct FlatError(&'static str);

impl Ensemble {
    /// The flat form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let word = |out: &mut Vec<u8>, n: usize| out.extend((n as u32).to_le_bytes());
        word(&mut out, self.features);
        word(&mut out, self.outputs());
        out.extend(self.base.iter().flat_map(|v| v.to_le_bytes()));
        word(&mut out, self.trees.len());
        for tree in &self.trees {
            word(&mut out, tree.nodes.len());
            word(&mut out, tree.leaves());
            for node in &tree.nodes {
                out.extend(node.feature.to_le_bytes());
                out.extend(node.threshold.to_le_bytes());
                out.extend(node.low.to_le_bytes());
                out.extend(node.high.to_le_bytes());
            }
            out.extend(tree.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        out
    }

    /// Reads the flat form; refuses what could loop, read outside a row or answer numbers that are not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FlatError> {
        let mut reader = Flat(bytes.strip_prefix(MAGIC).ok_or(FlatError("it does not begin with FTREES01"))?);
        let (features, outputs) = (reader.word()? as usize, reader.word()? as usize);
        if features == 0 || outputs == 0 {
            return Err(FlatError("no features or no outputs"));
        }
        let base = reader.floats(outputs)?;
        let count = reader.word()?;
        let mut trees = Vec::new();
        for _ in 0..count {
            trees.push(reader.tree(features, outputs)?);
        }
        if reader.0.is_empty() { Ok(Self { features, base, trees }) } else { Err(FlatError("bytes follow the last tree")) }
    }
}

struct Flat<'a>(&'a [u8]);

impl Flat<'_> {
    fn take(&mut self) -> Result<[u8; 4], FlatError> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or(FlatError("it is cut short"))?;
        self.0 = rest;
        Ok(*head)
    }
    fn word(&mut self) -> Result<u32, FlatError> {
        self.take().map(u32::from_le_bytes)
    }
    fn floats(&mut self, count: usize) -> Result<Vec<f32>, FlatError> {
        if self.0.len() / 4 < count {
            return Err(FlatError("it is cut short"));
        }
        let values: Vec<f32> = (0..count).map(|_| self.take().map(f32::from_le_bytes)).collect::<Result<_, _>>()?;
        if values.iter().all(|v| v.is_finite()) { Ok(values) } else { Err(FlatError("a value is not finite")) }
    }
    fn tree(&mut self, features: usize, outputs: usize) -> Result<Tree, FlatError> {
        let (nodes, leaves) = (self.word()? as usize, self.word()? as usize);
        if self.0.len() / 16 < nodes {
            return Err(FlatError("it is cut short"));
        }
        let mut list = Vec::with_capacity(nodes);
        for _ in 0..nodes {
            let (feature, threshold) = (self.word()?, f32::from_le_bytes(self.take()?));
            list.push(Node { feature, threshold, low: self.word()?, high: self.word()? });
        }
        if list.iter().any(|n| n.feature != LEAF && n.feature as usize >= features) {
            return Err(FlatError("a node asks for a feature that is not there"));
        }
        let values = self.floats(leaves.saturating_mul(outputs))?;
        Tree::new(list, values, outputs).ok_or(FlatError("its nodes do not make a tree"))
    }
}

/// The smallest f32 that is not below `x`: with it, `f32 < threshold` decides as `f32 < x` does in f64.
pub fn round_up(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) < x { near.next_up() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stump(feature: u32, threshold: f32, low: [f32; 2], high: [f32; 2]) -> Tree {
        let nodes = vec![Node::split(feature, threshold, 1, 2), Node::leaf(0), Node::leaf(1)];
        Tree::new(nodes, [low, high].concat(), 2).unwrap()
    }

    #[test]
    fn equality_and_nan_go_high() {
        let tree = stump(0, 0.5, [1.0, 2.0], [3.0, 4.0]);
        for (x, leaf) in [(0.4, 0), (0.5, 1), (0.6, 1), (f32::NAN, 1), (f32::NEG_INFINITY, 0)] {
            assert_eq!(tree.leaf_of(&[x]), leaf, "{x}");
        }
        assert_eq!(tree.leaf_of(&[]), 1, "a missing feature is not below");
    }

    #[test]
    fn broken_trees_are_refused() {
        assert!(Tree::new(vec![], vec![], 1).is_none());
        assert!(Tree::new(vec![Node::split(0, 0.0, 0, 0)], vec![], 1).is_none(), "a loop");
        assert!(Tree::new(vec![Node::split(0, f32::NAN, 1, 2), Node::leaf(0), Node::leaf(1)], vec![0.0; 2], 1).is_none());
        assert!(Tree::new(vec![Node::leaf(0)], vec![0.0], 2).is_none(), "values missing");
        assert!(Tree::new(vec![Node::leaf(3)], vec![0.0], 1).is_none(), "a leaf that is not there");
    }

    #[test]
    fn blending_is_the_weighted_sum() {
        let a = Ensemble { features: 2, base: vec![1.0, 0.0], trees: vec![stump(0, 0.0, [1.0, 2.0], [3.0, 4.0])] };
        let b = Ensemble { features: 2, base: vec![0.0, 1.0], trees: vec![stump(1, 0.0, [-1.0, 0.0], [0.0, 2.0])] };
        let both = Ensemble::blend(&[(0.25, &a), (0.75, &b)]).unwrap();
        let (mut x, mut y, mut z) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        for row in [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]] {
            a.eval(&row, &mut x);
            b.eval(&row, &mut y);
            both.eval(&row, &mut z);
            for k in 0..2 {
                assert!((z[k] - (0.25 * x[k] + 0.75 * y[k])).abs() < 1e-6);
            }
        }
        assert!(Ensemble::blend(&[(1.0, &a), (1.0, &Ensemble { features: 3, ..b })]).is_none());
    }

    #[test]
    fn the_flat_form_is_read_back_and_damage_is_refused() {
        let ensemble = Ensemble { features: 2, base: vec![0.5, -0.5], trees: vec![stump(1, 0.0, [1.0, 2.0], [3.0, 4.0]); 3] };
        let bytes = ensemble.to_bytes();
        assert_eq!(Ensemble::from_bytes(&bytes).unwrap(), ensemble);
        for end in 0..bytes.len() {
            assert!(Ensemble::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            if let Ok(read) = Ensemble::from_bytes(&damaged) {
                let mut out = [0.0; 2];
                read.eval(&[0.0; 2], &mut out);
                assert!(out.iter().all(|o| !o.is_nan()), "byte {at}");
            }
        }
    }

    #[test]
    fn thresholds_are_rounded_up() {
        for x in [0.1f64, 0.3, -0.1, 1e-30, 12_345.678_9, -7.1] {
            let t = round_up(x);
            assert!(f64::from(t) >= x && f64::from(t.next_down()) < x, "{x}");
        }
        assert_eq!(round_up(0.5), 0.5);
    }
}
