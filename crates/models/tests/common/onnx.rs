//! The few messages of onnx.proto a linear model needs, encoded by hand.

/// Wire types of Protocol Buffers.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(mut self, mut value: u64) -> Self {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
    fn int(self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT).varint(value)
    }
    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut message = self.varint(field << 3 | BYTES).varint(bytes.len() as u64);
        message.0.extend_from_slice(bytes);
        message
    }
    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }
    fn message(self, field: u64, inner: Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

/// `TensorProto`: dims, data_type FLOAT, name, raw_data.
fn constant(name: &str, dims: &[usize], values: &[f32]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    dims.iter().fold(Message::default(), |m, d| m.int(1, *d as u64)).int(2, 1).text(8, name).bytes(9, &raw)
}

/// `ValueInfoProto` of `[batch, width]`.
fn rows(name: &str, element_type: u64, width: usize) -> Message {
    let batch = Message::default().text(2, "batch");
    let shape = Message::default().message(1, batch).message(1, Message::default().int(1, width as u64));
    let tensor = Message::default().int(1, element_type).message(2, shape);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}

fn node(op: &str, inputs: [&str; 2], output: &str) -> Message {
    inputs.iter().fold(Message::default(), |m, name| m.text(1, name)).text(2, output).text(4, op)
}

/// Every output is the sum of the features plus its own bias.
pub fn sums_plus(features: usize, biases: &[f32]) -> Vec<u8> {
    linear("features", features, biases)
}

/// The same with another name of the input.
pub fn linear(input: &str, features: usize, biases: &[f32]) -> Vec<u8> {
    let outputs = biases.len();
    let graph = Message::default()
        .message(1, node("MatMul", [input, "w"], "sums"))
        .message(1, node("Add", ["sums", "b"], "outputs"))
        .text(2, "linear")
        .message(5, constant("w", &[features, outputs], &vec![1.0; features * outputs]))
        .message(5, constant("b", &[outputs], biases))
        .message(11, rows(input, 1, features))
        .message(12, rows("outputs", 1, outputs));
    let opset = Message::default().text(1, "").int(2, 13);
    Message::default().int(1, 8).text(2, "test").message(7, graph).message(8, opset).0
}
