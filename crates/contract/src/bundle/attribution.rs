//! Why trees answered as they did: each split on the way to a leaf moves the answer from the mean of the node to the mean of its child, and
//! the move is booked on the feature that was asked (Saabas 2014; the path attribution that TreeSHAP, Lundberg et al. 2020, averages over
//! orders). Start plus moves give the answer exactly.
//!
//! The mean of a node is that of its leaves, weighted by how many of a background's rows reach each, and one half besides, so that leaves
//! that none reaches still count a little.

use super::table::Table;

/// An answer taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// What is answered where nothing is known of the row: the mean, per output.
    pub start: Vec<f64>,
    /// How far each feature moved each output: `moves[feature][output]`.
    pub moves: Vec<Vec<f64>>,
}

impl Attribution {
    /// Start plus all moves, per output.
    pub fn sum(&self) -> Vec<f64> {
        let mut sum = self.start.clone();
        self.moves.iter().for_each(|moves| add(&mut sum, moves));
        sum
    }
}

/// A table prepared for taking answers apart.
#[derive(Clone, Debug)]
pub struct Explainer<'a> {
    table: &'a Table,
    /// Mean answer of each node, node-major, in the order of the table's nodes.
    means: Vec<f64>,
}

/// Weight of a leaf that no row of the background reaches.
const UNSEEN: f64 = 0.5;

impl<'a> Explainer<'a> {
    /// Means over `background`, such as the rows that travel with a bundle.
    pub fn new<'b>(table: &'a Table, background: impl Iterator<Item = &'b [f32]>) -> Self {
        let (count, outputs) = (table.node_count(), table.outputs());
        let mut weights = vec![0.0; count];
        for row in background {
            table.paths(row, |node| weights[node] += 1.0);
        }
        let mut means = vec![0.0; count * outputs];
        // Children come after their parent: from the end on, a node's children are done before it.
        for node in (0..count).rev() {
            match table.children(node) {
                None => {
                    weights[node] += UNSEEN;
                    let values = table.leaf_values(node).iter().map(|v| f64::from(*v));
                    means[node * outputs..(node + 1) * outputs].iter_mut().zip(values).for_each(|(m, v)| *m = v);
                }
                Some([low, high]) => {
                    let (a, b) = (weights[low], weights[high]);
                    weights[node] = a + b;
                    for k in 0..outputs {
                        means[node * outputs + k] = (a * means[low * outputs + k] + b * means[high * outputs + k]) / (a + b);
                    }
                }
            }
        }
        Self { table, means }
    }

    /// Takes the answer to `row` apart.
    pub fn explain(&self, row: &[f32]) -> Attribution {
        let outputs = self.table.outputs();
        let mut start: Vec<f64> = self.table.base().iter().map(|b| f64::from(*b)).collect();
        let mut moves = vec![vec![0.0; outputs]; self.table.features()];
        // The inner node before this one on the way; a root comes after a leaf or at the beginning.
        let mut before: Option<(usize, usize)> = None;
        self.table.paths(row, |node| {
            match before {
                None => add(&mut start, self.mean(node)),
                Some((at, feature)) => {
                    if let Some(moves) = moves.get_mut(feature) {
                        let steps = self.mean(node).iter().zip(self.mean(at)).map(|(to, from)| to - from);
                        moves.iter_mut().zip(steps).for_each(|(sum, step)| *sum += step);
                    }
                }
            }
            before = self.table.asks(node).map(|feature| (node, feature));
        });
        Attribution { start, moves }
    }

    /// How far each feature moves the answers to `rows`, either way, on average over rows and outputs.
    pub fn importance<'b>(&self, rows: impl Iterator<Item = &'b [f32]>) -> Vec<f64> {
        let (mut sums, mut count) = (vec![0.0; self.table.features()], 0usize);
        for row in rows {
            count += self.table.outputs();
            let moves = self.explain(row).moves;
            sums.iter_mut().zip(moves).for_each(|(sum, moves)| *sum += moves.iter().map(|m| m.abs()).sum::<f64>());
        }
        sums.iter_mut().for_each(|sum| *sum /= count.max(1) as f64);
        sums
    }

    fn mean(&self, node: usize) -> &[f64] {
        let outputs = self.table.outputs();
        self.means.get(node * outputs..(node + 1) * outputs).unwrap_or_default()
    }
}

fn add(sum: &mut [f64], values: &[f64]) {
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += v);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(n: u32) -> [u8; 4] {
        n.to_le_bytes()
    }
    fn node(feature: u32, threshold: f32, low: u32, high: u32) -> Vec<u8> {
        [word(feature), threshold.to_le_bytes(), word(low), word(high)].concat()
    }
    /// Feature 0 at 0.5: low is leaf 0, high asks feature 1 at `cut`. One output.
    fn table(trees: &[([f32; 3], f32)]) -> Table {
        let mut bytes = [b"FTREES01".as_slice(), &word(3), &word(1), &10_f32.to_le_bytes(), &word(trees.len() as u32)].concat();
        for (leaves, cut) in trees {
            bytes.extend([word(5), word(3)].concat());
            for part in
                [node(0, 0.5, 1, 2), node(u32::MAX, 0.0, 0, 0), node(1, *cut, 3, 4), node(u32::MAX, 0.0, 1, 0), node(u32::MAX, 0.0, 2, 0)]
            {
                bytes.extend(part);
            }
            bytes.extend(leaves.iter().flat_map(|v| v.to_le_bytes()));
        }
        Table::parse(&bytes).unwrap()
    }

    #[test]
    fn moves_are_booked_on_the_features_that_were_asked() {
        let table = table(&[([1.0, 3.0, 5.0], 0.5)]);
        // Four rows: two low, one each high. Leaf weights 2.5, 1.5, 1.5: the mean of the high node is 4, of the root 14.5 / 5.5.
        let rows: Vec<[f32; 3]> = vec![[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0]];
        let explainer = Explainer::new(&table, rows.iter().map(<[f32; 3]>::as_slice));
        let found = explainer.explain(&[1.0, 1.0, 9.0]);
        let root = 14.5 / 5.5;
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(found.start[0], 10.0 + root), "{found:?}");
        assert!(near(found.moves[0][0], 4.0 - root) && near(found.moves[1][0], 1.0) && found.moves[2][0] == 0.0, "{found:?}");
        let importance = explainer.importance(rows.iter().map(<[f32; 3]>::as_slice));
        assert!(importance[0] > importance[1] && importance[1] > 0.0 && importance[2] == 0.0, "{importance:?}");
    }

    proptest! {
        #[test]
        fn start_and_moves_sum_to_the_answer(
            trees in proptest::collection::vec((proptest::array::uniform3(-5.0..5.0f32), -1.0..1.0f32), 0..6),
            rows in proptest::collection::vec(proptest::array::uniform3(-1.0..2.0f32), 0..20), row in proptest::array::uniform3(-1.0..2.0f32),
        ) {
            let table = table(&trees);
            let mut answer = [0.0];
            table.answer(&row, &mut answer);
            let found = Explainer::new(&table, rows.iter().map(<[f32; 3]>::as_slice)).explain(&row);
            prop_assert!((found.sum()[0] - f64::from(answer[0])).abs() < 1e-4, "{found:?} {answer:?}");
        }
    }
}
