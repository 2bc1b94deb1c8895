//! Makes the graph of another program one of ours: names of input and output, and one answer for all age intervals where it gives one.

use farthing_contract::bundle::{INPUT_NAME, OUTPUT_NAME};
use prost::Message as _;

use super::wire::{Field, parse, write};
use crate::onnx::{Attribute, Model, Operator, OperatorSet, ValueInfo, matrix};

/// Numbers of fields in `onnx.proto`.
const GRAPH: u64 = 7;
const OPSET_IMPORT: u64 = 8;
const NODE: u64 = 1;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const INITIALIZER: u64 = 5;
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_ATTRIBUTE: u64 = 5;
const NAME: u64 = 1;
const INITIALIZER_NAME: u64 = 8;
const SUBGRAPHS: [u64; 2] = [6, 11];

/// Newest operator sets that the library which ships with the project knows.
const OPSETS: [(&str, i64); 3] = [("", 25), ("ai.onnx", 25), ("ai.onnx.ml", 5)];

/// Opset for the operator that repeats an answer, where the file imports none.
const REPEAT_OPSET: i64 = 15;

/// `FLOAT` of `TensorProto.DataType`.
const FLOAT: i32 = 1;

/// The file with input `features` of `width` columns and output `outputs` of `answers` columns.
///
/// # Errors
/// What does not fit, and what to do.
pub fn adopt(bytes: &[u8], width: usize, answers: usize) -> Result<Vec<u8>, String> {
    let model = Model::decode(bytes).map_err(|_| "not an ONNX file".to_owned())?;
    check_opsets(&model)?;
    let graph = model.graph.as_ref().ok_or("it has no graph")?;
    let mut fields = parse(bytes).ok_or("not an ONNX file")?;
    let place = fields.iter().position(|f| f.number == GRAPH).ok_or("it has no graph")?;
    let mut inner = parse(&fields[place].data).ok_or("its graph cannot be read")?;
    let initial: Vec<String> = inner.iter().filter(|f| f.number == INITIALIZER).filter_map(initializer_name).collect();
    let inputs: Vec<&ValueInfo> = graph.input.iter().filter(|i| !initial.contains(&i.name)).collect();
    let [input] = inputs.as_slice() else { return Err(format!("{} inputs, wanted one of {width} columns", inputs.len())) };
    check_input(input, width)?;
    let (output, columns) = output(&graph.output, answers)?;
    let (input, output) = (input.name.clone(), output.name.clone());
    let spread = columns == 1 && answers > 1;
    let answer = if spread { "one_answer" } else { OUTPUT_NAME };
    for (old, new) in [(&input, INPUT_NAME), (&output, answer)] {
        rename(&mut inner, old, new)?;
    }
    inner.retain(|f| f.number != OUTPUT && !(f.number == INPUT && name_of(&f.data).is_some_and(|name| name == INPUT_NAME)));
    if spread {
        inner.push(Field::bytes(NODE, repeat(answers).encode_to_vec()));
    }
    inner.push(Field::bytes(INPUT, matrix(INPUT_NAME, width).encode_to_vec()));
    inner.push(Field::bytes(OUTPUT, matrix(OUTPUT_NAME, answers).encode_to_vec()));
    fields[place].data = write(&inner);
    if spread && !model.opset_import.iter().any(|set| matches!(set.domain.as_str(), "" | "ai.onnx")) {
        let set = OperatorSet { domain: String::new(), version: REPEAT_OPSET };
        fields.push(Field::bytes(OPSET_IMPORT, set.encode_to_vec()));
    }
    Ok(write(&fields))
}

fn check_opsets(model: &Model) -> Result<(), String> {
    for set in &model.opset_import {
        match OPSETS.iter().find(|(domain, _)| *domain == set.domain) {
            None => return Err(format!("operator set `{}`: only the standard ones run here; export without custom operators", set.domain)),
            Some((domain, newest)) if set.version > *newest => {
                let name = if domain.is_empty() { "ai.onnx" } else { domain };
                return Err(format!(
                    "opset {} of {name}, at most {newest} runs here: export with target_opset={newest} or less",
                    set.version
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Columns and element type of a matrix, as far as they are said: `None` for a free dimension.
fn shape(value: &ValueInfo) -> Option<(i32, Vec<Option<i64>>)> {
    let tensor = value.ty.as_ref()?.tensor.as_ref()?;
    let dims = tensor.shape.as_ref().map(|s| s.dim.iter().map(|d| d.dim_value.filter(|v| *v > 0)).collect());
    Some((tensor.elem_type, dims.unwrap_or_default()))
}

fn check_input(input: &ValueInfo, width: usize) -> Result<(), String> {
    let (ty, dims) = shape(input).ok_or(format!("input `{}` is no tensor", input.name))?;
    if ty != FLOAT {
        return Err(format!("input `{}` is not of 32-bit floats: export with FloatTensorType", input.name));
    }
    let columns = dims.get(1).copied().flatten();
    if dims.len() != 2 || columns.is_some_and(|c| c != width as i64) {
        let found = columns.map_or("another shape".to_owned(), |c| format!("{c} columns"));
        return Err(format!(
            "input `{}` has {found}, wanted [rows, {width}]: train on the columns that `features` writes, in their order",
            input.name
        ));
    }
    if dims[0].is_some_and(|rows| rows != 1) {
        return Err(format!("input `{}` takes {} rows at a time: leave the number of rows free", input.name, dims[0].unwrap_or(0)));
    }
    Ok(())
}

/// The one output, or the only one of floats, and its columns.
fn output(outputs: &[ValueInfo], answers: usize) -> Result<(&ValueInfo, usize), String> {
    let floats: Vec<&ValueInfo> = outputs.iter().filter(|o| shape(o).is_some_and(|(ty, _)| ty == FLOAT)).collect();
    let [output] = floats.as_slice() else {
        let names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
        return Err(format!("outputs {names:?}: wanted exactly one of 32-bit floats"));
    };
    let dims = shape(output).map(|s| s.1).unwrap_or_default();
    let columns = dims.get(1).copied().flatten().map_or(answers, |c| usize::try_from(c).unwrap_or(0));
    if dims.len() == 2 && (columns == answers || columns == 1) {
        return Ok((output, columns));
    }
    Err(format!("output `{}` has shape {dims:?}, wanted [rows, {answers}] or [rows, 1]", output.name))
}

/// Repeats one column.
fn repeat(answers: usize) -> Operator {
    let axis = Attribute { name: "axis".to_owned(), i: 1, kind: 2, ..Attribute::default() };
    Operator {
        input: vec!["one_answer".to_owned(); answers],
        output: vec![OUTPUT_NAME.to_owned()],
        name: "farthing_repeat".to_owned(),
        op_type: "Concat".to_owned(),
        attribute: vec![axis],
        domain: String::new(),
    }
}

/// Gives a value of the graph another name.
fn rename(graph: &mut [Field], old: &str, new: &str) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    for field in graph {
        match field.number {
            NODE => field.data = renamed_node(&field.data, old, new)?,
            INPUT | OUTPUT => {
                let mut inner = parse(&field.data).ok_or("its graph cannot be read")?;
                inner.iter_mut().filter(|f| f.number == NAME && f.text() == old).for_each(|f| f.data = new.as_bytes().to_vec());
                field.data = write(&inner);
            }
            _ => {}
        }
    }
    Ok(())
}

fn renamed_node(bytes: &[u8], old: &str, new: &str) -> Result<Vec<u8>, String> {
    let mut fields = parse(bytes).ok_or("its graph cannot be read")?;
    for field in &mut fields {
        let wired = matches!(field.number, NODE_INPUT | NODE_OUTPUT);
        match field.text() {
            text if wired && text == old => field.data = new.as_bytes().to_vec(),
            text if wired && text == new => return Err(format!("it uses the name `{new}` for something else: rename that")),
            _ => {}
        }
        if field.number == NODE_ATTRIBUTE && parse(&field.data).is_some_and(|a| a.iter().any(|f| SUBGRAPHS.contains(&f.number))) {
            return Err(format!("it has graphs within operators, so its `{old}` cannot be renamed here: export it as `{new}`"));
        }
    }
    Ok(write(&fields))
}

fn name_of(value: &[u8]) -> Option<String> {
    parse(value)?.iter().find(|f| f.number == NAME).map(|f| f.text().to_owned())
}

fn initializer_name(field: &Field) -> Option<String> {
    parse(&field.data)?.iter().find(|f| f.number == INITIALIZER_NAME).map(|f| f.text().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::encode;
    use crate::trees::{Ensemble, Node, Tree};

    fn file(outputs: usize, change: impl Fn(&mut Model)) -> Vec<u8> {
        let values = (0..2 * outputs).map(|v| v as f32).collect();
        let tree = Tree::new(vec![Node::split(1, 0.5, 1, 2), Node::leaf(0), Node::leaf(1)], values, outputs).unwrap();
        let ensemble = Ensemble { features: 3, base: vec![0.0; outputs], trees: vec![tree] };
        let mut model = Model::decode(encode(&ensemble, "other", &[]).as_slice()).unwrap();
        change(&mut model);
        model.encode_to_vec()
    }

    /// As other exporters name things.
    fn renamed(model: &mut Model) {
        let graph = model.graph.as_mut().unwrap();
        graph.input[0].name = "X".to_owned();
        graph.output[0].name = "variable".to_owned();
        graph.node[0].input = vec!["X".to_owned()];
        graph.node[0].output = vec!["variable".to_owned()];
    }

    #[test]
    fn names_become_ours_and_the_rest_stays() {
        let ours = file(2, |_| {});
        assert_eq!(Model::decode(adopt(&file(2, renamed), 3, 2).unwrap().as_slice()), Model::decode(ours.as_slice()));
        assert_eq!(Model::decode(adopt(&ours, 3, 2).unwrap().as_slice()), Model::decode(ours.as_slice()));
    }

    #[test]
    fn one_answer_is_repeated() {
        let model = Model::decode(adopt(&file(1, renamed), 3, 8).unwrap().as_slice()).unwrap();
        let graph = model.graph.unwrap();
        let last = graph.node.last().unwrap();
        assert_eq!((last.op_type.as_str(), last.input.len(), last.output[0].as_str()), ("Concat", 8, OUTPUT_NAME));
        assert_eq!(graph.node[0].output, ["one_answer"]);
        assert_eq!(shape(&graph.output[0]).unwrap().1, [None, Some(8)]);
    }

    #[test]
    fn what_does_not_fit_is_said_with_a_remedy() {
        let refused = |bytes: &[u8], width: usize, answers: usize| adopt(bytes, width, answers).unwrap_err();
        assert_eq!(refused(b"\xff\xff", 3, 2), "not an ONNX file");
        assert!(refused(&file(2, |_| {}), 4, 2).contains("3 columns, wanted [rows, 4]"));
        assert!(refused(&file(3, |_| {}), 3, 2).contains("wanted [rows, 2] or [rows, 1]"));
        let set = |domain: &str, version| {
            let domain = domain.to_owned();
            file(2, move |m| m.opset_import = vec![OperatorSet { domain: domain.clone(), version }])
        };
        assert!(refused(&set("ai.onnx.ml", 9), 3, 2).contains("target_opset=5"));
        assert!(refused(&set("my.ops", 1), 3, 2).contains("custom operators"));
        let doubles = file(2, |m| m.graph.as_mut().unwrap().input[0].ty.as_mut().unwrap().tensor.as_mut().unwrap().elem_type = 11);
        assert!(refused(&doubles, 3, 2).contains("32-bit floats"));
        let twice = file(2, |m| {
            let graph = m.graph.as_mut().unwrap();
            let copy = graph.input[0].clone();
            graph.input.push(ValueInfo { name: "more".to_owned(), ..copy });
        });
        assert!(refused(&twice, 3, 2).contains("2 inputs"));
    }
}
