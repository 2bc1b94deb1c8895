//! A fast fingerprint of bytes: tells files and rows apart. It is no digest of secrets: nothing private goes in without the salt.

/// 128 bits over a stream of bytes; the same bytes give the same bits however they are cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    lanes: [u64; 2],
    tail: u64,
    bytes: u64,
}

/// Odd constants with well mixed bits (digits of pi).
const KEYS: [u64; 3] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1];

impl Default for Fingerprint {
    fn default() -> Self {
        Self { lanes: [KEYS[0], KEYS[1]], tail: 0, bytes: 0 }
    }
}

impl Fingerprint {
    /// Takes more bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !self.bytes.is_multiple_of(8)
            && let Some((first, rest)) = bytes.split_first()
        {
            self.byte(*first);
            bytes = rest;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        self.bytes += 8 * words.len() as u64;
        rest.iter().for_each(|byte| self.byte(*byte));
    }

    fn byte(&mut self, byte: u8) {
        self.tail = self.tail >> 8 | u64::from(byte) << 56;
        self.bytes += 1;
        if self.bytes.is_multiple_of(8) {
            self.word(self.tail);
            self.tail = 0;
        }
    }

    fn word(&mut self, word: u64) {
        self.lanes = [fold(self.lanes[0] ^ word, KEYS[2]), fold(self.lanes[1] ^ word, KEYS[0]).rotate_left(23)];
    }

    /// The fingerprint so far.
    pub fn finish(&self) -> [u64; 2] {
        let mut end = *self;
        end.word(self.tail);
        end.word(self.bytes);
        [mix(end.lanes[0]), mix(end.lanes[1])]
    }

    /// 64 bits for the `n`-th row of what this is the fingerprint of.
    pub fn row(&self, n: u64) -> u64 {
        mix(self.finish()[0] ^ mix(n.wrapping_add(KEYS[1])))
    }
}

/// Of one piece of bytes.
pub fn of(bytes: &[u8]) -> u64 {
    let mut print = Fingerprint::default();
    print.update(bytes);
    print.finish()[0]
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64 ^ a.rotate_left(32)
}

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn pieces_make_no_difference_and_bytes_do() {
        let bytes: Vec<u8> = (0..1_000u32).map(|i| (i * 7) as u8).collect();
        let whole = of(&bytes);
        for cut in [1, 3, 8, 13, 999] {
            let mut print = Fingerprint::default();
            bytes.chunks(cut).for_each(|piece| print.update(piece));
            assert_eq!(print.finish()[0], whole, "{cut}");
        }
        let mut seen = HashSet::from([whole]);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(seen.insert(of(&other)), "byte {at}");
        }
        for len in 0..bytes.len() {
            assert!(seen.insert(of(&bytes[..len])), "length {len}");
        }
        assert!(seen.insert(of(&[bytes.as_slice(), &[0]].concat())), "a zero at the end");
    }

    #[test]
    fn rows_do_not_collide() {
        let print = Fingerprint::default();
        let rows: HashSet<u64> = (0..200_000).map(|n| print.row(n)).collect();
        assert_eq!(rows.len(), 200_000);
    }
}
