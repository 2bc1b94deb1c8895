//! Writes tree ensembles as ONNX.
//!
//! An ONNX file is one protobuf message. The few messages that a tree graph needs are declared here by hand as prost
//! structs, with the field numbers of the public `onnx.proto` (proto2, package `onnx`): protobuf skips absent fields, so
//! a subset writes and reads valid files, and neither a vendored .proto nor a compiler in the build is needed.
//! The graph is a single `TreeEnsembleRegressor` of `ai.onnx.ml` opset 3, the form that ONNX Runtime and skl2onnx agree on.
//! Inner nodes are `BRANCH_LT`: features below the threshold go to the true branch, equality and NaN to the false one.

mod decode;

pub use decode::decode;

use farthing_contract::bundle::{INPUT_NAME, OUTPUT_NAME};
use prost::Message;

use crate::trees::Ensemble;

/// Version of the file format: the lowest that both ONNX Runtime 1.30 to 1.32 and the opsets below allow.
const IR_VERSION: i64 = 8;
/// Opset of the default domain: none of its operators is used, but an import is required.
const OPSET: i64 = 15;
/// Opset of `ai.onnx.ml`.
const ML_OPSET: i64 = 3;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The writer's version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// Our domain.
    #[prost(string, tag = "4")]
    pub domain: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// Operator sets in use.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    /// Free properties.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Property>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Domain.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Property {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// Nodes in topological order.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Operator>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Operator {
    /// Names of the inputs.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the outputs.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// Name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Attributes.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// Domain of the operator.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Integer value.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// Text value.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// Float values.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Integer values.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Text values.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Which of the values holds: `AttributeProto.AttributeType`.
    #[prost(int32, tag = "20")]
    pub kind: i32,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub ty: Option<Type>,
}

/// `TypeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// The tensor's type.
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// Element type.
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// Dimensions.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a number or a name.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// Number.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// Name of a free dimension.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// The bytes of an ONNX file that answers `[rows, outputs]` for `[rows, features]`, with the given properties.
pub fn encode(ensemble: &Ensemble, name: &str, properties: &[(&str, String)]) -> Vec<u8> {
    let graph = Graph {
        node: vec![regressor(ensemble)],
        name: name.to_owned(),
        input: vec![matrix(INPUT_NAME, ensemble.features)],
        output: vec![matrix(OUTPUT_NAME, ensemble.outputs())],
    };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "farthing-train".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        domain: "farthing".to_owned(),
        graph: Some(graph),
        opset_import: vec![opset("", OPSET), opset("ai.onnx.ml", ML_OPSET)],
        metadata_props: properties.iter().map(|(k, v)| Property { key: (*k).to_owned(), value: v.clone() }).collect(),
    };
    model.encode_to_vec()
}

fn opset(domain: &str, version: i64) -> OperatorSet {
    OperatorSet { domain: domain.to_owned(), version }
}

pub(crate) fn matrix(name: &str, columns: usize) -> ValueInfo {
    let rows = Dimension { dim_value: None, dim_param: Some("rows".to_owned()) };
    let columns = Dimension { dim_value: i64::try_from(columns).ok(), dim_param: None };
    let tensor = TensorType { elem_type: FLOAT, shape: Some(Shape { dim: vec![rows, columns] }) };
    ValueInfo { name: name.to_owned(), ty: Some(Type { tensor: Some(tensor) }) }
}

fn regressor(ensemble: &Ensemble) -> Operator {
    let mut columns = Columns::default();
    for (id, tree) in ensemble.trees.iter().enumerate() {
        columns.add(id as i64, tree);
    }
    Operator {
        input: vec![INPUT_NAME.to_owned()],
        output: vec![OUTPUT_NAME.to_owned()],
        name: "trees".to_owned(),
        op_type: "TreeEnsembleRegressor".to_owned(),
        attribute: columns.attributes(ensemble),
        domain: "ai.onnx.ml".to_owned(),
    }
}

/// The operator's parallel arrays: one entry per node, one per leaf and output.
#[derive(Default)]
struct Columns {
    tree: Vec<i64>,
    node: Vec<i64>,
    feature: Vec<i64>,
    threshold: Vec<f32>,
    mode: Vec<Vec<u8>>,
    low: Vec<i64>,
    high: Vec<i64>,
    target_tree: Vec<i64>,
    target_node: Vec<i64>,
    target: Vec<i64>,
    weight: Vec<f32>,
}

impl Columns {
    fn add(&mut self, id: i64, tree: &crate::trees::Tree) {
        for (index, node) in tree.nodes().iter().enumerate() {
            let (feature, threshold, low, high) = node.as_split().unwrap_or_default();
            let mode: &[u8] = if node.as_leaf().is_some() { b"LEAF" } else { b"BRANCH_LT" };
            self.tree.push(id);
            self.node.push(index as i64);
            self.feature.push(i64::from(feature));
            self.threshold.push(threshold);
            self.mode.push(mode.to_vec());
            self.low.push(i64::from(low));
            self.high.push(i64::from(high));
            if let Some(leaf) = node.as_leaf() {
                self.add_leaf((id, index as i64), tree.leaf_values(leaf as usize));
            }
        }
    }

    fn add_leaf(&mut self, (tree, node): (i64, i64), values: &[f32]) {
        for (target, value) in values.iter().enumerate() {
            self.target_tree.push(tree);
            self.target_node.push(node);
            self.target.push(target as i64);
            self.weight.push(*value);
        }
    }

    fn attributes(self, ensemble: &Ensemble) -> Vec<Attribute> {
        vec![
            text("aggregate_function", "SUM"),
            floats("base_values", ensemble.base.clone()),
            integer("n_targets", ensemble.outputs() as i64),
            ints("nodes_falsenodeids", self.high),
            ints("nodes_featureids", self.feature),
            texts("nodes_modes", self.mode),
            ints("nodes_nodeids", self.node),
            ints("nodes_treeids", self.tree),
            ints("nodes_truenodeids", self.low),
            floats("nodes_values", self.threshold),
            text("post_transform", "NONE"),
            ints("target_ids", self.target),
            ints("target_nodeids", self.target_node),
            ints("target_treeids", self.target_tree),
            floats("target_weights", self.weight),
        ]
    }
}

fn attribute(name: &str, kind: i32) -> Attribute {
    Attribute { name: name.to_owned(), kind, ..Attribute::default() }
}
fn integer(name: &str, i: i64) -> Attribute {
    Attribute { i, ..attribute(name, 2) }
}
fn text(name: &str, s: &str) -> Attribute {
    Attribute { s: s.as_bytes().to_vec(), ..attribute(name, 3) }
}
fn floats(name: &str, floats: Vec<f32>) -> Attribute {
    Attribute { floats, ..attribute(name, 6) }
}
fn ints(name: &str, ints: Vec<i64>) -> Attribute {
    Attribute { ints, ..attribute(name, 7) }
}
fn texts(name: &str, strings: Vec<Vec<u8>>) -> Attribute {
    Attribute { strings, ..attribute(name, 8) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::trees::{Node, Tree};

    /// Evaluates a `TreeEnsembleRegressor` as its specification says, from the file alone.
    fn run(bytes: &[u8], row: &[f32]) -> Vec<f32> {
        let graph = Model::decode(bytes).unwrap().graph.unwrap();
        let op = &graph.node[0];
        assert_eq!((op.op_type.as_str(), op.domain.as_str()), ("TreeEnsembleRegressor", "ai.onnx.ml"));
        let attribute = |name: &str| op.attribute.iter().find(|a| a.name == name).unwrap();
        let ints = |name: &str| attribute(name).ints.clone();
        let (trees, nodes, features) = (ints("nodes_treeids"), ints("nodes_nodeids"), ints("nodes_featureids"));
        let (low, high) = (ints("nodes_truenodeids"), ints("nodes_falsenodeids"));
        let place: HashMap<_, _> = trees.iter().zip(&nodes).enumerate().map(|(i, (t, n))| ((*t, *n), i)).collect();
        let mut out = vec![0.0; attribute("n_targets").i as usize];
        let last = trees.iter().max().map_or(0, |t| t + 1);
        for tree in 0..last {
            let mut at = place[&(tree, 0)];
            while attribute("nodes_modes").strings[at] == b"BRANCH_LT" {
                let below = row[features[at] as usize] < attribute("nodes_values").floats[at];
                at = place[&(tree, if below { low[at] } else { high[at] })];
            }
            let targets = ints("target_treeids").into_iter().zip(ints("target_nodeids")).zip(ints("target_ids"));
            for (((t, n), id), weight) in targets.zip(&attribute("target_weights").floats) {
                if (t, n) == (tree, nodes[at]) {
                    out[id as usize] += weight;
                }
            }
        }
        out.iter().zip(&attribute("base_values").floats).map(|(sum, base)| sum + base).collect()
    }

    #[test]
    fn the_file_says_what_the_ensemble_says() {
        let nodes = vec![Node::split(1, 0.5, 1, 4), Node::split(0, -1.0, 2, 3), Node::leaf(0), Node::leaf(1), Node::leaf(2)];
        let tree = Tree::new(nodes, vec![1.0, -1.0, 0.25, 2.0, -3.5, 0.125], 2).unwrap();
        let ensemble = Ensemble { features: 2, base: vec![0.5, -0.5], trees: vec![tree.clone(), tree] };
        let bytes = encode(&ensemble, "ttl", &[("farthing.task", "ttl".to_owned())]);
        let mut out = [0.0; 2];
        for row in [[-2.0, 0.0], [-1.0, 0.0], [0.0, 0.49], [0.0, 0.5], [f32::NAN, 0.0], [0.0, f32::NAN]] {
            ensemble.eval(&row, &mut out);
            assert_eq!(run(&bytes, &row), out, "{row:?}");
        }
        assert_eq!(decode(&bytes).unwrap(), ensemble);
        let model = Model::decode(bytes.as_slice()).unwrap();
        assert_eq!(model.metadata_props[0].key, "farthing.task");
        assert_eq!(model.opset_import.iter().find(|o| o.domain == "ai.onnx.ml").unwrap().version, ML_OPSET);
    }
}
