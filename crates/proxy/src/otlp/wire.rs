//! The few messages of OTLP (opentelemetry-proto 1.7, `trace/v1/trace.proto`) that a delivery is made of, as protobuf; docs/adr/0014-traces.md says why they are
//! written here.

use std::sync::Arc;

use super::span::{Span, Value};

/// What a field's number is followed by (protobuf encoding, "Message Structure").
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;
/// The conventions that names of attributes follow.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.37.0";
const SCOPE: &str = "farthing";
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;
/// The span's flags tell whether its parent is another process's.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

/// One message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.key(field, VARINT);
        self.varint(value);
    }

    fn fixed64(&mut self, field: u64, value: u64) {
        self.key(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn fixed32(&mut self, field: u64, value: u32) {
        self.key(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn attribute(&mut self, field: u64, name: &str, value: &Value) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Shared(text) => any.bytes(1, text.as_bytes()),
                Value::Flag(flag) => any.number(2, u64::from(*flag)),
                Value::Number(number) => any.number(3, number.cast_unsigned()),
            });
        });
    }

    fn span(&mut self, span: &Span) {
        self.bytes(1, &span.at.trace().to_be_bytes());
        self.bytes(2, &span.at.span().to_be_bytes());
        if let Some(parent) = span.parent {
            self.bytes(4, &parent.to_be_bytes());
        }
        self.bytes(5, span.name.as_bytes());
        self.number(6, span.kind as u64);
        self.fixed64(7, unsigned(span.start.nanos()));
        self.fixed64(8, unsigned(span.end.nanos()));
        for (name, value) in &span.attributes {
            self.attribute(9, name, value);
        }
        for link in &span.links {
            self.message(13, |told| {
                told.bytes(1, &link.trace().to_be_bytes());
                told.bytes(2, &link.span().to_be_bytes());
                told.fixed32(6, if link.is_sampled() { SAMPLED } else { 0 });
            });
        }
        if span.failed {
            self.message(15, |status| status.number(3, ERROR));
        }
        self.fixed32(16, SAMPLED | KNOWS_REMOTE | if span.remote { IS_REMOTE } else { 0 });
    }
}

fn unsigned(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or_default()
}

/// An `ExportTraceServiceRequest` of these spans, all of one resource.
pub fn delivery(resource: &[(Arc<str>, Arc<str>)], spans: &[Span]) -> Vec<u8> {
    let mut whole = Message::default();
    whole.message(1, |of_resource| {
        of_resource.message(1, |told| {
            for (name, value) in resource {
                told.attribute(1, name, &Value::Shared(value.clone()));
            }
        });
        of_resource.message(2, |of_scope| {
            of_scope.message(1, |scope| {
                scope.bytes(1, SCOPE.as_bytes());
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for span in spans {
                of_scope.message(2, |message| message.span(span));
            }
            of_scope.bytes(3, SCHEMA.as_bytes());
        });
        of_resource.bytes(3, SCHEMA.as_bytes());
    });
    whole.0
}

/// How many spans an `ExportTraceServiceResponse` says were not taken (`partial_success.rejected_spans`); what cannot be read says none.
pub fn rejected(answer: &[u8]) -> u64 {
    let partial = fields(answer).find_map(|(field, value)| if let (1, Field::Bytes(bytes)) = (field, value) { Some(bytes) } else { None });
    let number = |(field, value)| if let (1, Field::Number(number)) = (field, value) { Some(number) } else { None };
    partial.and_then(|bytes| fields(bytes).find_map(number)).unwrap_or_default()
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, as far as they can be read.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    std::iter::from_fn(move || {
        let key = take_varint(&mut rest)?;
        let value = match key & 7 {
            VARINT => Field::Number(take_varint(&mut rest)?),
            LENGTH => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Field::Bytes(take(&mut rest, length)?)
            }
            FIXED64 => take(&mut rest, 8).map(|_| Field::Other)?,
            FIXED32 => take(&mut rest, 4).map(|_| Field::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first()?;
        *rest = left;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_not_taken_is_read() {
        assert_eq!(rejected(&[]), 0, "all was taken");
        assert_eq!(rejected(&[0x0a, 0x07, 0x08, 0xac, 0x02, 0x12, 0x02, b'n', b'o']), 300);
        assert_eq!(rejected(&[0x0a, 0x04, 0x12, 0x02, b'n', b'o']), 0, "a warning alone");
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(answer in proptest::collection::vec(any::<u8>(), 0..64)) {
            rejected(&answer);
        }
    }
}
