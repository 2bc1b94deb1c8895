//! Numbers in as few bytes as they need: seven bits a byte, the lowest first, a set top bit where more follow (LEB128, DWARF 5 section 7.6).

use farthing_types::Span;

/// Writes behind what is there.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn number(&mut self, mut n: u128) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }
    /// A number that may be negative: small ones of either sign are short.
    pub(super) fn signed(&mut self, n: i64) {
        self.number(u128::from(((n << 1) ^ (n >> 63)) as u64));
    }
    /// Whole seconds are shorter than others. Nothing is rounded.
    #[inline]
    pub(super) fn span(&mut self, span: Span) {
        match span.subsec_nanos() {
            0 => self.number(u128::from(span.as_secs()) << 1 | 1),
            _ => self.number(span.as_nanos() << 1),
        }
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u128);
        self.0.extend_from_slice(bytes);
    }
}

/// Reads from the front what [`Writer`] wrote. Of bytes that it did not write it makes nothing of use, and no panic.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(super) fn number(&mut self) -> u64 {
        self.wide() as u64
    }
    #[inline]
    fn wide(&mut self) -> u128 {
        // Most are of one byte.
        if let Some((byte @ 0..0x80, rest)) = self.0.split_first() {
            self.0 = rest;
            return u128::from(*byte);
        }
        self.long()
    }
    fn long(&mut self) -> u128 {
        let (mut n, mut shift) = (0u64, 0u32);
        // Nine bytes are a word's; what is longer is rare.
        while let Some((byte, rest)) = self.0.split_first() {
            if shift == 63 {
                return self.wider(n);
            }
            self.0 = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        u128::from(n)
    }
    #[cold]
    fn wider(&mut self, low: u64) -> u128 {
        let (mut n, mut shift) = (u128::from(low), 63u32);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            n |= u128::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        n
    }
    /// Goes past so many numbers or spans.
    #[inline]
    pub(super) fn skip(&mut self, numbers: usize) {
        let (mut left, mut end) = (numbers, 0);
        for byte in self.0 {
            if left == 0 {
                break;
            }
            left -= usize::from(byte & 0x80 == 0);
            end += 1;
        }
        self.0 = self.0.get(end..).unwrap_or_default();
    }
    pub(super) fn signed(&mut self) -> i64 {
        let n = self.number();
        (n >> 1) as i64 ^ -((n & 1) as i64)
    }
    pub(super) fn span(&mut self) -> Span {
        let n = self.wide();
        let half = n >> 1;
        match u64::try_from(half) {
            Ok(secs) if n & 1 == 1 => Span::from_secs(secs),
            // Divisions of words take a tenth of the time that those of twice the size take, and each hit makes some.
            Ok(nanos) => Span::from_nanos(nanos),
            Err(_) => Span::new((half / 1_000_000_000) as u64, (half % 1_000_000_000) as u32),
        }
    }
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = self.number() as usize;
        self.take(length)
    }
    pub(super) fn text(&mut self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap_or([0; N])
    }
    pub(super) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(length).unwrap_or_default();
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in proptest::collection::vec(any::<u64>().prop_flat_map(|n| (0..64u32).prop_map(move |by| n >> by)), 0..20),
            signed in any::<i64>(), secs in any::<u64>(), nanos in 0..1_000_000_000u32, bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut w = Writer::default();
            numbers.iter().for_each(|n| w.number(u128::from(*n)));
            w.signed(signed);
            [Span::new(secs, nanos), Span::from_secs(secs), Span::MAX, Span::ZERO].into_iter().for_each(|span| w.span(span));
            w.bytes(&bytes);
            let mut r = Reader(&w.0);
            for n in &numbers {
                prop_assert_eq!(r.number(), *n);
            }
            prop_assert_eq!(r.signed(), signed);
            prop_assert_eq!([r.span(), r.span(), r.span(), r.span()], [Span::new(secs, nanos), Span::from_secs(secs), Span::MAX, Span::ZERO]);
            prop_assert_eq!(r.bytes(), &bytes[..]);
            prop_assert!(r.0.is_empty());
        }

        #[test]
        fn other_bytes_break_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut r = Reader(&bytes);
            while !r.0.is_empty() {
                let _ = (r.number(), r.span(), r.signed(), r.text(), r.array::<3>());
            }
        }
    }

    #[test]
    fn usual_lengths_of_time_are_short() {
        let size = |span| {
            let mut w = Writer::default();
            w.span(span);
            w.0.len()
        };
        assert_eq!([Span::ZERO, Span::from_secs(60), Span::from_secs(86_400), Span::from_millis(1_500)].map(size), [1, 1, 3, 5]);
    }
}
