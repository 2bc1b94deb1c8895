//! Slots of a Cluster (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>), in sixteen parts: nodes own ranges of
//! slots, so a part says which node a key is at, well enough for a breaker, without knowing the nodes.

/// Parts of the slots.
pub(crate) const PARTS: usize = 16;
const SLOTS: usize = 16_384;

/// The part that a key's slot is in.
pub(crate) fn part(key: &[u8]) -> usize {
    usize::from(slot(key)) / (SLOTS / PARTS)
}

/// A key whose slot is in a part, to ask whoever owns it.
pub(crate) fn probe_key(of: usize) -> String {
    (0u32..).map(|n| format!("farthing:probe:{n}")).find(|key| part(key.as_bytes()) == of).unwrap_or_default()
}

/// The slot of a key.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(hashed(key)) % SLOTS as u16
}

/// What of a key decides its slot: what stands between the first `{` and the next `}`, unless that is nothing.
fn hashed(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|b| *b == b'{') else { return key };
    let inside = key.get(open + 1..).unwrap_or_default();
    match inside.iter().position(|b| *b == b'}') {
        Some(length) if length > 0 => inside.get(..length).unwrap_or(key),
        _ => key,
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        let mixed = crc ^ u16::from(*byte) << 8;
        (0..8).fold(mixed, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
    }

    #[test]
    fn every_part_has_a_key_to_ask_with() {
        for of in 0..PARTS {
            assert_eq!(part(probe_key(of).as_bytes()), of);
        }
    }
}
