//! Reads tree ensembles back from ONNX.

use std::collections::HashMap;

use prost::Message as _;

use super::{Attribute, Model, Operator, ValueInfo};
use crate::trees::{Ensemble, Node, Tree};

/// Values of leaves by tree and node.
type LeafValues = HashMap<(i64, i64), Vec<f32>>;

/// The trees of a file whose graph is one `TreeEnsembleRegressor` that sums: ours, and what converters make of other libraries' boosting.
/// `x <= t` becomes `x < next_up(t)`, which is the same for f32. Where NaN goes is not kept: features never are. What asks other questions,
/// or is more than trees, is refused.
///
/// # Errors
/// What the graph has that an [`Ensemble`] has not.
pub fn decode(bytes: &[u8]) -> Result<Ensemble, String> {
    let model = Model::decode(bytes).map_err(|e| format!("not an ONNX file: {e}"))?;
    let graph = model.graph.ok_or("it has no graph")?;
    let [op] = graph.node.as_slice() else { return Err(format!("{} operators, wanted one TreeEnsembleRegressor", graph.node.len())) };
    if op.op_type != "TreeEnsembleRegressor" {
        return Err(format!("operator {}, wanted TreeEnsembleRegressor", op.op_type));
    }
    let features = graph.input.first().and_then(columns_of).ok_or("the width of its input is not known")?;
    Stored { op, features }.ensemble()
}

/// Columns of a matrix.
fn columns_of(value: &ValueInfo) -> Option<usize> {
    let dims = &value.ty.as_ref()?.tensor.as_ref()?.shape.as_ref()?.dim;
    let last = dims.get(1).filter(|_| dims.len() == 2)?;
    usize::try_from(last.dim_value?).ok().filter(|n| *n > 0)
}

/// The operator's parallel arrays, read back.
struct Stored<'a> {
    op: &'a Operator,
    features: usize,
}

impl Stored<'_> {
    fn get(&self, name: &str) -> Option<&Attribute> {
        self.op.attribute.iter().find(|a| a.name == name)
    }
    fn ints(&self, name: &str) -> &[i64] {
        self.get(name).map_or(&[], |a| &a.ints)
    }
    fn floats(&self, name: &str) -> &[f32] {
        self.get(name).map_or(&[], |a| &a.floats)
    }

    fn ensemble(&self) -> Result<Ensemble, String> {
        let said = |name: &str| self.get(name).map(|a| String::from_utf8_lossy(&a.s).into_owned());
        for (name, wanted) in [("aggregate_function", "SUM"), ("post_transform", "NONE")] {
            if said(name).is_some_and(|found| found != wanted) {
                return Err(format!("{name} is not {wanted}"));
            }
        }
        let outputs = self.get("n_targets").and_then(|a| usize::try_from(a.i).ok()).filter(|n| (1..=1_000).contains(n));
        let outputs = outputs.ok_or("it names no number of targets")?;
        let mut base = self.floats("base_values").to_vec();
        base.resize(outputs, 0.0);
        let values = self.leaf_values(outputs)?;
        let ids = self.ints("nodes_treeids");
        let of_tree = |(start, ids): (usize, &[i64])| self.tree(start..start + ids.len(), outputs, &values);
        let mut start = 0;
        let parts = ids.chunk_by(|a, b| a == b).map(|part| {
            start += part.len();
            (start - part.len(), part)
        });
        let trees = parts.map(of_tree).collect::<Result<Vec<_>, _>>()?;
        Ok(Ensemble { features: self.features, base, trees })
    }

    /// Values of leaves by tree and node.
    fn leaf_values(&self, outputs: usize) -> Result<LeafValues, String> {
        let mut values = LeafValues::new();
        let places = self.ints("target_treeids").iter().zip(self.ints("target_nodeids")).zip(self.ints("target_ids"));
        for (((tree, node), target), weight) in places.zip(self.floats("target_weights")) {
            let leaf = values.entry((*tree, *node)).or_insert_with(|| vec![0.0; outputs]);
            let place = usize::try_from(*target).ok().and_then(|t| leaf.get_mut(t)).ok_or("a leaf answers a target that is not there")?;
            *place += weight;
        }
        Ok(values)
    }

    fn tree(&self, range: std::ops::Range<usize>, outputs: usize, values: &LeafValues) -> Result<Tree, String> {
        let damaged = || "its nodes do not make trees".to_owned();
        let (ids, trees) = (self.ints("nodes_nodeids"), self.ints("nodes_treeids"));
        let places: HashMap<i64, usize> = range.clone().filter_map(|i| Some((*ids.get(i)?, i))).collect();
        let mut order = Vec::new();
        let mut open = vec![range.start];
        // Parents before children, as our trees have them; a node met twice would be a loop.
        while let Some(at) = open.pop() {
            if order.len() >= range.len() {
                return Err(damaged());
            }
            order.push(at);
            if self.mode(at) != b"LEAF" {
                let [yes, no] = self.children(at, &places).ok_or_else(damaged)?;
                open.extend([no, yes]);
            }
        }
        let number: HashMap<usize, u32> = order.iter().enumerate().map(|(n, at)| (*at, n as u32)).collect();
        let (mut nodes, mut leaves) = (Vec::new(), Vec::new());
        for at in &order {
            if self.mode(*at) == b"LEAF" {
                nodes.push(Node::leaf((leaves.len() / outputs) as u32));
                let key = (*trees.get(*at).ok_or_else(damaged)?, *ids.get(*at).ok_or_else(damaged)?);
                leaves.extend(values.get(&key).cloned().unwrap_or_else(|| vec![0.0; outputs]));
            } else {
                nodes.push(self.split(*at, &places, &number).ok_or_else(damaged)??);
            }
        }
        Tree::new(nodes, leaves, outputs).ok_or_else(damaged)
    }

    fn mode(&self, at: usize) -> &[u8] {
        self.get("nodes_modes").and_then(|a| a.strings.get(at)).map_or(&[], Vec::as_slice)
    }

    /// The nodes for true and false.
    fn children(&self, at: usize, places: &HashMap<i64, usize>) -> Option<[usize; 2]> {
        let place = |name: &str| places.get(self.ints(name).get(at)?).copied();
        Some([place("nodes_truenodeids")?, place("nodes_falsenodeids")?])
    }

    /// `None` where the arrays do not fit together.
    fn split(&self, at: usize, places: &HashMap<i64, usize>, number: &HashMap<usize, u32>) -> Option<Result<Node, String>> {
        let [yes, no] = self.children(at, places)?.map(|place| number.get(&place).copied().unwrap_or(u32::MAX));
        let feature = u32::try_from(*self.ints("nodes_featureids").get(at)?).ok().filter(|f| (*f as usize) < self.features)?;
        let value = *self.floats("nodes_values").get(at)?;
        Some(match self.mode(at) {
            b"BRANCH_LT" => Ok(Node::split(feature, value, yes, no)),
            b"BRANCH_LEQ" => Ok(Node::split(feature, value.next_up(), yes, no)),
            b"BRANCH_GTE" => Ok(Node::split(feature, value, no, yes)),
            b"BRANCH_GT" => Ok(Node::split(feature, value.next_up(), no, yes)),
            other => Err(format!("it asks {}", String::from_utf8_lossy(other))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Model, encode};
    use super::*;

    fn ensemble() -> Ensemble {
        let nodes = vec![Node::split(1, 0.5, 1, 2), Node::leaf(0), Node::split(0, -1.0, 3, 4), Node::leaf(1), Node::leaf(2)];
        let tree = |shift: f32| Tree::new(nodes.clone(), [1.0, -1.0, 0.25, 2.0, -3.5, 0.125].map(|v| v + shift).to_vec(), 2).unwrap();
        Ensemble { features: 2, base: vec![0.5, -0.5], trees: vec![tree(0.0), tree(1.0)] }
    }

    /// The file with its attributes changed.
    fn changed(change: impl Fn(&mut Attribute)) -> Vec<u8> {
        let mut model = Model::decode(encode(&ensemble(), "ttl", &[]).as_slice()).unwrap();
        model.graph.as_mut().unwrap().node[0].attribute.iter_mut().for_each(change);
        model.encode_to_vec()
    }

    #[test]
    fn other_questions_are_asked_as_ours() {
        let modes = |mode: &'static [u8]| {
            changed(move |a| {
                if a.name == "nodes_modes" {
                    a.strings.iter_mut().filter(|m| *m != b"LEAF").for_each(|m| *m = mode.to_vec());
                }
            })
        };
        let answer = |bytes: &[u8], row: &[f32]| {
            let mut out = [0.0; 2];
            decode(bytes).unwrap().eval(row, &mut out);
            out
        };
        let (low, high) = ([0.5 + 1.0 + 2.0, -0.5 - 1.0 + 0.0], [0.5 - 3.5 - 2.5, -0.5 + 0.125 + 1.125]);
        for (mode, below, at, above) in [
            (b"BRANCH_LT".as_slice(), low, high, high),
            (b"BRANCH_LEQ", low, low, high),
            (b"BRANCH_GT", high, high, low),
            (b"BRANCH_GTE", high, low, low),
        ] {
            let bytes = modes(mode);
            // The second question is on feature 0 and always answered the same way as the first.
            let side = |x: f32, wanted: [f32; 2]| {
                let second = if wanted == high { if mode.ends_with(b"GT") || mode.ends_with(b"GTE") { -5.0 } else { 5.0 } } else { 0.0 };
                assert_eq!(answer(&bytes, &[second, x]), wanted, "{} at {x}", String::from_utf8_lossy(mode));
            };
            side(0.25, below);
            side(0.5, at);
            side(0.75, above);
        }
        assert!(decode(&modes(b"BRANCH_EQ")).unwrap_err().contains("BRANCH_EQ"));
    }

    #[test]
    fn what_is_no_sum_of_trees_is_refused() {
        assert!(decode(b"no protobuf").is_err());
        let set = |name: &'static str, change: fn(&mut Attribute)| {
            decode(&changed(move |a| {
                if a.name == name {
                    change(a)
                }
            }))
            .unwrap_err()
        };
        assert_eq!(set("aggregate_function", |a| a.s = b"AVERAGE".to_vec()), "aggregate_function is not SUM");
        assert_eq!(set("target_ids", |a| a.ints[0] = 7), "a leaf answers a target that is not there");
        assert_eq!(set("nodes_truenodeids", |a| a.ints[0] = 0), "its nodes do not make trees");
        assert_eq!(set("nodes_falsenodeids", |a| a.ints[0] = 99), "its nodes do not make trees");
        assert_eq!(set("nodes_featureids", |a| a.ints[0] = 99), "its nodes do not make trees");
    }

    #[test]
    fn damage_never_panics() {
        let bytes = encode(&ensemble(), "ttl", &[]);
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let _ = decode(&damaged);
            }
        }
    }
}
