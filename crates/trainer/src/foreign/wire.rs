//! Protobuf messages field by field, everything kept: a file of another program is changed in a few places and in no other.

/// A field as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u64,
    wire: u8,
    /// Its content: for lengths the bytes, else the bytes of the number.
    pub data: Vec<u8>,
}

impl Field {
    /// A field of bytes: text, or a message.
    pub fn bytes(number: u64, data: Vec<u8>) -> Self {
        Self { number, wire: 2, data }
    }
    /// The content as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.data).unwrap_or_default()
    }
}

/// The fields of a message; `None` when it is cut short.
pub fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?.0;
        let (number, wire) = (key >> 3, (key & 7) as u8);
        let length = match wire {
            0 => {
                let start = bytes;
                let used = varint(&mut bytes)?.1;
                fields.push(Field { number, wire, data: start.get(..used)?.to_vec() });
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?.0).ok()?,
            5 => 4,
            _ => return None,
        };
        let (data, rest) = bytes.split_at_checked(length)?;
        fields.push(Field { number, wire, data: data.to_vec() });
        bytes = rest;
    }
    Some(fields)
}

/// The bytes of a message.
pub fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, wire, data } in fields {
        put(&mut out, number << 3 | u64::from(*wire));
        if *wire == 2 {
            put(&mut out, data.len() as u64);
        }
        out.extend(data);
    }
    out
}

/// The number, and how many bytes it took.
fn varint(bytes: &mut &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for used in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(7 * used)?;
        if byte & 0x80 == 0 {
            return Some((value, used as usize + 1));
        }
    }
    None
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_written_again(fields in proptest::collection::vec((1..5_000u64, proptest::collection::vec(any::<u8>(), 0..300)), 0..20)) {
            let fields: Vec<Field> = fields.into_iter().map(|(number, data)| Field::bytes(number, data)).collect();
            prop_assert_eq!(parse(&write(&fields)), Some(fields));
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(fields) = parse(&bytes) {
                prop_assert_eq!(parse(&write(&fields)), Some(fields));
            }
        }
    }
}
