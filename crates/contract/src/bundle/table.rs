//! `table.bin`: a tree ensemble in a flat little-endian form, for proxies without the native library.
//!
//! ```text
//! magic `FTREES01`, u32 features, u32 outputs, f32 base per output, u32 trees;
//! per tree: u32 nodes, u32 leaves, the nodes, the leaf values (f32, leaf-major: `outputs` of leaf 0, of leaf 1 ...);
//! per node: u32 feature (`0xffff_ffff` marks a leaf), f32 threshold, u32 low, u32 high
//! ```
//! A row goes to node `low` when `row[feature] < threshold`, else (also NaN) to `high`; children come after their parent, node 0 is the
//! root. In a leaf `low` is its number. An answer is the sum of the leaves' values plus the base. Digests are the manifest's business.

const MAGIC: &[u8; 8] = b"FTREES01";
const LEAF: u32 = u32::MAX;
const NODE_BYTES: usize = 16;

/// A parsed table, laid out for asking.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    features: usize,
    base: Vec<f32>,
    roots: Vec<u32>,
    /// All trees one after the other; in a leaf `low` is where its values begin.
    nodes: Vec<Node>,
    values: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    feature: u32,
    threshold: f32,
    low: u32,
    high: u32,
}

impl Table {
    /// Reads the flat form. Refuses, with the reason, what is cut short, could loop or read outside a row, or is not finite.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or("it does not begin with FTREES01")?);
        let (features, outputs) = (reader.word()? as usize, reader.word()? as usize);
        if features == 0 || outputs == 0 {
            return Err("no features or no outputs");
        }
        let mut table = Self { features, base: Vec::new(), roots: Vec::new(), nodes: Vec::new(), values: Vec::new() };
        reader.floats(outputs, &mut table.base)?;
        for _ in 0..reader.word()? {
            table.tree(&mut reader)?;
        }
        if reader.0.is_empty() { Ok(table) } else { Err("bytes follow the last tree") }
    }

    fn tree(&mut self, reader: &mut Reader<'_>) -> Result<(), &'static str> {
        let (nodes, leaves) = (reader.word()?, reader.word()?);
        if nodes == 0 || reader.0.len() / NODE_BYTES < nodes as usize {
            return Err("a tree is empty or cut short");
        }
        let root = u32::try_from(self.nodes.len()).map_err(|_| "too many nodes")?;
        let first_value = self.values.len();
        for n in 0..nodes {
            let node = Node { feature: reader.word()?, threshold: reader.float()?, low: reader.word()?, high: reader.word()? };
            let placed = if node.feature == LEAF { self.leaf(node, leaves, first_value) } else { self.inner(node, n..nodes, root) };
            self.nodes.push(placed?);
        }
        self.roots.push(root);
        reader.floats((leaves as usize).saturating_mul(self.outputs()), &mut self.values)
    }

    fn leaf(&self, node: Node, leaves: u32, first_value: usize) -> Result<Node, &'static str> {
        if node.low >= leaves {
            return Err("a leaf that is not there");
        }
        let place = first_value + node.low as usize * self.outputs();
        Ok(Node { low: u32::try_from(place).map_err(|_| "too many values")?, ..node })
    }

    /// `range` is from the node itself to the end of its tree.
    fn inner(&self, node: Node, range: std::ops::Range<u32>, root: u32) -> Result<Node, &'static str> {
        if node.feature as usize >= self.features {
            return Err("a node asks for a feature that is not there");
        }
        let below = |child: u32| child > range.start && child < range.end;
        if !below(node.low) || !below(node.high) || !node.threshold.is_finite() {
            return Err("its nodes do not make a tree");
        }
        let place = |child: u32| root.checked_add(child).ok_or("too many nodes");
        Ok(Node { low: place(node.low)?, high: place(node.high)?, ..node })
    }

    /// Features per row.
    pub fn features(&self) -> usize {
        self.features
    }
    /// Outputs per row.
    pub fn outputs(&self) -> usize {
        self.base.len()
    }

    /// Nodes of all trees.
    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }
    /// What is added to every answer.
    pub(super) fn base(&self) -> &[f32] {
        &self.base
    }
    /// The feature that a node asks for; `None` for leaves.
    pub(super) fn asks(&self, node: usize) -> Option<usize> {
        self.nodes.get(node).filter(|n| n.feature != LEAF).map(|n| n.feature as usize)
    }
    /// The nodes below and not below the threshold; `None` for leaves.
    pub(super) fn children(&self, node: usize) -> Option<[usize; 2]> {
        self.nodes.get(node).filter(|n| n.feature != LEAF).map(|n| [n.low as usize, n.high as usize])
    }
    /// The values of a leaf.
    pub(super) fn leaf_values(&self, node: usize) -> &[f32] {
        let from = self.nodes.get(node).map_or(0, |n| n.low as usize);
        self.values.get(from..from + self.outputs()).unwrap_or_default()
    }
    /// Visits the nodes on the row's way through each tree, root first.
    pub(super) fn paths(&self, row: &[f32], mut visit: impl FnMut(usize)) {
        for root in &self.roots {
            let mut at = *root as usize;
            while let Some(node) = self.nodes.get(at) {
                visit(at);
                if node.feature == LEAF {
                    break;
                }
                at = Self::next(node, row) as usize;
            }
        }
    }

    /// Answers a row of [`features`](Self::features) numbers into `out` of [`outputs`](Self::outputs) places; microseconds, no allocation.
    pub fn answer(&self, row: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        for root in &self.roots {
            let from = self.leaf_of(*root, row);
            let values = self.values.get(from..).unwrap_or_default();
            out.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        // Last, as ONNX Runtime does it: the same roundings in the same order.
        out.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum += base);
    }

    /// Where the values of the row's leaf begin. Ends because children come after their parent.
    fn leaf_of(&self, root: u32, row: &[f32]) -> usize {
        let mut at = root;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.feature == LEAF {
                return node.low as usize;
            }
            at = Self::next(node, row);
        }
        self.values.len()
    }

    fn next(node: &Node, row: &[f32]) -> u32 {
        let below = row.get(node.feature as usize).is_some_and(|x| *x < node.threshold);
        if below { node.low } else { node.high }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self) -> Result<[u8; 4], &'static str> {
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*head)
    }
    fn word(&mut self) -> Result<u32, &'static str> {
        self.take().map(u32::from_le_bytes)
    }
    fn float(&mut self) -> Result<f32, &'static str> {
        self.take().map(f32::from_le_bytes)
    }
    fn floats(&mut self, count: usize, into: &mut Vec<f32>) -> Result<(), &'static str> {
        if self.0.len() / 4 < count {
            return Err("it is cut short");
        }
        for _ in 0..count {
            let value = self.float()?;
            if !value.is_finite() {
                return Err("a value is not finite");
            }
            into.push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(n: u32) -> [u8; 4] {
        n.to_le_bytes()
    }
    fn node(feature: u32, threshold: f32, low: u32, high: u32) -> Vec<u8> {
        [word(feature), threshold.to_le_bytes(), word(low), word(high)].concat()
    }
    /// Two outputs, base (10, 20); the given trees of one split each on feature `f` at 0.5.
    fn table(features: &[u32]) -> Vec<u8> {
        let head =
            [MAGIC.as_slice(), &word(3), &word(2), &10_f32.to_le_bytes(), &20_f32.to_le_bytes(), &word(features.len() as u32)].concat();
        let leaf = |n| node(LEAF, 0.0, n, 0);
        let values: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let tree = |f: &u32| [&word(3), &word(2), node(*f, 0.5, 1, 2).as_slice(), &leaf(0), &leaf(1), &values].concat();
        features.iter().map(tree).fold(head, |all, tree| [all, tree].concat())
    }
    fn answer(bytes: &[u8], row: [f32; 3]) -> [f32; 2] {
        let (table, mut out) = (Table::parse(bytes).unwrap(), [f32::NAN; 2]);
        assert_eq!((table.features(), table.outputs()), (3, 2));
        table.answer(&row, &mut out);
        out
    }

    #[test]
    fn rows_go_low_only_below_the_threshold_and_trees_add_up() {
        let bytes = table(&[0, 2]);
        assert_eq!(answer(&bytes, [0.0, 9.0, 0.0]), [12.0, 24.0]);
        assert_eq!(answer(&bytes, [0.5, 9.0, 0.0]), [14.0, 26.0]);
        assert_eq!(answer(&bytes, [f32::NAN, 9.0, 0.7]), [16.0, 28.0]);
        assert_eq!(answer(&table(&[]), [0.0; 3]), [10.0, 20.0]);
    }

    #[test]
    fn damage_is_refused_or_harmless() {
        let bytes = table(&[0, 2]);
        for end in 0..bytes.len() {
            assert!(Table::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Table::parse(&[bytes.as_slice(), b"x"].concat()).is_err());
        for (at, flip) in (0..bytes.len()).flat_map(|at| [1, 0x80, 0xff].map(|flip| (at, flip))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            if let Ok(table) = Table::parse(&damaged) {
                let mut out = vec![0.0; table.outputs()];
                table.answer(&[0.0; 3], &mut out);
                assert!(out.iter().all(|x| !x.is_nan()), "byte {at}");
            }
        }
    }

    #[test]
    fn loops_and_foreign_features_are_refused() {
        let head = [MAGIC.as_slice(), &word(1), &word(1), &word(0), &word(1), &word(1), &word(0)].concat();
        let only = |root: Vec<u8>| Table::parse(&[head.clone(), root].concat()).unwrap_err();
        assert_eq!(only(node(0, 0.0, 0, 0)), "its nodes do not make a tree");
        assert_eq!(only(node(7, 0.0, 0, 0)), "a node asks for a feature that is not there");
        assert_eq!(only(node(LEAF, 0.0, 0, 0)), "a leaf that is not there");
    }
}
